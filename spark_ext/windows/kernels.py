"""The kernel for a window and its policies, and what cannot be combined."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Final

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import Kernel
from spark_ext.windows.count_kernel import CountWindows
from spark_ext.windows.cover import Cover
from spark_ext.windows.eviction_kernel import EvictingWindows
from spark_ext.windows.evictions import Eviction
from spark_ext.windows.rows import Layout
from spark_ext.windows.session_kernel import SessionWindows
from spark_ext.windows.shapes import CountSliding, CountTumbling, Global, Session, Sliding, TimeShape, Window
from spark_ext.windows.time_kernel import TimeWindows
from spark_ext.windows.triggers import Trigger

__all__ = ["kernel_for"]

MICROSECOND: Final = timedelta(microseconds=1)


def kernel_for(layout: Layout, window: Window, trigger: Trigger, eviction: Eviction, ttl: timedelta | None) -> Kernel:
    """Return the kernel that computes a window.

    Raises
    ------
    SettingsError
        The policies do not go together.
    """
    shape, grace = window.shape, window.grace_us
    ttl_us = None if ttl is None else ttl // MICROSECOND
    described = _described(layout, window, trigger, eviction, ttl_us)
    if not eviction.keeps_all and not isinstance(shape, Global):
        raise _refused("eviction", shape.kind, "keep_all()", "a window that closes forgets its rows by itself", "use global_window()")
    if ttl_us is not None and not isinstance(shape, CountTumbling | CountSliding) and eviction.keeps_all:
        raise _refused("ttl", shape.kind, "None", "its state goes with the watermark", "leave it out")
    if isinstance(shape, Session):
        return SessionWindows(layout, shape.gap_us, shape.maximum_us, grace, trigger, described)
    if isinstance(shape, CountTumbling):
        return CountWindows(layout, shape.rows, shape.rows, ttl_us, grace, trigger, described)
    if isinstance(shape, CountSliding):
        return CountWindows(layout, shape.rows, shape.every, ttl_us, grace, trigger, described)
    if not eviction.keeps_all:
        return EvictingWindows(layout, eviction.keep_rows, eviction.keep_us, ttl_us, grace, trigger, described)
    if isinstance(shape, Sliding):
        if trigger.every_rows is not None or not trigger.accumulating:
            why = "windows share their panes, so rows since a firing are not known per window"
            raise _refused("trigger", shape.kind, "on_close(), each_batch() or early(), accumulating", why, "or use tumbling windows")
        cover = Cover(shape.length_us, shape.every_us, shape.offset_us)
        return TimeWindows(layout, shape.assigner(), grace, trigger, described, cover)
    assert isinstance(shape, TimeShape), "every other shape is one"  # noqa: S101
    return TimeWindows(layout, shape.assigner(), grace, trigger, described)


def _described(layout: Layout, window: Window, trigger: Trigger, eviction: Eviction, ttl_us: int | None) -> str:
    """Describe everything the state depends on, the same in every process."""
    columns = {*layout.keys, layout.time, *(name for _, aggregate in layout.aggregates for name in aggregate.inputs)}
    if isinstance(window.shape, CountTumbling | CountSliding) or not eviction.keeps_all:
        columns = set(layout.in_schema.names)  # whole rows are kept
    return json.dumps(
        {
            **window.settings,
            "keys": list(layout.keys),
            "event_time": layout.time,
            "types": {name: str(layout.types[name]) for name in sorted(columns)},
            "aggregates": {name: repr(aggregate) for name, aggregate in layout.aggregates},
            "trigger": repr(trigger),
            "eviction": repr(eviction),
            "ttl_us": ttl_us,
        }
    )


def _refused(what: str, kind: str, expected: str, why: str, todo: str) -> SettingsError:
    return SettingsError("use", what, f"of {kind} windows", expected=expected, got="another", why=why, todo=todo)
