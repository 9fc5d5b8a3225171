"""`mapWithState` of one partition: call the function for each value, then for each key that times out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from spark_ext.dstream.state.held import Held
from spark_ext.dstream.state.spec import NOTHING, State

__all__ = ["Mapping", "mapped"]

Mapping: TypeAlias = Callable[[Any, Any, State[Any]], Any]


def mapped(
    held: Held, pairs: Iterable[tuple[Any, Any]], function: Mapping, *, time_ms: int, timeout_ms: int | None
) -> tuple[Held, list[Any]]:
    """Return the state after a batch, and what the function gave.

    Guarantee: ``function(key, value, state)`` is called for each pair in order and sees what the calls before it left; then
    ``function(key, None, state)`` once for each key whose last data is older than ``time_ms - timeout_ms``, which is gone
    afterwards. Nones that it returns are left out. Python objects are made for these keys only. `held` is not changed.
    """
    given = list(pairs)
    touched = list(dict.fromkeys(key for key, _ in given))
    keys = held.keys.fit(touched)
    rows = keys.rows_of(touched)
    old = np.flatnonzero(rows >= 0)
    states = held.states.take(rows[old]).objects()
    now = {touched[place]: state for place, state in zip(old.tolist(), states, strict=True)}

    out = []
    for key, value in given:
        state: State[Any] = State(now.get(key, NOTHING))
        out.append(function(key, value, state))
        if state.exists():
            now[key] = state.get()
        else:
            now.pop(key, None)

    stays = np.ones(len(held.times), bool)
    stays[rows[old]] = False
    if timeout_ms is not None:
        idle = np.flatnonzero(stays & (held.times < time_ms - timeout_ms))
        leaving = held.states.take(idle).objects()
        for key, last in zip(keys.take(idle).column.objects(), leaving, strict=True):
            out.append(function(key, None, State(last, is_timing_out=True)))
        stays[idle] = False

    kept = [place for place in old.tolist() if touched[place] in now]
    new = [place for place in np.flatnonzero(rows < 0).tolist() if touched[place] in now]
    untouched = np.flatnonzero(stays)
    after = keys.take(np.concatenate([untouched, rows[kept]]))
    unchanged = held.states.take(untouched)
    return (
        Held(
            after.then([touched[place] for place in new]),
            unchanged.then([now[touched[place]] for place in (*kept, *new)]),
            np.concatenate([held.times[untouched], np.full(len(kept) + len(new), time_ms, np.int64)]),
        ),
        [one for one in out if one is not None],
    )
