"""What known functions give, worked out on whole columns.

Guarantee: a result has exactly the values, and the types, that the function gives element by element; where that is not
sure (an overflow, a division by zero, a None, letters beyond ASCII in `lower`) there is no result, and the caller calls
the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.dstream.columns.known import Argument, Constant, Expression, Tuple

__all__ = ["flat", "mapped", "mask"]

Kernel: TypeAlias = Callable[..., Any]
INT, FLOAT, TEXT, TRUTH, RAW = pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.binary()
EXACT: Final = 2**53  # ints up to here are floats
SPACE: Final = " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"  # what str.split and str.strip take as space, in ASCII
MORE_SPACE: Final = "\x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"  # and beyond
ODD_SPACE: Final = "\x1c\x1d\x1e\x1f"  # what Arrow does not split at
INT_TEXT: Final = r"\A-?[0-9]{1,18}\z"
FLOAT_TEXT: Final = r"\A-?[0-9]{1,15}(\.[0-9]{1,15})?\z"
TYPES: Final = {int: INT, float: FLOAT, str: TEXT, bool: TRUTH, bytes: RAW}


class _NotForItError(Exception):
    """The column may hold something for which the kernel is not exact."""


def mapped(found: Expression, *columns: pa.Array) -> pa.Array | None:
    """Return the function's results as one column, or None."""
    made = _worked_out(found, columns)
    return None if made is None or pa.types.is_list(made.type) else made


def flat(found: Expression, column: pa.Array) -> pa.ListArray | None:
    """Return the function's results, each of them a list, or None."""
    made = _worked_out(found, (column,))
    return made if made is not None and pa.types.is_list(made.type) else None


def mask(found: Expression, column: pa.Array) -> pa.BooleanArray | None:
    """Return whether each result counts as true, or None."""
    made = _worked_out(found, (column,))
    if made is None:
        return None
    try:
        return _truth(made)
    except _NotForItError:
        return None


def _worked_out(found: Expression, columns: tuple[pa.Array, ...]) -> pa.Array | None:
    try:
        made = _Columns(columns).value(found)
    except (_NotForItError, pa.ArrowException, OverflowError, UnicodeEncodeError):  # the last two: constants that no column holds
        return None
    return made if isinstance(made, pa.Array) else None


class _Columns:
    """The arguments, all of one length."""

    def __init__(self, columns: tuple[pa.Array, ...]) -> None:
        self.columns = columns
        self.rows = len(columns[0])

    def value(self, found: Expression) -> pa.Array:
        if isinstance(found, Argument):
            return self.columns[found.place]
        if isinstance(found, Constant):
            return self.constant(found.value)
        if isinstance(found, Tuple):
            return self.tuple_of([self.value(field) for field in found.fields])
        return self.applied(found.what, found.operands)

    def applied(self, what: str, operands: tuple[Expression, ...]) -> pa.Array:
        if what == "[]" and isinstance(operands[1], Constant):
            return _item(self.value(operands[0]), operands[1].value)
        if what in {"is", "in"}:
            return self.member(what, *operands)
        if what.startswith("."):
            return self.method(what, operands)
        kernel = KERNELS.get((what, len(operands)))
        if kernel is None:
            raise _NotForItError
        return kernel(*(_whole(self.value(operand)) for operand in operands))

    def tuple_of(self, fields: list[pa.Array]) -> pa.Array:
        if any(pa.types.is_list(field.type) for field in fields):
            raise _NotForItError
        return pa.StructArray.from_arrays(fields, names=[str(place) for place in range(len(fields))])

    def constant(self, value: Any) -> pa.Array:
        if value is None:
            return pa.nulls(self.rows)
        return pa.repeat(pa.scalar(value, TYPES[type(value)]), self.rows)

    def member(self, what: str, left: Expression, right: Expression) -> pa.Array:
        if what == "is" and right == Constant(None):
            return self.value(left).is_null()
        if what == "in" and isinstance(left, Constant) and type(left.value) is str:
            return pc.match_substring(_typed(self.value(right), TEXT), left.value)
        raise _NotForItError

    def method(self, what: str, operands: tuple[Expression, ...]) -> pa.Array:
        given = []
        for operand in operands[1:]:
            if not isinstance(operand, Constant) or type(operand.value) is not str:
                raise _NotForItError
            given.append(operand.value)
        kernel = METHODS.get((what, len(given)))
        if kernel is None:
            raise _NotForItError
        return kernel(_typed(self.value(operands[0]), TEXT), *given)


