"""What upsert and history mean, slowly: dictionaries, one row after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["HistoryModel", "UpsertModel", "as_set"]

Row = Mapping[str, Any]


def rank(value: Any) -> tuple[bool, Any]:
    """Null before every value."""
    return (value is not None, 0 if value is None else value)


def as_set(rows: Iterable[Row]) -> list[str]:
    """Rows in a form in which equal multisets are equal."""
    return sorted(repr(sorted(row.items())) for row in rows)


class UpsertModel:
    """One current row per key."""

    def __init__(self, keys: Sequence[str], sequence: str, columns: Sequence[str]) -> None:
        self.keys, self.sequence, self.columns = keys, sequence, columns
        self.rows: dict[tuple[Any, ...], Row] = {}

    def add(self, batch: Iterable[Row]) -> None:
        ordered = sorted(batch, key=lambda row: (rank(row[self.sequence]), [rank(row[name]) for name in self.columns]))
        last = {tuple(row[name] for name in self.keys): row for row in ordered}
        for key, row in last.items():
            old = self.rows.get(key)
            if old is None or rank(row[self.sequence]) >= rank(old[self.sequence]):
                self.rows[key] = row


class HistoryModel:
    """Every version of a key."""

    def __init__(self, keys: Sequence[str], sequence: str, columns: Sequence[str]) -> None:
        self.keys, self.sequence, self.columns = keys, sequence, columns
        self.versions: dict[tuple[Any, ...], dict[datetime, Row]] = {}

    def add(self, batch: Iterable[Row]) -> None:
        for row in sorted(batch, key=lambda row: [rank(row[name]) for name in self.columns]):
            self.versions.setdefault(tuple(row[name] for name in self.keys), {})[row[self.sequence]] = row

    def table(self) -> list[Row]:
        found = []
        for versions in self.versions.values():
            times = sorted(versions)
            for at, end in zip(times, [*times[1:], None], strict=True):
                found.append({**versions[at], "valid_from": at, "valid_to": end, "is_current": end is None})
        return found
