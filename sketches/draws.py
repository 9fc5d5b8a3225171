"""Random numbers that depend on a key and a counter only, and functions of them that give the same bits on each machine.

The numbers are XXH64 of the counter, with the key for a seed: nothing is stored but the two. Logarithm and exponential are made of sums,
products and exact scaling, because those of NumPy and of the C library differ in the last bit from one processor to another.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sketches import hash_kernel, hash_plain
from sketches.base import is_whole, out_of_range
from sketches.columns import Column
from sketches.jit import pick

__all__ = ["checked_seed", "digest", "exp", "fold", "log", "log_one_minus", "uniforms"]

Floats = NDArray[np.float64]

UNUSED_BITS: Final = np.uint64(12)
STEP: Final = 2.0**-52
LN2_HIGH: Final = float.fromhex("0x1.62e42fefap-1")  # its last bits are zeros: a product with an exponent is exact
LN2_LOW: Final = float.fromhex("0x1.cf79abc9e3b39p-40")
HALF_ROOT: Final = float.fromhex("0x1.6a09e667f3bcdp-1")  # sqrt(1/2)
ODD: Final = [1 / n for n in range(23, 1, -2)]  # of 2 atanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), |s| < 0.172
FACTORIALS: Final = [1 / f for f in (6227020800, 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1)]
LEAST_EXPONENT: Final = -700.0
MOST_SEED: Final = (1 << 64) - 1
ODD_STRIDE: Final = np.uint64(0x9E3779B97F4A7C15)

_hash_words8 = pick(hash_kernel.hash_words8, hash_plain.hash_words8)


def uniforms(key: int, first: int, n: int) -> Floats:
    """Return numbers `first` to ``first + n - 1`` of a key: multiples of 2^-53 inside (0, 1), never 0 nor 1."""
    words = np.arange(first, first + n, dtype=np.uint64)
    out = np.empty(n, np.uint64)
    _hash_words8(words, np.uint64(key), out)
    return ((out >> UNUSED_BITS).astype(np.float64) + 0.5) * STEP


def fold(key: int, *words: int) -> int:
    """Return a key made of one and of some words of 64 bits."""
    out = np.empty(1, np.uint64)
    for word in words:
        _hash_words8(np.array([word & MOST_SEED], np.uint64), np.uint64(key), out)
        key = int(out[0])
    return key


def digest(key: int, values: Column, weights: Floats | None = None) -> int:
    """Return a key made of one and of values in their order, with their weights."""
    found = np.empty(len(values), np.uint64)
    values.hash_into(0, len(values), found)
    found += np.arange(len(values), dtype=np.uint64) * ODD_STRIDE
    if weights is not None:
        found ^= weights.view(np.uint64)
    mixed = np.empty_like(found)
    _hash_words8(found, np.uint64(key), mixed)
    return fold(key, int(np.add.reduce(mixed)))


def checked_seed(seed: int) -> int:
    """Refuse a seed that is no integer of 64 bits."""
    if not is_whole(seed, 0, MOST_SEED):
        raise out_of_range("seed", "an integer from 0 to 2^64 - 1", seed)
    return int(seed)


def log(x: Floats) -> Floats:
    """Return natural logarithms of positive normal numbers, within 2 units in the last place."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < HALF_ROOT
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    power = (exponent - low).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = np.full_like(z, ODD[0])
    for term in ODD[1:]:
        series = series * z + term
    return power * LN2_HIGH + (power * LN2_LOW + (2.0 * s + 2.0 * s * (z * series)))


def exp(x: Floats) -> Floats:
    """Return the exponential of numbers not above 0; of those below -700, that of -700."""
    bounded = np.maximum(x, LEAST_EXPONENT)
    power = np.rint(bounded / (LN2_HIGH + LN2_LOW))
    rest = (bounded - power * LN2_HIGH) - power * LN2_LOW
    series = np.full_like(rest, FACTORIALS[0])
    for term in FACTORIALS[1:]:
        series = series * rest + term
    return np.ldexp(series, power.astype(np.int32))


def log_one_minus(w: Floats) -> Floats:
    """Return log(1 - w) for w in (0, 1], small ones in full precision; 1 is taken as a little less."""
    rest = np.maximum(1.0 - w, STEP / 4.0)
    lost = rest - 1.0  # what is left of -w after rounding
    with np.errstate(invalid="ignore"):
        return np.where(lost == 0.0, -w, log(rest) * (-w / np.where(lost == 0.0, 1.0, lost)))
