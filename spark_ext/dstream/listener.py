"""StreamingListener, and who calls it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from spark_ext.dstream.events import Event

__all__ = ["ListenerBus", "StreamingListener"]

_log = logging.getLogger(__name__)


class StreamingListener:
    """Hears what happens; override what you want to know.

    Called: in the thread of the batch, in order; what a method raises is logged and changes nothing. What it is given has
    Spark's methods, such as ``batchCompleted.batchInfo().totalDelay()``; see `spark_ext.dstream.events`.
    """

    def __init__(self) -> None:
        pass

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """Hear that the context has been started: ``time()``, ms since 1970."""

    def onReceiverStarted(self, receiverStarted: Any) -> None:
        """Hear that a receiver has been started: ``receiverInfo()``."""

    def onReceiverError(self, receiverError: Any) -> None:
        """Hear that a receiver has reported an error: ``receiverInfo()``."""

    def onReceiverStopped(self, receiverStopped: Any) -> None:
        """Hear that a receiver has been stopped: ``receiverInfo()``."""

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """Hear that a batch has been planned: ``batchInfo()``."""

    def onBatchStarted(self, batchSubmitted: Any) -> None:
        """Hear that work on a batch has begun: ``batchInfo()``."""

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """Hear that a batch is done, or has failed: ``batchInfo()``."""

    def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
        """Hear that an output operation of a batch has begun: ``outputOperationInfo()``."""

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """Hear that an output operation of a batch is done, or has failed: ``outputOperationInfo()``."""


@dataclass
class ListenerBus:
    """All listeners of one context."""

    listeners: list[StreamingListener] = field(default_factory=list)

    def post(self, method: str, **fields: Any) -> None:
        """Call one method of each listener with an event of these fields."""
        for listener in list(self.listeners):
            try:
                getattr(listener, method)(Event(**fields))
            except BaseException:  # noqa: BLE001 (sys.exit() of a listener is no reason to end a batch)
                _log.exception("a StreamingListener raised in %s", method)
