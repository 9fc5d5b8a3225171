"""What a listener is told, with the methods of Spark's Java objects (their names as `javap` shows them for 4.2.0)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pyspark.streaming import StreamingListener as Theirs

from spark_ext.dstream.events import BatchInfo, BatchTold, Event, OutputOperationInfo, OutputTold, ReceiverInfo, StreamInputInfo, Time
from spark_ext.dstream.listener import ListenerBus, StreamingListener

JAVA = {
    BatchInfo: {
        "batchTime", "streamIdToInputInfo", "submissionTime", "processingStartTime", "processingEndTime", "schedulingDelay",
        "processingDelay", "totalDelay", "numRecords", "outputOperationInfos",
    },
    OutputOperationInfo: {"batchTime", "id", "name", "description", "startTime", "endTime", "failureReason"},
    StreamInputInfo: {"inputStreamId", "numRecords", "metadata", "metadataDescription"},
    ReceiverInfo: {"streamId", "name", "active", "location", "executorId", "lastErrorMessage", "lastError", "lastErrorTime"},
}  # fmt: skip


@pytest.mark.parametrize("kind", JAVA)
def test_infos_have_the_methods_of_javas(kind: type[Event]) -> None:
    info = kind(**{name: name.upper() for name in JAVA[kind]})
    assert {name for name in dir(info) if not name.startswith("_")} == JAVA[kind] | {"fields", "toString"}
    assert {name: getattr(info, name)() for name in JAVA[kind]} == {name: name.upper() for name in JAVA[kind]}


def test_an_info_without_a_field_or_with_another_one_is_not_made() -> None:
    with pytest.raises(TypeError, match="takes inputStreamId, numRecords"):
        StreamInputInfo(inputStreamId=0)
    with pytest.raises(AttributeError, match="no duration"):
        Event(time=5).duration()


def test_a_batch_as_it_goes_on() -> None:
    rows = StreamInputInfo(inputStreamId=0, numRecords=7, metadata={}, metadataDescription=None)
    told = BatchTold(5000, {0: rows}, submitted_ms=5010, outputs={0: OutputTold("pprint at a.py:3")})
    submitted = told.info()
    told.started_ms = 5030
    begun = told.info()
    started = told.change(0, started_ms=5031)
    ended = told.change(0, ended_ms=5090, failure="ValueError: x")
    told.ended_ms = 5100
    done = told.info()

    def times(info: Any) -> tuple[int, ...]:
        delays = info.schedulingDelay(), info.processingDelay(), info.totalDelay()
        return (info.submissionTime(), info.processingStartTime(), info.processingEndTime(), *delays)

    assert times(submitted) == (5010, -1, -1, -1, -1, -1)
    assert times(begun) == (5010, 5030, -1, 20, -1, -1)
    assert times(done) == (5010, 5030, 5100, 20, 70, 90)
    assert (submitted.numRecords(), submitted.batchTime().milliseconds()) == (7, 5000)
    assert (started.startTime(), started.endTime(), started.failureReason()) == (5031, -1, None)
    assert (ended.startTime(), ended.endTime(), ended.failureReason()) == (5031, 5090, "ValueError: x")
    assert submitted.outputOperationInfos()[0].startTime() == -1, "what has been told does not change"
    assert done.outputOperationInfos()[0].name() == "pprint at a.py:3"


def test_times_compare_as_sparks_do() -> None:
    early, late = Time(1000), Time(2000)
    assert (early.less(late), late.less(early), early.lessEq(Time(1000)), late.greater(early), early.greaterEq(late)) == (
        True, False, True, True, False,
    )  # fmt: skip
    assert str(early) == early.toString() == "1000 ms"


def test_listeners_have_the_methods_of_sparks() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if name.startswith("on")}

    assert methods(StreamingListener) == methods(Theirs)


def test_what_a_listener_raises_is_logged_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    class Bad(StreamingListener):
        def onStreamingStarted(self, streamingStarted: Any) -> None:  # noqa: N802, N803 (Spark's)
            raise SystemExit(3)

    class Good(StreamingListener):
        def onStreamingStarted(self, streamingStarted: Any) -> None:  # noqa: N802, N803 (Spark's)
            heard.append(streamingStarted.time())

    with caplog.at_level(logging.ERROR):
        ListenerBus([Bad(), Good()]).post("onStreamingStarted", time=5)
    assert heard == [5]
    assert "a StreamingListener raised in onStreamingStarted" in caplog.text
