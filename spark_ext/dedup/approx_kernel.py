"""Tag each row as unique or as a duplicate of a key that was seen of late, where "seen" may be wrong with a stated probability."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from spark_ext.dedup.rows import (
    INVALID,
    MICROSECOND,
    YEAR_1_US,
    YEAR_9999_US,
    Times,
    by_order,
    check_columns,
    tagged_rows,
    tagged_schemas,
    unusable,
)
from spark_ext.dedup.slices import LAYERS, LEAST_RATE, SCHEMA, Sizes, Slices
from spark_ext.errors import SettingsError
from spark_ext.state.bounds import event_times
from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.keys import ints

__all__ = ["KEY_HASH", "ApproxDedup"]

KEY_HASH: Final = "_key_hash"
SLICES: Final = "slices"
MOST_GENERATIONS: Final = 64


@dataclass(frozen=True, slots=True)
class ApproxDedup:
    """One row per key within a bounded time, keys by hash in Bloom filters; the others are tagged, not dropped.

    Guarantee: every row comes out once, under one tag. A row is behind when its event time is below the watermark.

    No duplicate passes: a row within `horizon` of a ``unique`` row of its key, before or after it, both ends included, by event time,
    is never ``unique``. It is a ``duplicate``, or, behind the watermark, ``late`` once the unique row is forgotten. Two unique rows of a
    key are more than `horizon` apart.

    A row that is not behind, and has no unique row of its key within ``horizon + horizon / generations``, is a ``duplicate`` by
    mistake with probability at most `false_drop_rate`, else ``unique``; between the two distances a repetition is either. A key that is
    mistaken is mistaken with all its rows, until slices go. The probability is over the hashes of keys (64 bits, a fixed seed: who
    knows them can choose keys that are mistaken), and holds whatever `expected_keys` was: with more keys than expected the state grows
    instead, with a warning in the worker's log, up to 656 times.

    A row that is behind is never ``unique``: it is a ``duplicate`` if its key is found, else ``late``. A unique row is known at least
    until the watermark is `horizon` ahead of it. Nothing but the watermark makes it forget: one event in the far future is one more slice.

    Rows of a batch are judged by event time, then `order`; a replayed batch gives the same rows. What batches there are decides
    which row of a key is kept, as with ``Dedup(keep="arrived")``.

    Parameters
    ----------
    in_schema : pa.Schema
        Columns of the rows, and ``_key_hash``, int64: equal for equal keys.
    keys : tuple of str
        Names of what was hashed, with types: what a checkpoint is tied to.
    time : str
        Column of event time, ``timestamp[us, tz=UTC]``.
    horizon : timedelta
        How far two rows of a key may lie apart to count as one; at least one microsecond for each of `generations`.
    false_drop_rate : float
        Most new keys that are taken for duplicates, in the mean; from ``6.4e-7 * (2 * generations + 1)`` up to, not with, 1.
    expected_keys : int
        Distinct keys within `horizon` when there is most to do, over all buckets; at least 1.
    buckets : int
        By which they are dealt out.
    generations : int
        Slices of a horizon, from 1 to 64.
    order : tuple of str
        Columns that decide between rows of the same key and event time within a batch, ascending, nulls last.
    earliest_us, latest_us : int
        Event times outside of these bounds are absurd: such rows, and those without one, come out as ``invalid``.

    Raises
    ------
    SchemaError
        A column is missing, of a type that cannot be used, or has the name of a column that is added.
    SettingsError
        A number is out of its range.

    State: table ``slices``, a row per slice and filter: ``first_us``, start of the slice; ``layer``, 0 for the first filter of a slice,
    more once it was full; ``capacity`` and ``keys``, room and what is in; ``rate``, false positives of the filter as it is filled now;
    ``filter``, bytes of a `sketches.ClassicBloomFilter`. A slice is kept until the watermark is `horizon` ahead of its end. At a rate of
    0.1 % with four generations a key takes 2.4 bytes of a full filter; five filters and those of the watermark's delay make 3.1 bytes and
    more for a key within a horizon, where `Dedup` takes 8 bytes and the key.
    Settings of a checkpoint: keys, time, horizon, rate, generations. `expected_keys` may change: new slices follow it.

    References
    ----------
    Almeida, Baquero, Preguiça, Hutchison: Scalable Bloom Filters (2007) (filters that grow). Chang, Li, Feng: Approximate Caches for
    Packet Classification (2004), section 3.3 (filters that age in turn).
    """

    in_schema: pa.Schema
    keys: tuple[tuple[str, str], ...]
    time: str
    horizon: timedelta
    false_drop_rate: float
    expected_keys: int
    buckets: int
    generations: int = 4
    order: tuple[str, ...] = ()
    earliest_us: int = YEAR_1_US
    latest_us: int = YEAR_9999_US
    _sizes: Sizes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = ", ".join(name for name, _ in self.keys)
        if not self.keys or self.time in dict(self.keys):
            got = f"keys {self.keys!r}"
            raise SettingsError(
                "use", "deduplication", names, expected=f"one key or more, {self.time} not among them", got=got, todo="correct it"
            )
        check_columns(self.in_schema, self.time, self.order)
        if KEY_HASH not in self.in_schema.names or self.in_schema.field(KEY_HASH).type != pa.int64():
            raise unusable(KEY_HASH, "hashes of keys as int64", f"columns {self.in_schema.names}", "hash the keys")
        if not 1 <= self.generations <= MOST_GENERATIONS or not self.generations * MICROSECOND <= self.horizon < timedelta.max / 2:
            expected = f"generations from 1 to {MOST_GENERATIONS}, and a horizon of a microsecond for each"
            got = f"generations {self.generations!r}, horizon {self.horizon!r}"
            raise SettingsError("use", "deduplication", names, expected=expected, got=got, todo="correct it")
        least = LEAST_RATE * 4 * (LAYERS - 1) * (2 * self.generations + 1)
        if not least <= self.false_drop_rate < 1 or self.expected_keys < 1:
            expected = f"false_drop_rate from {least:.2g} up to, not with, 1, and expected_keys from 1"
            got = f"false_drop_rate {self.false_drop_rate!r}, expected_keys {self.expected_keys!r}"
            todo = "correct it; where no row may be dropped by mistake use drop_duplicates"
            raise SettingsError("use", "deduplication", names, expected=expected, got=got, todo=todo)
        sizes = Sizes(self.horizon // MICROSECOND, self.generations, self.false_drop_rate, self.expected_keys, self.buckets)
        object.__setattr__(self, "_sizes", sizes)

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "approx_dedup_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        return json.dumps({
            "hashed": dict(self.keys),
            "event_time": self.time,
            "horizon_us": self.horizon // MICROSECOND,
            "false_drop_rate": self.false_drop_rate,
            "generations": self.generations,
        })  # fmt: skip

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        return {SLICES: SCHEMA}

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `tagged_schemas`; the hash is left out."""
        return tagged_schemas(pa.schema([one for one in self.in_schema if one.name != KEY_HASH]))

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Judge one micro-batch of the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        watermark_us = moment.watermark_us
        _, valid = event_times(rows.column(self.time), self.earliest_us, self.latest_us)
        good = rows if valid.all() else rows.filter(pa.array(valid))
        times, hashes = ints(good.column(self.time)), ints(good.column(KEY_HASH)).view(np.uint64)
        slices = Slices(self._sizes, state[SLICES], forget_before_us=watermark_us - self._sizes.horizon_us)
        numbers, passed = times // self._sizes.slice_us, times < watermark_us
        unique, found = np.zeros(len(times), np.bool_), np.zeros(len(times), np.bool_)
        order = by_order(good, self.order)
        order = order[np.argsort(times[order], kind="stable")]
        for number, some in _by_slice(numbers, order[~passed[order]]):
            slices.close(number - self.generations)
            fresh = some[~slices.near(number, hashes[some])]
            fresh = fresh[~pd.Series(hashes[fresh]).duplicated().to_numpy()]
            slices.take(number, hashes[fresh])
            unique[fresh] = True
        for number, some in _by_slice(numbers, order[passed[order]]):
            slices.close(number - self.generations)
            found[some] = slices.near(number, hashes[some])
        out = tagged_rows(good.drop_columns(KEY_HASH), times, unique, ~unique & (found | ~passed), passed & ~found, watermark_us)
        if good is not rows:
            out[INVALID] = rows.filter(pa.array(~valid)).drop_columns(KEY_HASH)
        end_us = slices.end_us
        return Step({SLICES: slices.table()}, out, None if end_us is None else end_us + self._sizes.horizon_us)


def _by_slice(numbers: Times, places: Times) -> Iterator[tuple[int, Times]]:
    """Yield the number of each slice and the places of its rows, of places that are in order of time."""
    if places.size:
        for part in np.split(places, np.flatnonzero(np.diff(numbers[places])) + 1):
            yield int(numbers[part[0]]), part
