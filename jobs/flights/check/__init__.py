"""An independent proof of the flights job's tables: the topic, pandas, and nothing of the job or the engine.

`broker` reads the topic, `expected` computes from the package what should be in it, `lateness` which rows come
too late, `summaries` the hours and routes, `days` the days, `compare` finds every difference, `proof` puts them together,
`summary` prints it.
"""

from jobs.flights.check.proof import Result, Step, check, prove
from jobs.flights.check.summary import summarise

__all__ = ["Result", "Step", "check", "prove", "summarise"]
