"""`updateStateByKey`: each batch makes all state anew by a function of new values and old state.

State per partition: one block of pairs ``(key, state)``; simple types as columns, about what the values take, other objects pickled.
"""

from __future__ import annotations

from typing import Any

from pyspark import RDD

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import Block, decode, encode
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.state.keyed import KeyedNode, Task
from spark_ext.dstream.state.update_kernel import Update, first_of_each, updated

__all__ = ["UpdateNode"]


class UpdateNode(KeyedNode):
    """All keys and their states after each batch; without rows of the parent, those of the batch before."""

    kind = "updateStateByKey"

    def __init__(
        self,
        parent: Node,
        function: Update,
        partitions: int | None,
        default_partitions: int,
        initial: RDD[tuple[Any, Any]] | None,
    ) -> None:
        super().__init__(parent, partitions, default_partitions, initial)
        self._function = function

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        return self.read(batch, decode, by_key=True) if self.is_kept(batch) else None

    def task(self, batch: Batch) -> Task:  # noqa: D102 (KeyedNode's)
        function = self._function

        def run(before: bytes, news: list[Block]) -> bytes:
            return encode(updated(decode(before) if before else [], news, function))

        return run

    def begin(self, batch: Batch) -> Task:  # noqa: D102 (KeyedNode's)
        return lambda _, blocks: encode(first_of_each(blocks))
