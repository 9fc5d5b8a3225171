"""Lookups from real Spark: HTTP from workers, on bounded frames and streams; JDBC from the driver, in a real Derby. The model is a dict."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PythonException, StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs
from spark_ext.errors import RemoteLookupError, SchemaError, SettingsError
from spark_ext.joins.remote import Cache, HttpLookup, JdbcLookup, Limits, lookup_remote
from spark_ext.joins.remote.jdbc import JdbcClient, any_of
from spark_ext.queries import Checkpoint
from tests.lookup_service import Service, always, from_table, service

pytestmark = pytest.mark.spark

HOWS = ["left", "inner", "semi", "anti"]
RETURNS = "name string, age int"
PEOPLE: dict[Any, list[dict[str, Any]]] = {
    key: [{"name": f"n{key}-{at}", "age": None if at == 2 else key} for at in range(key % 4)] for key in range(0, 200, 2)
}
ROWS = [(number, None if number % 11 == 0 else number * 7 % 150) for number in range(400)]
ONE_TRY = Limits(attempts=1, failures=1000)


def model(
    rows: Sequence[tuple[Any, ...]],
    answers: Mapping[Any, Sequence[Mapping[str, Any]]],
    how: str,
    failed: Callable[[Any], bool] = lambda _: False,
) -> list[tuple[Any, ...]]:
    """Join row by row; the key is the last column, or None. A failed key comes out with a mark."""
    out: list[tuple[Any, ...]] = []
    for row in rows:
        key = row[-1]
        found = [] if key is None else [tuple(one.values()) for one in answers.get(key, [])]
        if key is not None and failed(key):
            out.append((*row, *([None, None] if how in {"left", "inner"} else []), "failed"))
        elif how in {"semi", "anti"}:
            out += [row] if bool(found) == (how == "semi") else []
        else:
            out += [(*row, *one) for one in found or ([(None, None)] if how == "left" else [])]
    return out


def same(frame: DataFrame, expected: Sequence[tuple[Any, ...]]) -> None:
    assert Counter(map(tuple, frame.collect())) == Counter(expected)


@pytest.fixture
def people() -> Iterator[Service]:
    with service(from_table(PEOPLE)) as running:
        yield running


@pytest.mark.parametrize("how", HOWS)
def test_a_bounded_frame_is_joined_as_with_a_dict(spark: SparkSession, people: Service, how: Any) -> None:
    rows = spark.createDataFrame(ROWS, "number int, `the.k``ey` bigint").repartition(3)
    returns = RETURNS if how in {"left", "inner"} else None
    found = lookup_remote(rows, HttpLookup(people.url, limits=Limits(batch_size=7)), on={"the.k`ey": "id"}, returns=returns, how=how)
    same(found, model(ROWS, PEOPLE, how))
    assert found.columns == [*rows.columns, *(["name", "age"] if returns else [])]
    assert None not in people.asked
    assert max(len(request.keys) for request in people.requests) == 7


def test_a_key_is_asked_for_once_by_a_worker_until_it_has_to_go(spark: SparkSession, people: Service) -> None:
    rows = spark.createDataFrame(ROWS, "number int, id bigint").coalesce(1)
    found = lookup_remote(rows, HttpLookup(people.url), on="id", returns=RETURNS)
    times = 16
    for _ in range(times):
        same(found, model(ROWS, PEOPLE, "left"))
    distinct = {key for _, key in ROWS if key is not None}
    # Each worker asks once. Spark takes them in turns, and one that was idle for long goes: how many there are is not ours to promise.
    assert set(people.asked) == distinct
    assert len(people.asked) < times * len(distinct)
    people.requests.clear()
    same(lookup_remote(rows, HttpLookup(people.url), on="id", returns=RETURNS, cache=Cache(0)), model(ROWS, PEOPLE, "left"))
    assert sorted(people.asked) == sorted(distinct)


@pytest.mark.parametrize("how", HOWS)
def test_rows_whose_lookup_failed_come_out_once_with_the_reason(spark: SparkSession, people: Service, how: Any) -> None:
    def failed(key: int) -> bool:
        return key % 5 == 0

    good = people.answering
    people.answering = lambda request, handler: (always(500) if failed(request.keys[0]) else good)(request, handler)
    rows = spark.createDataFrame(ROWS, "number int, id bigint").coalesce(1)
    returns = RETURNS if how in {"left", "inner"} else None
    source = HttpLookup(people.url, limits=Limits(batch_size=1, attempts=1, failures=1000))
    found = lookup_remote(rows, source, on="id", returns=returns, how=how, on_failure="tag").persist()
    expected = [row if row[-1] == "failed" and len(row) > 2 else (*row, None) for row in model(ROWS, PEOPLE, how, failed)]
    same(found.withColumn("lookup_error", F.when(F.col("lookup_error").isNotNull(), "failed")), expected)
    assert {row[0] for row in found.select("lookup_error").distinct().collect()} == {None, "expected HTTP 200, got HTTP 500"}
    found.unpersist()


def test_the_query_fails_with_what_to_do(spark: SparkSession, people: Service) -> None:
    rows = spark.createDataFrame(ROWS, "number int, id bigint").coalesce(1)
    people.answering = always(500)
    found = lookup_remote(rows, HttpLookup(people.url, limits=ONE_TRY), on="id", returns=RETURNS)
    with pytest.raises(PythonException, match=r"RemoteLookupError: cannot look up in service 'http://127.*got HTTP 500; see the"):
        found.collect()
    people.answering = always(200, b'[{"id": 7, "name": "x", "age": "old"}]')
    found = lookup_remote(rows.where("id = 7"), HttpLookup(people.url, limits=ONE_TRY), on="id", returns=RETURNS)
    with pytest.raises(PythonException, match="expected in field 'age' of key id=7 an integer of 32 bits, got str 'old'"):
        found.collect()


def test_with_the_circuit_open_a_worker_asks_no_more(spark: SparkSession, people: Service) -> None:
    people.answering = always(503)
    rows = spark.range(300).coalesce(1)
    source = HttpLookup(people.url, limits=Limits(batch_size=10, attempts=1, failures=3))
    found = lookup_remote(rows, source, on="id", returns=RETURNS, on_failure="tag").collect()
    assert len(people.requests) == 3
    assert len(found) == 300
    assert sum("open since" in row["lookup_error"] for row in found) == 270


def add(folder: Path, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    aside = folder.parent / f"{number}.json"
    aside.write_text("\n".join(map(json.dumps, rows)))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / aside.name)


def stream(spark: SparkSession, folder: Path) -> DataFrame:
    reader = spark.readStream.schema("number int, id bigint, at timestamp").option("maxFilesPerTrigger", 1)
    return reader.json(str(folder)).withWatermark("at", "0 seconds")


def run(frame: DataFrame, checkpoint: Path) -> list[tuple[int, Any]]:
    """Do all there is; return rows with their batch."""
    found: list[tuple[int, Any]] = []
    writer = frame.writeStream.foreachBatch(lambda rows, batch: found.extend((batch, tuple(row)) for row in rows.collect()))
    query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(200)
    finally:
        query.stop()
    return found


def test_a_stream_is_joined_batch_by_batch_and_goes_on_after_a_failure(spark: SparkSession, people: Service, tmp_path: Path) -> None:
    for number, start in enumerate(range(0, 400, 100)):
        at = f"2013-01-01T00:0{number}:00Z"
        add(tmp_path / "in", number, [{"number": row, "id": key, "at": at} for row, key in ROWS[start : start + 100]])
    good = people.answering

    def joined() -> DataFrame:
        rows = stream(spark, tmp_path / "in")
        return lookup_remote(rows, HttpLookup(people.url, limits=ONE_TRY), on="id", returns=RETURNS, cache=Cache(0)).drop("at")

    people.answering = always(500)
    with pytest.raises(StreamingQueryException, match="got HTTP 500"):
        run(joined(), tmp_path / "checkpoint")
    people.answering = good
    found = run(joined(), tmp_path / "checkpoint")
    for batch in range(4):
        expected = model(ROWS[batch * 100 : batch * 100 + 100], PEOPLE, "left")
        assert Counter(row for number, row in found if number == batch) == Counter(expected)


def test_the_watermark_of_a_stream_passes_through(spark: SparkSession, people: Service, tmp_path: Path) -> None:
    for number in range(3):
        add(tmp_path / "in", number, [{"number": number, "id": 2, "at": f"2013-01-01T00:0{number}:00Z"}])
    found = lookup_remote(stream(spark, tmp_path / "in"), HttpLookup(people.url), on="id", returns=RETURNS)
    counts = found.groupBy(F.window("at", "1 minute"), "name").count().selectExpr("string(window.start)", "name", "count")
    closed = [row for _, row in run(counts, tmp_path / "checkpoint")]
    assert sorted(closed) == [(f"2013-01-01 00:0{minute}:00", f"n2-{at}", 1) for minute in range(2) for at in range(2)]


# --- JDBC -------------------------------------------------------------------------------------------------------------------------


class Database:
    """A Derby in the memory of Spark's JVM."""

    def __init__(self, spark: SparkSession, name: str) -> None:
        self.url = f"jdbc:derby:memory:{name}"
        self._manager = spark._jvm.java.sql.DriverManager
        self._connection = self._manager.getConnection(f"{self.url};create=true")

    def do(self, text: str, *rows: Sequence[Any]) -> None:
        statement = self._connection.prepareStatement(text)
        for row in rows:
            for at, value in enumerate(row, start=1):
                statement.setString(at, None if value is None else str(value))  # the database converts it
            statement.addBatch()
        statement.executeBatch() if rows else statement.execute()
        statement.close()

    def close(self) -> None:
        self._connection.close()
        with suppress(Py4JJavaError):  # Derby tells success so
            self._manager.getConnection(f"{self.url};drop=true")


