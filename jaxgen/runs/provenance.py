"""The provenance of a run: versions, devices, sizes, the revision of the code."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess
import warnings
from importlib import metadata
from typing import Any

from jaxgen import __version__
from jaxgen.errors import JaxgenWarning
from jaxgen.runs.config import RunConfig
from jaxgen.training.program import Program

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def provenance(config: RunConfig, program: Program) -> dict[str, Any]:
    """Returns the part of run.json that is known before the first step."""
    count = config.model.count()
    tokens = program.tokens_before(program.total_steps)
    flops_per_token = config.model.flops(config.train.length)
    return {
        "parameters": {
            "total": count.total,
            "embedding": count.embedding,
            "active": count.active,
        },
        "seed": config.train.seed,
        "steps": program.total_steps,
        "tokens": tokens,
        "flops_per_token": flops_per_token,
        "six_n_flops_per_token": count.six_n_flops,
        "flops": tokens * flops_per_token,
        "tasks": list(config.mixture.task_names),
        "codec_digest": config.mixture.codec.digest,
    }


def started_in(run_dir: pathlib.Path) -> dict[str, str]:
    """Returns the current folder, where relative paths of data begin, and the way to it."""
    folder = pathlib.Path.cwd()
    return {"folder": str(folder), "from_run": os.path.relpath(folder, run_dir)}


def environment(program: Program) -> dict[str, Any]:
    """Returns when a process starts, on what devices and with what versions."""
    return {
        "mesh": dict(program.mesh.shape),
        "devices": sorted({device.device_kind for device in program.mesh.devices.flat}),
        "versions": {"jaxgen": __version__} | {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "git_revision": git_revision(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def imports_record(
    imports: list[dict[str, str]], before: list[dict[str, str]]
) -> dict[str, list[dict[str, str]]]:
    """Returns the line of run.json about modules of one's own; warns if a file has changed.

    Args:
      imports: what `describe_imports` says now.
      before: what it returned when the run was last started.
    """
    digests = {one["module"]: one["digest"] for one in before}
    for one in imports:
        digest = digests.get(one["module"], one["digest"])
        if digest != one["digest"]:
            warnings.warn(
                f"{one['file']} has changed since the run was started: its digest was {digest} and "
                f"is {one['digest']}; the run goes on with the file as it is now.",
                JaxgenWarning,
                stacklevel=2,
            )
    return {"imports": imports} if imports else {}


def git_revision() -> str | None:
    """Returns the commit of jaxgen's checkout, "-dirty" if changed; None outside of one."""
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
