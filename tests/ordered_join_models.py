"""As-of joins and joins by number of rows, row by row as their definitions have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from spark_ext.state.kernel import FOREVER_US
from tests.join_models import Batch, Given, Row, sifted


@dataclass(frozen=True)
class AsOf:
    """What an as-of join is asked for."""

    direction: str = "backward"
    tolerance: int | None = None
    exact: bool = True
    how: str = "left"
    ttl: int | None = None

    def partner(self, left: Row, rights: Sequence[Row], heard: Sequence[int]) -> Row | None:
        """The right row that is best for a left one; `heard`: the times at which anything came of its key."""
        found = [one for one in rights if one[0] == left[0] and self._may(left, one, heard)]
        return max(found, key=lambda one: self._merit(left, one), default=None)

    def would_win(self, left: Row, at: int, best: Row | None) -> bool:
        """Whether a row that came at this time would be as good as the best one, or better."""
        other = (left[0], at, 0)
        return self._may(left, other, [left[1], at]) and (best is None or self._merit(left, other)[0] >= self._merit(left, best)[0])

    def _may(self, left: Row, right: Row, heard: Sequence[int]) -> bool:
        apart = right[1] - left[1]
        if apart == 0 and not self.exact:
            return False
        if (self.direction == "backward" and apart > 0) or (self.direction == "forward" and apart < 0):
            return False
        if self.ttl is not None and any(after - before > self.ttl for before, after in steps(heard, right[1], left[1])):
            return False
        return self.tolerance is None or abs(apart) <= self.tolerance

    def _merit(self, left: Row, right: Row) -> tuple[Any, ...]:
        apart = right[1] - left[1]
        return (-abs(apart), apart <= 0), right[2]


def steps(heard: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int]]:
    times = sorted({at for at in (*heard, first, last) if first <= at <= last})
    yield from pairwise(times)


def asof_join(batches: Sequence[Batch], asked: AsOf, earliest_us: int, latest_us: int) -> list[Given]:
    """Each left row in the batch whose watermark proves its partner: no row that may still come would win."""
    lefts: list[list[Any]] = []  # row, given
    rights: list[Row] = []
    found = []
    for batch in batches:
        given, now = Given(), batch.watermark_us
        lefts += [[row[0], False] for row in sifted("left", batch.left, now, earliest_us, latest_us, given)]
        rights += [row[0] for row in sifted("right", batch.right, now, earliest_us, latest_us, given)]
        needed: set[int] = set()
        for one in lefts:
            left = one[0]
            if one[1]:
                continue
            best = None
            if left[0] is not None:
                best = asked.partner(left, rights, heard_of(left[0], lefts, rights))
                open_end = now < FOREVER_US and asked.would_win(left, max(now, left[1]), best)
                if left[1] >= now or open_end:
                    passed = [right for right in rights if right[1] < now]
                    candidate = asked.partner(left, passed, heard_of(left[0], lefts, rights))
                    if candidate is not None and left[1] < now:
                        needed.add(id(next(one for one in reversed(rights) if one == candidate)))  # of equal rows one is enough
                    continue
            one[1] = True
            if best is not None:
                given.rows["joined", "both", left, best] += 1
            elif asked.how == "left":
                given.rows["joined", "left", left, None] += 1
        given.kept = (sum(not one[1] for one in lefts), sum(kept(right, now, asked, lefts, rights, needed) for right in rights))
        found.append(given)
    return found


def heard_of(key: Any, lefts: Sequence[list[Any]], rights: Sequence[Row]) -> list[int]:
    return [row[1] for row in (*(one[0] for one in lefts), *rights) if row[0] == key]


def kept(right: Row, now: int, asked: AsOf, lefts: Sequence[list[Any]], rights: Sequence[Row], needed: set[int]) -> bool:
    """Whether a right row is still of use: not passed, or the last one of its key that was, and near enough for a row at `now`."""
    if right[0] is None:
        return False
    if right[1] >= now:
        return True
    if asked.direction == "forward" or now == FOREVER_US:
        return False
    passed = [one for one in rights if one[0] == right[0] and one[1] < now]
    last = max(reversed(passed), key=lambda one: one[1:])
    is_last = last is right and (asked.tolerance is None or now - right[1] <= asked.tolerance)
    if asked.ttl is not None:
        heard = [at for at in heard_of(right[0], lefts, rights) if at < now]
        is_last &= not any(after - before > asked.ttl for before, after in steps(heard, right[1], now))
    return is_last or id(right) in needed


def count_join(batches: Sequence[Batch], how: str, left_rows: int, right_rows: int, earliest_us: int, latest_us: int) -> list[Given]:
    """Rows that the watermark has passed go through one by one: each meets the window of the other side, then enters its own."""
    windows: dict[tuple[str, Any], list[list[Any]]] = {}  # of side and key: row, matched
    waiting: list[tuple[int, int, Row]] = []
    sizes, found = (left_rows, right_rows), []
    names = ("left", "right")
    wanted = [{"left", "full", "anti"}, {"right", "full"}]

    def alone(given: Given, side: int, row: Row) -> None:
        if how in wanted[side]:
            given.rows["joined", names[side], *((row, None) if side == 0 else (None, row))] += 1

    def met(given: Given, left: list[Any], right: list[Any]) -> None:
        if how == "semi" and not left[1]:
            given.rows["joined", "both", left[0], None] += 1
        elif how not in {"semi", "anti"}:
            given.rows["joined", "both", left[0], right[0]] += 1
        left[1] = right[1] = True

    def end(given: Given) -> None:
        for (name, _), window in windows.items():
            for row, matched in window:
                if not matched:
                    alone(given, names.index(name), row)
        windows.clear()

    for batch in batches:
        given, now = Given(), batch.watermark_us
        for side, rows in enumerate((batch.left, batch.right)):
            for row, *_ in sifted(names[side], rows, now, earliest_us, latest_us, given):
                if row[0] is None:
                    alone(given, side, row)
                else:
                    waiting.append((row[1], side, row))
        waiting.sort(key=lambda one: (one[0], one[1], one[2]))
        while waiting and waiting[0][0] < now:
            _, side, row = waiting.pop(0)
            entry = [row, False]
            for other in windows.get((names[1 - side], row[0]), []):
                met(given, *((entry, other) if side == 0 else (other, entry)))
            window = windows.setdefault((names[side], row[0]), [])
            window.append(entry)
            if len(window) > sizes[side]:
                gone, matched = window.pop(0)
                if not matched:
                    alone(given, side, gone)
        if now == FOREVER_US:
            end(given)
        held = [sum(len(window) for (name, _), window in windows.items() if name == side) for side in names]
        given.kept = tuple(held[side] + sum(1 for one in waiting if one[1] == side) for side in (0, 1))  # type: ignore[assignment]
        found.append(given)
    return found
