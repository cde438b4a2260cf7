"""What a checkpoint costs a run: how long training waits, its digests, and coming back from it.

    python tools/bench/checkpoints.py                       # GPT-2 small, on this machine's disk
    python tools/bench/checkpoints.py --layers 2 --embed 64 --vocab 512 --folder /dev/shm

Steps are taken in turn without a save and while one is being written, so that a machine that drifts
treats both alike.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
from batches import full_rows
from rich.console import Console
from rich.table import Table

from jaxgen.models.config import TransformerConfig
from jaxgen.models.parameters import number_of_parameters
from jaxgen.process import prepare_process
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.digests import digests
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.state import flatten


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sizes = {"layers": 12, "embed": 768, "vocab": 50_304, "length": 256, "batch": 4}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=3, help="in a round, with and without a save")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where checkpoints are written (default: a new one)")
    arguments = parser.parse_args()
    prepare_process()
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, jax.set_mesh(mesh):
        found = measure(arguments, mesh, pathlib.Path(folder))
    table = Table(title="A checkpoint", title_justify="left", show_header=False)
    for name, value in found.items():
        table.add_row(name, value)
    Console().print(table)


def measure(arguments: argparse.Namespace, mesh: Any, folder: pathlib.Path) -> dict[str, str]:
    """Returns what the table shows, by its words."""
    model = TransformerConfig(
        num_layers=arguments.layers,
        embed_dim=arguments.embed,
        num_heads=arguments.embed // 64,
        mlp_dim=4 * arguments.embed,
        vocab_size=arguments.vocab,
    )
    train = TrainConfig(steps=1000, batch_size=arguments.batch, length=arguments.length)
    execution = ExecutionConfig(MeshConfig(data=1))
    program = build_program(model, train, mesh, execution)
    batch = full_rows(arguments.batch, arguments.length, arguments.vocab)
    on_device = put_batch(batch, mesh, execution.rules)
    train_step, state = program.train_step(), program.fresh_state()
    parameters = number_of_parameters(state.model)
    size = sum(array.nbytes for array in flatten(state).values())

    def step() -> None:
        nonlocal state
        state, metrics = train_step(state, on_device)
        jax.block_until_ready(metrics)

    compiling = seconds_of(step)
    seconds_of(lambda: jax.block_until_ready(digests(flatten(state))))
    plain, during, returned, alone, summed = [], [], [], [], []
    with Checkpoints(folder, keep=1) as checkpoints:
        for number in range(1, arguments.rounds + 1):
            plain += [seconds_of(step) for _ in range(arguments.steps)]
            summed.append(seconds_of(lambda: jax.block_until_ready(digests(flatten(state)))))
            returned.append(seconds_of(functools.partial(checkpoints.save, 2 * number, state, {})))
            during += [seconds_of(step) for _ in range(arguments.steps)]
            checkpoints.wait()
            begun = time.perf_counter()
            checkpoints.save(2 * number + 1, state, {})
            checkpoints.wait()
            alone.append(time.perf_counter() - begun)
        abstract = program.abstract_state()
        del state
        begun = time.perf_counter()
        state, _ = checkpoints.restore(abstract)
        jax.block_until_ready(state)
        restoring = time.perf_counter() - begun
    first = seconds_of(step)
    one, beside = statistics.median(plain), statistics.mean(during)
    waits = statistics.median(returned)
    lost = waits + arguments.steps * (beside - one)
    return {
        "parameters": f"{parameters / 1e6:.1f} M",
        "bytes of the state": f"{size / 1e9:.2f} GB",
        "a step": f"{one:.2f} s",
        "training waits for a save": f"{waits:.2f} s, {waits / one:.1%} of a step",
        f"each of the {arguments.steps} steps beside its writing": f"{beside:.2f} s",
        "a save alone, until it is whole": f"{statistics.median(alone):.2f} s",
        "of which digests": f"{statistics.median(summed) / statistics.median(alone):.1%}",
        "a save costs": f"{lost:.2f} s, which is {lost / one / 100:.1%} of 100 steps",
        "compiling and the first step": f"{compiling:.1f} s",
        "restoring, digests compared": f"{restoring:.1f} s",
        "the next step": f"{first:.1f} s",
    }


def seconds_of(call: Callable[[], Any]) -> float:
    """Returns how long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
