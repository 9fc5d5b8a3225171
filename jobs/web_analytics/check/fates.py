"""What must have become of each record: a fact, a repetition of one, or too late to tell.

A visit is kept when it comes for the first time and is not behind the watermark of its batch. Whatever else comes with its id is a
repetition, as long as the kept one is remembered: until the watermark is `horizon` ahead of it. What is behind the watermark and repeats
nothing that is remembered is late: nobody can say any more whether it came before.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

__all__ = ["FATES", "fates"]

FATES: Final = ("accepted", "duplicate", "late")


def fates(visits: pd.DataFrame, watermarks: pd.Series, *, horizon: timedelta) -> pd.Series:
    """Return the fate of each visit.

    Parameters
    ----------
    visits : DataFrame
        ``visit_id``, ``at``, ``partition``, ``offset``, ``batch``. All records of one id have one ``at`` and one partition.
    watermarks : Series of datetime64[UTC]
        The watermark of the batch of each visit.
    horizon : timedelta
        How long a kept visit is remembered.

    Returns
    -------
    Series of str
        One of `FATES`.
    """
    behind = visits["at"] < watermarks
    order = visits.sort_values(["partition", "offset"], kind="stable").index
    candidates = visits["visit_id"].reindex(order)[~behind.reindex(order)]
    kept = candidates.index[~candidates.duplicated()]
    batch_of_kept = visits.loc[kept].set_index("visit_id")["batch"]
    known_since = visits["visit_id"].map(batch_of_kept)
    remembered = known_since.notna() & (known_since <= visits["batch"]) & (visits["at"] + pd.Timedelta(horizon) >= watermarks)
    accepted = visits.index.isin(kept)
    found = np.select([accepted, remembered.to_numpy()], FATES[:2], default=FATES[2])
    return pd.Series(found, visits.index, name="fate")
