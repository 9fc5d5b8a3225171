"""Lookups in a database over JDBC: Spark's own reader, on behalf of the driver, with the keys pushed down.

Keys are literals of Spark's expressions, which its dialect of the database writes as SQL; no text for the database is put together here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
from py4j.java_gateway import JavaObject, is_instance_of
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.remote.answers import Answer
from spark_ext.joins.remote.failure import AskError, Failure
from spark_ext.joins.remote.limits import Limits
from spark_ext.joins.remote.remembered import Key
from spark_ext.kafka.references import REFERENCE, is_secret, resolve
from spark_ext.names import column, quoted
from spark_ext.state.keys import codes, whole

__all__ = ["JdbcClient", "JdbcLookup", "any_of"]

OURS: Final = {"url", "dbtable", "query", "driver", "querytimeout", "pushdownpredicate", "customschema", "preparequery"}
LOGIN: Final = re.compile(r"//[^/?;]*@|/[^/@]+@|(passw|pwd|secret|token)[^=;&?]*=", re.IGNORECASE)
# In these a backslash in a text is a character like others. Elsewhere it may end the text early, which Spark does not provide for.
PLAIN_BACKSLASH: Final = {"db2", "derby", "h2", "hsqldb", "oracle", "postgresql", "sqlite", "sqlserver"}
TRANSIENT: Final = ("java.sql.SQLTransientException", "java.sql.SQLRecoverableException", "java.sql.SQLNonTransientConnectionException")
TRANSIENT_STATES: Final = ("08", "40", "53", "57")  # connection, rolled back, short of resources, stopped by an operator
CONNECTION: Final = "FAILED_JDBC.CONNECTION"
SHOWN: Final = 200
MOST_PAIRS: Final = 100  # a condition for each key makes statements that databases refuse; Derby does with 500
LEAST: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class JdbcLookup:
    """A table of a database, looked up by the driver with Spark's JDBC reader: for the frames of a batch.

    Guarantee: only rows whose key columns are equal to a key, as Spark compares them, are joined, whatever the database takes for
    equal (case, blanks at the end).

    Attributes
    ----------
    url : str
        ``jdbc:...``, without user and password.
    table : str
        Name of a table, or a query in parentheses with an alias. Written by you, not by users: it goes to the database as it is.
    options : mapping of str to str
        Further options of Spark's reader or of the driver, such as ``user`` and ``password``; what holds a secret is a reference:
        ``${env:NAME}`` or ``${file:/path}``, resolved by the driver.
    driver : str, optional
        Class of the driver, from a jar that the session has (``spark.jars``); default is the one that takes the address.
    most_keys : int >= 1
        Distinct keys of a batch above which it is refused: they are held by the driver.
    limits : Limits
        How long, how often and how much is asked; of several key columns at most 100 keys at once. ``timeout`` is the database's for a
        query, rounded up to whole seconds; connecting is limited by an option of the driver only.

    Raises
    ------
    SettingsError
        The address or an option cannot be used.

    Not supported: keys other than text, booleans, integers, decimals and dates; text with a backslash as a key where the database is
    not known to take it for a plain character.
    """

    url: str
    table: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    driver: str | None = None
    most_keys: int = 100_000
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(self.options))
        if not self.url.startswith("jdbc:") or LOGIN.search(self.url):
            got = "another text" if not self.url.startswith("jdbc:") else "one with user or password"  # not shown
            raise SettingsError(
                "use", "address", "url", expected="jdbc:... without secrets", got=got, todo="put them into options, by reference"
            )
        if self.most_keys < 1:
            raise SettingsError(
                "use", "setting of a lookup", "most_keys", expected="1 or more", got=repr(self.most_keys), todo="correct it"
            )
        for name, value in self.options.items():
            if name.lower() in OURS:
                raise SettingsError("use", "option", name, expected="another option", got="one that is set here", todo="leave it out")
            if is_secret(name.lower()) and not REFERENCE.search(value):
                expected, got = "a reference such as ${env:DB_PASSWORD} or ${file:/run/secrets/db}", "the secret itself"
                why, todo = "settings are shown in plans and errors", "put the secret into a variable or a file that the driver can read"
                raise SettingsError("use", "option", name, expected=expected, got=got, why=why, todo=todo)

    @property
    def name(self) -> str:
        """The table and its address without parameters, as errors show them."""
        return f"{self.table} in {re.split('[?;]', self.url)[0]}"

    def check(self, keys: pa.Schema, returns: pa.Schema) -> None:
        """Refuse keys that this database cannot be asked for.

        Raises
        ------
        SchemaError
            A key is of another type than those named above.
        """
        tests = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal, pa.types.is_date32)
        for one in keys:
            if not any(test(one.type) for test in tests):
                expected, todo = "text, a boolean, an integer, a decimal or a date", "look up by another column"
                raise SchemaError("look up by", "key", one.name, expected=expected, got=str(one.type), todo=todo)

    def connect(self, session: SparkSession, keys: pa.Schema, returns: pa.Schema) -> JdbcClient:
        """Return the client of this driver; nothing is asked yet."""
        return JdbcClient(self, session, keys, returns)


class JdbcClient:
    """Asks a database.

    Parameters
    ----------
    source : JdbcLookup
        What to ask.
    session : SparkSession
        Whose reader it is.
    keys, returns : pa.Schema
        Types of key and answer, by the names that the table gives them.
    """

    def __init__(self, source: JdbcLookup, session: SparkSession, keys: pa.Schema, returns: pa.Schema) -> None:
        self._source, self._session, self._keys, self._returns = source, session, keys, returns
        self._frame: DataFrame | None = None  # its schema costs a query
        self._secrets: list[str] = []
        self._is_plain = source.url.split(":")[1] in PLAIN_BACKSLASH

    @property
    def batch_size(self) -> int:
        """Keys that are asked for at once."""
        most = self._source.limits.batch_size
        return most if len(self._keys) == 1 else min(most, MOST_PAIRS)

    def refuses(self, key: Key) -> Failure | None:
        """Return why a key cannot be asked for, if so."""
        if not self._is_plain and any(isinstance(value, str) and "\\" in value for value in key):
            why, todo = "in this database it may end the text early", "leave such rows out, or look them up by another column"
            return Failure("a key without backslash", "one with", todo, why)
        return None

    def ask(self, keys: pa.Table, timeout_s: float) -> Answer:
        """Ask once.

        Raises
        ------
        AskError
            The database does not answer, or with too much.
        SchemaError
            The table has other columns than asked for, or of other types.
        SettingsError
            A secret is not there.
        """
        most = keys.num_rows * self._source.limits.most_matches
        try:
            if self._frame is None:
                self._frame = self._checked(self._read())
            found = self._frame.where(any_of(keys)).limit(most + 1).toArrow()
        except (PySparkException, Py4JError) as error:
            self._frame = None  # the table may have changed
            raise self._unanswered(error) from None  # its text may hold the options
        if found.num_rows > most or found.nbytes > self._source.limits.most_bytes:
            expected = f"at most {most} rows and {self._source.limits.most_bytes} bytes"
            todo = "raise most_matches or most_bytes, or lower batch_size"
            got = f"{found.num_rows} rows and {found.nbytes} bytes"
            raise AskError(Failure(expected, got, todo), is_transient=False)
        return self._owned(keys, found)

    def _owned(self, keys: pa.Table, rows: pa.Table) -> Answer:
        """Return rows of keys that were asked for, by the numbers of these."""
        count, parts = keys.num_rows, len(self._keys)
        numbers = codes(
            [pa.concat_arrays([*keys.column(at).chunks, *rows.column(at).cast(kind).chunks]) for at, kind in enumerate(self._keys.types)]
        )
        owners = numbers[count:]  # keys are distinct and stand first, so their numbers are their places
        is_good = owners < count
        failures: dict[int, Failure] = {}
        returned = []
        for at, one in enumerate(self._returns, start=parts):
            values = whole(rows.column(at).cast(one.type))
            if not one.nullable and values.null_count:
                is_null = values.is_null().to_numpy(zero_copy_only=False) & (owners < count)
                bad = Failure(f"in column {one.name!r} a value", "null", "declare the column as it is, or correct the table")
                failures |= dict.fromkeys(owners[is_null].tolist(), bad)
                is_good &= ~is_null
            returned.append(values)
        answered = pa.Table.from_arrays([part.filter(pa.array(is_good)) for part in returned], schema=self._returns)
        return Answer(answered, owners[is_good].astype(np.int64), failures)

    def _read(self) -> DataFrame:
        source = self._source
        options = resolve(source.options)
        self._secrets = [value for name, value in options.items() if value and value != source.options[name]]
        timeout = {"queryTimeout": str(math.ceil(source.limits.timeout.total_seconds()))}
        driver = {"driver": source.driver} if source.driver else {}
        return self._session.read.format("jdbc").options(url=source.url, dbtable=source.table, **timeout, **driver, **options).load()

    def _checked(self, frame: DataFrame) -> DataFrame:
        types = to_arrow_schema(frame.schema, timezone="UTC")
        names = {name.lower(): name for name in frame.columns}
        for one in (*self._keys, *self._returns):
            name = names.get(one.name.lower())
            got = "no such column" if name is None else str(types.field(name).type)
            if got != str(one.type):
                todo = "declare it as the table has it, or give a query that converts it as the table"
                raise SchemaError(
                    "look up in", "table", self._source.name, expected=f"column {one.name!r} as {one.type}", got=got, todo=todo
                )
        return frame.select(*(column(names[one.name.lower()]).alias(one.name) for one in (*self._keys, *self._returns)))

    def _unanswered(self, error: PySparkException | Py4JError) -> AskError:
        origin = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
        text, state, transient = str(error), "", CONNECTION in str(error)
        for cause in _causes(origin):
            if is_instance_of(self._session.sparkContext._gateway, cause, "java.sql.SQLException"):  # noqa: SLF001 (the only way to ask)
                text, state = str(cause.getMessage()), str(cause.getSQLState() or "")
                gateway = self._session.sparkContext._gateway  # noqa: SLF001 (the only way to ask)
                transient |= state.startswith(TRANSIENT_STATES) or any(is_instance_of(gateway, cause, kind) for kind in TRANSIENT)
                break
        for secret in self._secrets:
            text = text.replace(secret, "...")
        got = (f"SQLSTATE {state}: " if state else "") + text.partition("\n")[0][:SHOWN]
        todo = "see that the database runs, that the table is there, and that spark.jars has its driver"
        return AskError(Failure("rows of the database", got, todo), is_transient=transient)


def any_of(keys: pa.Table) -> Column:
    """Return the condition that a row has one of the keys, in a form that Spark pushes down to the database.

    It is parsed by Spark, all at once (literals that are made one by one cost ten times as much), and made of numbers and hexadecimal
    digits only: whatever a text is, it cannot be anything but a literal.

    Parameters
    ----------
    keys : pa.Table (k rows)
        Without nulls; one or more. Columns have the names of the table's.
    """
    names = [quoted(name) for name in keys.column_names]
    columns = [[_literal(value) for value in part.to_pylist()] for part in keys.columns]
    if len(names) == 1:
        return F.expr(f"{names[0]} in ({', '.join(columns[0])})")
    each = (" and ".join(f"{name} = {value}" for name, value in zip(names, key, strict=True)) for key in zip(*columns, strict=True))
    return F.expr(" or ".join(f"({key})" for key in each))


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f"cast(X'{value.encode().hex()}' as string)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}L" if value > LEAST else "(-9223372036854775807L - 1L)"  # a sign is not part of a number there
    if isinstance(value, Decimal):
        return f"{value:f}BD"
    return f"date'{value.isoformat()}'"


def _causes(origin: JavaObject | None) -> Iterator[JavaObject]:
    for _ in range(20):  # enough, also for a chain that bites its tail
        if origin is None:
            return
        yield origin
        origin = origin.getCause()
