"""By how much Count-Min counts too high, as part of the total, beside epsilon.

Keys are skewed (zipf, exponent 1.1, over a million ids). The sketch is made for epsilon 0.001 and delta 0.01: of all values that came, 99 %
must be within the bound, so the error of a trial is the one that 99 % keep to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.sketches.studies.hot_list import CHUNK, IDS, zipf_shares
from benchmarks.sketches.studies.trial import Trial
from sketches import CountMinSketch

TITLE = "Count-Min for epsilon 0.001 and delta 0.01: error that 99 % of the values keep to"
UNIT = "share of the total"
EPSILON = 0.001
DELTA = 0.01


def trials(sizes: Sequence[int], seeds: Sequence[int], *, conservative: bool = False) -> Iterator[Trial]:
    for size in sizes:
        for seed in seeds:
            dice = np.random.default_rng((size, seed))
            sketch, truth = CountMinSketch.from_error(epsilon=EPSILON, delta=DELTA, conservative=conservative), np.zeros(IDS, np.int64)
            for start in range(0, size, CHUNK):
                keys = np.minimum(np.searchsorted(zipf_shares(), dice.random(min(CHUNK, size - start))), IDS - 1)
                sketch.update_many(keys)
                truth += np.bincount(keys, minlength=IDS)
            came = np.flatnonzero(truth)
            errors = sketch.estimate_many(came) - truth[came]
            error = float(np.quantile(errors, 1 - DELTA, method="inverted_cdf")) / size if came.size else 0.0
            yield Trial(size, seed, error, EPSILON)
