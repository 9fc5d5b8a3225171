"""The writers of Arrow tables: delta-rs in this process, some 10 ms a commit where Spark takes a second.

The steps of each, in this order: look whether the transaction is done (delta-rs takes an older version without a word), see whether
rows and table fit, work out what to write, commit it with the transaction in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, Transaction, WriterProperties, write_deltalake

from spark_ext.delta.arrow import Condition, arrow_dataset, rows_where
from spark_ext.delta.combining import Combine, several_rows, united
from spark_ext.delta.commits import is_done, open_table, skipped
from spark_ext.delta.fit import check_keys, fit, schema_of
from spark_ext.delta.ordering import closed, has_duplicates, latest
from spark_ext.delta.rules import (
    CHANGE_FEED,
    IS_CURRENT,
    OWN,
    ROW_GROUP,
    VALID_FROM,
    VALID_TO,
    check_history,
    duplicate_keys,
    free_name,
    null_sequence,
    without_sign,
)  # fmt: skip
from spark_ext.delta.txn import Stamp, Txn, Written
from spark_ext.state.keys import codes
from spark_ext.state.signed import SIGN, netted, numbered, signs_of

__all__ = ["append", "apply_changes", "combine", "history", "upsert"]

NEW: Final = "new"
OLD: Final = "old"
MILLISECOND: Final = 1_000  # Spark's statistics of timestamps have no finer unit


def append(rows: pa.Table, path: str, *, txn: Txn | None, evolve: bool) -> Written:
    """Add rows; see `spark_ext.delta.append`."""
    table = open_table(path)
    done = skipped(table, path, txn, "driver")
    if done is not None:
        return done
    plan = fit(rows.schema, schema_of(table), path=path, evolve=evolve)
    return _add(table, path, plan.arrow(rows), txn, evolves=bool(plan.added))


def upsert(rows: pa.Table, path: str, *, keys: Sequence[str], sequence: str | None, txn: Txn | None, evolve: bool) -> Written:
    """Bring rows up to date; see `spark_ext.delta.upsert`."""
    table = open_table(path)
    done = skipped(table, path, txn, "driver")
    if done is not None:
        return done
    plan = fit(rows.schema, schema_of(table), path=path, evolve=evolve)
    keys, sequence = check_keys(plan, keys, sequence)
    rows = plan.arrow(rows)
    if sequence is not None:
        rows = latest(rows, keys, sequence)
    elif has_duplicates(rows, keys):
        raise duplicate_keys(path, keys)
    if table is None or rows.num_rows == 0:
        return _add(table, path, rows, txn, evolves=bool(plan.added))
    _evolve(table, rows, plan.added)
    merger = _merge(table, rows, keys, txn)
    columns = {_name(name): _name(name, NEW) for name in rows.column_names}
    is_newer = None if sequence is None else f"{_name(sequence, NEW)} >= {_name(sequence, OLD)} OR {_name(sequence, OLD)} IS NULL"
    return _execute(merger.when_matched_update(columns, is_newer).when_not_matched_insert(columns), table, path, rows, txn)


def apply_changes(rows: pa.Table, path: str, *, keys: Sequence[str], sequence: str | None, txn: Txn | None, evolve: bool) -> Written:
    """Bring rows with a sign into a table; see `spark_ext.delta.apply_changes`."""
    table = open_table(path)
    done = skipped(table, path, txn, "driver")
    if done is not None:
        return done
    plan = fit(without_sign(rows.schema), schema_of(table), path=path, evolve=evolve)
    keys, sequence = check_keys(plan, keys, sequence)
    net = netted(plan.arrow(rows.drop_columns(SIGN)).append_column(SIGN, rows.column(SIGN)))
    comes = pa.array(signs_of(net) > 0)
    plain = net.drop_columns(SIGN)
    new, gone = plain.filter(comes), plain.filter(pc.invert(comes))
    if sequence is not None:
        new, gone = latest(new, keys, sequence), latest(gone, keys, sequence)
    elif has_duplicates(new, keys):
        raise duplicate_keys(path, keys)
    if table is None or net.num_rows == 0:
        return _add(table, path, new, txn, evolves=bool(plan.added), follows=True)
    _evolve(table, new, plan.added)
    of_new, of_gone = numbered([(new, tuple(keys)), (gone, tuple(keys))])
    _, first = np.unique(of_gone, return_index=True)
    gone = gone.take(pa.array(first[~np.isin(of_gone[first], of_new)]))
    columns = {_name(name): _name(name, NEW) for name in new.column_names}
    whole = free_name(new.column_names)
    flags = pa.array(np.arange(new.num_rows + gone.num_rows) < new.num_rows)
    both = pa.concat_tables([new, gone]).append_column(whole, flags)
    order = "" if sequence is None else f" AND ({_name(sequence, NEW)} >= {_name(sequence, OLD)} OR {_name(sequence, OLD)} IS NULL)"
    merger = _merge(table, both, keys, txn, rows_in_group=ROW_GROUP).when_matched_delete(f"NOT {_name(whole, NEW)}{order}")
    merger = merger.when_matched_update(columns, f"{_name(whole, NEW)}{order}").when_not_matched_insert(columns, _name(whole, NEW))
    return _execute(merger, table, path, new, txn)


def combine(rows: pa.Table, path: str, *, keys: Sequence[str], with_: Combine, txn: Txn | None, evolve: bool) -> Written:
    """Put rows together with those of the table; see `spark_ext.delta.combine`."""
    table = open_table(path)
    done = skipped(table, path, txn, "driver")
    if done is not None:
        return done
    plan = fit(rows.schema, schema_of(table), path=path, evolve=evolve)
    keys, _ = check_keys(plan, keys, None)
    rows = plan.arrow(rows)
    rows = united(rows.slice(0, 0), rows, keys, with_, path)
    if table is None or rows.num_rows == 0:
        return _add(table, path, rows, txn, evolves=bool(plan.added))
    _evolve(table, rows, plan.added)
    known = _known(table, rows, keys)
    if has_duplicates(known, keys):
        raise several_rows(path, keys)
    rows = united(known, rows, keys, with_, path)
    columns = {_name(name): _name(name, NEW) for name in rows.column_names}
    merger = _merge(table, rows, keys, txn).when_matched_update(columns).when_not_matched_insert(columns)
    return _execute(merger, table, path, rows, txn)


def history(rows: pa.Table, path: str, *, keys: Sequence[str], sequence: str, txn: Txn | None, evolve: bool) -> Written:
    """Add versions; see `spark_ext.delta.history`."""
    table = open_table(path)
    done = skipped(table, path, txn, "driver")
    if done is not None:
        return done
    known = schema_of(table)
    plan = fit(rows.schema, known, path=path, evolve=evolve, own=OWN)
    keys, by = check_keys(plan, keys, sequence)
    sequence = check_history(plan, by, known)
    rows = plan.arrow(rows)
    if rows.column(sequence).null_count:
        raise null_sequence(path, sequence)
    rows = latest(rows, [*keys, sequence], sequence)
    if table is not None and rows.num_rows:
        _evolve(table, rows, plan.added)
    before = _versions(table, rows, keys, sequence) if table is not None else _no_versions(rows, keys, sequence)
    ends, closing = closed(before, rows, keys, sequence, VALID_TO)
    rows = _with_times(rows, rows.column(sequence), ends)
    if table is None or rows.num_rows == 0:
        return _add(table, path, rows, txn, evolves=bool(plan.added))
    columns = {_name(name): _name(name, NEW) for name in rows.column_names}
    whole = free_name(rows.column_names)
    both = pa.concat_tables(
        [
            rows.append_column(whole, pa.array([True] * rows.num_rows, pa.bool_())),
            _only_ends(closing, rows.schema, keys, sequence).append_column(whole, pa.array([False] * closing.num_rows, pa.bool_())),
        ]
    )
    merger = _merge(table, both, [*keys, sequence], txn)
    merger = merger.when_matched_update(columns, _name(whole, NEW))
    merger = merger.when_matched_update({_name(name): _name(name, NEW) for name in (VALID_TO, IS_CURRENT)}, f"NOT {_name(whole, NEW)}")
    return _execute(merger.when_not_matched_insert(columns, _name(whole, NEW)), table, path, rows, txn)


def _add(table: DeltaTable | None, path: str, rows: pa.Table, txn: Txn | None, *, evolves: bool, follows: bool = False) -> Written:
    """Add rows. A table that is to be followed change by change, and read by key, is made for it."""
    properties = _properties(txn)
    if table is None:
        # Of two that make the table one fails, and looks again.
        more: dict[str, Any] = {}
        if follows:
            more = {"configuration": {CHANGE_FEED: "true"}, "writer_properties": WriterProperties(max_row_group_size=ROW_GROUP)}
        write_deltalake(path, rows, mode="error", commit_properties=properties, **more)
        return Written(0, rows.num_rows, False, "driver")
    write_deltalake(table, rows, mode="append", schema_mode="merge" if evolves else None, commit_properties=properties)
    return Written(int(table.version()), rows.num_rows, False, "driver")


def _evolve(table: DeltaTable, rows: pa.Table, added: Sequence[str]) -> None:
    """Add the new columns, in a commit of their own.

    With `merge_schema` a row that matches and is not updated would get the new columns of the row that it matches. Should this be the last
    that we do, the table has columns of nulls, and they are not added again. Behind it the table is a newer snapshot: what a merge is made
    of has to be read from that one.
    """
    if added:
        fields = pa.schema([rows.schema.field(name) for name in added])
        table.alter.add_columns(list(Schema.from_arrow(fields).fields))


def _merge(table: DeltaTable, rows: pa.Table, keys: Sequence[str], txn: Txn | None, *, rows_in_group: int | None = None) -> Any:
    return table.merge(
        rows,
        _matches(rows, keys),
        source_alias=NEW,
        target_alias=OLD,
        writer_properties=None if rows_in_group is None else WriterProperties(max_row_group_size=rows_in_group),
        streamed_exec=False,  # or the bounds of the keys would not be used to leave files out
        commit_properties=_properties(txn),
    )


def _execute(merger: Any, table: DeltaTable, path: str, rows: pa.Table, txn: Txn | None) -> Written:
    metrics = merger.execute()
    changed = sum(int(metrics[f"num_target_rows_{what}"]) for what in ("inserted", "updated", "deleted"))
    # A merge that changes nothing is not committed, and its transaction neither.
    if changed == 0 and txn is not None and not is_done(table, txn):
        return _add(table, path, rows.slice(0, 0), txn, evolves=False)
    return Written(int(table.version()), changed, False, "driver")


def _properties(txn: Txn | None) -> CommitProperties:
    marks = None if txn is None else [Transaction(txn.app_id, txn.version)]
    return CommitProperties(app_transactions=marks, custom_metadata={"userMetadata": Stamp.of(txn).text})


def _versions(table: DeltaTable, rows: pa.Table, keys: Sequence[str], sequence: str) -> pa.Table:
    """Return the known versions of the keys of the rows, and of some others."""
    columns = [*keys, sequence, VALID_TO]
    wanted = [bounds for bounds in (_bounds(key, rows.column(key)) for key in keys) if bounds]
    query = f"SELECT {', '.join(map(_name, columns))} FROM known{' WHERE ' if wanted else ''}{' AND '.join(wanted)}"  # noqa: S608 (quoted)
    found = pa.table(QueryBuilder().register("known", table).execute(query).read_all())
    kinds = [*(rows.schema.field(name).type for name in [*keys, sequence]), rows.schema.field(sequence).type]
    found = found.cast(pa.schema(list(zip(columns, kinds, strict=True))))
    for key in keys:
        found = found.filter(pc.is_in(found.column(key), value_set=pc.unique(rows.column(key))))
    return found


def _known(table: DeltaTable, rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Return the rows of the table that have the keys of the rows, with their columns; files without any are not opened."""
    wanted = [within for within in (_within(key, rows.column(key)) for key in keys) if within is not None]
    source = rows_where(table, lambda field: reduce(and_, (one(field) for one in wanted))) if wanted else arrow_dataset(table)
    found = source.to_table(columns=rows.column_names).cast(rows.schema)
    numbers = codes([pa.chunked_array([*rows.column(key).chunks, *found.column(key).chunks], rows.column(key).type) for key in keys])
    return found.filter(pa.array(numbers[rows.num_rows :] < rows.num_rows))  # keys of `rows` are distinct: the first numbers


