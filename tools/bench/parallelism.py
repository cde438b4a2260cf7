"""Every way to split a model against one device: losses, memory, and what is sent.

    python tools/bench/parallelism.py --folder=parallelism dense moe   # trains those, in turn
    python tools/bench/parallelism.py --folder=parallelism             # prints the tables

Tiny models are trained for 20 steps on simulated devices: every mesh axis at 2, 4 and 8, every pair
of axes, and two threesomes. What is in the folder is not made again. docs/parallelism.md has the
tables.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import numpy as np
from kept import make_or_print

from jaxgen.batch import Batch, EncoderInput
from jaxgen.models.config import TransformerConfig
from jaxgen.ops.moe_config import MoEConfig
from jaxgen.planning.buffers import saved_activations
from jaxgen.planning.work import read_work
from jaxgen.sharding.mesh import MESH_AXES, MeshConfig, make_mesh, split_axes
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import Program, build_program
from jaxgen.training.schedules import WarmupCosine

ROWS, LENGTH, VOCAB, STEPS = 16, 64, 128, 20
DENSE = TransformerConfig(
    num_layers=8, embed_dim=32, num_heads=8, head_dim=4, mlp_dim=64, vocab_size=VOCAB
)
MODELS = {
    "dense": DENSE,
    "moe": dataclasses.replace(
        DENSE, moe=MoEConfig(num_experts=8, experts_per_token=2, mlp_dim=32)
    ),
    "encoder_decoder": dataclasses.replace(DENSE, num_encoder_layers=8),
}
PAIRS = tuple(itertools.combinations(MESH_AXES, 2))
SPLITS = (
    {},
    *({axis: size} for axis in MESH_AXES for size in (2, 4, 8)),
    *({one: 2, other: 4} for one, other in PAIRS),
    {"fsdp": 2, "tensor": 2, "stage": 2},
    {"data": 2, "expert": 2, "sequence": 2},
)
RINGS = ({"sequence": 8}, {"sequence": 4, "tensor": 2}, {"sequence": 4, "stage": 2})


def main() -> None:
    """Trains the models that are named, or prints tables of what is there."""
    make_or_print(__doc__, MODELS, make, tables)


def make(folder: Path, name: str) -> None:
    """Trains a model in every way that is not in the folder."""
    for split, attention in _cases():
        file = _file(folder, name, split, attention)
        if not file.exists():
            result = measure(MODELS[name], split, attention)
            file.write_text(json.dumps(result) + "\n")
            print(file.stem, f"{result['seconds']:.0f} s", flush=True)


def measure(model: TransformerConfig, split: dict[str, int], attention: Any) -> dict[str, Any]:
    """Returns losses of 20 steps, bytes of a device, and collectives of a step by axis."""
    begun = time.monotonic()
    mesh_config = MeshConfig(**{"data": 1, **split})
    mesh = make_mesh(mesh_config, jax.devices()[: math.prod(split.values())])
    has_source = model.has_encoder
    train = TrainConfig(
        steps=STEPS,
        length=LENGTH,
        source_length=LENGTH if has_source else None,
        batch_size=ROWS,
        schedule=WarmupCosine(peak=3e-3, warmup=5),
    )
    execution = ExecutionConfig(mesh_config, remat="full", attention=attention)
    program = build_program(model, train, mesh, execution)
    put = functools.partial(put_batch, mesh=mesh, rules=execution.rules)
    with jax.set_mesh(mesh):
        state: Any = program.fresh_state()
        traced = program.train_step().trace(state, put(batch(0, has_source)))
        compiled = traced.lower().compile()
        kept, losses = saved_activations(traced.jaxpr.jaxpr, mesh), []
        for step in range(STEPS):
            state, metrics = compiled(state, put(batch(step, has_source)))
            losses.append(float(metrics.objective))
    memory, text = compiled.memory_analysis(), compiled.as_text()
    return {
        "losses": losses,
        "state_bytes": _bytes_of_a_device(program),
        "activation_bytes": kept,
        "temporary_bytes": memory.temp_size_in_bytes,
        "collectives": [
            dataclasses.asdict(one) for one in read_work(text, dict(mesh.shape)).collectives
        ],
        "seconds": time.monotonic() - begun,
    }


def batch(step: int, has_source: bool) -> Batch:
    """Returns packed rows of two segments and padding, random by the step."""
    random = np.random.default_rng(step)
    tokens = random.integers(0, VOCAB, (ROWS, LENGTH + 1)).astype(np.int32)
    parts = (LENGTH // 2, LENGTH // 3, LENGTH - LENGTH // 2 - LENGTH // 3)
    shape = (ROWS, LENGTH)
    segments = np.broadcast_to(np.repeat([1, 2, 0], parts), shape).astype(np.int32)
    positions = np.concatenate([np.arange(n) for n in parts])
    positions = np.broadcast_to(positions, shape).astype(np.int32)
    source = None
    if has_source:
        read = random.integers(0, VOCAB, shape).astype(np.int32)
        source = EncoderInput(read, positions, segments)
    return Batch(
        tokens=tokens[:, :-1],
        targets=tokens[:, 1:],
        loss_weights=(segments > 0).astype(np.float32),
        positions=positions,
        segment_ids=segments,
        task_ids=np.zeros(shape, np.int32),
        task_names=("random",),
        encoder=source,
    )


def tables(folder: Path) -> list[str]:
    """Returns the lines of a table for each model that is in the folder."""
    lines: list[str] = []
    for name in MODELS:
        alone = _file(folder, name, {}, "auto")
        if not alone.exists():
            continue
        one = json.loads(alone.read_text())
        lines += [
            f"### {name}",
            "",
            "| mesh | largest difference of a loss | state, of one device's | kept activations, "
            "of one device's | sent a step and device, KiB |",
            "|---|---|---|---|---|",
        ]
        for split, attention in _cases():
            file = _file(folder, name, split, attention)
            if split and file.exists():
                lines.append(_row(split, attention, json.loads(file.read_text()), one))
        lines.append("")
    return lines


def _row(split: dict[str, int], attention: str, result: dict, one: dict) -> str:
    losses, expected = (np.array(each["losses"]) for each in (result, one))
    sent = [
        f"{collective['kind']} over {' and '.join(collective['axes'])} "
        f"{collective['bytes'] / 1024:,.0f}"
        for collective in sorted(result["collectives"], key=lambda one: -one["bytes"])
        if collective["bytes"] >= 1024
    ]
    cells = [
        split_axes(split) + (" (ring)" if attention == "ring" else ""),
        f"{np.max(np.abs(losses / expected - 1)):.1e}",
        *(
            # What a pipeline keeps is in no scan over layers, where it is looked for.
            f"{result[part] / one[part]:.3f}" if one[part] and result[part] else "not read"
            for part in ("state_bytes", "activation_bytes")
        ),
        ", ".join(sent),
    ]
    return f"| {' | '.join(cells)} |"


def _cases() -> list[tuple[dict[str, int], str]]:
    return [*((split, "auto") for split in SPLITS), *((split, "ring") for split in RINGS)]


def _bytes_of_a_device(program: Program) -> int:
    leaves = jax.tree.leaves(program.abstract_state())
    shards = (leaf.sharding.shard_shape(leaf.shape) for leaf in leaves)
    return sum(
        math.prod(shard) * leaf.dtype.itemsize for shard, leaf in zip(shards, leaves, strict=True)
    )


def _file(folder: Path, name: str, split: dict[str, int], attention: str) -> Path:
    mesh = "_".join(f"{axis}{size}" for axis, size in split.items()) or "one"
    return folder / f"{name}-{mesh}{'' if attention == 'auto' else '-' + attention}.json"


if __name__ == "__main__":
    main()