def _whole(column: pa.Array) -> pa.Array:
    if column.null_count:
        raise _NotForItError
    return column


def _typed(column: pa.Array, *types: pa.DataType) -> pa.Array:
    if column.type not in types:
        raise _NotForItError
    return _whole(column)


def _item(column: pa.Array, place: Any) -> pa.Array:
    kind = _whole(column).type
    if pa.types.is_list(kind) and place >= 0 and pc.all(pc.greater(pc.list_value_length(column), place), min_count=0).as_py():
        return pc.list_element(column, place)
    if not pa.types.is_struct(kind) or not -kind.num_fields <= place < kind.num_fields:
        raise _NotForItError
    return column.field(place % kind.num_fields)


def _truth(made: pa.Array) -> pa.BooleanArray:
    if made.type == TRUTH:
        return _whole(made)
    if made.type in {TEXT, RAW}:
        return pc.greater(pc.binary_length(_whole(made)), 0)
    if pa.types.is_list(made.type):
        return pc.greater(pc.list_value_length(made), 0)
    return pc.not_equal(_typed(made, INT, FLOAT), 0)


# Numbers.


def _numbers(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array]:
    _typed(left, INT, FLOAT)
    _typed(right, INT, FLOAT)
    if left.type == right.type:
        return left, right
    return _exact_float(left), _exact_float(right)


def _exact_float(column: pa.Array) -> pa.Array:
    return column if column.type == FLOAT else _small(column).cast(FLOAT)


def _small(column: pa.Array) -> pa.Array:
    found = pc.min_max(column).as_py()
    if len(column) and (found["min"] < -EXACT or found["max"] > EXACT):
        raise _NotForItError
    return column


def _add(left: pa.Array, right: pa.Array) -> pa.Array:
    if left.type == right.type == TEXT:
        return pc.binary_join_element_wise(left, right, "")
    return pc.add_checked(*_numbers(left, right))


