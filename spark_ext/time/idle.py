"""Let silent sources go: watch what each source of a union brings, and declare a silent one to be as far as the others.

Kafka's own clock does this inside the source. Other sources tell nobody that they are silent, so it is seen in the query's progress,
and said through a folder that the source's part of the plan reads (`spark_ext.state.control.Control`): what was said is
part of a batch's plan, and a replay reads the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.listener import (
    QueryIdleEvent,
    QueryProgressEvent,
    QueryStartedEvent,
    QueryTerminatedEvent,
    StreamingQueryListener,
)

from spark_ext.errors import SettingsError
from spark_ext.state.control import UNTIL, Control

__all__ = ["BEAT", "IdleWatch", "Seen", "silent"]

BEAT: Final = "_beat"
METRIC: Final = "millrace_time_"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one source.

    Attributes
    ----------
    heard : datetime
        Wall clock when it last brought rows; at first, when it was first looked at.
    newest : datetime or None
        Newest time that its watermark follows, its own or what was said for it; None before any.
    """

    heard: datetime
    newest: datetime | None = None


def silent(seen: Mapping[str, Seen], *, now: datetime, after: timedelta) -> dict[str, datetime]:
    """Return how far each silent source is to be taken to be: as far as the slowest that is not silent.

    Parameters
    ----------
    seen : mapping of str to Seen
        All sources.
    now : datetime
        Wall clock.
    after : timedelta > 0
        How long a source has brought nothing, to count as silent.

    Returns
    -------
    dict of str to datetime
        Silent sources that are behind that time. Empty while all are silent, or while one that is not has no time yet.
    """
    live = [one for one in seen.values() if now - one.heard < after]
    times = [one.newest for one in live if one.newest is not None]
    if not times or len(times) < len(live):
        return {}
    slowest = min(times)
    return {name: slowest for name, one in seen.items() if now - one.heard >= after and (one.newest is None or one.newest < slowest)}


@dataclass(slots=True)
class IdleWatch:
    """Watches one query over a `union`; made before it, started with it.

        watch = IdleWatch("s3a://bucket/job/idle", after=timedelta(minutes=5))
        rows = union({"a": a, "b": b}, ..., idle=watch)
        watch.start(spark)

    Guarantee: a source that brings no row for `after` no longer holds the watermark: with the next batch that another source has, it is
    taken to be as far as the slowest of those that do bring rows. It never gets ahead of them on this account. When
    it speaks again, it holds the watermark again from there on, and what it has below the watermark is late. While all are
    silent, nothing moves.

    Not seen: a source that is slow to be asked. Let `after` be well above the time that a batch takes and between triggers.

    Parameters
    ----------
    path : str
        A folder of its own, kept as long as the checkpoint; local or a URI. It gets a small file each time that a silent source is
        moved, which makes a batch. Files stay; those of days ago may be deleted.
    after : timedelta > 0
        How long a source has to be silent.
    every : timedelta >= 0
        How often at most a silent source is moved, so that not every batch is followed by one more.
    clock : callable, optional
        The wall clock; for tests.
    """

    path: str
    after: timedelta
    every: timedelta = timedelta(minutes=1)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _seen: dict[str, Seen] = field(default_factory=dict)
    _said: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.after <= timedelta(0) or self.every < timedelta(0):
            raise SettingsError(
                "watch", "sources in", self.path, expected="after above 0 and every not below", got=f"{self.after!r} and {self.every!r}",
                todo="correct it",
            )  # fmt: skip

    def start(self, spark: SparkSession) -> StreamingQueryListener:
        """Look at every progress report from now on; give what is returned to ``spark.streams.removeListener`` to end it."""
        listener = _Listener(self)
        spark.streams.addListener(listener)
        return listener

    def listen(self, source: str) -> None:
        """Watch a source, from now on; it counts as heard now."""
        if not re.fullmatch(r"[\w.-]+", source):
            raise SettingsError(
                "watch", "source", source, expected="letters, digits, '_', '-' and '.'", got=repr(source),
                why="it names a folder", todo="give the source another name",
            )  # fmt: skip
        self._seen.setdefault(source, Seen(self.clock()))

    def beats(self, spark: SparkSession, source: str) -> DataFrame:
        """Return what has been said for a source, as a stream of one timestamp column."""
        self.listen(source)
        return self._control(source).rows(spark).select(F.col(UNTIL).alias(BEAT))

    def observed(self, rows: DataFrame, source: str, time: Column) -> DataFrame:
        """Let the query's progress tell how many rows a source brings, and their newest time."""
        return rows.observe(self.metric(source), F.count(F.lit(1)).alias("rows"), F.unix_micros(F.max(time)).alias("newest_us"))

    def note(self, metrics: Mapping[str, Any]) -> dict[str, datetime]:
        """Take in one progress report, or an empty one, and say what follows.

        Parameters
        ----------
        metrics : mapping of str to Row
            ``observedMetrics`` of a report; those of other queries are passed over.

        Returns
        -------
        dict of str to datetime
            What was said for which source.
        """
        now = self.clock()
        for name, before in self._seen.items():
            found = metrics.get(self.metric(name))
            if found is not None and found["rows"]:
                times = [before.newest] if before.newest is not None else []
                times += [EPOCH + timedelta(microseconds=found["newest_us"])] if found["newest_us"] is not None else []
                self._seen[name] = Seen(now, max(times, default=None))
        moved = silent(self._seen, now=now, after=self.after)
        due = {name: until for name, until in moved.items() if name not in self._said or now - self._said[name] >= self.every}
        for name, until in due.items():
            self._control(name).close(until)
            self._said[name] = now
            self._seen[name] = Seen(self._seen[name].heard, until)
        return due

    def metric(self, source: str) -> str:
        """Return the name under which a source is observed; the folder keeps queries apart that have sources of the same name."""
        return f"{METRIC}{source}@{self.path}"

    def seen(self, source: str) -> Seen:
        """Return what is known of a source."""
        return self._seen[source]

    def _control(self, source: str) -> Control:
        return Control(f"{self.path}/{source}")


class _Listener(StreamingQueryListener):
    def __init__(self, watch: IdleWatch) -> None:
        self._watch = watch

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 (Spark's name)
        """Nothing yet."""

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802 (Spark's name)
        self._watch.note(event.progress.observedMetrics)

    def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802 (Spark's name)
        self._watch.note({})

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802 (Spark's name)
        """Nothing more."""
