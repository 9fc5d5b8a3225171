"""How many buckets, and what Spark sees of them."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spark_ext.errors import SettingsError

__all__ = ["MOST_BUCKETS", "buckets_for", "check_buckets", "labels"]

MOST_BUCKETS: Final = 16_384  # two bytes
PARALLELISM: Final = 8
KEYS_PER_BUCKET: Final = 65_536
SEED: Final = 42  # Spark's, of the hash that it shuffles by


def buckets_for(expected_keys: int, *, parallelism: int = PARALLELISM) -> int:
    """Return a number of buckets: a power of two, one for each parallel task and one for each 65,536 keys.

    A bucket costs about a millisecond per batch, and its state is rewritten whole when it gets a row: few for few keys, more for
    many, so that one stays near a megabyte. A job can run on as many cores as it has buckets. Nothing depends on the machine, as a
    checkpoint is tied to the number.

    Parameters
    ----------
    expected_keys : int
        Keys that are open at a time; the order of magnitude is enough.
    parallelism : int
        The most tasks that should ever run at a time.

    Examples
    --------
    >>> buckets_for(1_000), buckets_for(10_000_000), buckets_for(1_000, parallelism=64)
    (8, 256, 64)
    """
    wanted = max(parallelism, -(-expected_keys // KEYS_PER_BUCKET), 1)
    return int(min(MOST_BUCKETS, 1 << (wanted - 1).bit_length()))


def check_buckets(buckets: object) -> None:
    """Refuse what is no number of buckets.

    Raises
    ------
    SettingsError
        It is no integer from 1 to 16,384.
    """
    if isinstance(buckets, bool) or not isinstance(buckets, int) or not 1 <= buckets <= MOST_BUCKETS:
        raise SettingsError(
            "use",
            "number",
            "buckets",
            expected=f"1 to {MOST_BUCKETS}",
            got=repr(buckets),
            todo="use buckets_for(expected_keys)",
        )


@cache
def labels(buckets: int) -> NDArray[np.int32]:
    """Return the number by which Spark knows each bucket, chosen so that Spark deals them out evenly.

    Spark sends a group to the task ``murmur3(label) mod tasks``. Bucket ``b`` gets the smallest label whose hash is ``b`` modulo
    `buckets`: with as many tasks, or half as many, each has the same number of buckets. It depends on `buckets` alone, as state
    is found again by it.

    Examples
    --------
    >>> len(set(labels(16).tolist()))
    16
    """
    found = np.full(buckets, -1, np.int64)
    start, size = 0, 4 * buckets + 64
    while (found < 0).any():
        candidates = np.arange(start, start + size, dtype=np.uint32)
        # The first of each remainder: later ones are written first.
        remainder = (_murmur3(candidates).view(np.int32) % buckets)[::-1]
        fresh = np.full(buckets, -1, np.int64)
        fresh[remainder] = candidates[::-1]
        found = np.where(found < 0, fresh, found)
        start += size
    return found.astype(np.int32)


def _murmur3(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Hash 32-bit integers as Spark does (Appleby's MurmurHash3_x86_32 of four bytes)."""
    mixed = _rotated(values * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    mixed = _rotated(np.uint32(SEED) ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    mixed ^= np.uint32(4)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    return mixed ^ (mixed >> np.uint32(16))


def _rotated(values: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))
