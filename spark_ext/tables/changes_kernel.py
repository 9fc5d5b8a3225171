"""A changelog as changes of the table it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.signed import difference, signed
from spark_ext.tables.layout import CHANGED, GONE, INVALID, KEPT, STALE, Changelog, nullable
from spark_ext.tables.versions import fold

__all__ = ["TableChanges"]


@dataclass(frozen=True)
class TableChanges:
    """The changes that a changelog makes to its table, net per batch.

    Guarantee: the rows tagged ``changed``, summed by sign up to any batch, are the table: of each key the change with the highest
    sequence, none if it is a delete. What the table is after some rows does not depend on how they were cut into batches, nor on their
    order, if there is a sequence and no deleted key was forgotten. A change that is not newer than the table's is ``stale``, and so is one
    of several of the same sequence in a batch; one without a key or a sequence is ``invalid``. A change that a newer one of its batch
    follows leaves no trace.

    Parameters
    ----------
    log : Changelog
        What the columns are.

    State: tables ``kept`` and ``gone``, see `spark_ext.tables.versions.fold`.
    """

    log: Changelog

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "table_changes_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        return json.dumps(self.log.settings)

    @property
    def in_schema(self) -> pa.Schema:
        """Columns of the changelog, ``_deleted`` and ``_key_hash``."""
        return self.log.in_schema

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        return {KEPT: self.log.kept_schema, GONE: self.log.gone_schema}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of the changelog; of changes also ``sign``."""
        rows = nullable(self.log.schema)
        return {CHANGED: signed(rows), STALE: rows, INVALID: rows}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Fold one micro-batch into the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        done = fold(self.log, state[KEPT], state[GONE], rows, moment.watermark_us)
        out = {CHANGED: difference(done.before, done.after), STALE: done.stale, INVALID: done.invalid}
        return Step({KEPT: done.kept, GONE: done.gone}, out, done.wake_us)
