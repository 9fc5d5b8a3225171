"""Inputs of DStreams from outside: files, sockets, streaming DataFrames."""

from __future__ import annotations

import datetime
import gzip
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.streaming import StreamingContext as SparkStreamingContext

from spark_ext.dstream import StreamingContext
from spark_ext.dstream.dstream import DStream
from spark_ext.dstream.errors import BatchError, StreamArgumentError
from spark_ext.dstream.events import ReceiverInfo
from spark_ext.dstream.inputs.arrow import tuple_rows
from spark_ext.dstream.inputs.frames import FrameInput
from spark_ext.dstream.inputs.received import Segments
from spark_ext.dstream.inputs.socket import SocketInput
from spark_ext.dstream.listener import StreamingListener
from spark_ext.dstream.store import Store
from spark_ext.dstream.ticks import ManualClock
from spark_ext.errors import QueryError

START_MS = 1_700_000_000_000
WAIT_S = 60.0


class Program:
    """A context whose clock is set by hand, and what its outputs saw."""

    def __init__(self, spark: SparkSession, build: Callable[[StreamingContext, Program], None], checkpoint: Path | None = None) -> None:
        self.clock = ManualClock(START_MS)
        self.seen: list[Any] = []
        self.count = 0
        self.fails = False

        def setup() -> StreamingContext:
            made = StreamingContext(spark.sparkContext, 1, clock=self.clock)
            build(made, self)
            return made

        self.ssc = setup() if checkpoint is None else StreamingContext.getOrCreate(str(checkpoint), setup)

    def batch(self, number: int | None = None) -> Any:
        """Let a second pass, and return what the batch saw."""
        self.clock.advance(1_000)
        self.count += 1
        assert self.ssc._engine is not None
        if not self.ssc._engine.await_batches(self.count, WAIT_S):
            self.ssc.awaitTerminationOrTimeout(1)  # raises what ended it
            pytest.fail("no batch")
        return self.seen[-1]

    def watch(self, stream: Any, function: Callable[[Any], Any]) -> None:
        """Note what a function makes of each batch; raise instead while `fails`."""

        def note(rdd: Any) -> None:
            found = function(rdd)
            if self.fails:
                msg = "as asked"
                raise ValueError(msg)
            self.seen.append(found)

        stream.foreachRDD(note)


@pytest.fixture
def programs(spark: SparkSession) -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def make(build: Callable[[StreamingContext, Program], None], checkpoint: Path | None = None) -> Program:
        program = Program(spark, build, checkpoint)
        made.append(program)
        return program

    yield make
    for program in made:
        program.ssc.stop(False)


