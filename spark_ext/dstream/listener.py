"""StreamingListener and its events, with the names that Spark's have."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BatchInfo",
    "ListenerBus",
    "OutputOperationInfo",
    "ReceiverInfo",
    "StreamInputInfo",
    "StreamingListener",
    "Time",
]

_log = logging.getLogger(__name__)


class StreamingListener:
    """Hears what happens; override what you want to know.

    Called in the thread of the batch, in order; what a method raises is logged and changes nothing.
    """

    def __init__(self) -> None:
        pass

    def onStreamingStarted(self, streamingStarted: Any) -> None:
        """The context has been started."""

    def onReceiverStarted(self, receiverStarted: Any) -> None:
        """A receiver has been started."""

    def onReceiverError(self, receiverError: Any) -> None:
        """A receiver has reported an error."""

    def onReceiverStopped(self, receiverStopped: Any) -> None:
        """A receiver has been stopped."""

    def onBatchSubmitted(self, batchSubmitted: Any) -> None:
        """A batch has been planned."""

    def onBatchStarted(self, batchSubmitted: Any) -> None:
        """Work on a batch has begun."""

    def onBatchCompleted(self, batchCompleted: Any) -> None:
        """A batch is done, or has failed."""

    def onOutputOperationStarted(self, outputOperationStarted: Any) -> None:
        """An output operation of a batch has begun."""

    def onOutputOperationCompleted(self, outputOperationCompleted: Any) -> None:
        """An output operation of a batch is done, or has failed."""


@dataclass(frozen=True, order=True)
class Time:
    """A batch time."""

    ms: int

    def milliseconds(self) -> int:
        """Milliseconds since 1970."""
        return self.ms

    def __str__(self) -> str:
        return f"{self.ms} ms"


class _Info:
    """Fields as methods without arguments, as py4j shows the fields of Java objects."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"{type(self).__name__} has {', '.join(fields)}; no {name}")
        return lambda: fields[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


class BatchInfo(_Info):
    """batchTime, streamIdToInputInfo, submissionTime, processingStartTime, processingEndTime, schedulingDelay, processingDelay,
    totalDelay (all ms; -1 before it is known), numRecords, outputOperationInfos.
    """  # noqa: D205


class OutputOperationInfo(_Info):
    """batchTime, id, name, description, startTime, endTime, duration, failureReason (None: it went well)."""


class StreamInputInfo(_Info):
    """inputStreamId, numRecords, metadata, metadataDescription."""


class ReceiverInfo(_Info):
    """streamId, name, active, location, executorId, lastErrorMessage, lastError, lastErrorTime."""


class Event(_Info):
    """What a listener's method is given."""


@dataclass
class ListenerBus:
    """All listeners of one context."""

    listeners: list[StreamingListener] = field(default_factory=list)

    def post(self, method: str, **fields: Any) -> None:
        """Call one method of each listener with an event of these fields."""
        for listener in list(self.listeners):
            try:
                getattr(listener, method)(Event(**fields))
            except Exception:
                _log.exception("a StreamingListener raised in %s", method)


def batch_info(
    time_ms: int,
    inputs: Mapping[int, StreamInputInfo],
    submitted_ms: int,
    *,
    started_ms: int = -1,
    ended_ms: int = -1,
    outputs: Mapping[int, OutputOperationInfo] | None = None,
) -> BatchInfo:
    """Return what a listener is told about a batch; times in ms since 1970, -1 while unknown."""
    return BatchInfo(
        batchTime=Time(time_ms),
        streamIdToInputInfo=dict(inputs),
        submissionTime=submitted_ms,
        processingStartTime=started_ms,
        processingEndTime=ended_ms,
        schedulingDelay=started_ms - submitted_ms if started_ms >= 0 else -1,
        processingDelay=ended_ms - started_ms if ended_ms >= 0 else -1,
        totalDelay=ended_ms - submitted_ms if ended_ms >= 0 else -1,
        numRecords=sum(info.numRecords() for info in inputs.values()),
        outputOperationInfos=dict(outputs or {}),
    )
