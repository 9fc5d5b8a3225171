"""The settings of the web analytics job: one frozen class, one TOML file per environment."""

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
    """What the job reads, where it writes, and how long it waits for late visits.

    Attributes
    ----------
    topic, pages_topic : str
        Topics with the visits, and with the versions of pages.
    bootstrap_servers : str
        Addresses of the broker.
    out : str
        Folder for ``tables/``, ``checkpoints/`` and ``control/``.
    lateness_minutes : int, > 0
        How far the watermark stays behind the latest visit. What is further behind cannot be told from a resend, unless the visit is
        remembered; it goes to a table of its own.
    max_offsets_per_trigger : int, > 0
        Most records of one batch.
    max_commits_per_trigger : int, > 0
        Most files of visits that one batch of sessions reads.
    trigger : str
        Time between batches when the job follows the stream.
    kafka : mapping of str to str
        Settings of the client, such as ``security.protocol``; secrets as ``${env:NAME}`` or ``${file:/path}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    pages_topic: str
    bootstrap_servers: str
    out: str
    lateness_minutes: int = Field(gt=0)
    max_offsets_per_trigger: int = Field(gt=0)
    max_commits_per_trigger: int = Field(gt=0)
    trigger: str
    kafka: dict[str, str] = Field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        """`kafka` as options of `spark_ext.kafka.read`."""
        return {f"kafka.{name}": text for name, text in self.kafka.items()}

    @property
    def lateness(self) -> timedelta:
        """`lateness_minutes` as a duration."""
        return timedelta(minutes=self.lateness_minutes)

    @property
    def control(self) -> str:
        """Folder in which the end of input is told; to be kept as long as the checkpoints."""
        return f"{self.out}/control"

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

    @classmethod
    def load(cls, environment: str, **overrides: str | int | dict[str, str] | None) -> Settings:
        """Read ``conf/web_analytics/<environment>.toml``; arguments that are not None win over it.

        Raises
        ------
        SettingsError
            The file is missing, or has an unknown or wrong key.
        """
        file = conf_file(f"web_analytics/{environment}.toml")
        try:
            found = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            return cls.model_validate({**found, **{key: value for key, value in overrides.items() if value is not None}})
        except (OSError, ValidationError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(
                "load",
                "settings",
                str(file),
                expected="the keys of jobs.web_analytics.settings.Settings",
                got=str(error),
                todo="correct the file",
            ) from error