def put(folder: Path, name: str, content: str | bytes, second: float) -> Path:
    """Move a whole file into a folder, changed so many seconds after the start."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f"aside-{name}"
    aside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(aside, ns=(0, int(START_MS + second * 1_000) * 1_000_000))
    return aside.rename(folder / name)


def glommed(rdd: Any) -> list[list[Any]]:
    return [list(part) for part in rdd.glom().collect()]


def test_each_file_is_read_once_at_its_cut_as_lines_of_spark(spark: SparkSession, programs: Callable[..., Program], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    put(folder, "before", "old\n", 0)
    put(folder, "at start", "x\n", 0.0)
    told: list[Any] = []

    class Hears(StreamingListener):
        def onBatchSubmitted(self, batchSubmitted: Any) -> None:  # noqa: N802, N803 (Spark's)
            told.append(batchSubmitted.batchInfo().streamIdToInputInfo()[0])

    def build(ssc: StreamingContext, program: Program) -> None:
        ssc.addStreamingListener(Hears())
        program.watch(ssc.textFileStream(str(folder)), glommed)

    program = programs(build)
    program.ssc.start()
    assert program.batch() == []
    odd = "a\r\nb\rc\n\n\u00e9\U0001f600\nend".encode() + b" \xff\xe2\x82!"
    one = put(folder, "o,d[d]{x}?", odd, 1.2)
    put(folder, "packed.gz", gzip.compress(b"gz 1\ngz 2\n"), 1.1)
    put(folder, "ahead", "next\n", 2.5)
    for hidden in (".hidden", "_SUCCESS", "copied._COPYING_"):
        put(folder, hidden, "no\n", 1.3)
    (folder / "sub").mkdir()
    put(folder / "sub", "deeper", "no\n", 1.4)
    seen = program.batch()
    assert seen[0] == ["gz 1", "gz 2"]
    renamed = one.rename(tmp_path / "plain")  # a name that Spark's own textFile can be given
    expected = spark.sparkContext.textFile(str(renamed), 1).collect()
    assert [line for part in seen[1:] for line in part] == expected
    assert expected[:6] == ["a", "b", "c", "", "\u00e9\U0001f600", "end \ufffd\ufffd!"]
    assert program.batch() == [["next"]]
    put(folder, "late", "late\n", 2.1)
    assert program.batch() == [["late"]]
    assert program.batch() == []
    info = told[1]
    assert [Path(path).name for path in info.metadata()["files"]] == ["packed.gz", "o,d[d]{x}?"]
    assert info.metadataDescription() == "\n".join(info.metadata()["files"])
    assert told[0].metadata()["files"] == []


def test_no_files_no_partitions_a_glob_of_folders_and_records(programs: Callable[..., Program], tmp_path: Path) -> None:
    def build(ssc: StreamingContext, program: Program) -> None:
        lines = ssc.textFileStream(str(tmp_path / "2*"))
        records = ssc.binaryRecordsStream(str(tmp_path / "records"), 3)
        program.watch(lines.count().union(records.map(len).count()), lambda rdd: rdd.collect())
        program.watch(lines.union(records.map(repr)), lambda rdd: sorted(rdd.collect()))

    program = programs(build)
    program.ssc.start()
    assert program.batch() == []
    assert program.seen == [[], []]
    put(tmp_path / "2023", "a", "x\ny\n", 1.1)
    put(tmp_path / "2024", "a", "z\n", 1.1)
    put(tmp_path / "3024", "a", "no\n", 1.1)
    put(tmp_path / "records", "r", b"abc\x00\xff\n", 1.1)
    assert program.batch() == sorted(["x", "y", "z", "b'abc'", r"b'\x00\xff\n'"])
    assert program.seen[-2] == [3, 2]
    put(tmp_path / "records", "half", b"abcd", 2.1)
    with pytest.raises(QueryError, match=r"cannot read file .*/half': expected a multiple of 3 bytes, got 4 bytes"):
        program.batch()


def test_a_record_has_a_length(programs: Callable[..., Program], tmp_path: Path) -> None:
    with pytest.raises(StreamArgumentError, match="expected recordLength above 0, got 0"):
        programs(lambda ssc, _: ssc.binaryRecordsStream(str(tmp_path), 0))


def test_a_batch_of_files_that_failed_reads_the_same_and_a_restart_goes_on(programs: Callable[..., Program], tmp_path: Path) -> None:
    folder = tmp_path / "in"

    def build(ssc: StreamingContext, program: Program) -> None:
        program.watch(ssc.textFileStream(str(folder)), lambda rdd: sorted(rdd.collect()))

    def started(seconds: int) -> Program:
        program = programs(build, tmp_path / "checkpoint")
        program.clock.advance(seconds * 1_000)
        program.ssc.start()
        return program

    program = started(0)
    put(folder, "a", "a\n", 0.5)
    assert program.batch() == ["a"]
    planned = put(folder, "b", "b\n", 1.5)
    program.fails = True
    with pytest.raises(BatchError, match="as asked"):
        program.batch()
    program.ssc.stop(False)
    # What came since is for later batches; what was planned must be there as it was.
    put(folder, "c", "c\n", 1.6)
    away = planned.rename(tmp_path / "away")
    program = started(1)
    with pytest.raises(BatchError, match=r"cannot read again file .*/b': expected 2 bytes, changed at \d+ ms, got no file"):
        program.batch()
    program.ssc.stop(False)
    away.rename(planned)
    os.utime(planned, (0, START_MS / 1_000 + 1.7))
    program = started(1)
    with pytest.raises(BatchError, match=r"got 2 bytes, changed at 1700000001700 ms"):
        program.batch()
    program.ssc.stop(False)
    put(folder, "b", "b\n", 1.5)
    program = started(1)
    assert program.batch() == ["b"]
    assert program.batch() == ["c"]
    assert program.batch() == []


def written(program: Program) -> Segments:
    node = next(node for node in program.ssc._graph.inputs() if isinstance(node, SocketInput))
    assert node._segments is not None
    return node._segments


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("nothing came")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WAIT_S)
        yield listening


def test_lines_of_a_socket_are_in_one_batch_each_also_after_a_failure_and_a_graceful_stop(
    programs: Callable[..., Program], server: socket.socket, tmp_path: Path
) -> None:
    heard: list[tuple[str, Any]] = []

    class Hears(StreamingListener):
        def onReceiverStarted(self, receiverStarted: Any) -> None:  # noqa: N802, N803 (Spark's)
            heard.append(("started", receiverStarted.receiverInfo()))

        def onReceiverError(self, receiverError: Any) -> None:  # noqa: N802, N803
            heard.append(("error", receiverError.receiverInfo()))

        def onReceiverStopped(self, receiverStopped: Any) -> None:  # noqa: N802, N803
            heard.append(("stopped", receiverStopped.receiverInfo()))

        def onBatchSubmitted(self, batchSubmitted: Any) -> None:  # noqa: N802, N803
            heard.append(("rows", batchSubmitted.batchInfo().numRecords()))

    def build(ssc: StreamingContext, program: Program) -> None:
        ssc.addStreamingListener(Hears())
        lines = ssc.socketTextStream("127.0.0.1", server.getsockname()[1])
        program.watch(lines, lambda rdd: (rdd.getNumPartitions(), rdd.collect()))

    program = programs(build, tmp_path / "checkpoint")
    program.ssc.start()
    connection, _ = server.accept()
    assert program.batch() == (0, [])
    connection.sendall("a\n\u00e9\nhal".encode())
    until(lambda: written(program)._next + len(written(program)._open) > 0)
    assert program.batch() == (1, ["a", "\u00e9"])
    connection.sendall(b"f\n")
    connection.close()  # it comes back at once: the backlog takes the connection
    connection, _ = server.accept()
    assert program.batch() == (1, ["half"])
    before = written(program).plan({"to": 0})["to"]
    connection.sendall(b"x\ny\n")
    until(lambda: written(program).has_more({"to": before}))
    program.fails = True
    with pytest.raises(BatchError, match="as asked"):
        program.batch()
    program.ssc.stop(False)
    connection.close()
    program = programs(build, tmp_path / "checkpoint")
    program.clock.advance(3_000)
    program.ssc.start()
    connection, _ = server.accept()
    assert program.batch() == (1, ["x", "y"])
    connection.sendall(b"last\nwords")
    until(lambda: written(program).has_more({"to": before + 1}))
    program.ssc.stop(False, stopGraceFully=True)
    assert [lines for _, lines in program.seen[1:] if lines] == [["last", "words"]]
    connection.close()
    infos = [info for _, info in heard if isinstance(info, ReceiverInfo)]
    assert {(info.streamId(), info.name(), info.executorId()) for info in infos} == {(0, "SocketReceiver", "driver")}
    assert [what for what, _ in heard if what != "rows"] == ["started", "error", "stopped", "started", "stopped", "started", "stopped"]
    error = next(info for what, info in heard if what == "error")
    assert error.lastErrorMessage() == "Socket data stream had no more data"
    assert [info for what, info in heard if what == "rows"][:4] == [0, 2, 1, 2]


def frames(program: Program) -> FrameInput:
    return next(node for node in program.ssc._graph.inputs() if isinstance(node, FrameInput))


def test_a_streaming_frame_is_tuples_exactly_once_also_after_a_failure_and_a_restart(
    spark: SparkSession, programs: Callable[..., Program], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    def build(ssc: StreamingContext, program: Program) -> None:
        lines = spark.readStream.option("maxFilesPerTrigger", 1).text(str(folder))
        number = "try_cast(try_element_at(split(value, ' '), 2) as {})"
        word = F.split("value", " ")[0]
        typed = lines.select(word, F.expr(number.format("int")), F.expr(number.format("float")), F.encode(word, "utf-8"))
        one = DStream.from_dataframe(typed)
        other = DStream.from_dataframe(lines.select(F.expr("try_cast(value as date)"), F.array(F.lit(1), F.lit(2))), ssc).filter(
            lambda row: row[0]
        )
        program.watch(one.union(other), lambda rdd: sorted(rdd.collect(), key=repr))
        program.watch(one.glom().map(len), lambda rdd: rdd.getNumPartitions())

    def started(seconds: int) -> Program:
        program = programs(build, tmp_path / "checkpoint")
        program.clock.advance(seconds * 1_000)
        program.ssc.start()
        return program

    def wait_for(program: Program, files: int) -> None:
        ends = [node for node in program.ssc._graph.inputs() if isinstance(node, FrameInput)]
        until(lambda: all(node._end() >= files for node in ends))

    program = started(0)
    program.batch()
    assert program.seen == [[], 0]
    put(folder, "a", "a 1\nb x\n", 1)
    put(folder, "b", "2024-02-29\n", 2)
    wait_for(program, 2)
    program.batch()
    day = datetime.date(2024, 2, 29)
    text = "2024-02-29"
    assert program.seen[-2] == sorted(
        [("a", 1, 1.0, b"a"), ("b", None, None, b"b"), (text, None, None, text.encode()), (day, [1, 2])], key=repr
    )
    assert program.seen[-1] == 2
    put(folder, "c", "c 3\n", 3)
    wait_for(program, 3)
    program.fails = True
    with pytest.raises(BatchError, match="as asked"):
        program.batch()
    program.ssc.stop(False)
    put(folder, "d", "d 4\n", 4)
    program = started(2)
    program.batch()
    assert program.seen[0] == [("c", 3, 3.0, b"c")]
    wait_for(program, 4)
    put(folder, "e", "e 5\n", 5)
    wait_for(program, 5)
    program.ssc.stop(False, stopGraceFully=True)
    rest = [row for seen in program.seen[2:] if isinstance(seen, list) for row in seen]
    assert sorted(rest) == [("d", 4, 4.0, b"d"), ("e", 5, 5.0, b"e")]
    kept = Store(f"{program.ssc._engine._folder}/received/from_dataframe-0").times("rows")  # type: ignore[union-attr]
    assert kept[0] >= 2  # what is done is removed


def test_a_frame_that_fails_fails_the_next_batch_with_its_error(spark: SparkSession, programs: Callable[..., Program]) -> None:
    def build(ssc: StreamingContext, program: Program) -> None:
        rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
        program.watch(DStream.from_dataframe(rows.select(F.raise_error(F.lit("no such luck"))), ssc), lambda rdd: rdd.collect())

    program = programs(build)
    program.ssc.start()
    until(frames(program)._has_failed)
    with pytest.raises(BatchError, match="no such luck"):
        program.batch()


def test_only_streaming_frames_and_a_context(spark: SparkSession, programs: Callable[..., Program]) -> None:
    with pytest.raises(StreamArgumentError, match="got a DataFrame that does not stream"):
        programs(lambda ssc, _: DStream.from_dataframe(spark.range(1), ssc))


WIDE = """
    id, cast(id as tinyint) b, cast(id as int) i, cast(id / 3 as float) f, id / 7 d, string(id) s, id = 1 t, cast(string(id) as binary) x,
    if(id = 1, null, id) n, date '2024-02-29' day, timestamp '2024-07-01 12:00:00.123456' at, timestamp_ntz '2024-07-01 12:00:00' local,
    cast(id as decimal(10, 2)) exact, array(1, null, id) list, map('a', id) map, named_struct('x', id, 'y', named_struct('z', 'q')) deep,
    interval 1 day span, cast(null as void) none
