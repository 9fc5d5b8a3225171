"""What every sketch must hold to: one battery, inherited by the tests of each class.

A test class derives from `SketchLaws` (its name begins with ``Test``), and says how a sketch is made, fed and compared. "Equal" is bytes
for classes whose merges are exact; others override `assert_same` with their guarantee, or their distribution.
"""

from __future__ import annotations

import copy
import pickle
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from sketches.base import Sketch
from sketches.envelope import OVERHEAD
from sketches.errors import EngineError, SketchBytesError, SketchError, SketchTypeError

SEEDS = range(5)


class SketchLaws:
    """The laws; `make` and `other` must be given."""

    SIZES: ClassVar[tuple[int, ...]] = (0, 1, 2, 50, 3000)
    TAKES_TEXT: ClassVar[bool] = True
    """Whether `update_many` takes strings."""

    @abstractmethod
    def make(self) -> Any:
        """Return an empty sketch; each call with the same parameters."""

    @abstractmethod
    def others(self) -> list[Any]:
        """Return sketches that must not be merged with one of `make`: one for each parameter that differs."""

    def values(self, seed: int, size: int) -> NDArray[Any]:
        """Return a column of values, with repetitions."""
        dice = np.random.default_rng(seed)
        return dice.zipf(1.3, size).astype(np.int64) % 10_000

    def feed(self, sketch: Any, values: NDArray[Any]) -> Any:
        sketch.update_many(values)
        return sketch

    def assert_same(self, one: Any, other: Any, values: NDArray[Any]) -> None:
        """Compare two sketches that have seen `values`."""
        assert one.to_bytes() == other.to_bytes()

    # ------------------------------------------------------------------------------------------------------------------

    def of(self, values: NDArray[Any]) -> Any:
        return self.feed(self.make(), values)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_merging_is_commutative(self, seed: int) -> None:
        first, second = self.values(seed, 1000), self.values(seed + 100, 300)
        one, other = self.of(first), self.of(second)
        one.merge(self.of(second))
        other.merge(self.of(first))
        self.assert_same(one, other, np.concatenate([first, second]))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_merging_is_associative(self, seed: int) -> None:
        parts = [self.values(seed + 10 * number, size) for number, size in enumerate((700, 10, 2000))]
        left, right = self.of(parts[0]), self.of(parts[1])
        left.merge(self.of(parts[1]))
        left.merge(self.of(parts[2]))
        right.merge(self.of(parts[2]))
        whole = self.of(parts[0])
        whole.merge(right)
        self.assert_same(left, whole, np.concatenate(parts))

    @pytest.mark.parametrize("size", [0, 1, 500])
    def test_an_empty_sketch_changes_nothing(self, size: int) -> None:
        values = self.values(1, size)
        before, after, into = self.of(values), self.of(values), self.make()
        after.merge(self.make())
        assert after.to_bytes() == before.to_bytes()
        into.merge(before)
        self.assert_same(into, before, values)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_split_anywhere_it_equals_one_pass(self, seed: int) -> None:
        values = self.values(seed, 3000)
        cuts = sorted(np.random.default_rng(seed).integers(0, len(values), 6).tolist())
        parts = [self.of(part) for part in np.split(values, cuts)]
        self.assert_same(type(parts[0]).merged(parts), self.of(values), values)

    @pytest.mark.parametrize("size", [0, 1, 2, 50, 3000])
    def test_bytes_come_back_as_the_same_sketch(self, size: int) -> None:
        before = self.of(self.values(3, size))
        data = before.to_bytes()
        after = type(before).from_bytes(data)
        assert after.to_bytes() == data
        assert after.parameters == before.parameters
        assert after.is_empty == before.is_empty == (size == 0)
        more = self.values(4, 20)
        self.feed(after, more)
        self.assert_same(after, self.feed(before, more), np.concatenate([self.values(3, size), more]))

    @pytest.mark.parametrize("size", [0, 1, 2, 50, 3000])
    def test_the_declared_size_is_the_size(self, size: int) -> None:
        sketch = self.of(self.values(5, size))
        assert sketch.serialized_size_bytes == len(sketch.to_bytes()) >= OVERHEAD

    def test_what_is_merged_in_and_what_is_taken_stay_as_they_were(self) -> None:
        values = self.values(6, 500)
        kept, sketch, other = values.copy(), self.of(self.values(7, 100)), self.of(values)
        before = other.to_bytes()
        sketch.merge(other)
        self.feed(sketch, self.values(8, 2000))
        assert other.to_bytes() == before
        assert (values == kept).all()

    def test_a_copy_is_another_sketch(self) -> None:
        sketch = self.of(self.values(9, 100))
        before, other = sketch.to_bytes(), sketch.copy()
        assert other.to_bytes() == before
        self.feed(other, self.values(10, 1000))
        assert sketch.to_bytes() == before != other.to_bytes()

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda sketch: pickle.loads(pickle.dumps(sketch))])  # noqa: S301 (our own)
    def test_python_s_own_ways_to_copy_give_another_whole_sketch(self, copied: Callable[[Any], Any]) -> None:
        sketch = self.of(self.values(17, 500))
        before, other = sketch.to_bytes(), copied(sketch)
        assert other.to_bytes() == before
        more = self.values(18, 3000)
        self.feed(other, more)
        assert sketch.to_bytes() == before, "they share nothing"
        self.assert_same(other, self.feed(sketch, more), np.concatenate([self.values(17, 500), more]))

    def test_other_parameters_and_other_kinds_are_refused(self) -> None:
        sketch = self.of(self.values(11, 100))
        before = sketch.to_bytes()
        for other in self.others():
            with pytest.raises(SketchError, match=r"cannot merge sketch '\w+': expected .+, got .+; .+") as error:
                sketch.merge(other)
            name = next(key for key in sketch.parameters if sketch.parameters[key] != other.parameters[key])
            assert name in str(error.value)
            assert repr(sketch.parameters[name]) in str(error.value)
            assert repr(other.parameters[name]) in str(error.value)
        with pytest.raises(SketchError, match="cannot merge sketch"):
            sketch.merge(object())
        assert sketch.to_bytes() == before
        assert {name for other in self.others() for name in other.parameters if other.parameters[name] != sketch.parameters[name]} == set(
            sketch.parameters
        ), "each parameter must be tried"

    def test_values_that_cannot_be_hashed_are_refused_and_nothing_is_taken(self) -> None:
        sketch = self.of(self.values(12, 100))
        before = sketch.to_bytes()
        for wrong in ([1, 2], np.array([1, "a", None], object), np.zeros((2, 2)), np.array([1j]), "text", 5, None):
            with pytest.raises((SketchTypeError, SketchError), match=r"cannot hash argument 'values': expected .+, got .+; .+"):
                sketch.update_many(wrong)
        assert sketch.to_bytes() == before

    def test_no_values_change_nothing(self) -> None:
        sketch = self.of(self.values(13, 100))
        before = sketch.to_bytes()
        self.feed(sketch, self.values(13, 0))
        assert sketch.to_bytes() == before

    def test_damaged_bytes_are_refused(self) -> None:
        sketch = self.of(self.values(14, 300))
        data = sketch.to_bytes()
        dice = np.random.default_rng(14)
        damaged = [data[:-1], data + b"\0", b"", data[: len(data) // 2], b"\0" * len(data)]
        for _ in range(200):
            changed = bytearray(data)
            changed[dice.integers(len(data))] ^= 1 << int(dice.integers(8))
            damaged.append(bytes(changed))
        for wrong in damaged:
            with pytest.raises(SketchBytesError, match="cannot read bytes of sketch"):
                type(sketch).from_bytes(wrong)

    def test_hostile_bytes_with_a_right_checksum_are_refused_or_are_a_sketch(self) -> None:
        """Whoever wrote them computed the checksum: then what is read must be a sketch that works, or an error."""
        from sketches.envelope import open_envelope, seal  # noqa: PLC0415

        sketch = self.of(self.values(15, 300))
        found = open_envelope(sketch.to_bytes(), sketch.KIND, version=sketch.VERSION)
        dice = np.random.default_rng(15)
        for number in range(300):
            parameters, payload = bytearray(found.parameters), bytearray(found.payload)
            target = parameters if (number % 2 and parameters) or not payload else payload
            match number % 5:
                case 0:
                    del target[int(dice.integers(len(target))) :]
                case 1:
                    target += bytes(dice.integers(0, 256, int(dice.integers(1, 20)), np.uint8))
                case _:
                    at = int(dice.integers(len(target)))
                    target[at : at + 4] = bytes(dice.integers(0, 256, len(target[at : at + 4]), np.uint8))
            try:
                other = type(sketch).from_bytes(seal(sketch.KIND, sketch.VERSION, bytes(parameters), bytes(payload)))
            except SketchBytesError:
                continue
            assert type(other).from_bytes(other.to_bytes()).to_bytes() == other.to_bytes()
            try:
                self.feed(other, self.values(16, 50))
            except EngineError:
                continue  # its parameters may not take these values

    def test_the_text_of_it_names_its_parameters(self) -> None:
        sketch = self.make()
        assert all(f"{name}={value!r}" in repr(sketch) for name, value in sketch.parameters.items())
        assert isinstance(sketch, Sketch)
