"""Read topics as a DataFrame, through our own source or through Spark's connector.

What flows in: addresses and topic names. What flows out: one row per Kafka record with its place (topic, partition,
offset), which is the row's identity all the way to the tables; raw, or decoded and judged on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pyspark.sql import DataFrame, SparkSession

from spark_ext.errors import SettingsError
from spark_ext.kafka.clock import EventClock
from spark_ext.kafka.java_client import java_options
from spark_ext.kafka.limits import ReadLimits
from spark_ext.kafka.options import SourceOptions, Start, position_text
from spark_ext.kafka.planner import Planner
from spark_ext.kafka.references import CLIENT
from spark_ext.kafka.source import NAME, register
from spark_ext.kafka.topics import topic_ids

if TYPE_CHECKING:  # the package loads numba, which Spark's planning processes do not need
    from spark_ext.ingest import Format, JsonFormat
    from spark_ext.ingest.filters import Conditions
    from spark_ext.ingest.partial import PartialAggregate

__all__ = ["RECORD_COLUMNS", "read"]

RECORD_COLUMNS: Final = ("key", "value", "topic", "partition", "offset", "timestamp")
CHECK_S: Final = 1  # the first question is asked once: a missing broker is reported at once, not waited for

Topics = str | Sequence[str] | re.Pattern[str]


def read(
    spark: SparkSession,
    *,
    bootstrap_servers: str,
    topics: Topics,
    partitions: Mapping[str, Sequence[int]] | None = None,
    format: Format | None = None,  # noqa: A002 (Spark's word for it)
    columns: Sequence[str] | None = None,
    where: Conditions = (),
    partial: PartialAggregate | None = None,
    source: bool = True,
    starting: Start = "earliest",
    ending: Start | None = None,
    streaming: bool = True,
    max_offsets_per_trigger: int = 100_000,
    limits: ReadLimits | None = None,
    clock: EventClock | None = None,
    headers: bool = False,
    on_lost: Literal["fail", "record"] = "fail",
    group: str | None = None,
    fetcher: str = "auto",
    isolation: Literal["read_committed", "read_uncommitted"] = "read_committed",
    engine: Literal["millrace", "spark"] = "millrace",
    options: Mapping[str, str] | None = None,
) -> DataFrame:
    """Return a DataFrame with the records of topics, one row each.

    Guarantee: every record between the starting and the current end of each partition comes once per run of a checkpoint,
    in offset order within a task; what a batch reads is written to the checkpoint before it is read, and a replay gives
    the same rows. A record that the broker dropped before it was read stops the query or is counted, never passed over.
    With a format, every range of offsets that was read ends with one row that accounts for each of them
    (`spark_ext.kafka.ranges.Account`).

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    topics : str, sequence of str or compiled pattern
        Topics that exist, or a pattern for whole names; topics that match later are read from their first offset, as are
        new partitions.
    partitions : mapping of topic to numbers, optional
        The only partitions to read.
    format : JsonFormat, CsvFormat, BytesFormat, optional
        Decode in the source. Without it rows are raw, as Spark's connector gives them, and nothing accounts for them.
    columns : sequence of str, optional
        The only fields of the format to give out.
    where : sequence of (field, operator, value)
        Good records that do not match are counted, not given out.
    partial : PartialAggregate, optional
        Give out groups instead of good rows, added up per range of offsets; `PartialAggregate.merge` makes one row of those of
        each group. Dead rows and accounts stay; ``source`` is null for groups. Not with `columns`.
    source : bool
        Whether good rows carry their place; without it the column is null for them.
    starting : {"earliest", "latest"}, datetime, or mapping of topic to partition to offset
        Where a new checkpoint, or a batch, starts; an old checkpoint goes on where it was. A time stands for the first
        record at or after it. Partitions that a mapping does not name start at their first offset (and end at their last);
        Spark's JSON of offsets is taken too.
    ending
        As `starting`, for a batch only; default is the end as it is at this call.
    streaming : bool
        Whether to return a stream or a batch. What a batch covers is fixed by this call.
    max_offsets_per_trigger : int, > 0
        Most offsets of one batch over all partitions. Always set: without it the first batch after a long
        stop would be everything, and a crash in it would start everything again.
    limits : ReadLimits, optional
        Limits that can be changed while the query runs.
    clock : EventClock, optional
        Add ``event_clock``, for ``withWatermark``: null but in one row of each batch, which is neither accepted nor dead. It
        follows the slowest partition that is not idle. Streams only. Give it to `spark_ext.time.with_watermark` before `accepted`: a
        filter behind a plain ``withWatermark`` takes the clock's row away before the watermark sees it.
    headers : bool
        Add ``headers``, an array of (key, value), to raw rows; null where a record has none.
    on_lost : {"fail", "record"}
        What to do about records that the broker dropped before they were read: stop the query and name them, or write them
        into the checkpoint and count them in the accounts of the format.
    group : str, optional
        Consumer group that shows the query's progress to lag tools; never read.
    fetcher : str
        Client that fetches; see `spark_ext.kafka.fetch.FetchSettings`.
    isolation : {"read_committed", "read_uncommitted"}
        Whether records of open and aborted transactions are left out.
    engine : {"millrace", "spark"}
        Our own source, or Spark's connector, which has fewer of these options.
    options : mapping of str to str, optional
        Settings of the client, starting with ``kafka.``, secrets as ``${env:NAME}`` or ``${file:/path}``; further options of
        `SourceOptions`. With ``engine="spark"``: of Spark's Kafka source, with the settings of Java's client and the same
        references.

    Returns
    -------
    DataFrame
        Raw: ``key`` and ``value`` binary, ``topic`` string, ``partition`` int, ``offset`` long, ``timestamp`` timestamp [,
        ``headers``]. With a format: its columns (with `partial`: those of the groups), ``source``, ``dead`` (see
        `spark_ext.ingest.tags`) and ``range``, which is set only in the row that accounts for a range.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers at the address within 10 s, or a topic does not exist.
    BrokerError
        The broker does not permit it, does not let us in, or is not trusted.
    SettingsError
        An argument cannot be used.

    State: none beyond the offsets in the checkpoint.
    """
    names = [] if isinstance(topics, re.Pattern) else [topics] if isinstance(topics, str) else list(topics)
    _check_words(engine=engine, starting=starting, ending="latest" if ending is None else ending)
    if not isinstance(max_offsets_per_trigger, int) or max_offsets_per_trigger <= 0 or not (names or isinstance(topics, re.Pattern)):
        raise SettingsError(
            "read",
            "topics",
            ",".join(names),
            expected="at least one topic and max_offsets_per_trigger > 0",
            got=f"{names!r} and {max_offsets_per_trigger!r}",
            todo="give both",
        )
    if clock is not None and not streaming:
        raise _refused("clock", "none for a batch", repr(clock), "leave it out: in a batch all event times are there at once")
    if streaming and ending is not None:
        raise _refused("ending", "none for a stream", repr(ending), "leave it out, or read a batch with streaming=False")
    if engine == "spark":
        if format is not None and format.kind != "json":
            raise _refused("format", "a JsonFormat with engine='spark'", f"a {type(format).__name__}", "use engine='millrace'")
        only_ours = {
            "columns": columns is not None,
            "where": bool(where),
            "partial": partial is not None,
            "clock": clock is not None,
            "source": not source,
            "limits": limits is not None,
            "on_lost": on_lost != "fail",
            "group": group is not None,
            "fetcher": fetcher != "auto",
        }
        for name in (name for name, used in only_ours.items() if used):
            raise _refused(name, "its default with engine='spark'", "what that cannot do", "leave it out, or use engine='millrace'")
        given = {
            **_positions(starting, ending, streaming=streaming),
            "includeHeaders": str(headers).lower(),
            "kafka.isolation.level": isolation,
        }
        if streaming:
            given["maxOffsetsPerTrigger"] = str(max_offsets_per_trigger)
        chosen = java_options(spark, {**given, **(options or {})})
        records = _by_spark(spark, bootstrap_servers, topics, partitions, chosen, streaming=streaming)
        records = records.select(*RECORD_COLUMNS, *(["headers"] if headers else []))
        return records if format is None else cast("JsonFormat", format).parse(records)
    if format is None and (columns is not None or where):
        raise _refused("columns or where", "a format whose fields they name", "none", "give a format, or select from the raw rows")
    texts: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "topics": json.dumps(names) if names else None,
        "topic_pattern": _inline(topics) if isinstance(topics, re.Pattern) else None,
        "partitions": json.dumps({topic: list(numbers) for topic, numbers in partitions.items()}) if partitions else None,
        "columns": json.dumps(list(columns)) if columns is not None else None,
        "partial": partial.to_json() if partial is not None else None,
        "source": str(source),
        "starting": position_text(starting),
        "ending": position_text(ending) if ending is not None else None,
        "clock": json.dumps(clock.to_json()) if clock else None,
        "headers": str(headers),
        "on_lost": on_lost,
        "group": group,
        "fetcher": fetcher,
        "isolation": isolation,
        "max_offsets_per_trigger": str(max_offsets_per_trigger),
        "limits": limits.path if limits else None,
        "tasks": str(spark.sparkContext.defaultParallelism),
    }
    if format is not None:
        from spark_ext.ingest.filters import conditions_to_json  # noqa: PLC0415 (see above)

        format.decoder(columns, where)  # refuses what it cannot do, here where the user stands
        if partial is not None:
            partial.columns(format.schema, format.event_time)  # likewise
        texts |= {"format": format.to_json(), "where": json.dumps(conditions_to_json(where)) if where else None}
    chosen = {
        **{name: text for name, text in texts.items() if text is not None},
        **{name.lower(): text for name, text in (options or {}).items()},
    }
    return _by_millrace(spark, SourceOptions.from_options(chosen), streaming=streaming)


def _check_words(*, engine: str, starting: Start, ending: Start) -> None:
    if engine not in ("millrace", "spark"):
        raise _refused("engine", "'millrace' or 'spark'", repr(engine), "correct it")
    for name, position in (("starting", starting), ("ending", ending)):
        if not isinstance(position, str | datetime | Mapping):
            raise _refused(name, "'earliest', 'latest', a time with its zone, or offsets", repr(position), "correct it")


def _by_millrace(spark: SparkSession, options: SourceOptions, *, streaming: bool) -> DataFrame:
    register(spark)
    # Fail now, where the user stands: later the text comes wrapped in Spark's.
    planner = Planner(replace(options, patience_s=CHECK_S))
    try:
        if streaming:
            planner.initial()
            planner.check_group()
            return spark.readStream.format(NAME).options(**options.to_options()).load()
        start, end = planner.whole()
    finally:
        planner.close()
    starts, ends = _by_topic(start.offsets), _by_topic(end.offsets)
    fixed = replace(
        options,
        topics=tuple(starts),
        topic_pattern=None,
        partitions={topic: tuple(numbers) for topic, numbers in starts.items()},
        starting=starts,
        ending=ends,
        ids=json.dumps(dict(start.ids)),
    )
    return spark.read.format(NAME).options(**fixed.to_options()).load()


def _by_spark(
    spark: SparkSession,
    servers: str,
    topics: Topics,
    partitions: Mapping[str, Sequence[int]] | None,
    given: Mapping[str, str],
    *,
    streaming: bool,
) -> DataFrame:
    if isinstance(topics, re.Pattern):
        subscription = {"subscribePattern": _inline(topics)}
    else:
        names = [topics] if isinstance(topics, str) else list(topics)
        java = f"{CLIENT}security.protocol" in given  # whose authorities need not be librdkafka's
        topic_ids(spark, servers, names, given, java=java)  # fail now: Spark's source waits for a missing broker far too long
        assigned = {"assign": json.dumps({topic: list(numbers) for topic, numbers in (partitions or {}).items()})}
        subscription = assigned if partitions else {"subscribe": ",".join(names)}
    reader = spark.readStream if streaming else spark.read
    fixed = {**subscription, "kafka.bootstrap.servers": servers}
    return reader.format("kafka").options(**{"failOnDataLoss": "true", **given, **fixed}).load()


def _positions(starting: Start, ending: Start | None, *, streaming: bool) -> dict[str, str]:
    """Return the positions as options of Spark's connector."""
    texts = {}
    for word, position in (("starting", starting), ("ending", ending)):
        if position is None or (word == "ending" and streaming):
            continue
        if isinstance(position, datetime):
            texts[f"{word}Timestamp"] = str(int(position.timestamp() * 1000))
        else:
            texts[f"{word}Offsets"] = position_text(position)
    return texts


def _by_topic(offsets: Mapping[tuple[str, int], int]) -> dict[str, dict[int, int]]:
    topics: dict[str, dict[int, int]] = {}
    for (topic, number), offset in offsets.items():
        topics.setdefault(topic, {})[number] = offset
    return topics


def _inline(pattern: re.Pattern[str]) -> str:
    """Return the pattern's text with its flags in it."""
    letters = "".join(letter for letter, flag in (("i", re.I), ("m", re.M), ("s", re.S), ("x", re.X)) if pattern.flags & flag)
    return f"(?{letters}){pattern.pattern}" if letters else pattern.pattern


def _refused(name: str, expected: str, got: str, todo: str) -> SettingsError:
    return SettingsError("use", "argument", name, expected=expected, got=got, todo=todo)
