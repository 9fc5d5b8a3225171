"""What is made for one epoch and given up after it: broadcasts have files that nothing else deletes while the session lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["after_epoch", "epoch_scope"]

_log = logging.getLogger(__name__)
_local = threading.local()


@contextmanager
def epoch_scope() -> Iterator[None]:
    """Call what `after_epoch` was given meanwhile, in this thread, once the epoch is over: nothing of it runs any more."""
    before = getattr(_local, "works", None)
    works: list[Callable[[], None]] = []
    _local.works = works
    try:
        yield
    finally:
        _local.works = before
        for work in works:
            try:
                work()
            except Exception:  # noqa: BLE001 (what the epoch itself has raised must be seen)
                _log.warning("what an epoch has made could not be given up", exc_info=True)


def after_epoch(work: Callable[[], None]) -> None:
    """Call `work` after the epoch whose route this thread is in; outside of one never, as nobody knows what is still to run."""
    works = getattr(_local, "works", None)
    if works is not None:
        works.append(work)
