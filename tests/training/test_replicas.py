"""Devices that hold or compute wrong bits are found and named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, random_batch, tiny_dense
from support.rhythms import Rhythms

from jaxgen.errors import CorruptionError
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.runs.config import RunConfig
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.loading import put_batch
from jaxgen.training.program import build_program
from jaxgen.training.replicas import check_repeats, check_replicas, digests_by_device


def with_wrong_bit(array, device_id):
    """The array with the last bit of one element flipped on one device only."""
    shards = []
    for shard in array.addressable_shards:
        data = np.array(shard.data)
        if shard.device.id == device_id:
            data.reshape(-1).view(np.uint32)[0] ^= 1
        shards.append(jax.device_put(data, shard.device))
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, shards)


def test_a_replica_with_one_other_bit_is_named_with_its_part():
    mesh = make_mesh(MeshConfig(data=4, tensor=2))
    sharding = jax.NamedSharding(mesh, jax.P("tensor"))
    whole = jax.device_put(np.arange(8, dtype=np.float32), sharding)
    state = {"fine": whole, "wrong": with_wrong_bit(whole, 5)}
    marks = digests_by_device({"fine": whole})
    assert set(marks) == {"fine[0:4]", "fine[4:8]"}
    assert all(len(set(found.values())) == 1 and len(found) == 4 for found in marks.values())
    held = next(s.index[0] for s in whole.addressable_shards if s.device.id == 5)
    part = rf"wrong\[{held.start or 0}:{held.stop or 8}\]"
    with pytest.raises(CorruptionError, match=rf"step 7: device 5 of process 0 .*{part}") as found:
        check_replicas(state, 7)
    assert "fine" not in str(found.value) and "device 4" not in str(found.value)


def test_a_step_repeats_itself_and_one_that_does_not_is_told():
    mesh = make_mesh(MESHES["fsdp"])
    program = build_program(tiny_dense(), TrainConfig(steps=3, length=32), mesh)
    with jax.set_mesh(mesh):
        step, state = program.train_step(), program.fresh_state()
        batch = put_batch(random_batch(0), mesh, program.execution.rules)
        plain, _ = step(jax.tree.map(jnp.copy, state), batch)
        checked, _ = check_repeats(step, state, batch, 1)
        assert digests_by_device(plain) == check_replicas(checked, 1)

        calls = []

        def unreliable(state, batch):
            state, metrics = step(state, batch)
            calls.append(1)
            if len(calls) == 1:
                table = state.model.embedding.table
                table.set_value(with_wrong_bit(table.get_value(), 3))
            return state, metrics

        with pytest.raises(
            CorruptionError, match=r"step 2, taken twice, .* device 3 of process 0\."
        ):
            check_repeats(unreliable, checked, batch, 2)


@pytest.mark.slow
def test_a_run_that_is_checked_is_the_run_that_is_not(tmp_path):
    ends = []
    checks = ExecutionConfig(compare_replicas_every=2, repeat_step_every=3)
    for name, execution in (("plain", ExecutionConfig()), ("checked", checks)):
        execution = dataclasses.replace(execution, mesh=MeshConfig(data=4, fsdp=2), trackers=())
        config = RunConfig(
            tiny_dense(vocab_size=320),
            Rhythms(),
            TrainConfig(steps=6, batch_size=8, length=24),
            evaluation=EvaluationConfig(num_batches=1, batch_size=8),
        )
        run(config, tmp_path / name, execution, show_progress=False)
        mesh = make_mesh(execution.mesh)
        with jax.set_mesh(mesh):
            ends.append(digests_by_device(restore(tmp_path / name, mesh).model))
    assert ends[0] == ends[1]
