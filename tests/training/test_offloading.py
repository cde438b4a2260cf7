"""A run whose optimizer state lies in host memory, against one whose state does not."""

import types
from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import MESHES, random_batch, tiny_moe

from jaxgen.errors import ConfigError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.sharding.mesh import make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.offloading import HOST, check_host_memory
from jaxgen.training.optimizers.narrow_state import NarrowState
from jaxgen.training.program import build_program


def kinds(state):
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state) if leaf.ndim}


@pytest.mark.slow
def test_the_state_stays_on_the_host_and_changes_nothing(tmp_path):
    mesh = make_mesh(MESHES["mixed"])
    checkpoints = Checkpoints(tmp_path, keep=1)
    train = TrainConfig(10, 8, length=32, optimizer=NarrowState(dtype="int8"))
    losses = {}
    for offload in (True, False):
        names = ("up", "attention") if offload else ()
        execution = ExecutionConfig(remat="full", remat_offloaded=names, offload_optimizer=offload)
        program = build_program(tiny_moe(), train, mesh, execution)
        step = program.train_step()
        with jax.set_mesh(mesh):
            state = program.fresh_state()
            losses[offload] = []
            for seed in range(3):
                state, metrics = step(state, put_batch(random_batch(seed), mesh, Rules()))
                losses[offload].append(float(metrics.objective))
            assert (kinds(state.optimizer_state) == {HOST}) == offload
            assert HOST not in kinds(state.model)
            layouts = [leaf.sharding for leaf in jax.tree.leaves(program.abstract_state())]
            assert layouts == [leaf.sharding for leaf in jax.tree.leaves(state)]
            if offload:
                checkpoints.save(3, state, {})
                checkpoints.wait()
        # A checkpoint of a run that offloads is read by one that does not, and by itself.
        restored, _ = checkpoints.restore(program.abstract_state())
        assert (kinds(restored.optimizer_state) == {HOST}) == offload
        with jax.set_mesh(mesh):
            batch = put_batch(random_batch(3), mesh, Rules())
            losses[offload].append(float(step(restored, batch)[1].objective))
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-6)


def test_devices_without_such_memory_are_named():
    kind = types.SimpleNamespace(kind="device")
    device = types.SimpleNamespace(
        addressable_memories=lambda: [kind], device_kind="toy", platform="toy"
    )
    mesh: Any = types.SimpleNamespace(devices=np.array([device]))
    with pytest.raises(
        ConfigError, match=r"offload_optimizer=True .*'pinned_host'.*toy.*has device"
    ):
        check_host_memory(mesh, "execution.offload_optimizer=True")
