"""The answers to the Nexmark queries that join, computed by pandas from all events at once: nothing of the job, nothing of the engine."""

from jobs.nexmark.check.answers import ANSWERS, q3, q4, q8, q9, q20, q23

__all__ = ["ANSWERS", "q3", "q4", "q8", "q9", "q20", "q23"]
