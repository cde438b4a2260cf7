"""A job: a command of jaxgen with what every kind of cluster must know of it."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Job:
    """What is started, wherever that is.

    Attributes:
      command: the words after `jaxgen`; a run goes on when they are given again.
      name: of the job, which becomes part of host names: letters, digits and hyphens.
      environment: variables and their values.
      retries: how often it is started again after it failed, was preempted or ran out of time.
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
        for name, _ in self.environment:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ConfigError(f"--env={name}=... is no name of a variable.")

    @property
    def words(self) -> list[str]:
        """The command as a cluster's Python runs it."""
        return ["python", "-m", "jaxgen", *self.command]


def run_tool(words: Sequence[str], text: str | None = None) -> str:
    """Runs a cluster's own tool, and returns what it prints.

    Args:
      words: the command.
      text: for its standard input.

    Raises:
      ConfigError: if there is no such tool, or it refuses.
    """
    if shutil.which(words[0]) is None:
        raise ConfigError(
            f"--submit needs {words[0]}, which is not on PATH: run it where the cluster is used "
            "from, or leave --submit out and take what is printed there."
        )
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "no reason given"
        raise ConfigError(f"`{shlex.join(words)}` failed: {reason}")
    return done.stdout.strip()
