"""Every option of the source `millrace_kafka`: its text form, its default, its check.

Options travel as text from the user's process to Spark's plan and from there to the planner and the workers, and
plans are shown to people. So a secret is never an option itself, only a reference to where it is found.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from spark_ext.errors import SettingsError
from spark_ext.kafka.fetch.settings import OWNED
from spark_ext.kafka.references import CLIENT, REFERENCE, is_secret, literal

__all__ = ["EARLIEST", "LATEST", "Place", "SourceOptions", "Start", "position_text", "read_position"]

Place: TypeAlias = tuple[str, int]  # a partition of a topic
Start: TypeAlias = str | datetime | Mapping[str, Mapping[int, int]]

LATEST: Final = -1  # as Kafka itself numbers them
EARLIEST: Final = -2
OURS_ALONE: Final = {  # settings of the client that would break what the source promises
    "bootstrap.servers": "bootstrap_servers",
    "group.id": "group",
    "isolation.level": "isolation",
    "enable.auto.commit": "group",
    "auto.offset.reset": "starting",
}


def read_position(text: str) -> Start:
    """Read where to start or to end: a word, a time with its zone, or JSON of offsets.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if text in ("earliest", "latest"):
        return text
    if not text.startswith("{"):
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError(text)
        return at
    given = json.loads(text)
    found = {str(topic): {int(number): _offset(offset) for number, offset in numbers.items()} for topic, numbers in given.items()}
    if not found:
        raise ValueError(text)
    return found


def position_text(position: Start) -> str:
    """Return the text that `read_position` reads."""
    if isinstance(position, str):
        return position
    if isinstance(position, datetime):
        return position.isoformat()
    return json.dumps({topic: {str(number): offset for number, offset in numbers.items()} for topic, numbers in position.items()})


