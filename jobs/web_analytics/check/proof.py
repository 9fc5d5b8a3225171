"""Prove that every record is where it must be, every exact table is right, and every approximate answer is as good as it says.

From a topic and the offset log of the query follow the fate of each record and all exact tables; differences to the job's tables are
mismatches. From the facts, which are thereby what they must be, follow the exact answers that approximate ones are held against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from deltalake import DeltaTable

from jobs.flights.check.broker import read_topic
from jobs.flights.check.compare import differences
from jobs.flights.check.lateness import OffsetLog, batch_of, read_offset_log, watermarks_ms
from jobs.web_analytics.check import exact
from jobs.web_analytics.check.claims import Answer, Claim, hold
from jobs.web_analytics.check.fates import FATES, fates
from jobs.web_analytics.check.records import VISIT, parse_changes, parse_visits

__all__ = ["Promise", "Result", "Step", "check", "prove"]

PLACE: Final = ["partition", "offset"]
TABLE_OF: Final = {"accepted": "visits", "duplicate": "repeated_visits", "late": "late_visits"}
PIPELINE: Final = "web_analytics/visits"
SUBSETS: Final = {
    "views of a listed page",
    "views of any page",
    "weight of a listed page",
    "views of a sampled session",
}  # not of all groups
OFTEN_SHARED: Final = ["visitor", "session", "page", "section", "referrer", "country", "agent"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What the job has promised: by which rules it tells late from not, sessions from each other, and how fast popularity fades."""

    lateness: timedelta = timedelta(hours=2)
    horizon: timedelta = timedelta(hours=1)
    gap: timedelta = timedelta(minutes=30)
    half_life: timedelta = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Step:
    """One exact comparison: how many rows, and every difference in words."""

    name: str
    compared: int
    mismatches: Sequence[str]


@dataclass(frozen=True, slots=True)
class Result:
    """What the proof found.

    Attributes
    ----------
    records : int
        Offsets of the topic of visits.
    fates : mapping of str to int
        What became of them: ``accepted``, ``duplicate``, ``late``, ``dead``.
    steps : sequence of Step
        Exact comparisons.
    claims : sequence of Claim
        Approximate answers beside exact ones.
    """

    records: int
    fates: Mapping[str, int]
    steps: Sequence[Step]
    claims: Sequence[Claim]

    @property
    def mismatches(self) -> list[str]:
        """Everything that is not as it must be, in words."""
        return [text for step in self.steps for text in step.mismatches] + [text for claim in self.claims for text in claim.mismatches]

    @property
    def ok(self) -> bool:
        """Whether all holds."""
        return not self.mismatches and self.records == sum(self.fates.values())


def check(
    out: Path, bootstrap_servers: str, topic: str, pages_topic: str, answers: Sequence[Answer], *, promise: Promise = Promise()
) -> Result:
    """Compare the job's tables with the topics, and the answers of its sketches with exact ones.

    Parameters
    ----------
    out : Path
        The job's folder, with ``tables/`` and ``checkpoints/``. The job must be at rest.
    bootstrap_servers, topic, pages_topic : str
        Where the records are.
    answers : sequence of Answer
        What the sketches of these tables say; names as in `exact_answers`.
    promise : Promise
        The rules of the job.

    Raises
    ------
    ProofError
        The topic or the offset log cannot be read.
    """
    return prove(read_topic(bootstrap_servers, topic), read_topic(bootstrap_servers, pages_topic), out, topic, answers, promise=promise)


def prove(
    records: pd.DataFrame, changes: pd.DataFrame, out: Path, topic: str, answers: Sequence[Answer], *, promise: Promise = Promise()
) -> Result:
    """Do what `check` does, for records of both topics already at hand; see `jobs.flights.check.broker.read_topic` for their columns."""
    log = read_offset_log(out / "checkpoints" / "visits" / "spark" / "offsets", topic)
    good, bad = parse_visits(records)
    good = good.assign(batch=batch_of(good, log))
    planned = watermarks_ms(good["at"], good["batch"], batches=len(log.ends), lateness=promise.lateness)
    watermark = pd.to_datetime(good["batch"].map(dict(enumerate(planned))), unit="ms", utc=True)
    good = good.assign(fate=fates(good, watermark, horizon=promise.horizon))
    facts = exact.with_times(_narrow(good[good["fate"] == "accepted"]))
    tables = {name: _read(out, name) for name in (*TABLE_OF.values(), "dead_letters")}

    unread = int((batch_of(records, log) == len(log.ends)).sum())
    sessions = exact.sessions(facts, gap=promise.gap)
    began = sessions.assign(hour=sessions["window_start"].dt.floor("h"))
    steps = [
        Step("records in batches", len(records), [f"offset log: expected every record in a batch, got {unread:,} in none"] * (unread > 0)),
        _step("watermarks", "offset log", _by_batch(planned), _by_batch(log.watermarks_ms), ["batch"]),
        *(_step(fate, table, good[good["fate"] == fate][[*PLACE, *VISIT]], tables[table], PLACE) for fate, table in TABLE_OF.items()),
        _step("dead", "dead_letters", bad[PLACE], tables["dead_letters"], PLACE),
        _ledger(good, bad, log, _read(out, "ledger")),
        _step("sessions", "sessions", sessions, _read(out, "sessions"), ["visitor", "window_start"]),
        *_pages(parse_changes(changes), facts, _read(out, "pages")),
    ]
    claims = [hold_against(facts, began, answer, promise=promise) for answer in answers]
    found = {fate: len(tables[table]) for fate, table in TABLE_OF.items()} | {"dead": len(tables["dead_letters"])}
    return Result(len(records), found, steps, claims)


