"""End of input, said from outside: a small folder that is part of a query's plan from its first day.

A request is a file, and Spark's file source is what reads it, so that a request is part of a batch's plan as any row is:
it takes effect once, and a replay of its batch sees it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute, file_system, write_whole

__all__ = ["UNTIL", "Control"]

UNTIL: Final = "until"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# Without it Spark leaves out a file that is dated a week before one that it has read: a folder restored, clocks apart.
OPTIONS: Final[Mapping[str, str]] = {"pathGlobFilter": "until-*.json", "maxFileAge": "36500d", "mode": "FAILFAST"}


@dataclass(frozen=True, slots=True)
class Control:
    """Requests to close everything up to an event time.

    Guarantee: a request that `close` has returned from is read by the next batch of each query that has `rows` in its plan, once
    per checkpoint; a restart does not repeat it, a replay of its batch does. Half a file is never read.

    The watermark of the query stays as it is: an operator takes a request as the least that event time has reached, from that
    batch on. Windows that end by then close with what they have; rows that still come for them are late; later windows are not
    concerned, so the query can go on, or be started again, when there is more input after all.

    Parameters
    ----------
    path : str
        A folder of its own, local or a URI that pyarrow and Spark can open; made by the first use. One folder may serve several
        queries, but not chained ones: the second would close before it has read what the first gave out. On an object store a
        request counts from when its upload ends.
    """

    path: str

    def close(self, until: datetime) -> None:
        """Ask for everything to be closed whose event time ends at `until` or before; asking again changes nothing.

        Parameters
        ----------
        until : datetime
            With a time zone, in 1970 or later.

        Raises
        ------
        SettingsError
            `until` has no time zone, or is before 1970.
        """
        if until.tzinfo is None or until < EPOCH:
            raise SettingsError(
                "close", "windows until", str(until), expected="a time with a zone, in 1970 or later", got=repr(until),
                todo="give it as datetime(..., tzinfo=UTC)",
            )  # fmt: skip
        until_us = (until - EPOCH) // MICROSECOND
        files, root = self._made()
        place = f"{root}/until-{until_us:018d}.json"
        if files.get_file_info(place).type != fs.FileType.NotFound:
            return
        content = json.dumps({"until_us": until_us}).encode() + b"\n"
        write_whole(files, place, content)  # Spark sees no name that starts with a dot

    def rows(self, spark: SparkSession) -> DataFrame:
        """Return the requests as a stream.

        Returns
        -------
        DataFrame
            ``until``, timestamp, not null in any row: one row per request.
        """
        self._made()
        return spark.readStream.options(**OPTIONS).schema("until_us bigint").json(absolute(self.path)).select(_until())

    def _made(self) -> tuple[fs.FileSystem, str]:
        files, root = file_system(absolute(self.path))
        files.create_dir(root, recursive=True)
        return files, root


def _until() -> Column:
    return F.timestamp_micros("until_us").alias(UNTIL)
