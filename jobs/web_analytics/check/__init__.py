"""An independent proof of the web job's tables: the topic, pandas, and nothing of the job, the engine or the sketches.

`records` tells visits from anything else in the topic, `fates` says what must have become of each record, `exact` answers every question
exactly, `claims` holds approximate answers against it, `proof` puts them together, `summary` prints it. How to read a topic and an offset
log, and how to find differences, is shared with the proof of the flights job.
"""

from jobs.web_analytics.check.claims import Answer, Claim
from jobs.web_analytics.check.proof import Result, Step, check, prove
from jobs.web_analytics.check.summary import summarise

__all__ = ["Answer", "Claim", "Result", "Step", "check", "prove", "summarise"]
