"""The values that come most often, with how often: a Count-Min sketch and the values that it counts high."""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sketches import heavy_hitters_kernel, heavy_hitters_plain
from sketches.base import Sketch, check_confidence, out_of_range
from sketches.columns import BLOCK, Column, column, hash_blocks, one
from sketches.count_min import CountMinSketch
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.item_forms import KINDS, form_at, hashes_of, pack_forms, unpack_forms, value_of
from sketches.jit import pick
from sketches.whole_weights import sum_of, whole_weights

__all__ = ["HeavyHitter", "HeavyHitters"]

LEAST_PHI: Final = 1e-6
FEWEST: Final = 64  # values there is always room for
PHI: Final = struct.Struct("<d")
HEAD: Final = struct.Struct("<Bq")  # number of the values' kind, 0 for none yet; largest estimate that was dropped

_candidates = pick(heavy_hitters_kernel.candidates, heavy_hitters_plain.candidates)
_lookup_of = pick(heavy_hitters_kernel.lookup_of, heavy_hitters_plain.lookup_of)


class HeavyHitter(NamedTuple):
    """A value that comes often.

    Attributes
    ----------
    item : int, float, bool, str, bytes, datetime64 or timedelta64
    estimate : int
        How often it came; also its upper bound, which is sure.
    lower_bound : int
        At the confidence that was asked for.
    guaranteed : bool
        Whether the lower bound, too, is above the share that was asked for.
    """

    item: Any
    estimate: int
    lower_bound: int
    upper_bound: int
    guaranteed: bool


