"""Peer: Kafka Streams, in Java: see ``java/YahooStreams.java``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from benchmarks.ingest import peers
from benchmarks.ingest.job import Job
from spark_ext.jars import cache_dir
from spark_ext.java import find_java

__all__ = ["command"]

JARS: Final = (
    "org.apache.kafka:kafka-streams:4.3.1",
    "com.fasterxml.jackson.core:jackson-databind:2.21.2",
    "org.slf4j:slf4j-nop:1.7.36",  # of the generation of slf4j that Kafka's clients use
)


def command(job: Job) -> Sequence[str]:
    """Return the command line of one run; fetches and compiles the first time."""
    jars = peers.fetched(*JARS)
    class_path = [*jars, peers.compiled("YahooStreams.java", jars)]
    java = find_java(cache=cache_dir()).executable
    arguments = [job.servers, job.topic, str(job.views), str(job.ads_file), str(job.answer_file), job.folder]
    return [str(java), "-Xmx2g", "-cp", os.pathsep.join(map(str, class_path)), "YahooStreams", *arguments]
