"""Ctrl-C and SIGTERM as a question that is asked once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_asked_by_signals"]


@contextmanager
def stop_asked_by_signals(asked: threading.Event) -> Iterator[None]:
    """Set `asked` on Ctrl-C or SIGTERM as long as the block runs; a second Ctrl-C raises KeyboardInterrupt.

    Outside the main thread it does nothing, as Python gives signals to that one only.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
