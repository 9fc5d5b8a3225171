"""What a lookup joins with what: key columns, columns of the answer, and columns that come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StringType, StructField, StructType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.on import On, pairs_of
from spark_ext.joins.remote.asking import Asker, Found
from spark_ext.joins.remote.limits import Cache
from spark_ext.joins.remote.match_kernel import How
from spark_ext.state.keys import check_text

__all__ = ["LOOKUP_ERROR", "Layout", "OnFailure"]

OnFailure = Literal["fail", "tag"]
LOOKUP_ERROR: Final = "lookup_error"
FOUND: Final = "f"


class Source(Protocol):
    """Whom to ask."""

    def check(self, keys: pa.Schema, returns: pa.Schema) -> None:
        """Refuse keys and answers that cannot be asked for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is joined with what."""

    on: tuple[str, ...]
    keys: pa.Schema
    returns: pa.Schema
    how: How
    cache: Cache
    is_tagged: bool

    @classmethod
    def of(
        cls,
        rows: DataFrame,
        source: Source,
        on: On,
        returns: StructType | str | None,
        how: How,
        cache: Cache,
        on_failure: OnFailure,
    ) -> Layout:
        """Return it, or refuse what does not fit."""
        for name, value, known in (("how", how, get_args(How)), ("on_failure", on_failure, get_args(OnFailure))):
            if value not in known:
                raise SettingsError("look up", "argument", name, expected=f"one of {known}", got=repr(value), todo="correct it")
        names = pairs_of(on)
        if not names or len({name.lower() for name in names.values()}) != len(names):
            raise SettingsError("look up", "argument", "on", expected="one column or more, each once", got=repr(on), todo="correct it")
        for name in names:
            if name not in rows.columns:
                raise SchemaError("read", "column", name, expected=f"one of {rows.columns}", got="no such column", todo="correct the name")
            check_text(name, rows.schema[name].dataType.simpleString())
        if (returns is None) != (how in {"semi", "anti"}):
            expected = "columns with left and inner, None with semi and anti"
            raise SettingsError("look up", "argument", "returns", expected=expected, got=f"{returns!r} with {how}", todo="correct it")
        declared = _struct(returns)
        added = [*declared.names, *([LOOKUP_ERROR] if on_failure == "tag" else [])]
        taken = {name.lower() for name in (*rows.columns, *names.values())}
        twice = [name for name in added if name.lower() in taken or [one.lower() for one in added].count(name.lower()) > 1]
        if twice:
            expected, got = "names that are not taken by rows or key", repr(twice)
            raise SchemaError("look up", "columns", ", ".join(added), expected=expected, got=got, todo="rename a column of the rows")
        keys = to_arrow_schema(StructType([StructField(names[name], rows.schema[name].dataType) for name in names]), timezone="UTC")
        layout = cls(tuple(names), keys, to_arrow_schema(declared, timezone="UTC"), how, cache, on_failure == "tag")
        source.check(layout.keys, layout.returns)
        return layout

    @property
    def named(self) -> list[StructField]:
        """Return the columns that are added."""
        tag = [StructField(LOOKUP_ERROR, StringType())] if self.is_tagged else []
        return [*(StructField(one.name, one.dataType) for one in from_arrow_schema(self.returns)), *tag]

    @property
    def added(self) -> list[StructField]:
        """Return them by place."""
        return [StructField(f"{FOUND}{at}", one.dataType) for at, one in enumerate(self.named)]

    def look_up(self, asker: Asker, service: str, keys: pa.Table) -> Found:
        """Look distinct keys up; raises if that fails, unless rows are tagged."""
        found = asker.find(keys, stop=not self.is_tagged)
        if found.failures and not self.is_tagged:
            raise next(iter(found.failures.values())).error(service)
        return found

    def columns(self, found: Found, answers: NDArray[np.int64], numbers: NDArray[np.int64]) -> list[pa.Array]:
        """Return the columns that are added to rows, by places of their answers and numbers of their keys; -1 is none."""
        places = pa.array(answers, mask=answers < 0)
        made = [part.take(places).combine_chunks() for part in found.rows.columns]
        if self.is_tagged and not found.failures:
            made.append(pa.nulls(len(numbers), pa.string()))
        elif self.is_tagged:
            reasons = pa.array(
                [None if (one := found.failures.get(at)) is None else one.text for at in range(len(found.starts))], pa.string()
            )
            made.append(reasons.take(pa.array(numbers, mask=numbers < 0)))
        return [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in made]


def _struct(returns: StructType | str | None) -> StructType:
    if returns is None or isinstance(returns, StructType):
        return returns or StructType()
    found = StructType.fromDDL(returns)
    if not isinstance(found, StructType):
        expected, todo = "columns, as in 'name string, age int'", "name the columns"
        raise SettingsError("look up", "argument", "returns", expected=expected, got=repr(returns), todo=todo)
    return found