def hold_against(facts: pd.DataFrame, sessions: pd.DataFrame, answer: Answer, *, promise: Promise) -> Claim:
    """Hold one answer against the exact one of its question, which its name says: ``<question> by <column>, <column>``.

    Sessions have the ``hour`` in which they began. Of pairs, by what they are groups.

    Raises
    ------
    KeyError
        There is no such question.
    """
    question, _, measure = answer.name.partition(" by ")
    by = [name.strip() for name in measure.split(",")] if measure else []
    frame = answer.frame
    asked: dict[str, Callable[[], pd.DataFrame]] = {
        "views": partial(exact.counts, facts, by),
        "visitors": partial(exact.distinct, facts, by),
        "views of a listed page": partial(exact.counts, facts, by),
        "views of any page": partial(exact.counts, facts, by),
        "most views of an unlisted page": lambda: exact.unlisted(facts, frame[[*by, "page"]].explode("page"), by[0]),
        "weight of a listed page": lambda: exact.decayed(facts, sorted(set(frame["instant"])), half_life=promise.half_life),
        "time spent": lambda: exact.quantiles(facts, by[:-1], "duration_ms", sorted(set(frame["q"]))),
        "visitors in common": lambda: exact.overlap(facts, by[0], _pairs(frame)),
        "share of visitors in common": lambda: exact.overlap(facts, by[0], _pairs(frame), as_share=True),
        "sessions": partial(exact.counts, sessions, by),
        "views of a session": lambda: exact.quantiles(sessions, by[:-1], "views", sorted(set(frame["q"]))),
        "views of a sampled session": lambda: sessions.assign(exact=sessions["views"]),
        "sessions of one view": partial(exact.bounces, sessions, by),
    }
    return hold(answer, asked[question](), subset=question in SUBSETS)


def _pairs(frame: pd.DataFrame) -> list[tuple[object, object]]:
    return list(zip(frame["one"], frame["other"], strict=True))


def _ledger(good: pd.DataFrame, bad: pd.DataFrame, log: OffsetLog, ledger: pd.DataFrame) -> Step:
    """Compare what the ledger says of each batch with the topic."""
    batches = pd.Index(range(len(log.ends)), name="batch_id")
    found = pd.crosstab(good["batch"], good["fate"]).reindex(index=batches, columns=list(FATES), fill_value=0)
    found["dead"] = batch_of(bad, log).value_counts().reindex(batches, fill_value=0)
    found["read"] = found.sum(axis=1)
    ours = ledger[(ledger["pipeline"] == PIPELINE) & ledger["replay_of"].isna()]
    unbalanced = [f"ledger {row['pipeline']} batch {row['batch_id']}: expected a balance, got none"
                  for row in ledger[~ledger["is_balanced"].astype(bool)].to_dict("records")]  # fmt: skip
    step = _step("ledger", "ledger", found.astype("int64").reset_index(), ours, ["batch_id"])
    return Step(step.name, step.compared, [*step.mismatches, *unbalanced])


def _pages(changes: pd.DataFrame, facts: pd.DataFrame, table: pd.DataFrame) -> list[Step]:
    """Compare the history of pages with the topic, and the section of each visit with that of its page at that time."""
    versions = changes.sort_values(["page", "changed_at"], kind="stable")[["page", "section", "title", "changed_at"]]
    until = versions.groupby("page")["changed_at"].shift(-1)
    expected = versions.assign(valid_from=versions["changed_at"], valid_to=until, is_current=until.isna())
    then = pd.merge_asof(
        facts[["visit_id", "page", "section", "at"]].astype({"page": object, "section": object}).sort_values("at"),
        table[["page", "section", "valid_from"]].assign(valid_from=table["valid_from"].dt.as_unit("us")).sort_values("valid_from"),
        left_on="at", right_on="valid_from", by="page", suffixes=("", "_then"),
    )  # fmt: skip
    wrong = then[then["section"] != then["section_then"]].head(20)
    texts = [
        f"pages (page {row['page']}, at {row['at']}): expected section {row['section']}, got {row['section_then']}"
        for row in wrong.to_dict("records")
    ]
    return [_step("versions of pages", "pages", expected, table, ["page", "changed_at"]), Step("sections at the time", len(then), texts)]


def _narrow(visits: pd.DataFrame) -> pd.DataFrame:
    """Return the visits with their text as categories, which are grouped faster."""
    return visits.astype(dict.fromkeys(OFTEN_SHARED, "category"))


def _read(out: Path, name: str) -> pd.DataFrame:
    # Arrow splits the struct into columns; pandas would make a dictionary of each row.
    found = DeltaTable(str(out / "tables" / name)).to_pyarrow_table().flatten()
    frame: pd.DataFrame = found.rename_columns([column.removeprefix("source.") for column in found.column_names]).to_pandas()
    return frame


def _step(name: str, table: str, expected: pd.DataFrame, got: pd.DataFrame, keys: list[str]) -> Step:
    return Step(name, len(expected), differences(table, expected, got, keys))


def _by_batch(milliseconds: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"batch": np.arange(len(milliseconds)), "watermark": milliseconds})
