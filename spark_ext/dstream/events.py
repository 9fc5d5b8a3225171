"""What a StreamingListener is told, with the methods that Spark's Java objects have; times in ms since 1970."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

__all__ = ["BatchInfo", "BatchTold", "Event", "OutputOperationInfo", "ReceiverInfo", "StreamInputInfo", "Time"]


@dataclass(frozen=True, order=True)
class Time:
    """A batch time."""

    ms: int

    def milliseconds(self) -> int:
        """Milliseconds since 1970."""
        return self.ms

    def less(self, that: Time) -> bool:
        """Tell whether it is before that one."""
        return self < that

    def lessEq(self, that: Time) -> bool:
        """Tell whether it is before that one, or the same."""
        return self <= that

    def greater(self, that: Time) -> bool:
        """Tell whether it is after that one."""
        return self > that

    def greaterEq(self, that: Time) -> bool:
        """Tell whether it is after that one, or the same."""
        return self >= that

    def toString(self) -> str:
        """Return it as Spark prints it."""
        return f"{self.ms} ms"

    __str__ = toString


class Event:
    """Fields as methods without arguments, as py4j shows the fields of Java objects."""

    fields: ClassVar[tuple[str, ...]] = ()  # all that it must have; empty: any

    def __init__(self, **values: Any) -> None:
        if self.fields and tuple(sorted(values)) != tuple(sorted(self.fields)):
            msg = f"{type(self).__name__} takes {', '.join(self.fields)}"
            raise TypeError(msg)
        self._values = values

    def __getattr__(self, name: str) -> Callable[[], Any]:
        values = self.__dict__.get("_values", {})
        if name not in values:
            msg = f"{type(self).__name__} has {', '.join(values)}; no {name}"
            raise AttributeError(msg)
        return lambda: values[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def toString(self) -> str:
        """Return it as Spark prints it."""
        return f"Java{type(self).__name__}({','.join('null' if value is None else str(value) for value in self._values.values())})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"


class BatchInfo(Event):
    """A batch: ``totalDelay`` is ``schedulingDelay + processingDelay``; what is not known yet is -1."""

    fields = (
        "batchTime", "streamIdToInputInfo", "submissionTime", "processingStartTime", "processingEndTime",
        "schedulingDelay", "processingDelay", "totalDelay", "numRecords", "outputOperationInfos",
    )  # fmt: skip


class OutputOperationInfo(Event):
    """An output operation of a batch; `failureReason` is the traceback, None if it went well, or has not run."""

    fields = ("batchTime", "id", "name", "description", "startTime", "endTime", "failureReason")


class StreamInputInfo(Event):
    """What an input gives to a batch."""

    fields = ("inputStreamId", "numRecords", "metadata", "metadataDescription")


class ReceiverInfo(Event):
    """A receiver; `location` and `executorId` are the driver's."""

    fields = ("streamId", "name", "active", "location", "executorId", "lastErrorMessage", "lastError", "lastErrorTime")


@dataclass(frozen=True)
class OutputTold:
    """What has been told about an output operation so far."""

    site: str
    started_ms: int = -1
    ended_ms: int = -1
    failure: str | None = None


@dataclass
class BatchTold:
    """What has been told about a batch so far.

    Attributes
    ----------
    time_ms, submitted_ms, started_ms, ended_ms : int
        ms since 1970, -1 while unknown.
    inputs : mapping of int to StreamInputInfo
        By number.
    outputs : dict of int to OutputTold
        Those that are due, by number.
    """

    time_ms: int
    inputs: Mapping[int, StreamInputInfo]
    submitted_ms: int
    started_ms: int = -1
    ended_ms: int = -1
    outputs: dict[int, OutputTold] = field(default_factory=dict)

    def change(self, number: int, **fields: Any) -> OutputOperationInfo:
        """Take note of what happened to an output operation, and return what is told about it."""
        self.outputs[number] = replace(self.outputs[number], **fields)
        return self.output(number)

    def output(self, number: int) -> OutputOperationInfo:
        """Return what a listener is told about an output operation."""
        known = self.outputs[number]
        return OutputOperationInfo(
            batchTime=Time(self.time_ms),
            id=number,
            name=known.site,
            description=known.site,
            startTime=known.started_ms,
            endTime=known.ended_ms,
            failureReason=known.failure,
        )

    def info(self) -> BatchInfo:
        """Return what a listener is told about the batch."""
        return BatchInfo(
            batchTime=Time(self.time_ms),
            streamIdToInputInfo=dict(self.inputs),
            submissionTime=self.submitted_ms,
            processingStartTime=self.started_ms,
            processingEndTime=self.ended_ms,
            schedulingDelay=self.started_ms - self.submitted_ms if self.started_ms >= 0 else -1,
            processingDelay=self.ended_ms - self.started_ms if self.ended_ms >= 0 else -1,
            totalDelay=self.ended_ms - self.submitted_ms if self.ended_ms >= 0 else -1,
            numRecords=sum(info.numRecords() for info in self.inputs.values()),
            outputOperationInfos={number: self.output(number) for number in self.outputs},
        )