def _offset(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < EARLIEST:
        raise ValueError(given)
    return given


def _whole(text: str) -> int:
    if (number := int(text)) <= 0:
        raise ValueError(text)
    return number


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return read


def _yes_or_no(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(json.loads(text)) if text.startswith("[") else tuple(name.strip() for name in text.split(","))
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(text)
    return names


def _numbers(text: str) -> dict[str, tuple[int, ...]]:
    found = {str(topic): tuple(sorted({_offset(number) for number in numbers})) for topic, numbers in json.loads(text).items()}
    if not all(numbers and numbers[0] >= 0 for numbers in found.values()):
        raise ValueError(text)
    return found


def _json(text: str) -> str:
    json.loads(text)
    return text


def _object(text: str) -> str:
    if not isinstance(json.loads(text), dict):
        raise TypeError(text)
    return text


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text


def _pattern(text: str) -> str:
    re.compile(text)
    return text


def _text_form(read: Callable[[str], Any], expected: str) -> dict[str, Any]:
    return {"read": read, "expected": expected}


FETCHERS: Final = ("auto", "librdkafka", "confluent", "kafka-python")
NAMES: Final = "different names separated by commas, or a JSON list"
WHOLE: Final = "a whole number above zero"
POSITION: Final = 'earliest, latest, a time with its zone (2013-01-01T00:00:00+00:00) or offsets as {"topic": {"0": 17}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """The source's options, read and checked; each attribute is the option of the same name.

    Attributes
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    topics, topic_pattern
        Names, or a regular expression for whole names; exactly one of the two.
    partitions : mapping, optional
        The only partitions to read, per topic.
    starting, ending
        Where a new checkpoint (or a batch) starts, and where a batch ends.
    ids : str, optional
        JSON of the ids of the topics of a batch, as they were when its ends were fixed.
    format, columns, where, source
        JSON of the format (none: raw records), what to give out of it, and whether good rows carry their place.
    clock : str, optional
        JSON of an `EventClock`.
    partial : str, optional
        JSON of what is added up before rows leave the source.
    headers : bool
        Whether raw records carry their headers.
    isolation : {"read_committed", "read_uncommitted"}
        Whether records of open and aborted transactions are left out.
    on_lost : {"fail", "record"}
        What to do about records that the broker dropped before they were read.
    group : str, optional
        Consumer group whose offsets follow the query, for lag tools; it is never read.
    fetcher : str
        Which client reads in the workers.
    max_offsets_per_trigger, max_bytes_per_trigger, max_offsets_per_partition : int, optional
        Limits of one batch.
    limits : str, optional
        File of a `ReadLimits` that may change them while the query runs.
    tasks, min_offsets_per_task : int
        Into how many tasks a batch is cut, and below which size of a piece no more. 50 000 records are some 50 ms of work,
        several times what one more task and one more seek cost.
    max_rows_per_block : int
        Most rows of one Arrow batch.
    patience_s : int
        For how long the planner asks again when the broker does not answer, before the query fails.
    client : mapping
        Settings of the client: options that start with ``kafka.``, secrets still as references.
    """

    bootstrap_servers: str = field(default="", metadata=_text_form(str, "addresses as host:port"))
    topics: tuple[str, ...] = field(default=(), metadata=_text_form(_names, NAMES))
    topic_pattern: str | None = field(default=None, metadata=_text_form(_pattern, "a regular expression"))
    partitions: Mapping[str, tuple[int, ...]] | None = field(default=None, metadata=_text_form(_numbers, 'JSON such as {"topic": [0, 1]}'))
    starting: Start = field(default="earliest", metadata=_text_form(read_position, POSITION))
    ending: Start = field(default="latest", metadata=_text_form(read_position, POSITION))
    ids: str | None = field(default=None, metadata=_text_form(_object, "JSON of topic ids"))
    format: str | None = field(default=None, metadata=_text_form(_object, "the text of a format's to_json()"))
    columns: tuple[str, ...] | None = field(default=None, metadata=_text_form(_names, NAMES))
    where: str = field(default="[]", metadata=_text_form(_json, "JSON of filters"))
    clock: str | None = field(default=None, metadata=_text_form(_object, "the text of an EventClock"))
    partial: str | None = field(default=None, metadata=_text_form(_object, "the text of PartialAggregate.to_json()"))
    source: bool = field(default=True, metadata=_text_form(_yes_or_no, "true or false"))
    headers: bool = field(default=False, metadata=_text_form(_yes_or_no, "true or false"))
    isolation: str = field(
        default="read_committed", metadata=_text_form(_one_of("read_committed", "read_uncommitted"), "read_committed or read_uncommitted")
    )
    on_lost: str = field(default="fail", metadata=_text_form(_one_of("fail", "record"), "fail or record"))
    group: str | None = field(default=None, metadata=_text_form(_word, "the name of a consumer group"))
    fetcher: str = field(default="auto", metadata=_text_form(_one_of(*FETCHERS), f"one of {', '.join(FETCHERS)}"))
    max_offsets_per_trigger: int = field(default=100_000, metadata=_text_form(_whole, WHOLE))
    max_bytes_per_trigger: int | None = field(default=None, metadata=_text_form(_whole, WHOLE))
    max_offsets_per_partition: int | None = field(default=None, metadata=_text_form(_whole, WHOLE))
    limits: str | None = field(default=None, metadata=_text_form(str, "the path of a ReadLimits file"))
    tasks: int = field(default=1, metadata=_text_form(_whole, WHOLE))
    min_offsets_per_task: int = field(default=50_000, metadata=_text_form(_whole, WHOLE))
    max_rows_per_block: int = field(default=20_000, metadata=_text_form(_whole, WHOLE))
    patience_s: int = field(default=60, metadata=_text_form(_whole, WHOLE))
    client: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> SourceOptions:
        """Read options as Spark hands them over, their names in lower case.

        Raises
        ------
        SettingsError
            An unknown name (with the nearest known one), a value that does not fit, or a secret that stands there itself.
        """
        known = {one.name: one for one in fields(cls) if one.metadata}
        read: dict[str, Any] = {}
        client: dict[str, str] = {}
        for name, text in options.items():
            if name.startswith(CLIENT):
                client[name.removeprefix(CLIENT)] = _client_setting(name, text)
            elif name in known:
                try:
                    read[name] = known[name].metadata["read"](text)
                except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
                    expected, todo = known[name].metadata["expected"], "correct it"
                    raise SettingsError("use", "option", name, expected=expected, got=repr(text), todo=todo) from error
            else:
                raise _unknown(name, list(known))
        return _checked(cls(**read, client=client))

    def to_options(self) -> dict[str, str]:
        """Return the options whose values are not the defaults, as text that `from_options` reads."""
        texts = {CLIENT + name: value for name, value in self.client.items()}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.metadata and value != one.default:
                texts[one.name] = _text(one.name, value)
        return texts


def _checked(options: SourceOptions) -> SourceOptions:
    if not options.bootstrap_servers:
        raise SettingsError("use", "option", "bootstrap_servers", expected="addresses", got="none", todo="name the brokers")
    if bool(options.topics) == (options.topic_pattern is not None):
        got = "both" if options.topics else "neither"
        raise SettingsError("use", "option", "topics", expected="topics or topic_pattern", got=got, todo="give exactly one of them")
    if options.headers and options.format is not None:
        todo = "read raw records (no format), or leave headers out"
        raise SettingsError("use", "option", "headers", expected="raw records", got="a format", todo=todo)
    if options.on_lost == "record" and options.format is None:
        todo = "give a format, BytesFormat() for the bytes as they came, or let the query fail"
        raise SettingsError("use", "option", "on_lost", expected="a format, whose accounts record the loss", got="none", todo=todo)
    if options.clock is not None and (options.format is None or json.loads(options.format).get("event_time") is None):
        todo = "read with a format that has an event_time, or leave the clock out"
        raise SettingsError("use", "option", "clock", expected="a format with an event time", got="none", todo=todo)
    if options.partial is not None and (options.format is None or options.columns is not None):
        got = "no format" if options.format is None else "columns too"
        todo = "give a format, and leave columns out: the aggregate names what it needs"
        raise SettingsError("use", "option", "partial", expected="a format and no columns", got=got, todo=todo)
    given = set(options.partitions or options.topics)
    if options.topics and given != set(options.topics):
        expected, todo = f"numbers for each of {list(options.topics)}", "correct the names, or leave a topic out of both"
        raise SettingsError("use", "option", "partitions", expected=expected, got=repr(sorted(given)), todo=todo)
    return options


def _text(name: str, value: Any) -> str:
    if name in ("starting", "ending"):
        return position_text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if isinstance(value, str) else json.dumps(value)


def _client_setting(name: str, text: str) -> str:
    bare = name.removeprefix(CLIENT)
    if bare in OURS_ALONE or bare in OWNED:
        instead = f"use {OURS_ALONE[bare]} instead" if bare in OURS_ALONE else "leave it out"
        expected, todo = "a setting that the source leaves to you", instead
        raise SettingsError("use", "option", name, expected=expected, got="one it sets itself", todo=todo)
    if is_secret(bare) and not REFERENCE.fullmatch(text):
        raise literal(name)
    return text


def _unknown(name: str, known: list[str]) -> SettingsError:
    near = difflib.get_close_matches(name, known, 1, 0.6)
    todo = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(sorted(known))}, or kafka.<setting of the client>"
    return SettingsError("use", "option", name, expected="an option of millrace_kafka", got="an unknown name", todo=todo)