@pytest.fixture
def database(spark: SparkSession, tmp_path: Path) -> Iterator[Database]:
    opened = Database(spark, tmp_path.name)
    opened.do("create table people (id bigint, name varchar(40), age int)")
    opened.do("insert into people values (?, ?, ?)", *((key, *row.values()) for key, found in PEOPLE.items() for row in found))
    yield opened
    opened.close()


@pytest.mark.parametrize("how", HOWS)
def test_a_batch_is_joined_with_a_table_as_with_a_dict(spark: SparkSession, database: Database, how: Any) -> None:
    rows = spark.createDataFrame(ROWS, "number int, `the.k``ey` bigint")
    returns = RETURNS if how in {"left", "inner"} else None
    source = JdbcLookup(database.url, "people", limits=Limits(batch_size=40))
    found = lookup_remote(rows, source, on={"the.k`ey": "id"}, returns=returns, how=how)
    same(found, model(ROWS, PEOPLE, how))
    assert found.columns == [*rows.columns, *(["name", "age"] if returns else [])]


WORDS = [
    "it's", "' OR '1'='1", "'); DROP TABLE words; --", "\\", "\\' OR 1=1 --", "%", "a", "A", "a ", "", "ü", "\N{GRINNING FACE}",
    "{d '2013-01-01'}", "?",
]  # fmt: skip


