"""The tools by which clusters are asked for something: sbatch, kubectl, gcloud, ray."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence

from jaxgen.errors import ConfigError


def check_tool(name: str) -> None:
    """Raises ConfigError if a cluster's tool is not here."""
    if shutil.which(name) is None:
        raise ConfigError(
            f"this needs {name}, which is not on PATH: run the command where the cluster is used "
            "from, such as its login node."
        )


def run_tool(words: Sequence[str], text: str | None = None) -> str:
    """Runs a cluster's own tool, and returns what it prints.

    Args:
      words: the command.
      text: for its standard input.

    Raises:
      ConfigError: if there is no such tool, or it refuses.
    """
    check_tool(words[0])
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip() or done.stdout.strip() or "no reason given"
        raise ConfigError(f"`{shlex.join(words)}` failed: {reason}")
    return done.stdout.strip()
