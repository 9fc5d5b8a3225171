"""Compare what a script left behind with what should be there, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from spark_ext.testing.result import Result, canonical
from spark_ext.testing.steps import as_python

__all__ = ["Difference", "DifferenceError", "assert_same", "differences"]

LIMIT: Final = 20
LEDGER: Final = "ledger"
WIDEST: Final = 60
PLAN_LINES: Final = 40

Row = Mapping[str, Any]
Table = Sequence[Row]


class DifferenceError(AssertionError):
    """Tables are not what they should be.

    Attributes
    ----------
    differences : sequence of Difference
        Table by table.
    """

    def __init__(self, text: str, found: Sequence[Difference]) -> None:
        super().__init__(text)
        self.differences = found


@dataclass(frozen=True, slots=True)
class Difference:
    """How a table differs from what it should be; rows as tuples in the order of `columns`.

    Attributes
    ----------
    table : str
        Its name.
    columns : tuple of str
        All columns that were compared.
    keys : tuple of str
        Those of them that identify a row; may be empty.
    expected, found : int
        Rows there should be, and rows that are there.
    lost : list of tuple
        Rows that should be there; one as often as it is missing.
    duplicated : list of (tuple, int, int)
        Rows that are there more often than they should be: how often they should, how often they are.
    altered : list of (tuple, tuple)
        Rows with the right key and another content: as it should be, as it is.
    unexpected : list of tuple
        Rows that should not be there at all.
    """

    table: str
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    expected: int
    found: int
    lost: list[tuple[Any, ...]] = field(default_factory=list)
    duplicated: list[tuple[tuple[Any, ...], int, int]] = field(default_factory=list)
    altered: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=list)
    unexpected: list[tuple[Any, ...]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.altered or self.unexpected)

    @property
    def text(self) -> str:
        """What is different, with up to 20 rows of each kind."""
        kinds = (f"{len(rows)} {name}" for name, rows in self._kinds() if rows)
        lines = [f"table {self.table!r}: {self.expected} rows expected, {self.found} found; {', '.join(kinds)}"]
        for name, rows in self._kinds():
            if not rows:
                continue
            lines += [f"  {name}" + (f", the first {LIMIT} of {len(rows)}:" if len(rows) > LIMIT else ":")]
            lines += [f"    {line}" for line in self._shown(name, rows[:LIMIT])]
        return "\n".join(lines)

    def _kinds(self) -> list[tuple[str, list[Any]]]:
        return [("lost", self.lost), ("duplicated", self.duplicated), ("altered", self.altered), ("unexpected", self.unexpected)]

    def _shown(self, name: str, rows: list[Any]) -> list[str]:
        if name == "duplicated":
            return _grid(["expected", "found", *self.columns], [[str(due), str(got), *map(_cell, row)] for row, due, got in rows])
        if name == "altered":
            # The key and what differs in any of them, or the eye gets lost.
            at = [
                number
                for number, name in enumerate(self.columns)
                if name in self.keys or any(due[number] != got[number] for due, got in rows)
            ]
            shown = []
            for due, got in rows:
                marked = [_cell(got[one]) if got[one] == due[one] else f"*{_cell(got[one])}*" for one in at]
                shown += [["expected", *(_cell(due[one]) for one in at)], ["found", *marked]]
            return _grid(["", *(self.columns[one] for one in at)], shown)
        return _grid(list(self.columns), [list(map(_cell, row)) for row in rows])


def differences(result: Result, reference: Result | Mapping[str, Table], *, ledger: bool = True) -> list[Difference]:
    """Return how the tables of a script differ from those of a reference; an empty list if they hold the same rows.

    Rows are compared as multisets: order never counts, how often a row is there always does. Two NaN are equal.

    Parameters
    ----------
    result : Result
        Of the script with crashes.
    reference : Result or mapping of str to sequence of mapping
        Of the script without; or the rows that should be there, by table, from a model. A table that the mapping does not have
        is not compared; under ``ledger`` it may have some columns of the `ledger_facts`.
    ledger : bool
        Whether two ledgers are compared as well, by their `ledger_facts`.
    """
    job = result.job
    expected: dict[str, Table] = {}
    found: dict[str, Table] = {}
    if isinstance(reference, Result):
        expected = {name: table.to_pylist() for name, table in reference.tables.items()}
        if ledger:
            expected[LEDGER], found[LEDGER] = reference.facts, result.facts
    else:
        expected = dict(reference)
        if LEDGER in expected:
            known = {column for row in expected[LEDGER] for column in row}
            found[LEDGER] = [{column: value for column, value in row.items() if column in known} for row in result.facts]
    for name in expected.keys() - {LEDGER}:
        found[name] = result.tables[name].to_pylist()
    keys = {LEDGER: ("epoch",), **job.keys}
    each = (_difference(name, rows, found[name], keys.get(name, ()), job.volatile.get(name, ())) for name, rows in sorted(expected.items()))
    return [one for one in each if one]


def assert_same(result: Result, reference: Result | Mapping[str, Table], *, ledger: bool = True, repeat: str = "") -> None:
    """Fail unless the tables of a script hold the same rows as those of a reference.

    The failure shows the rows that are lost, duplicated, altered or unexpected, how to repeat the run, where the source stands, Spark's
    last progress, the plan, and the steps as Python.

    Parameters
    ----------
    result, reference, ledger
        As for `differences`.
    repeat : str
        The one command that repeats the run, if there is one.

    Raises
    ------
    DifferenceError
        They do not.
    """
    found = differences(result, reference, ledger=ledger)
    if found:
        raise DifferenceError(_report(found, result, repeat), found)


def _report(found: Sequence[Difference], result: Result, repeat: str) -> str:
    crashes = [f"{one.point}{f' of {one.sink!r}' if one.sink else ''} in batch {one.batch_id}" for one in result.hits]
    plan = result.plan.strip().splitlines()
    parts = [
        "the tables are not what they should be",
        *(one.text for one in found),
        f"repeat with: {repeat}" if repeat else "",
        f"{result.starts} starts; crashes: {', '.join(crashes) or 'none'}",
        f"offsets: {result.offsets}",
        f"last progress: {result.progress}",
        "plan: " + "\n".join([*plan[:PLAN_LINES], *(["..."] if len(plan) > PLAN_LINES else [])]),
        as_python(result.steps),
    ]
    return "\n\n".join(part for part in parts if part)


def _difference(name: str, expected: Table, found: Table, keys: Sequence[str], volatile: Collection[str]) -> Difference:
    columns = [one for one in dict.fromkeys(column for rows in (expected, found) for row in rows for column in row) if one not in volatile]
    due, got = _counted(expected, columns), _counted(found, columns)
    lost = _sorted((due - got).elements())
    more = got - due
    duplicated = [(row, due[row], got[row]) for row in _sorted(more) if due[row]]
    unexpected = _sorted(row for row in more.elements() if not due[row])
    altered = []
    at = [columns.index(key) for key in keys if key in columns]
    if keys and len(at) == len(keys):
        by_key = {tuple(row[one] for one in at): row for row in lost}
        for row in list(unexpected):
            old = by_key.pop(tuple(row[one] for one in at), None)
            if old is not None:
                lost.remove(old)
                unexpected.remove(row)
                altered.append((old, row))
    return Difference(name, tuple(columns), tuple(keys), len(expected), len(found), lost, duplicated, altered, unexpected)


def _counted(rows: Table, columns: Sequence[str]) -> Counter[tuple[Any, ...]]:
    # A column that only one side has differs in each row, unless it is null everywhere.
    return Counter(tuple(canonical(row.get(column)) for column in columns) for row in rows)


def _sorted(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(
        rows, key=lambda row: [(value is not None, str(type(value)), value if isinstance(value, int) else 0, str(value)) for value in row]
    )


def _cell(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    return [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]]