def test_texts_are_keys_and_never_a_part_of_a_query(spark: SparkSession, database: Database) -> None:
    database.do("create table words (word varchar(60), name varchar(60), age int)")
    there = {word: [{"name": f"<{word}>", "age": at}] for at, word in enumerate(WORDS) if at % 2 or word == "it's"}
    database.do("insert into words values (?, ?, ?)", *((word, *row.values()) for word, (row,) in there.items()))
    rows = [(at, word) for at, word in enumerate(WORDS)]
    frame = spark.createDataFrame(rows, "number int, word string")
    found = lookup_remote(frame, JdbcLookup(database.url, "words"), on="word", returns=RETURNS)
    same(found, model(rows, there, "left"))


def test_a_backslash_is_not_sent_to_a_database_that_may_take_it_for_more(spark: SparkSession) -> None:
    client = JdbcLookup("jdbc:mysql://db/x", "t").connect(spark, None, None)  # type: ignore[arg-type]
    assert client.refuses(("a", "\\' OR 1=1 -- ")) is not None
    assert client.refuses(("a'", 1)) is None


def test_keys_of_each_type_and_of_several_columns(spark: SparkSession, database: Database) -> None:
    kinds = "n int, s bigint, d date, p decimal(8,2), t string, b boolean"
    database.do("create table kinds (n int, s bigint, d date, p decimal(8,2), t varchar(9), b boolean, name varchar(9), age int)")
    keys: list[tuple[Any, ...]] = [
        (n, s, day, price, text, flag)
        for n in (1, -5)
        for s in (0, 7)
        for day in (date(2013, 1, 1), date(1969, 12, 31))
        for price in (Decimal("0.10"), Decimal("-999999.99"))
        for text in ("x", "y'")
        for flag in (True, False)
    ]
    there = {key: [{"name": f"k{at}", "age": at}] for at, key in enumerate(keys) if at % 3}
    database.do("insert into kinds values (?, ?, ?, ?, ?, ?, ?, ?)", *((*key, *row.values()) for key, (row,) in there.items()))
    frame = spark.createDataFrame([(*key, at) for at, key in enumerate(keys)], f"{kinds}, number int")
    names = ["n", "s", "d", "p", "t", "b"]
    found = lookup_remote(frame, JdbcLookup(database.url, "kinds"), on=names, returns=RETURNS).select("number", "name", "age")
    same(found, [(at, row[1], row[2]) for at, row in enumerate(model([(key,) for key in keys], there, "left"))])


