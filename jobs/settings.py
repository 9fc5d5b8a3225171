"""What the settings of all jobs have: one frozen class for each, one TOML file per environment."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute
from spark_ext.versions import conf_file

__all__ = ["JobSettings"]


class JobSettings(BaseModel):
    """Where a job reads and writes; its own class has what else it needs.

    Attributes
    ----------
    bootstrap_servers : str
        Addresses of the broker.
    out : str
        Folder for ``tables/``, ``checkpoints/`` and ``control/``.
    max_offsets_per_trigger : int, > 0
        Most records of one batch.
    trigger : str
        Time between batches when the job follows the stream.
    kafka : mapping of str to str
        Settings of the client, such as ``security.protocol``; secrets as ``${env:NAME}`` or ``${file:/path}``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    JOB: ClassVar[str]
    """Name of the job, and of its folder in ``conf/``."""

    bootstrap_servers: str
    out: str
    max_offsets_per_trigger: int = Field(gt=0)
    trigger: str
    kafka: dict[str, str] = Field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        """`kafka` as options of `spark_ext.kafka.read`."""
        return {f"kafka.{name}": text for name, text in self.kafka.items()}

    @property
    def control(self) -> str:
        """Folder in which the end of input is told; to be kept as long as the checkpoints."""
        return f"{self.out}/control"

    def table(self, name: str) -> str:
        """Return the path of a table."""
        return f"{self.out}/tables/{name}"

    def checkpoint(self, name: str) -> str:
        """Return the path of a query's checkpoint."""
        return f"{self.out}/checkpoints/{name}"

    @field_validator("out")
    @classmethod
    def _absolute(cls, out: str) -> str:
        return absolute(out)

    @classmethod
    def load(cls, environment: str, **overrides: str | int | dict[str, str] | None) -> Self:
        """Read ``conf/<job>/<environment>.toml``; arguments that are not None win over it.

        Raises
        ------
        SettingsError
            The file is missing, or has an unknown or wrong key.
        """
        file = conf_file(f"{cls.JOB}/{environment}.toml")
        try:
            found = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            return cls.model_validate({**found, **{key: value for key, value in overrides.items() if value is not None}})
        except (OSError, ValidationError, tomllib.TOMLDecodeError) as error:
            expected = f"the keys of jobs.{cls.JOB}.settings.Settings"
            raise SettingsError("load", "settings", str(file), expected=expected, got=str(error), todo="correct the file") from error
