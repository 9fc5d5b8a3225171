"""Joins row by row, as their definitions have them: what kernels and plans are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from spark_ext.state.kernel import FOREVER_US, NEVER_US, JoinKernel, Moment, empty_state

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAMP = pa.timestamp("us", "UTC")
LEFT = pa.schema([("k", pa.string()), ("at", STAMP), ("v", pa.int64())])
RIGHT = pa.schema([("k", pa.string()), ("at", STAMP), ("w", pa.int64())])
HASHED = pa.field("_key_hash", pa.int64())

Row = tuple[Any, ...]  # key, event time in microseconds or None, value


@dataclass(frozen=True)
class Batch:
    """New rows of both sides, and the watermark at the start of the batch."""

    left: Sequence[Row]
    right: Sequence[Row]
    watermark_us: int


@dataclass
class Given:
    """What a batch gave: rows as (tag, side, left row, right row)."""

    rows: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    kept: tuple[int, int] = (0, 0)


def at(us: int | None) -> datetime | None:
    return None if us is None else EPOCH + timedelta(microseconds=us)


def table(rows: Sequence[Row], schema: pa.Schema, hashes: dict[Any, int]) -> pa.Table:
    """Rows as a kernel gets them; the hash is given, so that two keys can share one."""
    columns = [[row[0] for row in rows], [at(row[1]) for row in rows], [row[2] for row in rows], [hashes.get(row[0], 42) for row in rows]]
    full = schema.append(HASHED)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, full, strict=True)], schema=full)


def run(kernel: JoinKernel, batches: Sequence[Batch], hashes: dict[Any, int]) -> list[Given]:
    """Run a kernel over batches; each gives its rows, and how many are kept of either side."""
    state, found = dict(empty_state(kernel)), []
    for batch in batches:
        given_rows = {"left": table(batch.left, LEFT, hashes), "right": table(batch.right, RIGHT, hashes)}
        rows = {name: each.select(kernel.in_schemas[name].names) for name, each in given_rows.items()}
        step = kernel.step(state, rows, Moment(batch.watermark_us, 0))
        state = dict(step.state)
        given = Given(kept=tuple(sum(len(each) for name, each in state.items() if name.startswith(side)) for side in ("left", "right")))
        for tag, out in step.out.items():
            assert out.schema.equals(kernel.out_schema[tag]), (tag, out.schema)
            for row in out.to_pylist():
                given.rows[read(tag, row)] += 1
        for name, each in state.items():
            assert each.schema.equals(kernel.state_schema[name]), name
        found.append(given)
    return found


def read(tag: str, row: dict[str, Any]) -> tuple[Any, ...]:
    """One row that came out, as (tag, side, left, right)."""

    def us(moment: datetime | None) -> int | None:
        return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)

    side = row["side"]
    left = (row["k"], us(row["at"]), row["v"]) if side != "right" else None
    right = (row["k"], us(row.get("at_right")), row.get("w")) if side != "left" and "w" in row else None
    return tag, side, left, right


def interval_join(
    batches: Sequence[Batch], how: str, lower_us: int, upper_us: int, earliest_us: int = NEVER_US, latest_us: int = FOREVER_US
) -> list[Given]:
    """The interval join by its definition: pairs of all good rows so far, given with the later of the two; the rest when it is proven."""
    lefts: list[list[Any]] = []  # row, matched, given
    rights: list[list[Any]] = []
    found = []
    for batch in batches:
        given, now = Given(), batch.watermark_us
        fresh = {
            side: sifted(side, rows, now, earliest_us, latest_us, given) for side, rows in (("left", batch.left), ("right", batch.right))
        }
        for one in [*lefts, *fresh["left"]]:
            for other in [*rights, *fresh["right"]]:
                is_new = any(one is each for each in fresh["left"]) or any(other is each for each in fresh["right"])
                if is_new and _meet(one[0], other[0], lower_us, upper_us):
                    if how not in {"semi", "anti"}:
                        given.rows["joined", "both", one[0], other[0]] += 1
                    elif how == "semi" and not one[1]:
                        given.rows["joined", "both", one[0], None] += 1
                    one[1] = other[1] = True
        lefts += fresh["left"]
        rights += fresh["right"]
        for side, rows, wanted, reach in (
            ("left", lefts, {"left", "full", "anti"}, upper_us),
            ("right", rights, {"right", "full"}, -lower_us),
        ):
            for one in rows:
                proven = one[0][0] is None or one[0][1] + reach < now
                if proven and not one[1] and not one[2] and how in wanted:
                    pair = (one[0], None) if side == "left" else (None, one[0])
                    given.rows["joined", side, *pair] += 1
                    one[2] = True
        given.kept = (
            sum(1 for one in lefts if one[0][0] is not None and one[0][1] + upper_us >= now and not (how in {"semi", "anti"} and one[1])),
            sum(1 for one in rights if one[0][0] is not None and one[0][1] - lower_us >= now),
        )
        found.append(given)
    return found


def _meet(left: Row, right: Row, lower_us: int, upper_us: int) -> bool:
    return left[0] is not None and left[0] == right[0] and lower_us <= right[1] - left[1] <= upper_us


def sifted(side: str, rows: Sequence[Row], now: int, earliest_us: int, latest_us: int, given: Given) -> list[list[Any]]:
    """Rows that can be joined, each with two flags for its model; the others are given."""
    good: list[list[Any]] = []
    for row in rows:
        pair = (row, None) if side == "left" else (None, row)
        if row[1] is None or not earliest_us <= row[1] <= latest_us:
            given.rows["invalid", side, *pair] += 1
        elif row[1] < now:
            given.rows["late", side, *pair] += 1
        else:
            good.append([row, False, False])
    return good
