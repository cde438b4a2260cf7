"""A job: a command of jaxgen with what every kind of cluster must know of it."""

from __future__ import annotations

import dataclasses
import re

from jaxgen.errors import RESTART_STATUS, ConfigError
from jaxgen.files import check_local

LONG_SECONDS = 600
"""How long a start lasts at least that asks for another one without counting as a failure: one that
asks for it at once, as on a full disk, would do so for ever."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is started, wherever that is.

    Attributes:
      command: the words after `jaxgen`; a run goes on when they are given again.
      name: of the job, which becomes part of host names: letters, digits and hyphens.
      environment: variables and their values.
      retries: how often it is started again after it failed. A start that saved its state and asks
        for another one (status 75), as after a preemption or when its time is over, is no failure.
      grace_seconds: between the notice of a preemption and its end; what a checkpoint takes.
    """

    command: tuple[str, ...]
    name: str = "jaxgen"
    environment: tuple[tuple[str, str], ...] = ()
    retries: int = 3
    grace_seconds: int = 120

    def __post_init__(self):
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise ConfigError(
                f"--name={self.name!r} becomes part of host names: give up to 40 small letters, "
                "digits and hyphens that begin with a letter."
            )
        for word in self.command:
            flag, _, path = word.partition("=")
            if flag in ("--run_dir", "--output"):
                check_local(flag, path)
        for name, _ in self.environment:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ConfigError(f"--env={name}=... is no name of a variable.")

    def is_failure(self, status: int, seconds: float) -> bool:
        """Returns whether a start that ended with a status after so long counts as failed."""
        return status != 0 and (status != RESTART_STATUS or seconds < LONG_SECONDS)

    @property
    def words(self) -> list[str]:
        """The command as a cluster's Python runs it."""
        return ["python", "-m", "jaxgen", *self.command]
