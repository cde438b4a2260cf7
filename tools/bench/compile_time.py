"""How long the training step takes to trace and compile, by depth.

python tools/bench/compile_time.py
"""

from __future__ import annotations

import time

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxgen.batch import Batch
from jaxgen.models.config import TransformerConfig
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.step import make_train_step

DEPTHS = (6, 12, 24, 48)
ROUNDS = 3


def main() -> None:
    """Prints the table; depths are compiled in turn, without the compilation cache."""
    seconds_to_compile(DEPTHS[0])  # The first compilation of a process starts the compiler.
    times: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    for _ in range(ROUNDS):
        for depth in DEPTHS:
            times[depth].append(seconds_to_compile(depth))
    table = Table("layers", "median s", "/ 6 layers", title="tracing and compiling a step")
    for depth in DEPTHS:
        ratio = np.median(np.divide(times[depth], times[DEPTHS[0]]))
        table.add_row(str(depth), f"{np.median(times[depth]):.2f}", f"{ratio:.2f}")
    Console().print(table)


def seconds_to_compile(num_layers: int) -> float:
    """Lowers and compiles the step of a model this deep, afresh."""
    model = TransformerConfig(
        num_layers=num_layers, embed_dim=128, num_heads=4, vocab_size=512, mlp_dim=384
    )
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    program = build_program(model, TrainConfig(steps=1, batch_size=4, length=128), mesh)
    ones = np.ones((4, 128), np.int32)
    batch = Batch(ones, ones, ones.astype(np.float32), 0 * ones, ones, 0 * ones)
    with jax.set_mesh(mesh):
        state, on_device = program.abstract_state(), put_batch(batch, mesh, Rules())
        start = time.perf_counter()
        make_train_step(program.objective, program.optimizer, 1.0).lower(state, on_device).compile()
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
