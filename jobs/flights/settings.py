"""The settings of the flights job: one frozen class, one TOML file per environment."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from jobs.settings import JobSettings

__all__ = ["Settings"]


class Settings(JobSettings):
    """What the job reads, and how long it waits for late events.

    Attributes
    ----------
    topic : str
        Topic with the flight events.
    lateness_hours : int, > 0
        How far the watermark stays behind the latest event time. An event whose hour ended before the watermark
        goes to the late table. Of the days, the watermark stays that far behind the slowest partition.
    idle_after_minutes : int, > 0
        When a partition that brings nothing no longer holds the days' time; well above what a batch takes.
    days_max_offsets_per_trigger : int, > 0
        Most events of a batch of the days, if it is less: shorter batches, finer steps of their watermark.
    """

    JOB: ClassVar[str] = "flights"

    topic: str
    lateness_hours: int = Field(gt=0)
    idle_after_minutes: int = Field(gt=0)
    days_max_offsets_per_trigger: int = Field(gt=0)

    @property
    def lateness(self) -> timedelta:
        """`lateness_hours` as a duration."""
        return timedelta(hours=self.lateness_hours)

    @property
    def idle_after(self) -> timedelta:
        """`idle_after_minutes` as a duration."""
        return timedelta(minutes=self.idle_after_minutes)
