"""A join's filter before the join: facts that surely have no partner are known by the keys of the dimension alone.

dimension --- KeyFilter.of (partial filters by mapInArrow, merged) ---> key filter, a few bytes a key; to_bytes / from_bytes
facts --- apply (or mark) ---> those that may have a partner --- join
"""

from __future__ import annotations

import json
import logging
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

import google_crc32c
import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf

from sketches import BloomFilter, SketchBytesError
from sketches.bloom_kernel import SALTS
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.names import column
from spark_ext.workers import settle

__all__ = ["KeyFilter"]

MAGIC: Final = b"MRKF"
FORMAT: Final = 1
PREFIX: Final = struct.Struct("<4sHHII")  # magic, format, reserved, CRC32C of all behind it, length of the header
CHECKED_FROM: Final = 12  # behind the checksum itself
HASH: Final = "hash"
COUNT_ERROR: Final = 0.01  # relative standard deviation of the approximate count of keys
COUNT_MARGIN: Final = 1 + 4 * COUNT_ERROR
LARGEST_IN_JVM: Final = 16 << 20  # bytes: Spark sends an expression's constants out with each batch, a broadcast once
PARTIALS_BYTES: Final = 256 << 20  # of partial filters that the driver takes at once
FULLER: Final = 1.3  # times the rate asked for: worth a warning
LANES: Final = 8
LONGEST_SHOWN: Final = 80  # bytes of a header in an error
UNHASHED: Final = re.compile(r"\b(map|array)<| collate |\bvariant\b")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class KeyFilter:
    """Keys of a dimension, in a Bloom filter, to drop facts that surely have no partner before they are joined, shuffled or stored.

    Guarantee: a fact whose key the dimension had when the filter was made is never dropped. One whose key it had not is kept with
    probability `rate`; a join behind it drops it. So an inner join, or a left semi-join, of what `apply` returns is that of the facts.
    A fact with a null in its key is dropped, as those joins do (``=``, not ``<=>``).

    A key that the dimension got later is not in the filter, and its facts are dropped wrongly. So make the filter from the version of
    the table that the join reads, and store it with that version (`to_bytes`); or add new keys before facts may have them
    (`with_keys`). A filter with keys that are gone from the dimension is safe: it keeps too much. Where neither can be had, `mark` and
    keep the rows that were left out, to join them again.

    When not to: for outer and anti-joins; where the dimension is small enough to be broadcast, which drops the facts as early; where most
    facts have a partner (see benchmarks/sketching/prefilter.py). Spark's own runtime filters do the like within one bounded query, from
    10 GB of facts on; this one also works on streams, can be stored, and says what it has left out.

    Parameters
    ----------
    bloom : BloomFilter
        Of ``xxhash64`` of the keys.
    kinds : tuple of str
        Types of the keys, as Spark writes them: keys of other types have other hashes, so they are refused.

    State: none in Spark. Up to 16 MB (some 12 million keys at 1 %) the filter is a constant in the plan, asked in generated code; a larger
    one is broadcast and asked in Python, which costs some 0.2 us a fact more.
    """

    bloom: BloomFilter
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, dimension: DataFrame, *, on: Sequence[str], false_positive_rate: float, expected_keys: int | None = None) -> Self:
        """Make the filter of a dimension's keys.

        Parameters
        ----------
        dimension : DataFrame
            Bounded. It is read twice, or once with `expected_keys`.
        on : sequence of str
            Its key columns, in the order in which facts name theirs; of types that have an equality and a hash: no arrays, maps, variants,
            or collated texts.
        false_positive_rate : float
            Of a fact without a partner to be kept; from 1e-8 up to, not with, 1.
        expected_keys : int, optional
            How many distinct keys to make room for, such as what the dimension may grow to; default those it has. More keys than that are
            taken as well, at a higher rate, with a warning.

        Raises
        ------
        SchemaError, SettingsError
            A column that cannot be used; a stream.
        SketchError
            A rate or a number out of range.
        """
        kinds = _kinds(dimension, on)
        _check_bounded(dimension, on)
        room = expected_keys
        if room is None:
            counted = _hashed(dimension, on).agg(F.approx_count_distinct(HASH, COUNT_ERROR)).head()
            room = math.ceil(counted[0] * COUNT_MARGIN) + 1 if counted else 1
        made = cls(BloomFilter.from_error(capacity=room, false_positive_rate=false_positive_rate), kinds).with_keys(dimension, on=on)
        if made.rate > FULLER * false_positive_rate:
            log.warning(
                "key filter on %s: about %.0f keys where room was made for %d: facts without a partner are kept at a rate of %.3g, "
                "not %.3g; give expected_keys=%.0f",
                ", ".join(on), made.bloom.estimate(), room, made.rate, false_positive_rate, made.bloom.estimate(),
            )  # fmt: skip
        return made

    @property
    def rate(self) -> float:
        """The probability that a fact without a partner is kept, as the filter is filled now."""
        return self.bloom.false_positive_rate()

    def with_keys(self, rows: DataFrame, *, on: Sequence[str]) -> Self:
        """Return a filter of the same size that has the keys of these rows too, such as those that a dimension gets.

        Each task makes a filter of its rows; the driver merges them, some 256 MB at most.
        """
        self._check(rows, on)
        _check_bounded(rows, on)
        tasks = max(1, min(rows.sparkSession.sparkContext.defaultParallelism, PARTIALS_BYTES // self.bloom.state.nbytes))
        merged = self.bloom.copy()
        for blob in _hashed(rows, on).coalesce(tasks).mapInArrow(_Partial(len(merged.state)), "filter binary").collect():
            merged.merge(BloomFilter.from_bytes(bytes(blob[0])))
        return type(self)(merged, self.kinds)

    def apply(self, facts: DataFrame, *, on: Sequence[str]) -> DataFrame:
        """Return the facts that may have a partner, columns as they came.

        Parameters
        ----------
        facts : DataFrame
            A stream or a bounded frame.
        on : sequence of str
            Its key columns, types as in the dimension.

        Raises
        ------
        SchemaError
            A column is missing, or of another type: equal values of two types have two hashes.
        """
        return facts.where(self._asked(facts, on))

    def mark(self, facts: DataFrame, *, on: Sequence[str], into: str = "may_match") -> DataFrame:
        """Return all facts with one more column, whether they may have a partner: boolean, False for nulls in keys, never null.

        For a route that stores or counts what is left out.
        """
        if into.lower() in (name.lower() for name in facts.columns):
            raise SchemaError("add", "column", into, expected="a new name", got=f"columns {facts.columns}", todo="give another with into=")
        return facts.withColumn(into, self._asked(facts, on))

    def to_bytes(self) -> bytes:
        """Return the stored form: the types of the keys, and the bytes of the filter, under a checksum. Equal filters, equal bytes."""
        header = json.dumps({"kinds": self.kinds}, separators=(",", ":")).encode()
        body = struct.pack("<I", len(header)) + header + self.bloom.to_bytes()
        return MAGIC + struct.pack("<HHI", FORMAT, 0, google_crc32c.value(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the stored form.

        Raises
        ------
        SketchBytesError
            The bytes are not those of a key filter, of a newer format, or damaged.
        """
        if len(data) < PREFIX.size or data[:4] != MAGIC:
            raise _unreadable(f"bytes that begin with {MAGIC!r}", f"{len(data)} bytes that begin with {data[:4]!r}")
        _, version, reserved, checksum, size = PREFIX.unpack_from(data)
        if google_crc32c.value(data[CHECKED_FROM:]) != checksum:
            raise _unreadable(f"checksum {checksum:#010x}", f"{google_crc32c.value(data[CHECKED_FROM:]):#010x}")
        if (version, reserved) != (FORMAT, 0):
            raise _unreadable(f"format {FORMAT}", f"format {version}, mark {reserved}")
        header = data[PREFIX.size : PREFIX.size + size]
        try:
            kinds = tuple(str(kind) for kind in json.loads(header)["kinds"])
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable("a header with the types of the keys", repr(header[:LONGEST_SHOWN])) from error
        return cls(BloomFilter.from_bytes(data[PREFIX.size + size :]), kinds)

    def _asked(self, facts: DataFrame, on: Sequence[str]) -> Column:
        self._check(facts, on)
        hashed = F.xxhash64(*(column(name) for name in on))
        found = _by_expression if self.bloom.state.nbytes <= LARGEST_IN_JVM else _by_broadcast
        return _present(on) & found(self.bloom, facts, hashed)

    def _check(self, rows: DataFrame, on: Sequence[str]) -> None:
        kinds = _kinds(rows, on)
        if kinds != self.kinds:
            raise SchemaError(
                "filter by",
                "key",
                ", ".join(on),
                expected=", ".join(self.kinds),
                got=", ".join(kinds),
                why="equal values of two types have two hashes, so their facts would be dropped",
                todo="cast the key as the join does",
            )


@dataclass(frozen=True, slots=True)
class _Partial:
    """Makes one filter of the hashes of a task, in a worker."""

    blocks: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        made = BloomFilter(self.blocks)
        for batch in batches:
            made.update_hashes(batch.column(0).to_numpy())
        if not made.is_empty:
            yield pa.record_batch([pa.array([made.to_bytes()], pa.binary())], ["filter"])
        settle()


def _by_expression(bloom: BloomFilter, facts: DataFrame, hashed: Column) -> Column:
    """Return the question in Spark SQL: what `sketches.bloom_kernel.contains` does, in code that Spark generates.

    The words are a scalar subquery, which Spark evaluates once and plans show by number; a literal would be printed with every plan.
    Salts are taken as signed and words of a hash as 64 bits, so that no product overflows.
    """
    kind = pa.list_(pa.field("element", pa.int32(), nullable=False))
    words = pa.array([np.ascontiguousarray(bloom.state.reshape(-1)).view(np.int32)], kind)
    state = facts.sparkSession.createDataFrame(pa.table({"words": words})).scalar()
    low = hashed.bitwiseAND(F.lit(0xFFFFFFFF))
    block = F.shiftright(F.shiftrightunsigned(hashed, 32) * F.lit(len(bloom.state)).cast("bigint"), 32).cast("int") * LANES
    found = F.lit(True)
    for lane, salt in enumerate(SALTS.view(np.int32).tolist()):
        bit = F.shiftright(low * F.lit(salt).cast("bigint"), 27).bitwiseAND(F.lit(31).cast("bigint")).cast("int")
        found &= F.call_function("shiftright", F.get(state, block + lane), bit).bitwiseAND(F.lit(1)) == 1
    return found


def _by_broadcast(bloom: BloomFilter, facts: DataFrame, hashed: Column) -> Column:
    """Return the question as an Arrow UDF; the filter goes to each executor once."""
    sent = facts.sparkSession.sparkContext.broadcast(bloom)

    def contains(hashes: pa.Array) -> pa.Array:
        return pa.array(sent.value.contains_hashes(hashes.to_numpy()))

    asked: Column = arrow_udf(contains, "boolean")(hashed)  # type: ignore[call-overload]  # the type of UDF is that of its hints
    return asked


def _hashed(rows: DataFrame, on: Sequence[str]) -> DataFrame:
    return rows.where(_present(on)).select(F.xxhash64(*(column(name) for name in on)).alias(HASH))


def _present(on: Sequence[str]) -> Column:
    present = column(on[0]).isNotNull()
    for name in on[1:]:
        present &= column(name).isNotNull()
    return present


def _kinds(rows: DataFrame, on: Sequence[str]) -> tuple[str, ...]:
    if isinstance(on, str) or not on:
        raise SettingsError("filter by", "keys", repr(on), expected="a list of one column or more", got=repr(on), todo="write on=['...']")
    for name in on:
        if name not in rows.columns:
            raise SchemaError("filter by", "key", name, expected=f"one of {rows.columns}", got="no such column", todo="correct the name")
    kinds = tuple(rows.schema[name].dataType.simpleString() for name in on)
    for name, kind in zip(on, kinds, strict=True):
        if UNHASHED.search(kind):
            expected, todo = "a type that has an equality and a hash", "filter by a part of it, or by its text"
            raise SchemaError("filter by", "key", name, expected=expected, got=kind, todo=todo)
    return kinds


def _check_bounded(rows: DataFrame, on: Sequence[str]) -> None:
    if rows.isStreaming:
        expected, why = "a bounded frame", "a stream's keys are not all there"
        raise SettingsError("filter by", "dimension", ", ".join(on), expected=expected, got="a stream", why=why, todo="read its table")


def _unreadable(expected: str, got: str) -> SketchBytesError:
    todo = "make the filter anew from the dimension"
    return SketchBytesError("read", "bytes of", "key filter", expected=expected, got=got, todo=todo)
