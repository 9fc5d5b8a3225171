"""Python workers of Spark: reused from task to task, and asked to collect garbage after each."""

from __future__ import annotations

import functools
import gc

__all__ = ["settle"]


@functools.cache
def settle() -> None:
    """Take what is alive out of garbage collection; the first call in a process does it, at the end of its first work.

    Spark's daemon runs ``gc.collect()`` after every use of a worker, and whoever needs the worker next waits for that: some 40 ms for
    modules of pandas, pyarrow and numba that never go. Without them it takes under 1 ms. Reference counts free objects as before; cycles
    that exist at the first call were collected before it.
    """
    gc.collect()
    gc.freeze()
