"""The settings of the flights job: one frozen class, one TOML file per environment."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute
from spark_ext.versions import conf_file

__all__ = ["Settings"]


class Settings(BaseModel):
    """What the job reads, where it writes, and how long it waits for late events.

    Attributes
    ----------
    topic : str
        Topic with the flight events.
    bootstrap_servers : str
        Addresses of the broker.
    out : str
        Folder for ``tables/``, ``checkpoints/`` and ``control/``.
    lateness_hours : int, > 0
        How far the watermark stays behind the latest event time. An event whose hour ended before the watermark
        goes to the late table. Of the days, the watermark stays that far behind the slowest partition.
    idle_after_minutes : int, > 0
        When a partition that brings nothing no longer holds the days' time; well above what a batch takes.
    max_offsets_per_trigger : int, > 0
        Most events of one batch.
    days_max_offsets_per_trigger : int, > 0
        The same for the days, if it is less: shorter batches, finer steps of their watermark.
    trigger : str
        Time between batches when the job follows the stream.
    kafka : mapping of str to str
        Settings of the client, such as ``security.protocol``; secrets as ``${env:NAME}`` or ``${file:/path}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    bootstrap_servers: str
    out: str
    lateness_hours: int = Field(gt=0)
    idle_after_minutes: int = Field(gt=0)
    max_offsets_per_trigger: int = Field(gt=0)
    days_max_offsets_per_trigger: int = Field(gt=0)
    trigger: str
    kafka: dict[str, str] = Field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        """`kafka` as options of `spark_ext.kafka.read`."""
        return {f"kafka.{name}": text for name, text in self.kafka.items()}

    @property
    def lateness(self) -> timedelta:
        """`lateness_hours` as a duration."""
        return timedelta(hours=self.lateness_hours)

    @property
    def idle_after(self) -> timedelta:
        """`idle_after_minutes` as a duration."""
        return timedelta(minutes=self.idle_after_minutes)

    @field_validator("out")
    @classmethod
    def _absolute(cls, out: str) -> str:
        return absolute(out)

    def table(self, name: str) -> str:
        """Return the path of a table."""
        return f"{self.out}/tables/{name}"

    def checkpoint(self, name: str) -> str:
        """Return the path of a query's checkpoint."""
        return f"{self.out}/checkpoints/{name}"

    @property
    def control(self) -> str:
        """Folder in which the end of input is told; to be kept as long as the checkpoints."""
        return f"{self.out}/control"

    @classmethod
    def load(cls, environment: str, **overrides: str | int | dict[str, str] | None) -> Settings:
        """Read ``conf/flights/<environment>.toml``; arguments that are not None win over it.

        Raises
        ------
        SettingsError
            The file is missing, or has an unknown or wrong key.
        """
        file = conf_file(f"flights/{environment}.toml")
        try:
            found = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            return cls.model_validate({**found, **{key: value for key, value in overrides.items() if value is not None}})
        except (OSError, ValidationError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(
                "load",
                "settings",
                str(file),
                expected="the keys of jobs.flights.settings.Settings",
                got=str(error),
                todo="correct the file",
            ) from error
