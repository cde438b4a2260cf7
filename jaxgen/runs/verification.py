"""Reads all checkpoints of a run, to see whether they are whole."""

from __future__ import annotations

import jax

from jaxgen.configuration import load_recorded
from jaxgen.errors import CheckpointError
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.runs.state_precision import saved_otherwise
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.program import build_program


def verify(directory: RunDirectory) -> dict[int, str]:
    """Returns of each checkpoint's step what is wrong with it, "" if it is whole.

    All processes read them, onto one device if there is one process, and otherwise split over all.
    """
    config: RunConfig = load_recorded(directory.config_file)
    devices = jax.devices()[:1] if jax.process_count() == 1 else jax.devices()
    mesh = make_mesh(MeshConfig(fsdp=len(devices)), devices)
    program = build_program(config.model, config.train, mesh, None, config.objective, trains=False)
    abstract = program.abstract_state()
    record = directory.read_record() if directory.run_file.exists() else {}
    if record.get("slim"):
        abstract = program.abstract_state_without_optimizer()
    problems = {}
    otherwise = saved_otherwise(record, program)
    with (
        jax.set_mesh(mesh),
        Checkpoints(directory.checkpoints, otherwise=otherwise) as checkpoints,
    ):
        for step in checkpoints.steps():
            try:
                checkpoints.restore(abstract, step)
            except CheckpointError as error:
                problems[step] = str(error).partition(" Nothing was changed.")[0]
            else:
                problems[step] = ""
    return problems
