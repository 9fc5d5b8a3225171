"""Memory of a process that reads as a worker of Spark does; without a job, of one that only has a worker's imports."""

from __future__ import annotations

import re
import sys
from dataclasses import astuple, dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Self

__all__ = ["Memory"]

EVERY_BLOCKS: Final = 4


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB: resident; resident with shared pages divided among those who share them; private and written to."""

    rss: float
    pss: float
    private_dirty: float

    @classmethod
    def now(cls) -> Self:
        """Measure this process; Linux only."""
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
        sizes = {name: int(kib) / 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
        return cls(sizes["Rss"], sizes["Pss"], sizes["Private_Dirty"])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what another process printed."""
        return cls(*map(float, text.split()))

    def beyond(self, other: Memory) -> Memory:
        """Return the difference."""
        return Memory(self.rss - other.rss, self.pss - other.pss, self.private_dirty - other.private_dirty)

    def most(self, other: Memory) -> Memory:
        """Return the larger of each."""
        return Memory(*map(max, astuple(self), astuple(other)))


def main() -> None:
    for name in ("pandas", "pyarrow", "pyspark.worker"):  # as Spark's daemon does before it forks a worker
        import_module(name)

    most = Memory.now()
    if len(sys.argv) > 1:
        from benchmarks.ingest.job import Job  # noqa: PLC0415 (what follows is what is measured)
        from benchmarks.ingest.parts import NEEDED, declared, read, topic_fetchers  # noqa: PLC0415
        from spark_ext.ingest import JsonFormat  # noqa: PLC0415
        from spark_ext.ingest.records import Records  # noqa: PLC0415

        job, decoder, blocks = Job.from_argument(), JsonFormat(declared(*NEEDED)).decoder(), 0

        def use(records: Records) -> None:
            nonlocal most, blocks
            rows = decoder.decode(records)
            blocks += 1
            if blocks % EVERY_BLOCKS == 0:
                most = most.most(Memory.now())
            del rows

        read(topic_fetchers(job), job, use)
        most = most.most(Memory.now())
    print(*astuple(most))


if __name__ == "__main__":
    main()
