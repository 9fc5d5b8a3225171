"""The JSON answer of a service as rows, each with the key that it is for; what does not fit is told by key and field.

Parsed by `json`: nothing in an answer is evaluated, unpickled or fetched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.joins.remote.failure import AskError, Failure, shown
from spark_ext.joins.remote.remembered import Key
from spark_ext.joins.remote.values import Converter, WrongValueError, converter

__all__ = ["Answer", "Reader", "named"]

CORRECT: Final = "correct the service, or what is declared of it"


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows for keys that were asked for at once.

    Attributes
    ----------
    rows : pa.Table (m rows)
        Columns of the answer, in the order in which they came; no rows if there are no columns.
    owners : ndarray (m,) int64
        The number of the key that each row is for.
    failures : mapping of int to Failure
        Keys whose answer cannot be used, by number.
    """

    rows: pa.Table
    owners: NDArray[np.int64]
    failures: Mapping[int, Failure] = field(default_factory=dict)


class Reader:
    """Reads answers.

    Parameters
    ----------
    keys, returns : pa.Schema
        Types of key and answer, by the names that the service gives them.
    """

    def __init__(self, keys: pa.Schema, returns: pa.Schema) -> None:
        self._keys: list[tuple[str, Converter]] = [(one.name, converter(one.with_nullable(False))) for one in keys]
        self._returns: list[tuple[str, Converter]] = [(one.name, converter(one)) for one in returns]
        self._names, self._schema = keys.names, returns
        exact = any("decimal" in str(kind) for kind in (*keys.types, *returns.types))
        self._options: dict[str, Any] = {"parse_constant": _refuse_constant, **({"parse_float": Decimal} if exact else {})}

    def read(self, body: bytes, asked: Mapping[Key, int], *, single: bool = False) -> Answer:
        """Return the rows of an answer.

        Parameters
        ----------
        body : bytes
            A JSON array of objects in UTF-8, each with the fields of key and answer; others are ignored.
        asked : mapping of tuple to int
            Keys that were asked for, with their numbers.
        single : bool
            Only one key was asked for, by its address: objects need no key, and one may stand without array.

        Raises
        ------
        AskError
            It is no such array, or has rows for a key that was not asked for.
        """
        records = self._records(body, single=single)
        columns: list[list[Any]] = [[] for _ in self._returns]
        owners: list[int] = []
        failures: dict[int, Failure] = {}
        for record in records:
            if type(record) is not dict:
                raise _unusable("an array of objects", f"an array with {shown(record)}")
            key, owner = self._owner(record, asked, single=single)
            values = []
            for name, convert in self._returns:
                try:
                    values.append(convert(record.get(name)))
                except WrongValueError as wrong:
                    got = shown(record[name]) if name in record else "no such field"
                    failures.setdefault(owner, Failure(f"in field {name!r} of {named(self._names, key)} {wrong}", got, CORRECT))
                    break
            else:
                owners.append(owner)
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
        made = [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        return Answer(pa.Table.from_arrays(made, schema=self._schema), np.array(owners, np.int64), failures)

    def _records(self, body: bytes, *, single: bool) -> list[Any]:
        try:
            found = json.loads(body.decode("utf-8"), **self._options)
        except (ValueError, RecursionError, InvalidOperation) as error:  # the last of an exponent beyond any
            got = f"{len(body)} bytes that are none ({type(error).__name__})"
            # Asked again: a proxy's page or an answer cut short looks like this.
            raise AskError(Failure("JSON in UTF-8", got, "see what answers at this address"), is_transient=True) from error
        if single and type(found) is dict:
            return [found]
        if type(found) is not list:
            raise _unusable("a JSON array of objects", shown(found))
        return found

    def _owner(self, record: dict[str, Any], asked: Mapping[Key, int], *, single: bool) -> tuple[Key, int]:
        if single and not any(name in record for name in self._names):
            return next(iter(asked.items()))
        try:
            values = []
            for name, convert in self._keys:
                values.append(convert(record.get(name)))
        except WrongValueError as wrong:
            raise _unusable(f"in key field {name!r} of each object {wrong}", shown(record.get(name))) from wrong
        key = tuple(values)
        owner = asked.get(key)
        if owner is None:
            raise _unusable("rows for the keys that were asked for", f"one for {named(self._names, key)}")
        return key, owner


def named(names: Sequence[str], key: Key) -> str:
    """Return a key for an error.

    Examples
    --------
    >>> named(["id"], (7,)), named(["a", "b"], (7, "x"))
    ('key id=7', "key a=7, b='x'")
    """
    return "key " + ", ".join(f"{name}={shown(value).partition(' ')[2] or value}" for name, value in zip(names, key, strict=True))


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and infinities are not JSON


def _unusable(expected: str, got: str) -> AskError:
    return AskError(Failure(expected, got, CORRECT), is_transient=False)
