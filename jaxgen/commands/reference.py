"""`jaxgen reference`: scores the completions of a run-to-be's data with a run's model, once."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax

from jaxgen.configuration import load_run
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.reference_file import write_reference
from jaxgen.distributed import on_main
from jaxgen.errors import ConfigError
from jaxgen.evaluation.references import reference_log_probabilities
from jaxgen.files import check_folder_of
from jaxgen.models.base import language_model
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def reference(arguments: argparse.Namespace) -> int:
    """Writes the log-probabilities of a run's model for the comparisons of another configuration.

    Args:
      arguments: `run_dir`, `step` or None, `ema`, `average`; `gin_files` and `bindings` of the run
        that will read the file; `output`.
    """
    prepare_process()
    on_main(check_folder_of, arguments.output)
    config, _ = load_run(arguments.gin_files, arguments.bindings)
    data = config.mixture
    if not isinstance(data, Comparisons):
        raise ConfigError(
            f"a reference scores comparisons (run.mixture = @comparisons()), and the data is a "
            f"{type(data).__name__}."
        )
    data.check_is_stored("jaxgen reference")
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir, mesh, arguments.step, ema=arguments.ema or None,
            average=arguments.average,
        )  # fmt: skip
        codec = restored.config.mixture.codec
        if codec.digest != data.codec.digest:
            raise ConfigError(
                f"the reference {arguments.run_dir} reads the tokens of another codec (digest "
                f"{codec.digest!r}) than the data ({data.codec.digest!r}): its vocabulary is not "
                "the policy's."
            )
        found = reference_log_probabilities(
            language_model(restored.model),
            dataclasses.replace(data, reference=None),
            config.train.length,
            config.evaluation.batch_size,
        )
        made_by = f"{restored.config.name} {Path(arguments.run_dir).name} step {restored.step}"
        count = write_reference(Path(arguments.output), found, data.codec, made_by)
    print(f"{arguments.output}: {count} completions by {made_by}")
    print(f"read it with --gin.comparisons.reference={arguments.output!r} and a policy without one")
    return 0
