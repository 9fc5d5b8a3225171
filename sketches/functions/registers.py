"""Columns of stored HyperLogLog and UltraLogLog: registers of many sketches at once, and what they count.

A form that is surely sound is read by loops over the column; each other one by its class, which says what is wrong with it. What numbers
mean (which register is which event) is asked of the class too, so that there is one place for it.
"""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from sketches.base import check_confidence
from sketches.distinct import DistinctSketch
from sketches.envelope import CHECKSUM, HEADER, NUMBERS
from sketches.errors import EngineError
from sketches.functions import registers_kernel
from sketches.functions.rows import Rows
from sketches.hyperloglog import HyperLogLog
from sketches.jit import HAS_NUMBA
from sketches.likelihood import most_likely
from sketches.ultraloglog import UltraLogLog

__all__ = ["DISTINCT", "Counted", "Registers", "blocks", "counted", "united"]

DISTINCT: Final = (HyperLogLog, UltraLogLog)
LENGTH_OF_PARAMETERS: Final = 6  # where it is in the header, then that of the payload
BLOCK_BYTES: Final = 1 << 20  # of registers that are worked on at once
ALL: Final = 256  # what a register may be


class Counted(NamedTuple):
    """What some sketches count: estimates and bounds, each an ndarray (n,) float64."""

    estimate: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class Registers(NamedTuple):
    """Registers of some forms, all of the parameters of `template`: states is an ndarray (n, 2**precision) uint8."""

    template: DistinctSketch
    which: NDArray[np.int64]
    states: NDArray[np.uint8]


