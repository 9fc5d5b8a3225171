"""The settings of the web analytics job: one frozen class, one TOML file per environment."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from jobs.settings import JobSettings

__all__ = ["Settings"]


class Settings(JobSettings):
    """What the job reads, and how long it waits for late visits.

    Attributes
    ----------
    topic, pages_topic : str
        Topics with the visits, and with the versions of pages.
    lateness_minutes : int, > 0
        How far the watermark stays behind the latest visit. What is further behind cannot be told from a resend, unless the visit is
        remembered; it goes to a table of its own.
    max_commits_per_trigger : int, > 0
        Most files of visits that one batch of sessions reads.
    """

    JOB: ClassVar[str] = "web_analytics"

    topic: str
    pages_topic: str
    lateness_minutes: int = Field(gt=0)
    max_commits_per_trigger: int = Field(gt=0)

    @property
    def lateness(self) -> timedelta:
        """`lateness_minutes` as a duration."""
        return timedelta(minutes=self.lateness_minutes)