def _subtract(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.subtract_checked(*_numbers(left, right))


def _multiply(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.multiply_checked(*_numbers(left, right))


def _divide(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.divide(_exact_float(_typed(left, INT, FLOAT)), _exact_float(_without_zero(_typed(right, INT, FLOAT))))


def _floor_divide(left: pa.Array, right: pa.Array) -> pa.Array:
    return pa.array(np.floor_divide(_ints(left), _ints(_without_zero(right))))


def _remainder(left: pa.Array, right: pa.Array) -> pa.Array:
    return pa.array(np.remainder(_ints(left), _ints(_without_zero(right))))


def _ints(column: pa.Array) -> NDArray[np.int64]:
    made: NDArray[np.int64] = _small(_typed(column, INT)).to_numpy()
    return made


def _without_zero(column: pa.Array) -> pa.Array:
    if pc.any(pc.equal(column, 0)).as_py():
        raise _NotForItError
    return column


def _absolute(column: pa.Array) -> pa.Array:
    return pc.abs_checked(_typed(column, INT, FLOAT))


def _least(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.min_element_wise(_typed(left, INT), _typed(right, INT))


def _greatest(left: pa.Array, right: pa.Array) -> pa.Array:
    return pc.max_element_wise(_typed(left, INT), _typed(right, INT))


def _compared(kernel: Kernel) -> Kernel:
    def run(left: pa.Array, right: pa.Array) -> pa.Array:
        if left.type == right.type and left.type in {TEXT, RAW, TRUTH}:
            return kernel(left, right)
        return kernel(*_numbers(left, right))

    return run


# Conversions.


def _length(column: pa.Array) -> pa.Array:
    if column.type == TEXT:
        return pc.utf8_length(column).cast(INT)
    if column.type == RAW:
        return pc.binary_length(column).cast(INT)
    if pa.types.is_list(column.type):
        return pc.list_value_length(column).cast(INT)
    raise _NotForItError


def _as_text(column: pa.Array) -> pa.Array:
    return column if column.type == TEXT else _typed(column, INT).cast(TEXT)


def _as_int(column: pa.Array) -> pa.Array:
    return column if column.type == INT else _looks(column, INT_TEXT).cast(INT)


def _as_float(column: pa.Array) -> pa.Array:
    if column.type == INT:
        return _exact_float(column)
    return column if column.type == FLOAT else _looks(column, FLOAT_TEXT).cast(FLOAT)


def _looks(column: pa.Array, pattern: str) -> pa.Array:
    if not pc.all(pc.match_substring_regex(_typed(column, TEXT), pattern), min_count=0).as_py():
        raise _NotForItError
    return column


# Texts.


def _ascii(column: pa.Array) -> pa.Array:
    if not pc.all(pc.string_is_ascii(column), min_count=0).as_py():
        raise _NotForItError
    return column


def _trimmed(kernel: Kernel) -> Kernel:
    return lambda column, characters=SPACE: kernel(_ascii(column), characters=characters)


def _split_at(column: pa.Array, separator: str) -> pa.ListArray:
    if not separator:
        raise _NotForItError
    return pc.split_pattern(column, separator)


def _split(column: pa.Array) -> pa.ListArray:
    """Split as `str.split()`: at any run of white space, without empty strings."""
    has_more = not pc.all(pc.string_is_ascii(column), min_count=0).as_py()
    for one in ODD_SPACE + (MORE_SPACE if has_more else ""):
        if pc.any(pc.match_substring(column, one)).as_py():
            column = pc.replace_substring(column, one, " ")
    made = pc.ascii_split_whitespace(column)
    words = made.flatten()
    is_word = pc.greater(pc.binary_length(words), 0)
    if pc.all(is_word, min_count=0).as_py():
        return made
    before = np.concatenate(([0], np.cumsum(is_word.to_numpy(zero_copy_only=False))))
    offsets = made.offsets.to_numpy()
    return pa.ListArray.from_arrays(pa.array(before[offsets - offsets[0]].astype(np.int32)), words.filter(is_word))


def _replaced(column: pa.Array, old: str, new: str) -> pa.Array:
    if not old:
        raise _NotForItError
    return pc.replace_substring(column, old, new)


KERNELS: Final[dict[tuple[str, int], Kernel]] = {
    ("+", 2): _add, ("-", 2): _subtract, ("*", 2): _multiply, ("/", 2): _divide, ("//", 2): _floor_divide, ("%", 2): _remainder,
    ("<", 2): _compared(pc.less), ("<=", 2): _compared(pc.less_equal), ("==", 2): _compared(pc.equal),
    ("!=", 2): _compared(pc.not_equal), (">", 2): _compared(pc.greater), (">=", 2): _compared(pc.greater_equal),
    ("not", 1): lambda column: pc.invert(_truth(column)), ("bool", 1): _truth, ("abs", 1): _absolute,
    ("min", 2): _least, ("max", 2): _greatest, ("len", 1): _length, ("str", 1): _as_text, ("int", 1): _as_int, ("float", 1): _as_float,
}  # fmt: skip
METHODS: Final[dict[tuple[str, int], Kernel]] = {
    (".split", 0): _split, (".split", 1): _split_at, (".replace", 2): _replaced,
    (".lower", 0): lambda column: pc.ascii_lower(_ascii(column)), (".upper", 0): lambda column: pc.ascii_upper(_ascii(column)),
    (".strip", 0): _trimmed(pc.ascii_trim), (".strip", 1): _trimmed(pc.ascii_trim),
    (".lstrip", 0): _trimmed(pc.ascii_ltrim), (".lstrip", 1): _trimmed(pc.ascii_ltrim),
    (".rstrip", 0): _trimmed(pc.ascii_rtrim), (".rstrip", 1): _trimmed(pc.ascii_rtrim),
    (".startswith", 1): pc.starts_with, (".endswith", 1): pc.ends_with,
}  # fmt: skip