def blocks(rows: Rows, which: NDArray[np.int64]) -> Iterator[Registers]:
    """Yield the registers of some forms, block by block; those that are no such sketches are refused, and left out.

    Parameters
    ----------
    which : ndarray (n,) int64
        Of the forms; one may come several times.
    """
    codes = _parameters(rows, which)
    for code in np.unique(codes).tolist():
        some = which[codes == code]
        if code == 0 or not HAS_NUMBA:
            yield from _by_class(rows, some)
            continue
        template = _template(code)
        step = max(1, BLOCK_BYTES // template.state.size)
        for start in range(0, some.size, step):
            yield from _by_loops(rows, some[start : start + step], template)


def counted(found: Registers, confidence: float) -> Counted:
    """Return what sketches count, with the bounds of their class: `DistinctSketch.estimate`, `lower_bound` and `upper_bound`.

    Guarantee: the same bits, but for the last one where a register is some 50 ranks above the others, which no values give.
    """
    kind, size = type(found.template), found.template.state.size
    wide = NormalDist().inv_cdf(0.5 + 0.5 * check_confidence(confidence))
    rates, variances = _rates(found)
    used = np.count_nonzero(found.states, axis=1).astype(np.float64)
    own = np.zeros(rates.size)
    some = np.flatnonzero((rates > 0) & np.isfinite(rates))
    own[some] = np.maximum(variances[some] - 1.0 / (rates[some] * size), 0.0)
    estimate = size * rates / (1.0 + kind.BIAS / kind.VARIANCE * own)
    spread = np.fromiter(map(math.exp, (wide * np.sqrt(own)).tolist()), np.float64, own.size)  # NumPy's own differs in the last bit
    lower = np.minimum(np.maximum(estimate / spread, used), estimate)
    upper = estimate * spread + 1.0 + wide * wide / 6.0
    upper[estimate == 0.0] = 0.0
    lower[np.isinf(estimate)] = size
    return Counted(estimate, lower, upper)


def united(one: Registers, other: Registers) -> Registers:
    """Return the unions of sketches, pair by pair; both have the same parameters."""
    both = one.template.of_state(one.states.reshape(-1).copy())
    both._merge(one.template.of_state(other.states.reshape(-1)))
    return Registers(one.template, one.which, both.state.reshape(one.states.shape))


# Reading --------------------------------------------------------------------------------------------------------------


def _parameters(rows: Rows, which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each form a number for its kind and parameters, as `_template` takes it; 0 where the class has to look at it."""
    codes = np.zeros(which.size, np.int64)
    for kind, length in ((HyperLogLog, 2), (UltraLogLog, 1)):
        some = np.flatnonzero(rows.code[which] == NUMBERS[kind.KIND])
        starts = rows.starts[which[some]]
        sizes = rows.ends[which[some]] - starts
        head = rows.data[starts[:, None] + np.arange(HEADER.size + length)].astype(np.int64)
        payload = head[:, 8] | head[:, 9] << 8 | head[:, 10] << 16 | head[:, 11] << 24
        fits = (head[:, 5] == kind.VERSION) & (head[:, LENGTH_OF_PARAMETERS] == length) & (head[:, LENGTH_OF_PARAMETERS + 1] == 0)
        fits &= (payload > 0) & (sizes == HEADER.size + length + payload + CHECKSUM.size)
        fits &= (head[:, HEADER.size] >= kind.LEAST) & (head[:, HEADER.size] <= kind.MOST) & (head[:, -1] <= kind.MOST)
        codes[some[fits]] = NUMBERS[kind.KIND] << 16 | head[fits, HEADER.size] << 8 | (head[fits, -1] if length > 1 else 0)
    return codes


def _template(code: int) -> DistinctSketch:
    """Return an empty sketch of these parameters."""
    precision = code >> 8 & 255
    if code >> 16 == NUMBERS[UltraLogLog.KIND]:
        return UltraLogLog(precision)
    return HyperLogLog(precision, "murmur3" if code & 255 else "xxh64")


def _by_loops(rows: Rows, which: NDArray[np.int64], template: DistinctSketch) -> Iterator[Registers]:
    states = np.zeros((which.size, template.state.size), np.uint8)
    sound = np.fromiter((_is_whole(rows, form) for form in which.tolist()), np.bool_, which.size)
    length = 2 if isinstance(template, HyperLogLog) else 1
    starts, ends = rows.starts[which] + (HEADER.size + length), rows.ends[which] - CHECKSUM.size
    registers_kernel.read(rows.data, starts, ends, template._possible(template.precision), sound, states)
    if sound.all():
        yield Registers(template, which, states)
        return
    yield Registers(template, which[sound], states[sound])
    yield from _by_class(rows, which[~sound])


def _is_whole(rows: Rows, form: int) -> bool:
    data = rows.view(form)
    return bool(google_crc32c.value(bytes(data[: -CHECKSUM.size])) == int.from_bytes(data[-CHECKSUM.size :], "little"))


def _by_class(rows: Rows, which: NDArray[np.int64]) -> Iterator[Registers]:
    for form in which.tolist():
        try:
            sketch = rows.read(form, *DISTINCT)
        except EngineError as error:
            rows.refuse(form, error)
            continue
        yield Registers(sketch, np.array([form]), sketch.state[None, :])


# Counting -------------------------------------------------------------------------------------------------------------


def _rates(found: Registers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `sketches.likelihood.most_likely` of each sketch."""
    if not HAS_NUMBA or len(found.states) == 1:
        pairs = [_rate_of(found.template, state) for state in found.states]
        return np.array([rate for rate, _ in pairs]), np.array([variance for _, variance in pairs])
    never, happened = _events_of(found.template)
    rates, variances = np.empty(len(found.states)), np.empty(len(found.states))
    registers_kernel.rates(found.states, never, happened, rates, variances)
    return rates, variances


def _rate_of(template: DistinctSketch, state: NDArray[Any]) -> tuple[float, float]:
    return most_likely(*template.of_state(state)._events())


def _events_of(template: DistinctSketch) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return for each register what it says of the hashes: the share of them that never came, and how often an event of 2**-u did."""
    never, happened = np.zeros(ALL), np.zeros((ALL, 65), np.int64)
    for register in np.flatnonzero(template._possible(template.precision)).tolist():
        never[register], events = template.of_state(np.array([register], np.uint8))._events()
        for rank, count in events.items():
            happened[register, rank] = count
    return never, happened
