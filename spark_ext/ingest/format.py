"""What every format has: a schema, what makes a good record, a text form, and a decoder of blocks.

What flows in: records. What flows out: the same number of rows, each with the schema's columns and the tags of
`spark_ext.ingest.tags`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest.filters import Conditions, check_conditions, conditions_from_json, conditions_to_json
from spark_ext.ingest.scanner import Scanner
from spark_ext.ingest.schema import check_schema
from spark_ext.ingest.tags import DEAD, SOURCE

if TYPE_CHECKING:
    from spark_ext.ingest.decoded import Decoder

__all__ = ["Format", "format_from_json"]


@dataclass(frozen=True)
class Format:
    """What a good record of a topic looks like, whatever its form.

    Guarantee: one row out for each record in; never an exception in the query. The verdict depends on the record alone,
    so a replay gives the same. Bad rows have a null `event_time`: a watermark defined on it cannot be poisoned.

    Attributes
    ----------
    kind : str
        What the form is called in the text of `to_json`; each subclass has its own.
    """

    kind: ClassVar[str]

    schema: StructType
    _: KW_ONLY
    event_time: str | None = None
    earliest: datetime | None = None
    ahead: timedelta = timedelta(days=1)
    max_value_bytes: int = 1_048_576
    refuse: Mapping[str, Conditions] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_schema(self.schema, self.event_time, self.earliest)
        if empty := [reason for reason, conditions in self.refuse.items() if not conditions]:
            expected, todo = "at least one condition", "write one, or leave the reason out"
            raise SettingsError("use", "refuse", ",".join(empty), expected=expected, got="none", todo=todo)
        checked = {reason: check_conditions(conditions, self.schema) for reason, conditions in self.refuse.items()}
        object.__setattr__(self, "refuse", checked)  # lists instead of sets, and values of the fields' types

    def _scanner(self) -> Scanner:
        """Return what judges blocks of this form."""
        raise NotImplementedError

    def decoder(self, columns: Sequence[str] | None = None, where: Conditions = ()) -> Decoder:
        """Return what decodes blocks of records of this format.

        Parameters
        ----------
        columns : sequence of str, optional
            Fields to make columns of; all by default. The others are checked all the same.
        where : conditions
            Which good rows to give out.

        Raises
        ------
        SchemaError, SettingsError
            A field is not declared, or a condition cannot be used.
        """
        rules = {name: getattr(self, name) for name in ("event_time", "earliest", "ahead", "max_value_bytes", "refuse")}
        from spark_ext.ingest.decode import ScanningDecoder  # noqa: PLC0415 (loads numba, which processes that only plan do not need)

        return ScanningDecoder(self.schema, self._scanner(), columns=self._known(columns), where=self._conditions(where), **rules)

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        declared = self.schema.fieldNames()
        missing = [name for name in columns or () if name not in declared]
        if missing:
            raise SchemaError(
                "select", "columns", ",".join(missing), expected=f"some of {declared}", got=repr(missing), todo="declare them in the schema"
            )
        return declared if columns is None else list(columns)

    def _conditions(self, where: Conditions) -> Conditions:
        return check_conditions(where, self.schema)

    def to_json(self) -> str:
        """Return the format as text, for a worker in another process."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in {shared.name for shared in fields(Format)}}
        return json.dumps(
            {
                "kind": self.kind,
                "schema": self.schema.jsonValue(),
                "event_time": self.event_time,
                "earliest": None if self.earliest is None else self.earliest.isoformat(),
                "ahead_us": self.ahead // timedelta(microseconds=1),
                "max_value_bytes": self.max_value_bytes,
                "refuse": {reason: conditions_to_json(conditions) for reason, conditions in self.refuse.items()},
                **own,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo `to_json`."""
        found: dict[str, Any] = json.loads(text)
        del found["kind"]
        return cls(
            StructType.fromJson(found.pop("schema")),
            earliest=None if (earliest := found.pop("earliest")) is None else datetime.fromisoformat(earliest),
            ahead=timedelta(microseconds=found.pop("ahead_us")),
            refuse={reason: conditions_from_json(conditions) for reason, conditions in found.pop("refuse").items()},
            **found,
        )

    def dead_letters(self, parsed: DataFrame) -> DataFrame:
        """Return the bad rows of a decoded DataFrame with the reason why: `spark_ext.ingest.tags.DEAD_LETTER_SCHEMA`."""
        return parsed.where(F.col(DEAD).isNotNull()).select(f"{SOURCE}.*", f"{DEAD}.*")


def format_from_json(text: str) -> Format:
    """Undo `to_json` of whichever format it was.

    Raises
    ------
    ValueError
        There is no format of that kind.
    """
    kinds = {one.kind: one for one in Format.__subclasses__()}  # the package imports all that it has
    kind = json.loads(text)["kind"]
    if kind not in kinds:
        message = f"no format is called {kind!r}, only {', '.join(sorted(kinds))}"
        raise ValueError(message)
    return kinds[kind].from_json(text)
