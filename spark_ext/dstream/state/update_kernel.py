"""`updateStateByKey` of one partition: what the function makes of each key's new values and old state.

Pictured: ``keys | states`` as two columns. Untouched keys are never made objects; their rows stay in order and in front, then come
the touched ones, then the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.dstream.columns.blocks import Block, pack, unpack

__all__ = ["SOUGHT", "Update", "first_of_each", "keys_of", "paired", "updated"]

Update: TypeAlias = Callable[[Any, Any], Any]
SOUGHT: Final = (pa.int64(), pa.string(), pa.binary())  # keys that are equal as columns exactly when Python finds them equal
NONE: Final = type(None)


def updated(state: Block, news: Sequence[Block], function: Update) -> Block:
    """Return the state after a batch.

    Guarantee: ``function(list of new values in their order, old state or None)`` is called once for each key that has either;
    a key for which it returns None is gone. Keys are equal when Python's dict finds them equal, and the one that was there first
    stays. An Arrow array is never changed, whatever the function does; of a list it is given the objects themselves.

    Parameters
    ----------
    state : block of pairs
        ``(key, state)``, each key once.
    news : sequence of blocks of pairs
        ``(key, value)``.

    Returns
    -------
    block of pairs
        ``(key, state)``.
    """
    columns = _columns(state, news)
    if columns is None:
        return _by_objects(unpack(state), chain.from_iterable(map(unpack, news)), function)
    return _by_columns(*columns, function)


def first_of_each(blocks: Sequence[Block]) -> Block:
    """Return the first pair of each key, as the state before the first batch."""
    found: dict[Any, Any] = {}
    for key, state in chain.from_iterable(map(unpack, blocks)):
        found.setdefault(key, state)
    return pack(list(found.items()))


def keys_of(block: Block) -> tuple[Block, Block]:
    """Return keys and values of a block of pairs."""
    if isinstance(block, list):
        return pack([key for key, _ in block]), [value for _, value in block]
    return block.field(0), block.field(1)


def paired(keys: Block, values: Block) -> Block:
    """Return the block of pairs of two blocks of the same length."""
    if isinstance(keys, pa.Array) and isinstance(values, pa.Array):
        return pa.StructArray.from_arrays([keys, values], names=["0", "1"])
    return list(zip(unpack(keys), unpack(values), strict=True))


def _is_sought(keys: Block) -> bool:
    return isinstance(keys, pa.Array) and keys.type in SOUGHT and not keys.null_count


def _columns(state: Block, news: Sequence[Block]) -> tuple[pa.Array, Block, pa.Array, Block] | None:
    """Return keys and states, new keys and values, keys as columns of one type; None if they are not such columns."""
    if isinstance(state, list) and state:
        return None
    parts = [keys_of(block) for block in (state, *news) if len(block)]
    if not parts or not all(_is_sought(keys) for keys, _ in parts):
        return None
    none: pa.Array = parts[0][0][:0]
    if any(keys.type != none.type for keys, _ in parts):  # type: ignore[union-attr]  # all are arrays
        return None
    held, states = parts.pop(0) if len(state) else (none, [])
    values = [values for _, values in parts]
    types = {one.type if isinstance(one, pa.Array) else None for one in values}
    return (
        held,
        states,
        pa.concat_arrays([none, *(keys for keys, _ in parts)]),
        pa.concat_arrays(values) if len(types) == 1 and None not in types else list(chain.from_iterable(map(unpack, values))),
    )


def _by_columns(held: pa.Array, states: Block, keys: pa.Array, values: Block, function: Update) -> Block:
    groups, lists = _grouped(keys, values)
    where = pc.index_in(held, value_set=groups)
    is_touched = where.is_valid()
    is_untouched = pc.invert(is_touched)
    hit = where.drop_null().to_numpy()
    is_new = np.ones(len(groups), bool)
    is_new[hit] = False
    new = np.flatnonzero(is_new)

    results = [function([], state) for state in unpack(_filtered(states, is_untouched))]
    touched = unpack(_filtered(states, is_touched))
    results.extend(function(lists[group], state) for group, state in zip(hit.tolist(), touched, strict=True))
    results.extend(function(lists[group], None) for group in new.tolist())

    after = pa.concat_arrays([held.filter(is_untouched), held.filter(is_touched), groups.take(pa.array(new))])
    if NONE in set(map(type, results)):
        after = after.filter(pa.array([result is not None for result in results]))
        results = [result for result in results if result is not None]
    return paired(after, pack(results))


def _filtered(states: Block, mask: pa.Array) -> Block:
    return states.filter(mask) if isinstance(states, pa.Array) else states


def _grouped(keys: pa.Array, values: Block) -> tuple[pa.Array, list[list[Any]]]:
    """Return each key once, and its values as a list."""
    encoded = keys.dictionary_encode()
    groups, codes = encoded.dictionary, encoded.indices.to_numpy()
    if len(groups) == len(keys):
        return groups, [[value] for value in unpack(values)]
    ordered = _ordered(values, np.argsort(codes, kind="stable"))
    ends = np.cumsum(np.bincount(codes, minlength=len(groups))).tolist()
    return groups, [ordered[start:end] for start, end in pairwise((0, *ends))]


def _ordered(values: Block, order: npt.NDArray[np.intp]) -> list[Any]:
    if isinstance(values, pa.Array):
        return unpack(values.take(pa.array(order)))
    return [values[place] for place in order.tolist()]


def _by_objects(state: Iterable[tuple[Any, Any]], news: Iterable[tuple[Any, Any]], function: Update) -> Block:
    grouped: dict[Any, list[Any]] = {}
    for key, value in news:
        grouped.setdefault(key, []).append(value)
    pairs = [(key, function(grouped.pop(key, []), old)) for key, old in state]
    pairs.extend((key, function(values, None)) for key, values in grouped.items())
    return pack([pair for pair in pairs if pair[1] is not None])