def test_the_condition_reaches_the_database(spark: SparkSession, database: Database) -> None:
    frame = spark.read.format("jdbc").options(url=database.url, dbtable="people").load().toDF("id", "name", "age")
    one, two = pa.table({"id": [1, 2]}), pa.table({"id": [1, 2, 3], "age": [3, 4, 5]})
    assert "PushedFilters: [*In(ID, [1,2])]" in plan_of(frame.where(any_of(one)))
    pushed = plan_of(frame.where(any_of(two))).replace(" ", "")
    assert "[*Or(Or(And(EqualTo(ID,1),EqualTo(AGE,3)),And(EqualTo(ID,2),EqualTo(AGE,4)))," in pushed


def test_many_keys_of_several_columns_make_statements_that_the_database_takes(spark: SparkSession, database: Database) -> None:
    rows = [(key, key) for key in range(600)]
    frame = spark.createDataFrame(rows, "id bigint, age int")
    there = {key: [{"name": f"n{key}-{at}"} for at in range(min(key % 4, 2))] for key in PEOPLE}
    source = JdbcLookup(database.url, "people", limits=Limits(batch_size=10_000))
    found = lookup_remote(frame, source, on=["id", "age"], returns="name string", how="inner")
    same(found, model(rows, there, "inner"))


def plan_of(frame: DataFrame) -> str:
    return str(frame._jdf.queryExecution().executedPlan().toString())


