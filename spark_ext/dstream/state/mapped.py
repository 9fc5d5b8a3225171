"""`mapWithState`: each value is mapped with the state of its key, in proportion to the keys that have values.

State per partition: what the function gave in this batch, and the columns of `held`: per key its own size, the state's, and 8 bytes
for the time of its last data, 8 more for keys that are not int, str or bytes. A key lives until it is removed or times out.
"""

from __future__ import annotations

from itertools import chain

from pyspark import RDD

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import Block, decode, encode, pack, unpack
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.state.held import Held
from spark_ext.dstream.state.keyed import KeyedNode, Task, checked_partitions
from spark_ext.dstream.state.mapped_kernel import mapped
from spark_ext.dstream.state.spec import StateSpec

__all__ = ["MappedNode", "SnapshotNode"]


class MappedNode(KeyedNode):
    """What the function gave in each batch; also without rows of the parent, since keys time out."""

    kind = "mapWithState"
    goes_on_without_rows = True

    def __init__(self, parent: Node, spec: StateSpec, default_partitions: int, initial: RDD[tuple[object, object]] | None) -> None:
        super().__init__(parent, checked_partitions(spec._partitions, "mapWithState"), default_partitions, initial)
        self._function = spec._function
        self._takes_time = spec._takes_time
        self._timeout_ms = spec._timeout_ms

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        return self.read(batch, lambda content: decode(_parts(content)[0]), by_key=False)

    def snapshot(self, batch: Batch) -> Rows:
        """Return all keys and states after the batch."""
        return self.read(batch, lambda content: Held.from_bytes(_parts(content)[1]).snapshot(), by_key=True)

    def task(self, batch: Batch) -> Task:  # noqa: D102 (KeyedNode's)
        function, timeout_ms, time, time_ms = self._function, self._timeout_ms, batch.time, batch.time_ms
        call = (lambda *given: function(time, *given)) if self._takes_time else function

        def run(before: bytes, news: list[Block]) -> bytes:
            held = Held.from_bytes(_parts(before)[1]) if before else Held.of((), time_ms)
            pairs = chain.from_iterable(map(unpack, news))
            after, out = mapped(held, pairs, call, time_ms=time_ms, timeout_ms=timeout_ms)
            return _joined(encode(pack(out)), after.to_bytes())

        return run

    def begin(self, batch: Batch) -> Task:  # noqa: D102 (KeyedNode's)
        time_ms = batch.time_ms
        return lambda _, blocks: _joined(encode([]), Held.of(chain.from_iterable(map(unpack, blocks)), time_ms).to_bytes())


class SnapshotNode(Node):
    """All keys and states of a `MappedNode` after each batch."""

    kind = "stateSnapshots"

    def __init__(self, parent: MappedNode) -> None:
        super().__init__((parent,), parent.slide_ms)
        self._mapped = parent

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        return self._mapped.snapshot(batch)


def _joined(out: bytes, held: bytes) -> bytes:
    """Return both as one file: they are there together or not at all. Arrow's numbers behind `out` lie at multiples of 8."""
    padded = out + b"\0" * (-len(out) % 8)
    return len(padded).to_bytes(8, "little") + padded + held


def _parts(content: bytes) -> tuple[bytes, memoryview]:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], memoryview(content)[end:]
