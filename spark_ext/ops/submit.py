"""``millrace submit``: Spark's own spark-submit, with Millrace's settings and jars."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pyspark.find_spark_home import _find_spark_home

from spark_ext.jars import cache_dir, cache_folder
from spark_ext.java import find_java
from spark_ext.ops.ship import ShipError, ship_settings
from spark_ext.session import defaults, is_local
from spark_ext.spark_conf import merge, split_settings, user_defaults, write_properties
from spark_ext.versions import check_versions

__all__ = ["properties_file", "submit_command"]

SHIP: Final = "--ship"
# All other options take a value.
SWITCHES: Final = {SHIP, "--verbose", "-v", "--supervise", "--help", "-h", "--version", "--load-spark-defaults", "--usage-error"}


def submit_command(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line of spark-submit, and the environment to run it in.

    Guarantee: what `arguments` or the user's spark-defaults.conf set wins over Millrace's settings (lists of jars,
    extensions and Java options are joined), and none of these appears on the command line.

    Parameters
    ----------
    arguments : sequence of str
        What spark-submit would get: its options, the program, the program's arguments. Before the program also
        ``--ship``: pack this environment's packages for workers that have none (see `spark_ext.ops.ship`).

    Raises
    ------
    SettingsError
        An option without its value.
    ShipError
        ``--ship`` without the master of a cluster, or an environment that cannot be packed.
    """
    check_versions()
    program = _program_at(arguments)
    given, options = split_settings([word for word in arguments[:program] if word != SHIP])
    master = given.get("spark.master", user_defaults().get("spark.master"))
    environment = dict(os.environ)
    home = environment.setdefault("SPARK_HOME", _find_spark_home())
    if sys.stderr.isatty():
        # spark-submit puts a pipe between the program and the terminal; rich then needs to be told what is behind it.
        environment |= {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "COLUMNS": str(shutil.get_terminal_size().columns)}
    environment.setdefault("JAVA_HOME", str(find_java(cache=cache_dir()).home))
    if SHIP in arguments[:program]:
        if is_local(master):
            raise ShipError(
                "ship",
                "environment",
                sys.prefix,
                expected="the master of a cluster",
                got=repr(master or "local[*]"),
                why="with a local master the job runs in this environment",
                todo=f"leave {SHIP} out, or name the cluster with --master",
            )
        given |= ship_settings({**user_defaults(), **given})
    environment.setdefault("PYSPARK_PYTHON", sys.executable)
    if is_local(master):
        environment.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    file = properties_file(given)
    return [str(Path(home, "bin", "spark-submit")), "--properties-file", str(file), *options, *arguments[program:]], environment


def _program_at(arguments: Sequence[str]) -> int:
    """Return where the program stands among spark-submit's arguments: the first that is no option and no option's value."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        at += 1 if arguments[at] in SWITCHES or "=" in arguments[at] else 2
    return min(at, len(arguments))


def properties_file(given: Mapping[str, str]) -> Path:
    """Write all settings of a job into a private file of the cache and return its path."""
    user = {**user_defaults(), **given}
    settings = merge(defaults(local=is_local(user.get("spark.master"))), user)
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:12]
    file = cache_folder("submit", mode=0o700) / f"{digest}.properties"
    write_properties(settings, file)
    return file
