"""A copy of a run without what only training needs: a third of its size, or less."""

from __future__ import annotations

import os
import shutil

import jax

from jaxgen.configuration import load_recorded
from jaxgen.data.base import keep_codecs
from jaxgen.errors import CheckpointError
from jaxgen.interchange.originals import hand_on_originals
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.program import build_program


def slim_copy(source: RunDirectory, output: str | os.PathLike) -> int:
    """Writes a run's newest model where it can be generated with, evaluated and exported.

    Args:
      source: the run.
      output: a folder that is not there, or empty.

    Returns:
      The step of the model.

    Raises:
      CheckpointError: if there is something, or no checkpoint that can be trusted.
    """
    target = RunDirectory(output)
    if target.path.exists() and any(target.path.iterdir()):
        raise CheckpointError(f"{target.path} is not empty: name another folder for --slim.")
    config: RunConfig = load_recorded(source.config_file)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    program = build_program(config.model, config.train, mesh, None, config.objective, trains=False)
    with jax.set_mesh(mesh):
        with Checkpoints(source.checkpoints) as checkpoints:
            state, record = checkpoints.restore(program.abstract_state_without_optimizer())
        target.prepare()
        shutil.copyfile(source.config_file, target.config_file)
        keep_codecs(config.mixture, target.path)
        hand_on_originals(source.path, target.path)
        with Checkpoints(target.checkpoints) as checkpoints:
            checkpoints.save(record["step"], state, record)
            checkpoints.wait()
    kept = source.read_record() if source.run_file.exists() else {}
    # Nothing trains on from here, whether the run was at its end or not.
    target.write_record({"evaluation": {}} | kept | {"finished": True, "slim": True})
    return record["step"]
