"""Sweeps of tiny runs for the tests of sweeps, and files that declare them."""

import os
import subprocess
import sys
from pathlib import Path

from jaxgen.configuration import load
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.execution import ExecutionConfig

ROOT = Path(__file__).parents[2]
BINDINGS = [
    "model.num_layers=1", "model.embed_dim=8", "model.num_heads=1", "model.mlp_dim=8",
    "train.steps=4", "train.batch_size=2", "train.length=64",
    "evaluation.num_examples=4", "evaluation.num_batches=1", "evaluation.batch_size=4",
    "mixture.tasks=[@addition/task(), @prose/task()]",
    "mixture.weights={'addition': 0.5, 'prose': 0.5}",
]  # fmt: skip

FILE = """
from pathlib import Path
from jaxgen.configuration import load
from jaxgen.sweeps import Sweep, axis, grid
from jaxgen.training.execution import ExecutionConfig
HERE = Path(__file__).parent

def note(directory):
    with open(HERE / "done.txt", "a") as done:
        done.write(directory.path.name + chr(10))

def fail_first(directory):
    name, tries = directory.path.name, HERE / "tries.txt"
    with open(tries, "a") as file:
        file.write(name + chr(10))
    if name == "seed_0" and tries.read_text().count(name) <= {fails}:
        raise ValueError("not yet")
    note(directory)

BASE = load(["runs/quickstart.gin"], {bindings!r})
SWEEP = Sweep(
    "tiny", "1", grid(BASE, axis("train.seed", range({runs}))), after={after},
    execution=ExecutionConfig(log_every=2),
)
"""


EXECUTION = ExecutionConfig(log_every=2)


def base(*bindings: str) -> RunConfig:
    """Returns a run of about a second."""
    return load(["runs/quickstart.gin"], [*BINDINGS, *bindings])


def write_file(folder: Path, name: str, runs: int, after: str = "note", fails: int = 0, *bindings):
    """Writes a sweep file whose runs write their names to done.txt when they have finished."""
    path = folder / f"{name}.py"
    values = {"bindings": [*BINDINGS, *bindings], "runs": runs, "after": after, "fails": fails}
    path.write_text(FILE.format(**values))
    return path


def command(file: Path, folder: Path, *more: str) -> subprocess.Popen:
    """Starts `jaxgen sweep FILE --go`."""
    return subprocess.Popen(
        [sys.executable, "-m", "jaxgen", "sweep", str(file), f"--run_dir={folder}", "--go", *more],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(file: Path) -> list[str]:
    """Returns the runs in done.txt, sorted."""
    path = file.parent / "done.txt"
    return sorted(path.read_text().split()) if path.exists() else []


def steps_logged(directory: RunDirectory) -> list[int]:
    """Returns the steps of the rows of metrics."""
    return [row["step"] for row in read_metrics(directory.metrics_file)]
