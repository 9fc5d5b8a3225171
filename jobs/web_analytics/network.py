"""What the network does to records on their way: it delays them, sends some twice, and damages a few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["DAMAGES", "Network"]

DAMAGES: Final = ("whole", "torn", "no_visitor", "text_duration", "no_time")  # by number in the column ``damage``
SHORT_MS, SHORT_SIGMA = 1_500, 0.8  # median and spread of most delays
LONG_MS, LONG_SIGMA = 240_000, 0.7  # of a connection that was lost for minutes
HOUR_MS: Final = 3_600_000
RESENT_AFTER_MS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Shares of what goes wrong, all 0 to 1.

    Attributes
    ----------
    slow : float
        Records that come minutes late.
    very_slow : float
        Records that come one to nine hours late.
    resent : float
        Records that come twice, as the sender has missed the answer to the first; of these, one in fifty comes again hours later.
    damaged : float
        Records that cannot be read when they come.
    seed : int
        Of everything that is drawn.
    """

    slow: float = 0.02
    very_slow: float = 0.001
    resent: float = 0.01
    damaged: float = 0.00005
    seed: int = 7

    def carry(self, visits: pd.DataFrame) -> pd.DataFrame:
        """Return the records of visits in the order in which they arrive.

        Parameters
        ----------
        visits : DataFrame
            As `jobs.web_analytics.visits.visits` returns it.

        Returns
        -------
        DataFrame
            The same columns, and ``arrives`` datetime64[ms, UTC], ascending, and ``damage`` int8: a place in `DAMAGES`, 0 for none.
        """
        random = np.random.default_rng([self.seed, 2])
        delays = self._delays(len(visits), random)
        again = np.flatnonzero(random.random(len(visits)) < self.resent)
        later = RESENT_AFTER_MS * (0.1 + random.exponential(size=len(again)))
        later += np.where(random.random(len(again)) < 0.02, random.uniform(1, 6, len(again)) * HOUR_MS, 0)  # noqa: PLR2004
        which = np.append(np.arange(len(visits)), again)
        all_delays = np.append(delays, delays[again] + later).astype(np.int64)
        arrives = visits["at"].array[which] + pd.to_timedelta(all_delays, unit="ms").as_unit("ms")
        order = np.argsort(arrives.asi8, kind="stable")
        damage = random.integers(1, len(DAMAGES), len(which)) * (random.random(len(which)) < self.damaged)
        return visits.take(which[order]).reset_index(drop=True).assign(arrives=arrives[order], damage=damage[order].astype(np.int8))

    def _delays(self, number: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
        fate, spread = random.random(number), random.standard_normal(number)
        hours = random.uniform(1, 9, number) * HOUR_MS
        short, long = SHORT_MS * np.exp(SHORT_SIGMA * spread), LONG_MS * np.exp(LONG_SIGMA * spread)
        return np.where(fate < self.very_slow, hours, np.where(fate < self.very_slow + self.slow, long, short))
