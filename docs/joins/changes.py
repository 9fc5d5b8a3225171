"""The small changelogs behind the pictures of docs/joins.md, and what the real kernels make of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from spark_ext.joins.layout import HASH, LEFT, RIGHT
from spark_ext.state.kernel import NEVER_US, Moment, State, Step, empty_state
from spark_ext.state.signed import SIGN
from spark_ext.tables.aggregate_kernel import TableAggregate
from spark_ext.tables.changes_kernel import TableChanges
from spark_ext.tables.foreign_kernel import TableForeignJoin
from spark_ext.tables.join_kernel import TableJoin
from spark_ext.tables.layout import CHANGED, DELETED, Changelog, Pair
from spark_ext.windows.aggregates import count, sum  # noqa: A004

__all__ = ["CHANGES", "Change", "Lane", "Tables", "play"]

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    """A row that comes (+1) or goes (-1), or one that was not taken, by its tag; `is_right`: of the right side."""

    row: Row
    sign: int = 0
    tag: str = CHANGED
    is_right: bool = False


@dataclass(frozen=True)
class Lane:
    """One batch: what came, what changed, and the table then."""

    came: Sequence[Change]
    changes: Sequence[Change]
    table: Sequence[Row]


@dataclass(frozen=True)
class Tables:
    """Changelogs, and what is made of them.

    Attributes
    ----------
    title : str
        How it is asked for.
    headings : tuple of str
        Columns of what comes, and of the result.
    batches : sequence of (sequence of Row, sequence of Row)
        Of the left and the right side; of operators with one side the right one is empty.
    made : callable
        Play them: gives the lanes.
    """

    title: str
    headings: tuple[str, str]
    batches: Sequence[tuple[Sequence[Row], Sequence[Row]]]
    made: Callable[[Tables], list[Lane]]


def play(tables: Tables) -> list[Lane]:
    """Run the kernel over the batches."""
    return tables.made(tables)


def _log(names: Sequence[str], kinds: Sequence[pa.DataType]) -> Changelog:
    return Changelog(pa.schema(list(zip(names, kinds, strict=True))), (names[0],), "seq" if "seq" in names else None)


TEXT, WHOLE = pa.string(), pa.int64()
AIRLINES: Final = _log(["code", "name", "seq"], [TEXT, TEXT, WHOLE])
ACCOUNTS: Final = _log(["id", "city", "eur", "seq"], [TEXT, TEXT, WHOLE, WHOLE])
ORDERS: Final = _log(["id", "item"], [TEXT, TEXT])
PAYMENTS: Final = _log(["id", "eur"], [TEXT, WHOLE])
FLIGHTS: Final = _log(["flight", "by"], [TEXT, TEXT])
CARRIERS: Final = _log(["code", "name"], [TEXT, TEXT])


def _came(rows: Sequence[Row], log: Changelog) -> pa.Table:
    """Return rows as a changelog; one whose values are all null is a delete."""
    values = [place for place, name in enumerate(log.schema.names) if name not in {*log.keys, log.sequence}]
    columns = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(log.schema)]
    deleted = [all(row[place] is None for place in values) for row in rows]
    return pa.table([*columns, pa.array(deleted, pa.bool_()), pa.array([7] * len(rows), WHOLE)], [*log.schema.names, DELETED, HASH])


def _folded(log: Changelog, batches: Sequence[Sequence[Row]]) -> list[tuple[Step, pa.Table]]:
    """Make a table of a changelog: for each batch the step, and its changes."""
    kernel = TableChanges(log)
    state: State = empty_state(kernel)
    steps = []
    for rows in batches:
        step = kernel.step(state, _came(rows, log), Moment(NEVER_US, 0))
        state = step.state
        steps.append((step, step.out[CHANGED]))
    return steps


def _changes(tables: Tables) -> list[Lane]:
    steps = _folded(AIRLINES, [left for left, _ in tables.batches])
    return _lanes(tables, [step.out for step, _ in steps], [[Change(row) for row in left] for left, _ in tables.batches])


def _aggregate(tables: Tables) -> list[Lane]:
    signed = [changes for _, changes in _folded(ACCOUNTS, [left for left, _ in tables.batches])]
    kernel = TableAggregate(ACCOUNTS.schema, ("city",), (("accounts", count()), ("eur", sum("eur"))))
    state: State = empty_state(kernel)
    out = []
    for rows in signed:
        hashed = rows.append_column(HASH, pa.array([7] * len(rows), WHOLE))
        step = kernel.step(state, hashed.select(kernel.in_schema.names), Moment(NEVER_US, 0))
        state = step.state
        out.append(step.out)
    return _lanes(tables, out, [[Change(one.row[:-1], one.sign) for one in _read(rows, CHANGED)] for rows in signed])


def _join(tables: Tables) -> list[Lane]:
    pair = Pair(ORDERS.schema, PAYMENTS.schema, (("id", "id"),), "left", "_right")
    return _joined(tables, TableJoin(ORDERS, PAYMENTS, pair), lambda rows: _came(rows, ORDERS), PAYMENTS)


def _foreign(tables: Tables) -> list[Lane]:
    pair = Pair(FLIGHTS.schema, CARRIERS.schema, (("by", "code"),), "inner", "_right")
    kernel = TableForeignJoin(FLIGHTS.schema, FLIGHTS.keys, CARRIERS, pair, 10_000)

    def only_come(rows: Sequence[Row]) -> pa.Table:
        came = _came(rows, FLIGHTS).drop_columns([DELETED])
        return came.add_column(len(FLIGHTS.schema), SIGN, pa.array([1] * len(rows), pa.int8())).select(kernel.in_schemas[LEFT].names)

    return _joined(tables, kernel, only_come, CARRIERS)


def _joined(tables: Tables, kernel: Any, left_of: Callable[[Sequence[Row]], pa.Table], right: Changelog) -> list[Lane]:
    state: State = empty_state(kernel)
    out = []
    for left, others in tables.batches:
        step = kernel.step(state, {LEFT: left_of(left), RIGHT: _came(others, right)}, Moment(NEVER_US, 0))
        state = step.state
        out.append(step.out)
    came = [[*map(Change, left), *(Change(row, is_right=True) for row in others)] for left, others in tables.batches]
    return _lanes(tables, out, came)


def _lanes(tables: Tables, outs: Sequence[Mapping[str, pa.Table]], came: Sequence[Sequence[Change]]) -> list[Lane]:
    total: Counter[Row] = Counter()
    lanes = []
    for out, rows in zip(outs, came, strict=True):
        changes = sorted(_read(out[CHANGED], CHANGED), key=lambda one: (str(one.row[0]), one.sign))
        for change in changes:
            total[change.row] += change.sign
        refused = [one for tag, table in out.items() if tag != CHANGED for one in _read(table, tag)]
        lanes.append(Lane(rows, [*changes, *refused], sorted((row for row, number in total.items() if number), key=str)))
    return lanes


def _read(rows: pa.Table, tag: str) -> list[Change]:
    """Return rows without columns of ours."""
    names = [name for name in rows.column_names if name not in {SIGN, "side"}]
    found = rows.to_pylist()
    return [Change(tuple(row[name] for name in names), row.get(SIGN) or 0, tag) for row in found]


CHANGES: Final[dict[str, Tables]] = {
    "table_changes": Tables(
        'tables.changes(keys=["code"], sequence="seq")',
        ("code, name, seq", "code, name, seq"),
        [
            ([("AA", "American", 1), ("US", "US Airways", 2)], ()),
            ([("US", "American", 5), ("US", "USAir", 4)], ()),
            ([("US", None, 6), ("AA", "Amer", 0)], ()),
        ],
        _changes,
    ),
    "table_aggregate": Tables(
        'tables.aggregate(by=["city"], aggregates={"accounts": count(), "eur": sum("eur")})',
        ("id, city, eur", "city, accounts, eur"),
        [
            ([("1", "Bonn", 30, 1), ("2", "Bonn", 50, 1), ("3", "Kiel", 20, 1)], ()),
            ([("2", "Kiel", 50, 2)], ()),
            ([("1", None, None, 2)], ()),
        ],
        _aggregate,
    ),
    "table_join": Tables(
        'tables.join(orders, payments, keys="id", how="left")',
        ("id, item | id, eur", "id, item, eur"),
        [
            ([("7", "book"), ("8", "lamp")], [("7", 12)]),
            ([], [("8", 40), ("9", 5)]),
            ([("8", "desk")], [("7", None)]),
        ],
        _join,
    ),
    "table_join_foreign": Tables(
        'tables.join_foreign(flights, carriers, on={"by": "code"}, keys="flight")',
        ("flight, by | code, name", "flight, by, name"),
        [
            ([("F1", "US"), ("F2", "US"), ("F3", "AA")], [("US", "US Airways")]),
            ([], [("AA", "American")]),
            ([], [("US", "American")]),
        ],
        _foreign,
    ),
}
