"""A column of stored sketches as the functions see it, and what becomes of rows that are none.

column (binary, nulls) --- place of each row ---> forms: stored sketches, equal neighbours once ---> Sketch, or a refusal
                                |
answers of the rows <--- spread ---------------------------------------- answers of the forms
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import sketches
from sketches.arrow_columns import to_arrow
from sketches.base import Sketch
from sketches.columns import is_arrow
from sketches.envelope import KINDS, MAGIC, OVERHEAD, kind_of
from sketches.errors import EngineError, SketchBytesError, SketchError, SketchTypeError
from sketches.templates import CLASSES as NAMES

__all__ = ["CLASSES", "OnError", "Rows", "refusal", "stored_column"]

OnError = Literal["fail", "null"]
S = TypeVar("S", bound=Sketch)
Answer = TypeVar("Answer")

CLASSES: Final[Mapping[str, type[Sketch]]] = {kind: getattr(sketches, name) for kind, name in NAMES.items()}
GO_ON: Final = "or go on without such rows by on_error='null'; error(...) says what is wrong with each"
ENDS_AT_KIND: Final = 5  # bytes


class Rows:
    """The stored sketches of a column.

    Parameters
    ----------
    sketches : pyarrow.Array or ChunkedArray of binary
        Also large or fixed-size binary, binary views and dictionaries of these; nulls allowed.
    function : str
        Who asks, for errors.
    on_error : "fail" or "null"
        What becomes of a row that cannot be answered: an error that names it, or null.
    once : bool
        Whether neighbours with equal bytes are one form.
    begin : int
        Number of the first row, for errors.

    Attributes
    ----------
    stored : pyarrow.LargeBinaryArray (n,)
    starts, ends : ndarray (forms,) int64
        Where each form is in `data`.
    place : ndarray (n,) int64
        Which form a row has; -1 for null.
    first : ndarray (forms,) int64
        The first row that has a form.
    code : ndarray (forms,) uint8
        Number of the kind in `sketches.envelope.KINDS` that a form begins as; 0 for none of them.
    """

    def __init__(self, sketches: Any, function: str, on_error: OnError, *, once: bool = True, begin: int = 0) -> None:
        if on_error not in ("fail", "null"):
            raise SketchError("use", "argument", "on_error", expected="'fail' or 'null'", got=repr(on_error), todo="give one of these")
        self.function, self.on_error, self.begin = function, on_error, begin
        self.stored = stored_column(sketches)
        _, places, buffer = self.stored.buffers()
        size, offset = len(self.stored), self.stored.offset
        ends = np.zeros(1, np.int64) if places is None or not size else np.frombuffer(places, np.int64)[offset : offset + size + 1]
        self._bytes = memoryview(b"" if buffer is None else buffer).cast("B")
        self.data: NDArray[np.uint8] = np.frombuffer(self._bytes, np.uint8)
        self.data.flags.writeable = False  # whoever made it, so that kernels are compiled once
        valid = np.asarray(self.stored.is_valid()) if self.stored.null_count else np.ones(size, np.bool_)
        self.first = np.flatnonzero(valid)
        self.starts, self.ends = ends[:-1][self.first], ends[1:][self.first]
        forms = np.arange(self.first.size)
        if once and forms.size > 1:
            forms = self._joined()
        self.place = np.full(size, -1, np.int64)
        self.place[valid] = forms
        self.code = self._codes()

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def forms(self) -> int:
        """How many forms there are."""
        return int(self.starts.size)

    def view(self, form: int) -> memoryview:
        """Return the bytes of a form."""
        return self._bytes[self.starts[form] : self.ends[form]]

    def _joined(self) -> NDArray[np.int64]:
        """Make one form of equal neighbours, and return which form each has become: told by lengths and checksums, then by all bytes."""
        lengths = self.ends - self.starts
        same = (lengths[1:] == lengths[:-1]) & (lengths[1:] >= OVERHEAD)
        some = np.flatnonzero(same)
        tails = self.ends[:, None] - np.arange(1, 5)
        same[some] = (self.data[tails[some]] == self.data[tails[some + 1]]).all(axis=1)
        for at in np.flatnonzero(same).tolist():
            ours, theirs = slice(self.starts[at], self.ends[at]), slice(self.starts[at + 1], self.ends[at + 1])
            same[at] = bool((self.data[ours] == self.data[theirs]).all())
        begins = np.concatenate(([True], ~same))
        self.first, self.starts, self.ends = self.first[begins], self.starts[begins], self.ends[begins]
        return np.cumsum(begins) - 1

    def _codes(self) -> NDArray[np.uint8]:
        long = np.flatnonzero(self.ends - self.starts >= OVERHEAD)
        heads = self.data[self.starts[long, None] + np.arange(ENDS_AT_KIND)]
        ours = (heads[:, :4] == np.frombuffer(MAGIC, np.uint8)).all(axis=1) & (heads[:, 4] >= 1) & (heads[:, 4] <= max(KINDS))
        code = np.zeros(self.forms, np.uint8)
        code[long[ours]] = heads[ours, 4]
        return code

    # Reading ----------------------------------------------------------------------------------------------------------

    def read(self, form: int, *kinds: type[S]) -> S:
        """Return the sketch of a form.

        Raises
        ------
        SketchBytesError, SketchError
            It is damaged, or of none of the kinds.
        """
        view = self.view(form)
        known = {some.KIND: some for some in kinds}
        name = kind_of(view)
        if name not in known:
            expected = f"a sketch of kind {' or '.join(map(repr, known))}"
            raise SketchError(
                "ask", "sketch", name, expected=expected, got=repr(name), why="others have no answer", todo="ask one of these"
            )
        return known[name].from_bytes(view)

    def refuse(self, form: int, error: EngineError) -> None:
        """Do with a row what the caller asked for: raise what is wrong with it, or nothing, which leaves it null."""
        self.refuse_row(int(self.first[form]), error)

    def refuse_row(self, row: int, error: EngineError) -> None:
        """Do as `refuse` for a row by its number."""
        if self.on_error == "fail":
            raise refusal(self.function, self.begin + row, error) from error

    def answers(self, ask: Callable[[S], Answer], *kinds: type[S], which: NDArray[np.int64] | None = None) -> list[Answer | None]:
        """Return what each form, or some of them, answers; None where it was refused, or the answer was."""
        found: list[Answer | None] = []
        for form in range(self.forms) if which is None else which.tolist():
            try:
                found.append(ask(self.read(form, *kinds)))
            except EngineError as error:
                self.refuse(form, error)
                found.append(None)
        return found

    def groups(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield each form with the rows that have it."""
        order = np.argsort(self.place, kind="stable")[np.count_nonzero(self.place < 0) :]
        starts = np.flatnonzero(np.diff(self.place[order], prepend=-1))
        yield from enumerate(np.split(order, starts[1:]) if order.size else [])

    def spread(self, answers: pa.Array) -> pa.Array:
        """Return for each row the answer of its form."""
        if self.forms == len(self):
            return answers
        return answers.take(pa.array(np.maximum(self.place, 0), mask=self.place < 0))

    def typed(self, answers: Sequence[Any], kind: pa.DataType) -> pa.Array:
        """Return the answers of the forms, spread over the rows, as an array of a type."""
        return self.spread(pa.array(answers, kind))


