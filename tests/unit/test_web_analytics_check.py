"""The exact answers against slow models, and the proof: it passes on what a model of the job wrote, and reports each kind of damage."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from rich.console import Console

from jobs.web_analytics.check import Answer, exact, prove, summarise
from jobs.web_analytics.check.claims import ALWAYS, allowed, hold, shared_confidence
from jobs.web_analytics.check.fates import fates
from jobs.web_analytics.check.proof import Promise, Result
from jobs.web_analytics.check.records import VISIT, parse_changes, parse_visits
from jobs.web_analytics.network import Network
from jobs.web_analytics.publish import change_records, visit_records
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, visits
from spark_ext.dedup import Dedup
from spark_ext.state.kernel import NEVER_US, Moment, empty_state

TRAFFIC = Traffic(visits=3_000)
PUBLISHED = pd.Timestamp("2026-01-01T12:00Z")
BATCH_ROWS = 400
GARBAGE = [b"", None, b"[1]", b"\xff", b'{"visit_id":1}', b"{}{}"]


@pytest.fixture(scope="module")
def day() -> pd.DataFrame:
    return exact.with_times(visits(TRAFFIC))


@pytest.fixture(scope="module")
def topic() -> pd.DataFrame:
    """Records in two partitions, some of them garbage."""
    arrivals = Network(damaged=0.003, resent=0.05, very_slow=0.02).carry(visits(TRAFFIC))
    keys, values = visit_records(arrivals)
    every: list[tuple[bytes | None, bytes | None]] = list(zip(keys, values, strict=True))
    for at, value in enumerate(GARBAGE):
        every.insert(100 * at + 50, (b"v0000001", value))
    records = pd.DataFrame(every, columns=["key", "value"])
    records["partition"] = [len(key or b"") and (key or b"0")[-1] % 2 for key in records["key"]]
    records["offset"] = records.groupby("partition").cumcount()
    return records.assign(timestamp=PUBLISHED)


# Exact answers -----------------------------------------------------------------------------------------------------------


def spent(row: dict[str, Any]) -> int:
    return int(row["duration_ms"])


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [dict(row) for row in frame.astype(object).to_dict("records")]


def test_counts_and_distinct_visitors_are_those_of_sets(day: pd.DataFrame) -> None:
    views: dict[Any, int] = defaultdict(int)
    visitors = defaultdict(set)
    for row in rows_of(day):
        views[row["minute"], row["page"]] += 1
        visitors[row["minute"], row["page"]].add(row["visitor"])
    found = exact.counts(day, ["minute", "page"])
    assert {(row["minute"], row["page"]): row["exact"] for row in rows_of(found)} == views
    found = exact.distinct(day, ["minute", "page"])
    assert {(row["minute"], row["page"]): row["exact"] for row in rows_of(found)} == {key: len(some) for key, some in visitors.items()}


def test_popularity_fades_by_half_lives(day: pd.DataFrame) -> None:
    instant = day["minute"].iloc[1_500]
    weights: dict[str, float] = defaultdict(float)
    for row in rows_of(day):
        if row["at"] < instant:
            weights[row["page"]] += 0.5 ** ((instant - row["at"]) / pd.Timedelta(minutes=10))
    found = exact.decayed(day, [instant], half_life=timedelta(minutes=10))
    assert {row["page"]: row["exact"] for row in rows_of(found)} == pytest.approx(weights)
    assert set(found["instant"]) == {instant}


def test_quantiles_are_values_with_enough_at_or_below_them(day: pd.DataFrame) -> None:
    found = exact.quantiles(day, ["hour"], "duration_ms", [0.5, 0.99])
    for row in rows_of(found)[:20]:
        some = sorted(day.loc[day["hour"] == row["hour"], "duration_ms"])
        least = next(value for at, value in enumerate(some) if (at + 1) >= row["q"] * len(some))
        assert row["exact"] == least


def test_overlap_is_that_of_sets(day: pd.DataFrame) -> None:
    sets = {section: set(some) for section, some in day.groupby("section", observed=True)["visitor"]}
    both, either = sets["news"] & sets["sport"], sets["news"] | sets["sport"]
    pairs: list[tuple[object, object]] = [("news", "sport"), ("news", "nowhere")]
    assert exact.overlap(day, "section", pairs)["exact"].tolist() == [len(both), 0]
    assert exact.overlap(day, "section", pairs, as_share=True)["exact"].tolist() == [len(both) / len(either), 0]


def test_the_busiest_unlisted_page_is_looked_for_in_each_group(day: pd.DataFrame) -> None:
    every = exact.counts(day, ["hour", "page"]).astype({"page": object})
    listed = every.sort_values("exact").groupby("hour").tail(3)
    found = exact.unlisted(day, listed[["hour", "page"]], "hour")
    ranked = every.groupby("hour")["exact"].apply(lambda some: sorted(some, reverse=True)[3])
    assert dict(zip(found["hour"], found["exact"], strict=True)) == ranked.to_dict()
    assert set(exact.unlisted(day, every[["hour", "page"]], "hour")["exact"]) == {0}, "all are listed"


def test_sessions_end_where_a_gap_begins(day: pd.DataFrame) -> None:
    gap = timedelta(minutes=30)
    expected = []
    by_visitor = defaultdict(list)
    for row in rows_of(day):
        by_visitor[row["visitor"]].append(row)
    for visitor, rows in by_visitor.items():
        sessions: list[list[dict[str, Any]]] = []
        for row in sorted(rows, key=lambda row: row["at"]):
            if sessions and row["at"] - sessions[-1][-1]["at"] < gap:
                sessions[-1].append(row)
            else:
                sessions.append([row])
        expected += [
            (visitor, one[0]["at"], one[-1]["at"] + gap, len(one), len({row["page"] for row in one}), sum(map(spent, one)))
            for one in sessions
        ]
    found = exact.sessions(day, gap=gap)
    columns = ["visitor", "window_start", "window_end", "views", "pages", "spent_ms"]
    assert sorted(map(tuple, found[columns].astype(object).to_numpy().tolist())) == sorted(expected)
    shares = exact.bounces(found.assign(hour=found["window_start"].dt.floor("h")), ["hour"])
    first = found[found["window_start"].dt.floor("h") == shares["hour"].iloc[0]]
    assert shares["exact"].iloc[0] == (first["views"] == 1).mean()


def test_a_visit_exactly_one_gap_later_begins_a_session() -> None:
    at = pd.to_datetime(["2025-03-04T10:00Z", "2025-03-04T10:30Z", "2025-03-04T10:59:59.999Z"], format="ISO8601")
    rows = pd.DataFrame({"visitor": "v", "at": at, "page": "/", "duration_ms": 1})
    assert exact.sessions(rows, gap=timedelta(minutes=30))["views"].tolist() == [1, 2]


# Records and fates -------------------------------------------------------------------------------------------------------


def test_records_are_told_from_garbage(topic: pd.DataFrame) -> None:
    good, bad = parse_visits(topic)
    assert len(good) + len(bad) == len(topic)
    assert sum(value in GARBAGE for value in bad["value"]) == len(GARBAGE)
    assert len(bad) > len(GARBAGE), "and damaged records"
    assert good[VISIT].drop(columns="referrer").notna().all().all()


@pytest.mark.parametrize("wrong", [-1, 2**31, 2**40])
def test_a_duration_that_cannot_be_makes_no_visit(topic: pd.DataFrame, wrong: int) -> None:
    good = parse_visits(topic)[0].index[0]
    record = json.loads(topic.loc[good, "value"])
    one = topic.loc[[good]].copy()
    one["value"] = [json.dumps({**record, "duration_ms": wrong}).encode()]
    found, bad = parse_visits(one)
    assert (len(found), bad.index.tolist()) == (0, [good])


@pytest.mark.parametrize("seed", range(20))
def test_fates_are_those_of_the_engine(seed: int) -> None:
    """Two who share no code: the proof in pandas, and the engine's kernel."""
    random = np.random.default_rng(seed)
    rows, batches = 300, 8
    ids = random.integers(0, 120, rows)
    times = random.integers(0, 3_000, 120)[ids]  # of an id always the same
    batch = np.sort(random.integers(0, batches, rows))
    watermarks = np.sort(random.integers(0, 2_500, batches))
    watermarks[0] = 0
    horizon = timedelta(seconds=int(random.integers(0, 600)))
    frame = pd.DataFrame(
        {
            "visit_id": ids,
            "at": pd.to_datetime(times, unit="s", utc=True),
            "partition": ids % 2,
            "offset": np.arange(rows),
            "batch": batch,
        }
    )
    ours = fates(frame, pd.Series(pd.to_datetime(watermarks[batch], unit="s", utc=True)), horizon=horizon)

    schema = pa.schema([("visit_id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("offset", pa.int64())])
    kernel = Dedup(schema, ("visit_id",), "at", horizon, "arrived", ("offset",))
    state, theirs = empty_state(kernel), {}
    for number in range(batches):
        part = pa.Table.from_pandas(frame[frame["batch"] == number], preserve_index=False).select(schema.names).cast(schema)
        watermark = int(watermarks[number]) * 1_000_000 if number else NEVER_US
        step = kernel.step(state, part, Moment(watermark, 0))
        state = step.state
        theirs.update({offset: tag for tag, out in step.out.items() for offset in out["offset"].to_pylist()})
    names = {"unique": "accepted", "duplicate": "duplicate", "late": "late"}
    assert ours.tolist() == [names[theirs[offset]] for offset in range(rows)]


# Claims ------------------------------------------------------------------------------------------------------------------


def answer(lower: float, upper: float, confidence: float = ALWAYS, rows: int = 10) -> Answer:
    frame = pd.DataFrame({"page": [f"/{at}" for at in range(rows)], "estimate": 5.0, "lower": lower, "upper": upper})
    return Answer("views by page", ["page"], frame, confidence)


def exact_counts(rows: int = 10, value: float = 5) -> pd.DataFrame:
    return pd.DataFrame({"page": pd.Categorical([f"/{at}" for at in range(rows)]), "exact": value})


def test_a_claim_holds_within_its_bounds_both_included() -> None:
    for lower, upper in [(5, 5), (4, 5), (5, 9)]:
        claim = hold(answer(lower, upper), exact_counts())
        assert (claim.rows, claim.outside, claim.mismatches) == (10, 0, ())
        assert claim.worst_error == 0


def test_what_must_always_hold_fails_at_the_first_row() -> None:
    exact_ones = exact_counts()
    exact_ones.loc[3, "exact"] = 8
    claim = hold(answer(4, 6), exact_ones)
    assert claim.outside == 1
    assert "expected at most 0 of 10 outside" in claim.mismatches[0]
    assert "page /3" in claim.mismatches[1]
    assert claim.worst_error == pytest.approx(3 / 8)
    assert hold(answer(4, 6, 0.95), exact_ones).mismatches == ()


def test_with_a_confidence_too_many_rows_fail() -> None:
    exact_ones = exact_counts(1_000)
    for wrong, ok in [(80, True), (200, False)]:
        exact_ones["exact"] = [9 if at < wrong else 5 for at in range(1_000)]
        assert (not hold(answer(4, 6, 0.95, 1_000), exact_ones).mismatches) == ok


def test_groups_that_share_their_luck_may_all_be_outside_but_not_of_the_widest_bounds() -> None:
    exact_ones = exact_counts(value=7)
    shared = answer(4, 6, 0.95)
    frame = shared.frame.assign(least=1.0, most=9.0)
    claim = hold(replace(shared, frame=frame), exact_ones)
    assert (claim.outside, claim.allowed, claim.mismatches) == (10, 10, ())
    frame.loc[2, "most"] = 6.5
    assert [text for text in hold(replace(shared, frame=frame), exact_ones).mismatches if "page /2" in text]
    assert 12 * (1 - shared_confidence(12)) == pytest.approx(1e-6)


def test_a_group_that_one_side_lacks_is_a_mismatch() -> None:
    assert any("/9): expected an answer, got none" in text for text in hold(answer(0, 9, rows=9), exact_counts()).mismatches)
    assert any("/9): expected an exact answer, got none" in text for text in hold(answer(0, 9), exact_counts(9)).mismatches)
    assert hold(answer(0, 9), exact_counts(3), subset=True).mismatches == ()


@pytest.mark.parametrize(("rows", "risk"), [(1, 0.05), (24, 0.05), (1_000, 0.02)])
def test_what_is_allowed_is_the_binomial_bound(rows: int, risk: float) -> None:
    def more_than(most: int) -> float:
        return sum(comb(rows, k) * risk**k * (1 - risk) ** (rows - k) for k in range(most + 1, rows + 1))

    most = allowed(rows, risk)
    assert more_than(most) <= 1e-6 < more_than(most - 1)
    assert allowed(0, risk) == 0


# The proof ---------------------------------------------------------------------------------------------------------------


def write(out: Path, name: str, frame: pd.DataFrame) -> None:
    write_deltalake(str(out / "tables" / name), pa.Table.from_pandas(frame.reset_index(drop=True), preserve_index=False))


@pytest.fixture
def world(topic: pd.DataFrame, tmp_path: Path) -> Path:
    """What a right job makes of the topic, one batch after the other."""
    good, _ = parse_visits(topic)
    ends, watermarks, newest, seen = [], [], 0, dict[int, int]()
    kinds: dict[int, str] = {}
    rows = {row.Index: row for row in good.itertuples()}
    ledger = []
    per_partition = {p: topic.index[topic["partition"] == p] for p in (0, 1)}
    size = max(map(len, per_partition.values()))
    for number, start in enumerate(range(0, size, BATCH_ROWS)):
        watermark = max(0, newest - 7_200_000)
        part = [at for places in per_partition.values() for at in places[start : start + BATCH_ROWS]]
        for at in part:
            if at not in rows:
                kinds[at] = "dead"
                continue
            row = rows[at]
            time = int(row.at.timestamp() * 1000)
            behind = time < watermark
            if row.visit_id in seen and time + 3_600_000 >= watermark:
                kinds[at] = "duplicate"
            elif behind:
                kinds[at] = "late"
            else:
                kinds[at] = "accepted"
                seen[row.visit_id] = number
        newest = max([newest, *(int(rows[at].at.timestamp() * 1000) for at in part if at in rows)])
        counts = {kind: sum(kinds[at] == kind for at in part) for kind in ("accepted", "duplicate", "late", "dead")}
        ledger.append({"pipeline": "web_analytics/visits", "batch_id": number, "read": len(part), **counts, "is_balanced": True})
        ends.append({str(p): min(start + BATCH_ROWS, len(places)) for p, places in per_partition.items()})
        watermarks.append(watermark)
    kind = pd.Series(kinds).sort_index()
    for name, wanted in [("visits", "accepted"), ("repeated_visits", "duplicate"), ("late_visits", "late")]:
        some = good[kind[good.index] == wanted]
        source = [{"topic": "visits", "partition": p, "offset": o} for p, o in zip(some["partition"], some["offset"], strict=True)]
        write(tmp_path, name, some[VISIT].assign(source=source))
    write(tmp_path, "dead_letters", topic.loc[kind.index[kind == "dead"], ["partition", "offset", "value"]])
    write(tmp_path, "ledger", pd.DataFrame(ledger).assign(replay_of=pd.Series([None] * len(ledger), dtype="string")))
    write(tmp_path, "sessions", exact.sessions(good[kind[good.index] == "accepted"], gap=timedelta(minutes=30)))
    versions = page_changes(TRAFFIC.day, seed=TRAFFIC.seed).sort_values(["page", "changed_at"])
    until = versions.groupby("page")["changed_at"].shift(-1)
    write(tmp_path, "pages", versions.assign(valid_from=versions["changed_at"], valid_to=until, is_current=until.isna()))
    folder = tmp_path / "checkpoints" / "visits" / "spark" / "offsets"
    folder.mkdir(parents=True)
    for number, (end, mark) in enumerate(zip(ends, watermarks, strict=True)):
        source = {"topics": {"visits": {"id": "x", "offsets": end}}}
        (folder / str(number)).write_text("\n".join(["v1", json.dumps({"batchWatermarkMs": mark}), json.dumps(source)]))
    assert set(kind) == {"accepted", "duplicate", "late", "dead"}, "or not all is tested"
    return tmp_path


def changes() -> pd.DataFrame:
    keys, values = change_records(page_changes(TRAFFIC.day, seed=TRAFFIC.seed))
    return pd.DataFrame({"partition": 0, "offset": range(len(keys)), "timestamp": PUBLISHED, "key": keys, "value": values})


def facts(out: Path) -> pd.DataFrame:
    return exact.with_times(DeltaTable(str(out / "tables" / "visits")).to_pandas())


def right_answers(out: Path) -> list[Answer]:
    rows = facts(out)
    began = exact.sessions(rows, gap=timedelta(minutes=30))
    began["hour"] = began["window_start"].dt.floor("h")
    every = {
        "views by minute, page": exact.counts(rows, ["minute", "page"]),
        "visitors by hour": exact.distinct(rows, ["hour"]),
        "visitors by day": exact.distinct(rows, ["day"]),
        "views of a listed page by minute, page": exact.counts(rows, ["minute", "page"]).head(20),
        "weight of a listed page": exact.decayed(rows, [rows["minute"].iloc[-1]], half_life=timedelta(minutes=10)).head(3),
        "time spent by hour, q": exact.quantiles(rows, ["hour"], "duration_ms", [0.5]),
        "visitors in common by section": exact.overlap(rows, "section", [("news", "sport")]),
        "share of visitors in common by section": exact.overlap(rows, "section", [("news", "sport")], as_share=True),
        "sessions by hour": exact.counts(began, ["hour"]),
        "sessions of one view by hour": exact.bounces(began, ["hour"]),
        "views of a session by hour, q": exact.quantiles(began, ["hour"], "views", [0.9]),
        "views of a sampled session": began[["visitor", "window_start"]].assign(exact=began["views"]).head(9),
    }
    found = []
    for name, frame in every.items():
        numbers = frame["exact"].astype(float)
        keys = [column for column in frame if column != "exact"]
        found.append(Answer(name, keys, frame[keys].assign(estimate=numbers, lower=numbers, upper=numbers)))
    return found


def proven(topic: pd.DataFrame, out: Path, answers: list[Answer] | None = None) -> Result:
    return prove(topic, changes(), out, "visits", right_answers(out) if answers is None else answers, promise=Promise())


def test_the_proof_passes_on_what_is_right(topic: pd.DataFrame, world: Path) -> None:
    result = proven(topic, world)
    assert result.mismatches == []
    assert result.ok
    assert result.records == len(topic) == sum(result.fates.values())
    screen = io.StringIO()
    summarise(result, console=Console(file=screen, width=140))
    assert f"{len(topic):,} broker rows = " in screen.getvalue()
    assert "claims hold" in screen.getvalue()


def overwrite(out: Path, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = DeltaTable(str(out / "tables" / name))
    arrow = pa.Table.from_pandas(change(table.to_pandas()), preserve_index=False)
    write_deltalake(table, arrow, mode="overwrite", schema_mode="overwrite")


@pytest.mark.parametrize(
    ("table", "change", "text"),
    [
        ("visits", lambda rows: rows.iloc[1:], "expected a row, got none"),
        ("visits", lambda rows: pd.concat([rows, rows.iloc[:1]]), "expected one row, got another"),
        ("visits", lambda rows: rows.assign(page=["/x", *rows["page"][1:]]), "page: expected /"),
        ("late_visits", lambda rows: rows.iloc[1:], "late_visits"),
        ("repeated_visits", lambda rows: rows.iloc[1:], "repeated_visits"),
        ("dead_letters", lambda rows: rows.iloc[1:], "dead_letters"),
        ("ledger", lambda rows: rows.assign(late=rows["late"] + 1), "late: expected"),
        ("ledger", lambda rows: rows.assign(is_balanced=False), "expected a balance"),
        ("sessions", lambda rows: rows.assign(views=rows["views"] + 1), "views: expected"),
        ("pages", lambda rows: rows.assign(section="news"), "expected section"),
        ("pages", lambda rows: rows.assign(valid_to=None), "valid_to: expected"),
    ],
)
def test_damage_is_found(topic: pd.DataFrame, world: Path, table: str, change: Callable[[pd.DataFrame], pd.DataFrame], text: str) -> None:
    overwrite(world, table, change)
    result = proven(topic, world, [])
    assert not result.ok
    assert any(text in found for found in result.mismatches)
    screen = io.StringIO()
    summarise(result, console=Console(file=screen, width=140))
    assert "claims hold" not in screen.getvalue()


def test_a_record_that_no_batch_read_is_found(topic: pd.DataFrame, world: Path) -> None:
    more = pd.concat([topic, topic.tail(1).assign(offset=topic["offset"].max() + 1)], ignore_index=True)
    assert any("expected every record in a batch, got 1 in none" in text for text in proven(more, world, []).mismatches)


def test_a_wrong_answer_is_found(topic: pd.DataFrame, world: Path) -> None:
    for number, right in enumerate(right_answers(world)):
        frame = right.frame.assign(lower=right.frame["lower"] + 1, upper=right.frame["upper"] + 1)
        result = proven(topic, world, [replace(right, frame=frame)])
        assert not result.ok, (number, right.name)


def test_an_unknown_question_is_refused(topic: pd.DataFrame, world: Path) -> None:
    with pytest.raises(KeyError, match="colours"):
        proven(topic, world, [Answer("colours", [], pd.DataFrame())])


def test_changes_that_are_none_are_left_out() -> None:
    some = changes()
    assert len(parse_changes(some)) == len(some)
    some.loc[0, "value"] = b"?"
    assert len(parse_changes(some)) == len(some) - 1
