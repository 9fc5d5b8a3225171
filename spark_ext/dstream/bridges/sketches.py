"""Sketches of a stream: `sketchByKey`, `sketchByKeyAndWindow`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sketches import Sketch
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.bridges.sketch_kernel import merged, salt_of, sketched
from spark_ext.dstream.columns.blocks import Block, decode, encode
from spark_ext.dstream.columns.exchange import placed
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows, of_blocks
from spark_ext.sketching.measure import check_template

__all__ = ["MergedNode", "SketchedNode"]

MS: Final = 1000


class SketchedNode(Node):
    """Pairs of key and stored sketch of the batch's values, one or more per key, where the values are."""

    kind = "sketchByKey"

    def __init__(self, parent: Node, template: Sketch) -> None:
        check_template(template)
        super().__init__((parent,), parent.slide_ms)
        self.template = template

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        rows = batch.rows(self.parents[0])
        if rows is None:
            return None
        template, time_us = self.template, batch.time_ms * MS

        def build(partition: int, blocks: Iterator[Block]) -> Iterable[bytes]:
            return map(encode, sketched(template, blocks, time_us=time_us, salt=salt_of(time_us, partition)))

        return of_blocks(rows.over_blocks(build))


class MergedNode(Node):
    """Pairs of key and stored sketch, one per key, in the partition of the key."""

    kind = "mergeSketches"

    def __init__(self, parent: Node, template: Sketch, partitions: int) -> None:
        super().__init__((parent,), parent.slide_ms)
        self.template = template
        self.partitions = partitions

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        rows = batch.rows(self.parents[0])
        if rows is None:
            return None
        template = self.template
        together = placed(rows, self.partitions)
        return of_blocks(together.mapPartitions(lambda blocks: map(encode, merged(template, map(decode, blocks))), True))