def _within(key: str, values: pa.ChunkedArray) -> Condition | None:
    """Return a condition that leaves out whole files; None for types that are not worth it."""
    kind = values.type
    is_time = pa.types.is_timestamp(kind)
    if values.null_count == len(values):
        return lambda field: field(key).is_null()
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_date(kind) or is_time):
        return None
    bounds = pc.min_max(values)
    low, high = bounds["min"], bounds["max"]
    if is_time:
        low, high = (pa.scalar(one.value + add, pa.int64()).cast(kind) for one, add in ((low, -MILLISECOND), (high, MILLISECOND)))
    if values.null_count:
        return lambda field: ((field(key) >= low) & (field(key) <= high)) | field(key).is_null()
    return lambda field: (field(key) >= low) & (field(key) <= high)


def _bounds(key: str, values: pa.ChunkedArray) -> str:
    """Return a condition that leaves out whole files; empty for types that are not worth it."""
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)) or values.null_count == len(values):
        return ""
    bounds = pc.min_max(values)
    low, high = (_literal(bounds[side].as_py()) for side in ("min", "max"))
    return f"({_name(key)} BETWEEN {low} AND {high}{f' OR {_name(key)} IS NULL' if values.null_count else ''})"


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _no_versions(rows: pa.Table, keys: Sequence[str], sequence: str) -> pa.Table:
    empty = rows.select([*keys, sequence]).slice(0, 0)
    return empty.append_column(VALID_TO, pa.nulls(0, pa.timestamp("us", "UTC")))