def test_what_the_driver_knows_is_not_asked_again(spark: SparkSession, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    ask = JdbcClient.ask
    monkeypatch.setattr(JdbcClient, "ask", lambda self, keys, timeout: asked.extend(keys["id"].to_pylist()) or ask(self, keys, timeout))
    source = JdbcLookup(database.url, "people", limits=Limits(batch_size=2))
    for ids in ([1, 2, 3], [3, 4, 2], [1, 4]):
        lookup_remote(spark.createDataFrame([(key,) for key in ids], "id bigint"), source, on="id", returns=RETURNS)
    assert sorted(asked) == [1, 2, 3, 4]


def test_a_route_looks_its_epoch_up_and_loses_no_row_with_the_table(spark: SparkSession, database: Database, tmp_path: Path) -> None:
    for number, start in enumerate(range(0, 400, 200)):
        add(tmp_path / "in", number, [{"number": row, "id": key, "at": "2013-01-01T00:00:00Z"} for row, key in ROWS[start : start + 200]])
    source = JdbcLookup(database.url, "people", limits=ONE_TRY)

    def route(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        if epoch.epoch == 1:
            database.do("rename table people to humans")
        rows = epoch.rows.select("number", "id")
        return {"joined": lookup_remote(rows, source, on="id", returns=RETURNS, cache=Cache(0), on_failure="tag")}

    checkpoint = Checkpoint.claim(str(tmp_path / "checkpoint"), pipeline="people", sources=["files"])
    sinks = {"joined": epochs.Append(str(tmp_path / "joined"))}
    pipeline = epochs.Pipeline(checkpoint, ledger=str(tmp_path / "ledger"), sinks=sinks)
    epochs.start(stream(spark, tmp_path / "in"), route, pipeline=pipeline).await_end()
    joined = spark.read.format("delta").load(str(tmp_path / "joined")).select("number", "id", "name", "age", "lookup_error")
    expected = [(*row, None) for row in model(ROWS[:200], PEOPLE, "left")]
    expected += [(*row, None, None, None if row[1] is None else "gone") for row in ROWS[200:]]
    reason = F.when(F.col("lookup_error").contains("Table/View 'PEOPLE' does not exist"), "gone").otherwise(F.col("lookup_error"))
    same(joined.withColumn("lookup_error", reason), expected)


def test_a_database_that_is_not_there(spark: SparkSession) -> None:
    rows = spark.range(3)
    with pytest.raises(RemoteLookupError, match=r"'people in jdbc:derby:memory:gone'.*got SQLSTATE XJ004.*2 attempts"):
        lookup_remote(rows, JdbcLookup("jdbc:derby:memory:gone", "people", limits=Limits(attempts=2)), on="id", returns=RETURNS)
    with pytest.raises(RemoteLookupError, match=r"No suitable driver.*spark.jars has its driver"):
        lookup_remote(rows, JdbcLookup("jdbc:nothing:x", "people"), on="id", returns=RETURNS)


def test_a_table_of_other_columns_or_types_is_refused(spark: SparkSession, database: Database) -> None:
    rows, source = spark.range(3), JdbcLookup(database.url, "people")
    with pytest.raises(SchemaError, match="expected column 'age' as int64, got int32"):
        lookup_remote(rows, source, on="id", returns="age bigint")
    with pytest.raises(SchemaError, match="expected column 'size' as int64, got no such column"):
        lookup_remote(rows, source, on="id", returns="size bigint")
    with pytest.raises(SchemaError, match="expected column 'id' as string, got int64"):
        lookup_remote(rows.withColumn("id", F.col("id").cast("string")), source, on="id", returns=RETURNS)
    query = JdbcLookup(database.url, "(select id, cast(age as bigint) as size from people) sized")
    same(lookup_remote(rows.where("id = 2"), query, on="id", returns="size bigint"), [(2, 2), (2, 2)])


def test_too_much_is_refused(spark: SparkSession, database: Database) -> None:
    rows = spark.createDataFrame([(key,) for key in (2, 6, 10)], "id bigint")  # with two rows each
    with pytest.raises(SettingsError, match="at most 2 distinct keys in a batch, got more"):
        lookup_remote(rows, JdbcLookup(database.url, "people", most_keys=2), on="id", returns=RETURNS)
    with pytest.raises(RemoteLookupError, match=r"expected at most 3 rows and .* bytes, got 4 rows"):
        lookup_remote(rows, JdbcLookup(database.url, "people", limits=Limits(most_matches=1)), on="id", returns=RETURNS)
    with pytest.raises(RemoteLookupError, match="at most 3000 rows and 10 bytes, got 6 rows"):
        lookup_remote(rows, JdbcLookup(database.url, "people", limits=Limits(most_bytes=10)), on="id", returns=RETURNS)


def test_null_where_none_may_be_fails_its_key_alone(spark: SparkSession, database: Database) -> None:
    rows = [(2,), (3,), (6,)]
    database.do("insert into people values (3, 'x', null)")
    source = JdbcLookup(database.url, "people")
    found = lookup_remote(spark.createDataFrame(rows, "id bigint"), source, on="id", returns="age int not null", on_failure="tag")
    wrong = "expected in column 'age' a value, got null"
    same(found, [(2, 2, None), (2, 2, None), (3, None, wrong), (6, 6, None), (6, 6, None)])


def test_secrets_of_a_database_are_references(spark: SparkSession, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"password": "hunter2"}, {"url": "jdbc:x"}, {"accessToken": "hunter2"}):
        with pytest.raises(SettingsError, match=r"the secret itself|one that is set here"):
            JdbcLookup(database.url, "people", options)
    for url in ("jdbc:x://me:hunter2@db/x", "jdbc:x:db;password=hunter2", "jdbc:oracle:thin:me/hunter2@db", "postgres://db"):
        with pytest.raises(SettingsError) as caught:
            JdbcLookup(url, "people")
        assert "hunter2" not in str(caught.value)
    source = JdbcLookup(database.url, "app.people", {"user": "me", "password": "${env:DB_PASSWORD}"})
    rows = spark.range(2, 3)
    with pytest.raises(SettingsError, match="no such variable"):
        lookup_remote(rows, source, on="id", returns=RETURNS)
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    found = lookup_remote(rows, source, on="id", returns=RETURNS)
    same(found, [(2, "n2-0", 2), (2, "n2-1", 2)])
    assert "hunter2" not in plan_of(found)
    with pytest.raises(RemoteLookupError) as failed:
        lookup_remote(rows, JdbcLookup(database.url, "app.nobody", source.options), on="id", returns=RETURNS)
    assert "hunter2" not in str(failed.value)


# --- both -------------------------------------------------------------------------------------------------------------------------

WEB = HttpLookup("https://example.com")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"on": "no"}, SchemaError, "cannot read column 'no'"),
        ({"on": []}, SettingsError, "one column or more, each once"),
        ({"on": {"id": "x", "other": "X"}}, SettingsError, "one column or more, each once"),
        ({"on": "id", "returns": "Other string"}, SchemaError, r"names that are not taken by rows or key, got \['Other'\]"),
        ({"on": {"id": "key"}, "returns": "key string"}, SchemaError, r"got \['key'\]"),
        ({"on": "id", "returns": "x int, X int"}, SchemaError, r"got \['x', 'X'\]"),
        ({"on": "id", "returns": "lookup_error int", "on_failure": "tag"}, SchemaError, "lookup_error"),
        ({"on": "id", "returns": None}, SettingsError, "columns with left and inner, None with semi and anti"),
        ({"on": "id", "how": "semi"}, SettingsError, "columns with left and inner, None with semi and anti"),
        ({"on": "id", "how": "full"}, SettingsError, "got 'full'"),
        ({"on": "id", "on_failure": "skip"}, SettingsError, "got 'skip'"),
        ({"on": "id", "returns": "int"}, SettingsError, "columns, as in 'name string, age int'"),
        ({"on": "half"}, SchemaError, "cannot look up by key 'half'.*got double"),
        ({"on": "id", "returns": "x binary"}, SchemaError, "cannot read from JSON column 'x'"),
        ({"on": "nocase"}, SchemaError, "collate"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(spark: SparkSession, options: dict[str, Any], error: type[Exception], match: str) -> None:
    rows = spark.range(1).selectExpr("id", "id as other", "0.5D as half", "'a' collate UTF8_LCASE as nocase")
    with pytest.raises(error, match=match):
        lookup_remote(rows, WEB, **{"returns": RETURNS, **options})


def test_a_database_is_not_asked_for_a_stream(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SettingsError, match=r"the frame of a batch, got a stream.*in the route of an epoch"):
        lookup_remote(stream(spark, tmp_path / "in"), JdbcLookup("jdbc:derby:memory:x", "t"), on="id", returns=RETURNS)
