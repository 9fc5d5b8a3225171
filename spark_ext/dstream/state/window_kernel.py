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
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.dstream.columns.blocks import Block, pack, unpack
from spark_ext.dstream.columns.known import reduction

__all__ = ["Function", "KeepIf", "filtered", "folded", "joined", "turned"]

Function: TypeAlias = Callable[[Any, Any], Any]
KeepIf: TypeAlias = Callable[[tuple[Any, Any]], Any]
Places: TypeAlias = npt.NDArray[np.int64]
Kernel: TypeAlias = Callable[[pa.Array, pa.Array], pa.Array]

KEYS: Final = (pa.int64(), pa.string(), pa.binary())  # equal as columns exactly when Python finds them equal
NUMBERS: Final = (pa.int64(), pa.float64())
KERNELS: Final[dict[Any, Kernel]] = {"add": pc.add_checked, "sub": pc.subtract_checked}
INT64_MAX: Final = 2**63 - 1


def joined(blocks: Iterable[Block]) -> Block:
    """Return the elements of all blocks as one."""
    there = [block for block in blocks if len(block)]
    if len(there) == 1:
        return there[0]
    arrays = _arrays(there)
    if arrays:
        return pa.concat_arrays(arrays)
    return list(chain.from_iterable(map(unpack, there)))


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
        In the order of time.
    function : callable
        ``function(so far, next)``; called once less than a key has values.
    """
    there = [block for block in blocks if len(block)]
    if len(there) < 2:
        return there[0] if there else []
    whole = joined(there)
    columns = _columns([whole])
    summed = _summed(columns[0], function) if columns else None
    if summed is not None:
        return summed
    found: dict[Any, Any] = {}
    for key, value in unpack(whole):
        found[key] = function(found[key], value) if key in found else value
    return pack(list(found.items()))


def turned(previous: Block, left: Block, entered: Block, function: Function, inverse: Function, keep_if: KeepIf | None = None) -> Block:
    """Return the result of a window that moved on.

    Guarantee: the same as ``inverse(value, left)`` for each key of `previous` that left with a value that is not None, then
    ``function(value, entered)`` for each that entered, then the new keys, then those of these pairs for which `keep_if` is
    true; int64 that overflows becomes Python's int. No Arrow array and no element of `left` and `entered` is changed, unless a
    function changes its arguments.

    Parameters
    ----------
    previous, left, entered : block of pairs
        Each key once.
    keep_if : callable, optional
        Of a pair; None: all stay.
    """
    if not len(left) and not len(entered):
        return previous
    parts = [block for block in (previous, left, entered) if len(block)]
    if columns := _columns(parts):
        before, gone, new = (block if len(block) else columns[0][:0] for block in (previous, left, entered))
        return _by_columns(before, gone, new, function, inverse, keep_if)
    return _by_objects(previous, left, entered, function, inverse, keep_if)


def _arrays(blocks: Sequence[Block]) -> list[pa.Array]:
    """Return the blocks if they are arrays of one type, else nothing."""
    arrays = [block for block in blocks if isinstance(block, pa.Array)]
    return arrays if len(arrays) == len(blocks) and len({array.type for array in arrays}) == 1 else []


def _columns(blocks: Sequence[Block]) -> list[pa.Array]:
    """Return the blocks if they are pairs of one type with keys that can be sought, else nothing."""
    arrays = _arrays(blocks)
    if not arrays or not pa.types.is_struct(arrays[0].type) or arrays[0].type.num_fields != 2 or arrays[0].type.field(0).type not in KEYS:
        return []
    return [] if any(array.field(0).null_count for array in arrays) else arrays


def _by_objects(previous: Block, left: Block, entered: Block, function: Function, inverse: Function, keep_if: KeepIf | None) -> Block:
    found = dict(unpack(previous))
    touched = []
    for key, value in unpack(left):
        if key in found:
            touched.append(key)
            if value is not None:
                found[key] = inverse(found[key], value)
    for key, value in unpack(entered):
        touched.append(key)
        found[key] = function(found[key], value) if key in found else value
    if keep_if is not None:
        for key in dict.fromkeys(touched):
            if not keep_if((key, found[key])):
                del found[key]
    return pack(list(found.items()))


def _by_columns(
    previous: pa.Array, left: pa.Array, entered: pa.Array, function: Function, inverse: Function, keep_if: KeepIf | None
) -> Block:
    keys, values = previous.field(0), previous.field(1)
    places = _places(keys, pa.concat_arrays([left.field(0), entered.field(0)]))
    left_at, entered_at = places[: len(left)], places[len(left) :]
    is_there, is_new = left_at >= 0, entered_at < 0
    touched, slots = np.unique(np.concatenate([left_at[is_there], entered_at[~is_new]]), return_inverse=True)
    moves = _Moves(
        values.take(pa.array(touched)),
        slots[: int(is_there.sum())],
        left.field(1).filter(pa.array(is_there)),
        slots[int(is_there.sum()) :],
        entered.field(1).filter(pa.array(~is_new)),
    )
    changed = moves.by_kernels(function, inverse)
    if changed is None:
        changed = pack(moves.by_calls(function, inverse))
    added = entered.filter(pa.array(is_new))
    goes = np.zeros(len(keys) + len(added), bool)
    if keep_if is not None:
        at = np.concatenate([touched, np.arange(len(keys), len(goes))])
        pairs = zip(unpack(keys.take(pa.array(touched))), unpack(changed), strict=True)
        goes[at] = [not keep_if(pair) for pair in chain(pairs, unpack(added))]
    stays = np.flatnonzero(~goes)
    if len(changed) and not (isinstance(changed, pa.Array) and changed.type == values.type):
        objects = [*unpack(values), *unpack(added.field(1))]
        for place, value in zip(touched.tolist(), unpack(changed), strict=True):
            objects[place] = value
        after = list(zip(unpack(pa.concat_arrays([keys, added.field(0)])), objects, strict=True))
        return pack([after[place] for place in stays.tolist()])
    source = np.arange(len(goes))
    source[touched] = len(goes) + np.arange(len(touched))
    chosen = pa.array(source[stays])
    all_values = pa.concat_arrays([values, added.field(1), *([changed] if len(changed) else [])]).take(chosen)
    all_keys = pa.concat_arrays([keys, added.field(0)])
    if len(stays) < len(goes):
        all_keys = all_keys.take(pa.array(stays))
    return pa.StructArray.from_arrays([all_keys, all_values], names=["0", "1"])


class _Moves:
    """The values that change: which of them are left by what, then entered by what."""

    def __init__(self, values: pa.Array, left_slots: Places, left: pa.Array, entered_slots: Places, entered: pa.Array) -> None:
        self.values = values
        self.left_slots, self.left = left_slots, left
        self.entered_slots, self.entered = entered_slots, entered

    def by_kernels(self, function: Function, inverse: Function) -> pa.Array | None:
        """Return the values after it, as columns; None if the functions are not known or int64 is too small."""
        put, take = KERNELS.get(reduction(function)), KERNELS.get(reduction(inverse))
        if put is None or take is None or self.values.type not in NUMBERS:
            return None
        if self.values.null_count or self.left.null_count or self.entered.null_count:
            return None
        after = self.values.to_numpy().copy()
        try:
            after[self.left_slots] = take(pa.array(after[self.left_slots]), self.left).to_numpy()
            after[self.entered_slots] = put(pa.array(after[self.entered_slots]), self.entered).to_numpy()
        except pa.ArrowInvalid:
            return None
        return pa.array(after)

    def by_calls(self, function: Function, inverse: Function) -> list[Any]:
        """Return the values after it."""
        after = list(unpack(self.values))
        for slot, value in zip(self.left_slots.tolist(), unpack(self.left), strict=True):
            if value is not None:
                after[slot] = inverse(after[slot], value)
        for slot, value in zip(self.entered_slots.tolist(), unpack(self.entered), strict=True):
            after[slot] = function(after[slot], value)
        return after


def _places(keys: pa.Array, wanted: pa.Array) -> Places:
    """Return for each wanted key where it is among `keys`, -1 if it is not."""
    coded = wanted.dictionary_encode()
    hits = pc.index_in(keys, value_set=coded.dictionary)
    at = np.flatnonzero(hits.is_valid().to_numpy(zero_copy_only=False))
    places = np.full(len(coded.dictionary), -1)
    places[hits.drop_null().to_numpy()] = at
    found: Places = places[coded.indices.to_numpy()]
    return found


def _summed(pairs: pa.Array, function: Function) -> pa.Array | None:
    """Return the sums by key in the order of the rows; None if that is not asked for or int64 is too small."""
    keys, values = pairs.field(0), pairs.field(1)
    if reduction(function) != "add" or values.type not in NUMBERS or values.null_count:
        return None
    coded = keys.dictionary_encode()
    codes, numbers = coded.indices.to_numpy(), values.to_numpy()
    if values.type == pa.int64():
        largest = max(abs(int(numbers.min())), abs(int(numbers.max())))
        if largest * int(np.bincount(codes).max()) > INT64_MAX:
            return None
    is_first = np.zeros(len(codes), bool)
    is_first[np.unique(codes, return_index=True)[1]] = True
    sums = np.empty(len(coded.dictionary), numbers.dtype)
    sums[codes[is_first]] = numbers[is_first]
    np.add.at(sums, codes[~is_first], numbers[~is_first])  # one after the other, as Python's floats would be
    return pa.StructArray.from_arrays([coded.dictionary, pa.array(sums)], names=["0", "1"])
