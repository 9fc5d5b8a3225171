"""The error of a rank asked of a KLL sketch, beside the bound that it gives with 95 % confidence.

Each trial asks one question, at a rank of its own; half of the values come in one call, the others in parts that are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.sketches.studies.trial import Trial
from sketches import Quantiles

TITLE = "Quantiles, k=200 (5 KB): error of a rank"
UNIT = "share of the values"
K = 200
PARTS = 20
PIECE = 1 << 22


def trials(sizes: Sequence[int], seeds: Sequence[int]) -> Iterator[Trial]:
    """Take so many uniform values, once for each seed."""
    for size in sizes:
        for seed in seeds:
            dice = np.random.default_rng((size, seed))
            asked, below = dice.random(), 0
            sketch = Quantiles(K, seed)
            for start in range(0, size, PIECE):
                values = dice.random(min(PIECE, size - start))
                below += int(np.count_nonzero(values <= asked))
                sketch.update_many(values[: values.size // 2])
                for number, part in enumerate(np.array_split(values[values.size // 2 :], PARTS)):
                    other = Quantiles(K, seed + 1000 * (number + 1))
                    other.update_many(part)
                    sketch.merge(other)
            yield Trial(size, seed, sketch.rank(asked) - below / size if size else 0.0, sketch.rank_error(0.95))
