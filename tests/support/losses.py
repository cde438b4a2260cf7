"""Loss curves of the families' tiny members: what a change to the code must leave as it is."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.batch import Batch, EncoderInput
from jaxgen.configuration import load
from jaxgen.models.config import TransformerConfig
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.schedules import WarmupCosine
from support.helpers import MESHES, objective_of, one_device_mesh, tiny_model

STEPS = 20
MASK = 300  # A token that no text has.
RECORD = Path(__file__).parents[1] / "recorded" / "losses.json"
MESH_NAMES = ("one", "mixed")


@functools.cache
def batches() -> list[Batch]:
    """The first batches of the embedded mixture."""
    mixture = load(["mixtures/quickstart.gin"], root="mixture")
    data = mixture.open(batch_size=8, length=64, seed=0)
    return [data.batch(step) for step in range(STEPS)]


def adapted(batch: Batch, config: TransformerConfig, step: int) -> Batch:
    """The batch as the family reads it: with a source to copy from, or with tokens masked."""
    if config.has_encoder:
        return dataclasses.replace(
            batch, encoder=EncoderInput(batch.targets, batch.positions, batch.segment_ids)
        )
    if config.output_transform:
        is_masked = np.random.default_rng(step).random(batch.shape) < 0.15
        return dataclasses.replace(
            batch,
            tokens=np.where(is_masked, MASK, batch.tokens).astype(np.int32),
            targets=batch.tokens,
            loss_weights=(is_masked & (batch.segment_ids > 0)).astype(np.float32),
        )
    return batch


def curves(family: str, mesh_name: str) -> dict[str, list[float]]:
    """The objective, its negative log-likelihood and the gradient's norm at each of STEPS steps.

    Args:
      family: a folder of gin/models.
      mesh_name: "one" device, or "mixed": eight, split over fsdp, tensor and expert.
    """
    mesh = one_device_mesh() if mesh_name == "one" else make_mesh(MESHES[mesh_name])
    config = tiny_model(family)
    train = TrainConfig(
        steps=STEPS,
        batch_size=8,
        length=64,
        source_length=64 if config.has_encoder else None,
        schedule=WarmupCosine(peak=1e-3, warmup=3),
    )
    program = build_program(config, train, mesh, objective=objective_of(family))
    found: dict[str, list[float]] = {"objective": [], "nll": [], "gradient_norm": []}
    with jax.set_mesh(mesh):
        state = program.fresh_state()
        step = program.train_step()
        for index, batch in enumerate(batches()):
            placed = put_batch(adapted(batch, config, index), mesh, program.layout.rules)
            state, metrics = step(state, placed)
            loss = jax.tree.map(lambda x: np.asarray(x, np.float64), metrics.sums["loss"])
            found["objective"].append(float(metrics.objective))
            found["nll"].append(float(loss.total.sum() / loss.weight.sum()))
            found["gradient_norm"].append(float(metrics.gradient_norm))
    return found


def this_machine() -> dict[str, str]:
    """What the last bits of a loss depend on beside the code."""
    flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line]
    width = "avx512" if " avx512f" in flags[0] else "avx2" if " avx2" in flags[0] else "other"
    return {"architecture": platform.machine(), "vectors": width, "jax": jax.__version__}


def read_record() -> dict[str, Any]:
    """What tools/record_losses wrote."""
    return json.loads(RECORD.read_text())