class HeavyHitters(Sketch):
    """All values that make up at least a share of the total.

    Guarantee: each value with ``count >= phi * total`` is among `items`, for sure (unless `unlisted_bound` says otherwise); a value with
    ``count < phi * total - (e / width) * total`` is among them with probability at most ``e^-depth``, over the hashes of values. Counts
    are as in `CountMinSketch`: never too low.

    Memory: ``8 * (depth * width + 1)`` bytes and the values themselves, at most ``max(64, 4 / phi)`` of them, in a dict. Where the
    table is so narrow that more values than that seem to be heavy, those with the smallest estimates are dropped: `unlisted_bound`
    tells.

    Parameters
    ----------
    phi : float
        The share, from 1e-6 up to, not with, 1.
    depth, width, conservative
        As for `CountMinSketch`.

    Values are all of one type, that of the first ones: integers of 64 bits and those of 32 are two types, as they have other hashes.

    Equal: by guarantee. Sketches of the same values, split or ordered differently, have equal tables (if not conservative) and all the
    values that they must have; those that are only estimated above the share may differ.

    Not supported: decimals (their scale is not kept); negative weights. `SpaceSaving` needs no table and has sure bounds both ways, but
    counts only what it lists; here each value can be asked for.

    References
    ----------
    Cormode, Muthukrishnan: An Improved Data Stream Summary: The Count-Min Sketch and its Applications (2005), section 5.2, theorem 6.

    Examples
    --------
    >>> often = HeavyHitters.from_error(phi=0.1, epsilon=0.01, delta=0.001)
    >>> often.update_many(np.array(["a", "b", "a", "c", "a", "b", "d", "e", "f", "g", "h"]))
    >>> [(hit.item, hit.estimate, hit.guaranteed) for hit in often.items()]
    [('a', 3, True), ('b', 2, True)]
    """

    __slots__ = ("_dropped", "_forms", "_key_parts", "_kind", "_lookup", "_phi", "_room", "_table")
    KIND: ClassVar[str] = "heavy_hitters"

    def __init__(self, phi: float, depth: int, width: int, conservative: bool = False) -> None:
        if not LEAST_PHI <= phi < 1:
            raise out_of_range("phi", f"from {LEAST_PHI:g} up to, not with, 1", phi)
        self._start(float(phi), CountMinSketch(depth, width, conservative))

    def _start(self, phi: float, table: CountMinSketch) -> None:
        self._table, self._phi = table, phi
        self._key_parts = (phi, *table.parameters.values())
        self._room = max(FEWEST, math.ceil(4 / phi))
        self._kind: str | None = None
        self._forms: dict[int, int | bytes] = {}  # by hash
        self._dropped = 0
        self._lookup: NDArray[np.uint64] | None = None

    @classmethod
    def from_error(cls, *, phi: float, epsilon: float, delta: float, conservative: bool = False) -> Self:
        """Make one that lists values with less than a share of ``phi - epsilon`` with probability at most delta.

        Parameters
        ----------
        phi : float
            As for the class.
        epsilon : float
            Above 0, below phi; estimates are too high by at most ``epsilon * total``. A tenth of phi is a good start.
        delta : float
            Above 0, below 1: the probability, for one value, that its estimate is not so.
        conservative : bool
            As for `CountMinSketch`.
        """
        if not 0 < epsilon < phi:
            raise out_of_range("epsilon", f"above 0, below phi {phi!r}", epsilon)
        return cls(phi, *CountMinSketch.from_error(epsilon=epsilon, delta=delta, conservative=conservative).parameters.values())  # type: ignore[arg-type]

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What two sketches must have in common to be merged."""
        return dict(zip(("phi", "depth", "width", "conservative"), self._key_parts, strict=True))

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no weight yet."""
        return self._table.is_empty

    @property
    def total(self) -> int:
        """The sum of all weights."""
        return self._table.total

    @property
    def unlisted_bound(self) -> int:
        """How often a value at most came that is not among `items`: less than ``phi * total``, or what was dropped for want of room."""
        return max(self._least(self._phi) - 1, self._dropped, 0)

    def update(self, value: Any, weight: int = 1) -> None:
        """Take one value, as if it came `weight` times."""
        found = one(value)
        self._update_column(found, whole_weights(weight, len(found)))

    def update_many(self, values: Any, weights: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, all of the type of the first ones.
        weights : array (n,), optional
            How often each came: whole numbers, not negative; one for each row, also for nulls.

        Raises
        ------
        SketchTypeError, SketchError
            Values or weights of other types, or a total above 2^63 - 1; nothing was taken.
        """
        found = column(values)
        self._update_column(found, self._weights_of(weights, len(values), found))

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        return None if weights is None else whole_weights(weights, rows, values.rows)

    def items(self, phi: float | None = None, confidence: float = 0.95) -> list[HeavyHitter]:
        """Return the values that may make up a share of the total, the most frequent first.

        Parameters
        ----------
        phi : float, optional
            The share; not below that of the sketch, which is the default.
        confidence : float
            Of each lower bound.
        """
        share = self._phi if phi is None else phi
        if not self._phi <= share <= 1:
            raise out_of_range("phi", f"from {self._phi!r}, that of the sketch, to 1", phi)
        error, least = self._table.error(check_confidence(confidence)), self._least(share)
        self._settle()
        if self._kind is None:
            return []
        hashes = np.fromiter(self._forms, np.uint64, len(self._forms))
        counts = self._table.estimate_hashes(hashes)
        found = []
        for place in np.lexsort((hashes, -counts)).tolist():
            count = int(counts[place])
            if count >= least:
                lower = max(count - error, 0)
                item = value_of(self._forms[int(hashes[place])], self._kind)
                found.append(HeavyHitter(item, count, lower, count, lower >= least))
        return found

    def estimate(self, value: Any) -> int:
        """Return how often a value came: never less than it did, whether it is listed or not."""
        return self._table.estimate(value)

    def estimate_many(self, values: Any) -> NDArray[np.int64]:
        """Return for each row how often its value came, as an array (n,) int64; 0 for nulls."""
        return self._table.estimate_many(values)

    def lower_bound(self, value: Any, confidence: float = 0.95) -> int:
        """Return a count that with this confidence is not above the true one; see `CountMinSketch`."""
        return self._table.lower_bound(value, confidence)

    def upper_bound(self, value: Any, confidence: float = 0.95) -> int:
        """Return a count that is not below the true one: the estimate, for sure."""
        return self._table.upper_bound(value, confidence)

    def copy(self) -> Self:
        """Return another one with the same content."""
        made = object.__new__(type(self))
        made._start(self._phi, self._table.copy())
        made._kind, made._forms, made._dropped = self._kind, self._forms.copy(), self._dropped
        return made

    # Inside -----------------------------------------------------------------------------------------------------------

    def _least(self, share: float) -> int:
        """Return the smallest count that is such a share."""
        return max(math.ceil(Fraction(str(share)) * self._table.total), 1)  # 7 of 100 are 0.07, in binary a bit less

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        if not len(values):
            return
        counts = weights
        self._check_kind("update", values.kind)
        self._table.check_room(len(values) if counts is None else sum_of(counts))
        self._kind = values.kind
        rows = np.empty(min(BLOCK, len(values)), np.int64)
        for start, part in hash_blocks(values):
            self._table.update_hashes(part, None if counts is None else counts[start : start + part.size])
            if self._lookup is None:
                self._lookup = _lookup_of(np.fromiter(self._forms, np.uint64, len(self._forms)))
            found = rows[: _candidates(self._table.counts, part, self._least(self._phi), self._lookup, rows)]
            if found.size:
                self._list(values, start, found, part)

    def _list(self, values: Column, start: int, rows: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
        """Keep the values of some rows of a block."""
        fresh, firsts = np.unique(hashes[rows], return_index=True)
        for known, row in zip(fresh.tolist(), rows[firsts].tolist(), strict=True):
            self._forms.setdefault(known, form_at(values, start + row))
        self._lookup = None
        if len(self._forms) > self._room:
            self._settle()

    def _settle(self) -> None:
        """Let go what is below the share now, and the smallest ones where there are too many."""
        hashes = np.fromiter(self._forms, np.uint64, len(self._forms))
        counts = self._table.estimate_hashes(hashes)
        kept = counts >= self._least(self._phi)
        if np.count_nonzero(kept) > self._room:
            order = np.lexsort((hashes, -counts))  # of equal counts the smaller hash stays: nothing depends on the order of the dict
            kept[order[self._room :]] = False
            self._dropped = max(self._dropped, int(counts[order[self._room]]))
        if not kept.all():
            self._forms = {known: self._forms[known] for known in hashes[kept].tolist()}
            self._lookup = None

    def _check_kind(self, action: str, kind: str) -> None:
        expected = f"values of type {self._kind!r}" if self._kind else f"values of a type of {', '.join(KINDS)}"
        if kind not in KINDS or (self._kind or kind) != kind:
            todo = "bring all values to one type, such as by astype or cast"
            raise SketchError(action, "sketch", self.KIND, expected=expected, got=repr(kind), why="it gives the values back", todo=todo)

    def _merge(self, other: Self) -> None:
        if other._kind is not None:
            self._check_kind("merge", other._kind)
        dropped = max(self._dropped, other._dropped)
        if dropped and not (self.is_empty or other.is_empty):
            dropped = self.unlisted_bound + other.unlisted_bound  # of a value that neither of the two lists
        self._table.merge(other._table)
        self._kind = self._kind or other._kind
        self._forms = {**self._forms, **other._forms}
        self._dropped, self._lookup = dropped, None
        self._settle()

    def _key(self) -> Any:
        return self._key_parts

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        self._settle()
        forms = pack_forms(self._forms.values(), self._kind) if self._kind else b""
        head = HEAD.pack(KINDS.index(self._kind) + 1 if self._kind else 0, self._dropped)
        return PHI.pack(self._phi), b"".join((head, forms, self._table.to_bytes()))

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PHI.size or len(payload) < HEAD.size:
            raise damaged(cls.KIND, f"{PHI.size} bytes of parameters, and a head", f"{len(parameters)} and {len(payload)}")
        (phi,), (kind, dropped) = PHI.unpack_from(parameters), HEAD.unpack_from(payload)
        if not (LEAST_PHI <= phi < 1 and kind <= len(KINDS) and dropped >= 0):
            raise damaged(cls.KIND, "phi, kind of values and bound in their ranges", f"{phi!r}, {kind}, {dropped}")
        rest, forms = payload[HEAD.size :], list[Any]()
        if kind:
            forms, rest = unpack_forms(cls.KIND, rest, KINDS[kind - 1], max(FEWEST, math.ceil(4 / phi)))
        made = object.__new__(cls)
        made._start(phi, CountMinSketch.from_bytes(rest))
        if not kind:
            if made.total or dropped:
                raise damaged(cls.KIND, "no counts without values", f"{made.total:,}, {dropped:,}")
            return made
        made._kind, made._dropped = KINDS[kind - 1], dropped
        made._forms = dict(zip(hashes_of(forms, made._kind).tolist(), forms, strict=True))
        before = len(made._forms)
        made._settle()
        if len(made._forms) != before or before != len(forms) or dropped > made.total:
            raise damaged(cls.KIND, f"values that came {made._least(phi):,} times or more", "others")
        return made
