"""Peer: Flink SQL, all in the JVM; PyFlink only starts it: see ``flink_job.py``. It lives in an environment of its own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from benchmarks.ingest import peers
from benchmarks.ingest.job import Job

__all__ = ["command"]

PACKAGES: Final = ("apache-flink==2.2.1",)
JARS: Final = ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",)


def command(job: Job) -> Sequence[str]:
    """Return the command line of one run; installs, fetches and compiles the first time."""
    python = peers.installed(*PACKAGES)
    (library,) = python.parent.parent.glob("lib/*/site-packages/pyflink/lib")
    classes = peers.compiled("CampaignOf.java", sorted(library.glob("*.jar")))
    connector = [str(jar) for jar in peers.fetched(*JARS)]
    script = str(files("benchmarks.ingest") / "flink_job.py")
    return [str(python), script, str(job.save()), str(job.ads_file), str(job.answer_file), str(classes), *connector]