def _with_times(rows: pa.Table, begins: pa.ChunkedArray, ends: pa.Array) -> pa.Table:
    for name, column in ((VALID_FROM, begins), (VALID_TO, ends), (IS_CURRENT, pc.is_null(ends))):
        rows = rows.append_column(name, column)
    return rows


def _only_ends(closing: pa.Table, schema: pa.Schema, keys: Sequence[str], sequence: str) -> pa.Table:
    """Return versions of which only the end counts, with the columns of whole ones."""
    ends = closing.column(VALID_TO)
    there = {name: closing.column(name) for name in [*keys, sequence]} | {VALID_TO: ends, IS_CURRENT: pc.is_null(ends)}
    columns = [there[field.name] if field.name in there else pa.nulls(closing.num_rows, field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _matches(rows: pa.Table, keys: Sequence[str]) -> str:
    """Return the condition that all keys are equal, null to null.

    One kind of comparison for all: of both kinds in one condition delta-rs would find rows by the hash of the plain ones only.
    """
    equal = "IS NOT DISTINCT FROM" if any(rows.column(key).null_count for key in keys) else "="
    return " AND ".join(f"({_name(key, OLD)} {equal} {_name(key, NEW)})" for key in keys)  # or AND would be part of the second name


def _name(name: str, alias: str = "") -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    return f"{alias}.{quoted}" if alias else quoted
