"""Look at the last records of what a batch will read, for the event clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.kafka.fetch import OffsetOutOfRangeError, fetcher_for
from spark_ext.kafka.options import Place, SourceOptions
from spark_ext.kafka.rows import decoder_of, fetch_settings

__all__ = ["Tail"]

MANY: Final = 1_000  # partitions: a few records of each are read, and nothing ahead of them


class Tail:
    """The newest event times of partitions.

    Parameters
    ----------
    options : SourceOptions
        Of a source whose format has an event time.
    sample : int
        How many records to look at.
    """

    def __init__(self, options: SourceOptions, sample: int) -> None:
        assert options.format is not None  # noqa: S101 (checked with the options)
        self._name: str = json.loads(options.format)["event_time"]
        self._decoder = decoder_of(options.format, (self._name,), "[]")
        self._settings = fetch_settings(options, MANY)
        self._sample = sample

    def newest(self, spans: Mapping[Place, tuple[int, int]]) -> dict[Place, int]:
        """Return the largest event time, microseconds since 1970, of the last good records before the end of each span.

        A partition whose last records are gone, or all dead, is left out: it keeps the time that it had.
        """
        found = {at: self._newest(at, *span) for at, span in spans.items()}
        return {at: time for at, time in found.items() if time is not None}

    def _newest(self, at: Place, first: int, end: int) -> int | None:
        newest: int | None = None
        try:
            fetcher = fetcher_for(self._settings, *at, max(first, end - self._sample))
            while fetcher.position < end:
                records = fetcher.fetch(end, self._sample)
                times: Any = self._decoder.decode(records).columns.column(self._name)
                time = pc.max(times.cast(pa.int64())).as_py()
                if time is not None:
                    newest = time if newest is None else max(newest, time)
        except OffsetOutOfRangeError:
            pass  # deleted meanwhile; the workers will say so
        return newest