"""


@pytest.mark.parametrize("columns", [9, 18])  # all of them simple, and some that are not
def test_rows_are_what_collect_gives(spark: SparkSession, columns: int) -> None:
    wide = spark.sql(f"select {WIDE} from range(3)")  # noqa: S608 (a constant)
    frame = wide.select(wide.columns[:columns])
    expected = [tuple(row) for row in frame.collect()]
    found = tuple_rows(frame).rdd().collect()
    assert found == expected
    assert [list(map(type, row)) for row in found] == [list(map(type, row)) for row in expected]


@pytest.mark.slow
def test_files_beside_pyspark_streaming(spark: SparkSession, tmp_path: Path) -> None:
    """The same files at the same time: the same lines and partitions in all."""
    both: dict[str, list[Any]] = {"ours": [], "spark": []}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        contexts = {"ours": StreamingContext(spark.sparkContext, 1), "spark": SparkStreamingContext(spark.sparkContext, 1)}  # type: ignore[arg-type]

    def watch(stream: Any, seen: list[Any]) -> None:
        stream.foreachRDD(lambda rdd: seen.extend(map(list, rdd.collect())))

    for name, ssc in contexts.items():
        watch(ssc.textFileStream(str(tmp_path / "in")).glom(), both[name])
        watch(ssc.binaryRecordsStream(str(tmp_path / "records"), 2), both[name])
    (tmp_path / "in").mkdir()
    (tmp_path / "records").mkdir()
    try:
        for ssc in contexts.values():
            ssc.start()
        texts = [b"a\r\nb\rc", b"\xef\xbb\xbfbom\n", b"\xff\n\n", b"", gzip.compress(b"z\n"), b".\n", b"1234"]
        names = ["a", "b", "c", "empty", "z.gz", ".hidden", "r"]
        for name, content in zip(names, texts, strict=True):
            aside = tmp_path / name
            aside.write_bytes(content)
            aside.rename(tmp_path / ("records" if name == "r" else "in") / name)
        until(lambda: all(len(seen) >= 6 for seen in both.values()))
    finally:
        contexts["ours"].stop(False)
        contexts["spark"].stop(False, False)
    assert sorted(both["ours"], key=repr) == sorted(both["spark"], key=repr)