def refusal(function: str, row: int, error: EngineError) -> EngineError:
    """Return the error of a row: of the kind of what is wrong with it, `SketchError` or one beside it."""
    kind = next((some for some in (SketchBytesError, SketchTypeError) if isinstance(error, some)), SketchError)
    todo = f"{error.todo}, {GO_ON}"
    return kind(f"answer {function} for", "row", str(row), expected=error.expected, got=error.got, why=error.why, todo=todo)


def stored_column(sketches: Any) -> pa.Array:
    """Return a column of stored sketches as one array of large binary; nothing is copied of the bytes of one chunk.

    Raises
    ------
    SketchTypeError
        It is no Arrow column, or not of binary values.
    """
    if isinstance(sketches, np.ndarray) or not is_arrow(sketches):
        raise _refused(type(sketches).__name__)
    array = to_arrow(sketches)
    if isinstance(array, pa.ChunkedArray):
        chunks = [_large(chunk) for chunk in array.chunks]
        return chunks[0] if len(chunks) == 1 else pa.concat_arrays([pa.array([], pa.large_binary()), *chunks])
    return _large(array)


def _large(array: pa.Array) -> pa.Array:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _large(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return _large(array.storage)
    if pa.types.is_null(kind):
        return array.cast(pa.large_binary())
    if pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind):
        return array.cast(pa.binary()).cast(pa.large_binary())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return array.cast(pa.large_binary())
    raise _refused(f"an Arrow array of {kind}")


def _refused(got: str) -> SketchTypeError:
    expected = "an Arrow array of binary"
    return SketchTypeError("read", "argument", "sketches", expected=expected, got=got, todo="give a column of what to_bytes returned")
