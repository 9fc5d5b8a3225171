"""A changelog folded into the rows of a table: the newest change of each key stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.joins.layout import HASH, STAMP
from spark_ext.joins.sides import Mask, Numbers, taken
from spark_ext.state.kernel import NEVER_US
from spark_ext.state.keys import ints
from spark_ext.state.signed import SIGN, keep, netted, numbered, ranks, signs_of
from spark_ext.tables.layout import DELETED, DELETED_AT, Changelog

__all__ = ["Folded", "by_hash", "fold", "near"]


@dataclass(frozen=True, slots=True)
class Folded:
    """What one batch of changes made of a table.

    Attributes
    ----------
    kept, gone : pa.Table
        The next state.
    before, after : pa.Table
        Rows that are not in it any more, and rows that are new.
    stale, invalid : pa.Table
        Changes that were not taken, in the columns they came in.
    wake_us : int or None
        Watermark at which a deleted key is forgotten.
    """

    kept: pa.Table
    gone: pa.Table
    before: pa.Table
    after: pa.Table
    stale: pa.Table
    invalid: pa.Table
    wake_us: int | None


def fold(log: Changelog, kept: pa.Table, gone: pa.Table, rows: pa.Table, watermark_us: int) -> Folded:
    """Fold a batch of changes into a table.

    Guarantee: of each key the change with the highest sequence stands, whatever the batches and the order within one. Of changes of one
    sequence a row stands before a delete, and of two rows the one whose other columns are higher, compared one by one. Without a
    sequence every batch is one higher than the one before.

    Parameters
    ----------
    log : Changelog
        What the columns are.
    kept, gone : pa.Table
        As last returned; at first empty.
    rows : pa.Table
        `Changelog.in_schema`. Of rows with a sign those that come and go within the batch cancel.
    watermark_us : int
        For deleted keys.

    State: a row per key that is there; of a deleted key its columns, its sequence and 16 bytes, until the watermark has gone on by the
    ttl. Without a sequence nothing is kept of a deleted key.
    """
    if log.is_signed:
        rows = _of_signs(rows, log)
    good = _usable(rows, log)
    invalid, rows = rows.filter(pa.array(~good)), keep(rows, good)
    hashes = ints(rows.column(HASH))
    near_kept, near_gone = near(kept, hashes), near(gone, hashes)
    old, dead = kept.filter(pa.array(near_kept)), gone.filter(pa.array(near_gone))
    names = [*log.kept_schema.names]
    new = rows.select(names).cast(log.kept_schema)
    all_rows = pa.concat_tables([old, _whole_rows(dead, log), new])
    keys = np.concatenate(numbered([(old, log.keys), (dead, log.keys), (rows, log.keys)]))
    known = old.num_rows + dead.num_rows
    alive = np.ones(len(keys), bool)
    alive[old.num_rows : known] = False
    alive[known:] = ~np.asarray(rows.column(DELETED).combine_chunks().fill_null(False).to_numpy(zero_copy_only=False), bool)
    sequence = _sequence(all_rows, log, known)
    wins = _winners(all_rows, keys, sequence, alive)
    base, top = np.full(len(wins), np.iinfo(np.int64).min), sequence[wins]
    base[keys[:known]] = sequence[:known]
    is_new = np.arange(len(keys)) >= known
    won = np.zeros(len(keys), bool)
    won[wins] = True
    lost = is_new & ~won & ((sequence <= base[keys]) | (sequence == top[keys]))
    stays_old, stays_dead = won[: old.num_rows], won[old.num_rows : known]
    comes, goes = won & is_new & alive, won & is_new & ~alive
    after = taken(all_rows, np.flatnonzero(comes))
    # A row of the key's own hash that merely shares it with a changed key has won against nobody, and stays.
    kept = by_hash(pa.concat_tables([kept.filter(pa.array(~near_kept)), old.filter(pa.array(stays_old)), after]))
    gone = pa.concat_tables([gone.filter(pa.array(~near_gone)), dead.filter(pa.array(stays_dead))])
    if log.sequence is not None:
        gone = pa.concat_tables([gone, _tombstones(taken(all_rows, np.flatnonzero(goes)), log, watermark_us)])
    gone, wake_us = _expired(gone, log, watermark_us)
    own = log.schema.names
    return Folded(
        kept,
        by_hash(gone),
        old.filter(pa.array(~stays_old)).select(own),
        after.select(own),
        rows.filter(pa.array(lost[known:])).select(own),
        invalid.select(own),
        wake_us,
    )


def near(table: pa.Table, hashes: Numbers) -> Mask:
    """Tell which rows of a table have one of the hashes; ndarray (n,) bool."""
    own = ints(table.column(HASH))
    asked = np.unique(hashes)
    places = np.searchsorted(asked, own)
    places[places == len(asked)] = 0
    if not len(asked):
        return np.zeros(len(own), bool)
    found: Mask = asked[places] == own
    return found


def by_hash(table: pa.Table) -> pa.Table:
    """Return rows sorted by hash, in one chunk."""
    hashes = ints(table.column(HASH))
    if (hashes[1:] >= hashes[:-1]).all():
        return table.combine_chunks()
    return taken(table, np.argsort(hashes, kind="stable")).combine_chunks()


def _of_signs(rows: pa.Table, log: Changelog) -> pa.Table:
    """Return rows with a sign as changes: the row that comes, or a delete where one only goes."""
    names = [*log.schema.names, HASH]
    found = netted(rows.select([*names, SIGN]))
    comes = signs_of(found) > 0
    rows, deleted = found.select(names), pa.array(~comes)
    if not comes.all() and comes.any():
        whose, going = numbered([(rows.filter(pa.array(comes)), log.keys), (rows.filter(deleted), log.keys)])
        follows = np.zeros(len(comes), bool)
        follows[~comes] = np.isin(going, whose)
        rows, deleted = rows.filter(pa.array(~follows)), pa.array(~comes[~follows])
    return rows.append_column(DELETED, deleted)


def _usable(rows: pa.Table, log: Changelog) -> Mask:
    found = np.ones(rows.num_rows, bool)
    for name in (*log.keys, *(() if log.sequence is None else (log.sequence,))):
        if rows.column(name).null_count:
            found &= rows.column(name).is_valid().to_numpy()
    return found


def _whole_rows(dead: pa.Table, log: Changelog) -> pa.Table:
    """Return deleted keys in the columns of rows."""
    columns = [dead.column(one.name) if one.name in dead.column_names else pa.nulls(dead.num_rows, one.type) for one in log.kept_schema]
    return pa.table(columns, schema=log.kept_schema)


def _sequence(rows: pa.Table, log: Changelog, known: int) -> Numbers:
    if log.sequence is None:
        return (np.arange(rows.num_rows) >= known).astype(np.int64)
    column = rows.column(log.sequence)
    return ints(column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64()).cast(pa.int64()))


def _winners(rows: pa.Table, keys: Numbers, sequence: Numbers, alive: Mask) -> Numbers:
    """Return the position of the newest change of each key, in the order of keys."""
    first = -np.arange(len(keys))  # of equal ones the one that is there already
    order = np.lexsort((first, alive, sequence, keys))
    last = np.flatnonzero(np.append(keys[order][1:] != keys[order][:-1], True)) if len(keys) else np.empty(0, np.int64)
    wins: Numbers = order[last]
    tied = (sequence == sequence[wins][keys]) & alive & alive[wins][keys]
    tied &= (np.bincount(keys[tied], minlength=len(wins)) > 1)[keys] if len(keys) else False
    if tied.any():
        places = np.flatnonzero(tied)
        by_value = ranks(taken(rows, places).drop_columns(HASH))
        order = places[np.lexsort((first[places], by_value, keys[places]))]
        last = np.append(keys[order][1:] != keys[order][:-1], True)
        wins[keys[order[last]]] = order[last]
    return wins


def _tombstones(rows: pa.Table, log: Changelog, watermark_us: int) -> pa.Table:
    at = pa.scalar(None if watermark_us == NEVER_US else watermark_us, pa.int64())
    names = log.gone_schema.names[:-1]
    return pa.table([*rows.select(names).columns, pa.repeat(at, rows.num_rows).cast(STAMP)], schema=log.gone_schema)


def _expired(gone: pa.Table, log: Changelog, watermark_us: int) -> tuple[pa.Table, int | None]:
    """Return the deleted keys that are still to be known, and the watermark at which the next is forgotten."""
    if log.ttl_us is None or not gone.num_rows:
        return gone, None
    if watermark_us == NEVER_US:
        return gone, 1  # counted from the first watermark there is
    at = gone.column(DELETED_AT).cast(pa.int64()).fill_null(watermark_us)
    gone = gone.set_column(gone.schema.get_field_index(DELETED_AT), log.gone_schema.field(DELETED_AT), at.cast(STAMP))
    gone = gone.filter(pc.greater(pc.add(at, log.ttl_us), watermark_us))
    oldest = pc.min(gone.column(DELETED_AT).cast(pa.int64())).as_py()
    return gone, None if oldest is None else oldest + log.ttl_us
