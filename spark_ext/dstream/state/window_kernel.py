"""Windows by key, of one partition: what left is taken out of the last result, what entered is put in.

Picture: a turn.

    last result  a 5 | b 2 | c 1          a 5 | b 2 | c 1
    left         a 2 | b 2          ->    a 3 | b 0 | c 1       inverse(5, 2), inverse(2, 2)
    entered      a 1 | d 4          ->    a 4 | b 0 | c 1 | d 4     function(3, 1)

A key that came back to nothing stays, as in Spark, unless `keep_if` says otherwise. Functions are called for keys that left
or entered; the others are moved as columns where they are columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_ext.dstream.columns import folds
from spark_ext.dstream.columns.blocks import Block, pack, pair_columns, pair_objects, pair_of, unpack
from spark_ext.dstream.columns.kernels import mapped
from spark_ext.dstream.columns.keys import coded
from spark_ext.dstream.columns.known import expression

__all__ = ["Function", "KeepIf", "filtered", "folded", "joined", "turned"]

Function: TypeAlias = Callable[[Any, Any], Any]
KeepIf: TypeAlias = Callable[[tuple[Any, Any]], Any]
Places: TypeAlias = npt.NDArray[np.int64]
Columns: TypeAlias = tuple[pa.Array, pa.Array]


def joined(blocks: Iterable[Block]) -> Block:
    """Return the elements of all blocks as one."""
    there = [block for block in blocks if len(block)]
    arrays = _alike(there)
    if arrays:
        return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)
    return there[0] if len(there) == 1 else list(chain.from_iterable(map(unpack, there)))


def filtered(block: Block, keep_if: KeepIf) -> Block:
    """Return the elements for which ``keep_if(element)`` is true."""
    elements = unpack(block)
    kept = [element for element in elements if keep_if(element)]
    return block if len(kept) == len(elements) else pack(kept)


def folded(blocks: Sequence[Block], function: Function) -> Block:
    """Return one pair per key, its values put together from left to right.

    Parameters
    ----------
    blocks : sequence of blocks of pairs
        In the order of time; each has a key once.
    function : callable
        ``function(so far, next)``; called once less than a key has values.
    """
    there = [block for block in blocks if len(block)]
    if len(there) < 2:
        return there[0] if there else []
    return pack(joined(folds.folded(there, folds.Reducing(function), sends_on=False)))


def turned(previous: Block, left: Block, entered: Block, function: Function, inverse: Function, keep_if: KeepIf | None = None) -> Block:
    """Return the result of a window that moved on.

    Guarantee: the same as ``inverse(value, left)`` for each key of `previous` that left with a value that is not None, then
    ``function(value, entered)`` for each that entered, then the new keys, then those of these pairs for which `keep_if` is
    true. A function that is known works on columns, and is called where they are not exact. No Arrow array and no element of
    `left` and `entered` is changed, unless a function changes its arguments.

    Parameters
    ----------
    previous, left, entered : block of pairs
        Each key once.
    keep_if : callable, optional
        Of a pair; None: all stay.
    """
    if not len(left) and not len(entered):
        return previous
    arrays = _alike([block for block in (previous, left, entered) if len(block)])
    if arrays:
        before, gone, new = (pair_columns(block if len(block) else arrays[0][:0]) for block in (previous, left, entered))
        made = _by_columns(before, gone, new, function, inverse, keep_if) if before and gone and new else None
        if made is not None:
            return made
    return _by_objects(previous, left, entered, function, inverse, keep_if)


def _alike(blocks: Sequence[Block]) -> list[pa.Array]:
    """Return the blocks if they are arrays of one type, else nothing."""
    arrays = [block for block in blocks if isinstance(block, pa.Array)]
    return arrays if len(arrays) == len(blocks) and len({array.type for array in arrays}) == 1 else []


def _by_objects(previous: Block, left: Block, entered: Block, function: Function, inverse: Function, keep_if: KeepIf | None) -> Block:
    found = dict(pair_objects(previous))
    touched = []
    for key, value in pair_objects(left):
        if key in found:
            touched.append(key)
            if value is not None:
                found[key] = inverse(found[key], value)
    for key, value in pair_objects(entered):
        touched.append(key)
        found[key] = function(found[key], value) if key in found else value
    if keep_if is not None:
        for key in dict.fromkeys(touched):
            if not keep_if((key, found[key])):
                del found[key]
    return pack(list(found.items()))


def _by_columns(
    previous: Columns, left: Columns, entered: Columns, function: Function, inverse: Function, keep_if: KeepIf | None
) -> Block | None:
    """Return the result; None if keys cannot be told as columns."""
    numbered = coded(pa.concat_arrays([previous[0], left[0], entered[0]]))
    if numbered is None:
        return None
    values, count = previous[1], len(previous[0])  # whose keys are numbered 0, 1, ...
    left_at, entered_at = np.split(numbered.codes[count:], [len(left[0])])
    is_there, is_new = left_at < count, entered_at >= count
    touched, slots = np.unique(np.concatenate([left_at[is_there], entered_at[~is_new]]), return_inverse=True)
    left_slots, entered_slots = np.split(slots, [np.count_nonzero(is_there)])
    taken, put = left[1].filter(pa.array(is_there)), entered[1].filter(pa.array(~is_new))
    changed = _by_kernels(values.take(pa.array(touched)), left_slots, taken, entered_slots, put, function, inverse)
    if changed is None:
        changed = pack(_by_calls(values.take(pa.array(touched)), left_slots, taken, entered_slots, put, function, inverse))
    new_keys, added = (column.filter(pa.array(is_new)) for column in entered)
    keys = pa.concat_arrays([previous[0], new_keys])

    goes = np.zeros(len(keys), bool)
    if keep_if is not None:
        at = np.concatenate([touched, np.arange(count, len(keys))])
        pairs = zip(unpack(keys.take(pa.array(at))), chain(unpack(changed), unpack(added)), strict=True)
        goes[at] = [not keep_if(pair) for pair in pairs]
    stays = np.flatnonzero(~goes)

    if len(changed) and not _alike([changed, values]):
        objects = unpack(pa.concat_arrays([values, added]))
        for place, value in zip(touched.tolist(), unpack(changed), strict=True):
            objects[place] = value
        after = list(zip(unpack(keys), objects, strict=True))
        return pack([after[place] for place in stays.tolist()])
    source = np.arange(len(keys))
    source[touched] = len(keys) + np.arange(len(touched))
    all_values = pa.concat_arrays([values, added, *([changed] if len(changed) else [])])
    return pair_of(keys.take(pa.array(stays)) if len(stays) < len(keys) else keys, all_values.take(pa.array(source[stays])))


def _by_kernels(
    values: pa.Array, left_slots: Places, left: pa.Array, entered_slots: Places, entered: pa.Array, function: Function, inverse: Function
) -> pa.Array | None:
    """Return the values that change as a column; None if a function is not known, or not exact here."""
    take, put = expression(inverse, 2), expression(function, 2)
    if take is None or put is None or values.null_count or left.null_count or entered.null_count:
        return None
    after = values
    for slots, operand, known in ((left_slots, left, take), (entered_slots, entered, put)):
        if not len(slots):
            continue
        made = mapped(known, after.take(pa.array(slots)), operand)
        if made is None or made.type != after.type or made.null_count:
            return None
        source = np.arange(len(after))
        source[slots] = len(after) + np.arange(len(slots))
        after = pa.concat_arrays([after, made]).take(pa.array(source))
    return after


def _by_calls(
    values: pa.Array, left_slots: Places, left: pa.Array, entered_slots: Places, entered: pa.Array, function: Function, inverse: Function
) -> list[Any]:
    """Return the values that change as the functions give them."""
    after = list(unpack(values))
    for slot, value in zip(left_slots.tolist(), unpack(left), strict=True):
        if value is not None:
            after[slot] = inverse(after[slot], value)
    for slot, value in zip(entered_slots.tolist(), unpack(entered), strict=True):
        after[slot] = function(after[slot], value)
    return after
