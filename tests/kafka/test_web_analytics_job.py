"""The web analytics job on a few thousand visits: resends, late ones and garbage between them, and every answer checked."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.web_analytics import tables
from jobs.web_analytics.answers import answers
from jobs.web_analytics.check import Result, check, summarise
from jobs.web_analytics.main import close_sessions, start_pages, start_sessions, start_visits
from jobs.web_analytics.network import Network
from jobs.web_analytics.publish import change_records, publish, publish_visits
from jobs.web_analytics.report import report
from jobs.web_analytics.settings import Settings
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, visits
from spark_ext.broker import Broker
from spark_ext.epochs import Ledger
from spark_ext.epochs.recount import check as recount
from spark_ext.queries import run

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

TRAFFIC = Traffic(visits=4_000)
NETWORK = Network(resent=0.03, very_slow=0.03, slow=0.05, damaged=0.002)
GARBAGE = [b"", b"no json", b'{"visit_id":1}', b'{"visit_id":1,"visitor":"v","session":"s","page":"/","section":"home","country":"DE",'
           b'"agent":"x","at":"2025-03-04T10:00:00Z","duration_ms":-1}']  # fmt: skip


@pytest.fixture(scope="module")
def settings(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    broker.create_topic("few_visits", partitions=2)
    broker.create_topic("few_pages")
    publish(broker.bootstrap_servers, "few_pages", change_records(page_changes(TRAFFIC.day, seed=TRAFFIC.seed)))
    publish(broker.bootstrap_servers, "few_visits", ([b"k"] * len(GARBAGE), GARBAGE))
    publish_visits(broker.bootstrap_servers, "few_visits", NETWORK.carry(visits(TRAFFIC)))
    return Settings.load(
        "local",
        out=str(tmp_path_factory.mktemp("web")),
        topic="few_visits",
        pages_topic="few_pages",
        bootstrap_servers=broker.bootstrap_servers,
        max_offsets_per_trigger=900,
        max_commits_per_trigger=2,
    )


@pytest.fixture(scope="module")
def proof(spark: SparkSession, settings: Settings) -> Result:
    tables.create_tables(spark, settings)
    run([start_pages(spark, settings, None), start_visits(spark, settings, None)])
    run([start_sessions(spark, settings, None)])
    close_sessions(spark, settings)
    run([start_sessions(spark, settings, None)])
    out = Path(settings.out)
    return check(out, settings.bootstrap_servers, "few_visits", "few_pages", answers(out))


def test_every_record_and_every_answer_is_as_it_must_be(proof: Result) -> None:
    assert proof.mismatches == []
    assert proof.ok
    assert min(proof.fates.values()) > 0, "or not all was tested"
    assert len(proof.claims) >= 25
    assert all(claim.rows for claim in proof.claims)


def test_the_report_shows_sketch_exact_and_bounds_side_by_side(proof: Result, settings: Settings) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=100)
    report(Path(settings.out), proof, console=console)
    summarise(proof, console=console)
    said = screen.getvalue()
    titles = ["Distinct visitors by hour", "by section", "in common", "Hot pages of the day", "Most popular", "quantiles"]
    for title in [*titles, "from a country", "Sessions of one view", "sampled sessions", "The ledger"]:
        assert title in said
    heads = [line.split() for line in said.splitlines() if "sketch" in line and "exact" in line]
    assert len(heads) == 10
    assert all(head[-7:] == ["sketch", "exact", "at", "least", "at", "most", "holds"] for head in heads)
    assert f"all {len(proof.steps)} comparisons equal, all {len(proof.claims)} claims hold" in said


def test_garbage_has_its_reasons(proof: Result, settings: Settings) -> None:
    reasons = Counter(DeltaTable(settings.table("dead_letters")).to_pandas()["reason"])
    assert proof.fates["dead"] == sum(reasons.values())
    assert {"empty", "malformed", "required_field", "negative_duration"} <= set(reasons)


def test_late_visits_change_minutes_that_were_written_before(proof: Result, settings: Settings) -> None:
    found = DeltaTable(settings.table("minutes"))
    first = next(version for version in range(1, found.version() + 1) if DeltaTable(found.table_uri, version=version).to_pyarrow_table())
    before = DeltaTable(found.table_uri, version=first).to_pandas().set_index("window_start")["views"]
    after = found.to_pandas().set_index("window_start")["views"]
    assert after.index.is_unique
    assert (after.reindex(before.index) > before).sum() > 10
    assert after.sum() == proof.fates["accepted"]


def test_the_ledger_counts_the_same_again(proof: Result, settings: Settings) -> None:
    for name in ("pages", "visits", "sessions"):
        found = recount(Ledger(settings.table("ledger")), f"web_analytics/{name}", settings.bootstrap_servers)
        assert [one for one in found if one.is_fault] == []
    assert len(DeltaTable(settings.table("late_for_sessions")).to_pyarrow_table()) == 0


def test_running_again_changes_nothing(spark: SparkSession, proof: Result, settings: Settings) -> None:
    names = ("visits", "minute_pages", "minutes", "country_hours", "sessions", "session_hours", "pages")
    before = {name: DeltaTable(settings.table(name)).version() for name in names}
    run([start_pages(spark, settings, None), start_visits(spark, settings, None), start_sessions(spark, settings, None)])
    assert {name: DeltaTable(settings.table(name)).version() for name in names} == before
    assert proof.ok
