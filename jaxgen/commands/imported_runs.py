"""The directory of a run that an import makes: its configuration, its checkpoint, its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxgen.configuration import fingerprint, to_gin
from jaxgen.data.base import keep_codecs
from jaxgen.distributed import on_main
from jaxgen.runs.checkpoints import Checkpoints
from jaxgen.runs.config import RunConfig
from jaxgen.runs.provenance import environment, provenance
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import make_mesh
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.metrics import WindowSums
from jaxgen.training.program import build_program


def save_import(
    config: RunConfig,
    execution: ExecutionConfig,
    directory: RunDirectory,
    load: Callable[[Layout], Any],
    source: str,
) -> Any:
    """Writes the checkpoint of step 0 of an import, and its run.json; returns the model.

    Args:
      config: the run's.
      execution: gives the mesh.
      directory: the run's.
      load: returns the model in a layout, under the mesh.
      source: where it comes from, for run.json.
    """
    mesh = make_mesh(execution.mesh)
    program = build_program(config.model, config.train, mesh, execution, config.objective)
    with jax.set_mesh(mesh), Checkpoints(directory.checkpoints) as checkpoints:
        model = load(program.layout)
        state = program.state_with(model)
        checkpoints.save(0, state, {"step": 0, "window": WindowSums().to_record()})
    record = {"name": config.name, "version": config.version, "finished": False}
    record |= {"fingerprint": fingerprint(config), "imported_from": source}
    record |= provenance(config, program) | environment(program)
    on_main(directory.write_record, record)
    return model


def keep_config(config: RunConfig, directory: RunDirectory) -> None:
    """Writes config.gin, and the codec beside it."""
    keep_codecs(config.mixture, directory.path)
    directory.check_config(to_gin(config), lambda: [])
