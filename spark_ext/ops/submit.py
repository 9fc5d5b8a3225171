"""``millrace submit``: Spark's own spark-submit, with Millrace's settings and jars."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.find_spark_home import _find_spark_home

from spark_ext.jars import cache_dir
from spark_ext.java import find_java
from spark_ext.session import defaults, is_local
from spark_ext.spark_conf import split_settings, user_defaults, write_properties
from spark_ext.versions import check_versions

__all__ = ["properties_file", "submit_command"]


def submit_command(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line of spark-submit, and the environment to run it in.

    Guarantee: what `arguments` or the user's spark-defaults.conf set wins over Millrace's settings, and none of
    these appears on the command line.

    Parameters
    ----------
    arguments : sequence of str
        What spark-submit would get: its options, the program, the program's arguments.
    """
    check_versions()
    program = next((at for at, word in enumerate(arguments) if word.endswith((".py", ".jar"))), len(arguments))
    given, options = split_settings(list(arguments[:program]))
    master = given.get("spark.master", user_defaults().get("spark.master"))
    environment = dict(os.environ)
    home = environment.setdefault("SPARK_HOME", _find_spark_home())
    environment.setdefault("JAVA_HOME", str(find_java(cache=cache_dir()).home))
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    if is_local(master):
        environment.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    file = properties_file(given, local=is_local(master))
    return [str(Path(home, "bin", "spark-submit")), "--properties-file", str(file), *options, *arguments[program:]], environment


def properties_file(given: dict[str, str], *, local: bool) -> Path:
    """Write all settings of a job into a private file of the cache and return its path."""
    settings = {**defaults(local=local), **user_defaults(), **given}
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12]
    file = cache_dir() / "submit" / f"{digest}.properties"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_properties(settings, file)
    return file
