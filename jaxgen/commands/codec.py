"""`jaxgen codec export`: writes the autoencoder of a run as the file of a codec."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import jax
import numpy as np

from jaxgen.codecs.learned import AutoencoderLike
from jaxgen.distributed import fetch, on_main
from jaxgen.errors import ConfigError
from jaxgen.files import write_atomically
from jaxgen.models.parameters import named_parameters
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def export(arguments: argparse.Namespace) -> int:
    """Writes a codec's file, and prints what a configuration needs to know of it.

    Args:
      arguments: `run_dir`, `output`, `step`, `ema`.

    Raises:
      ConfigError: if the run's model is no autoencoder.
    """
    import safetensors.numpy

    prepare_process()
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        restored = restore(arguments.run_dir, mesh, arguments.step, ema=arguments.ema)
        model = restored.config.model
        if not isinstance(model, AutoencoderLike):
            raise ConfigError(
                f"the model of {arguments.run_dir} is {type(model).__name__}, which makes no "
                "codes; name the run of an autoencoder, such as one of gin/runs/codecs."
            )
        arrays = {name: fetch(p[...]) for name, p in named_parameters(restored.model)}
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    content = safetensors.numpy.save(arrays, {"autoencoder": model.identity})
    on_main(write_atomically, Path(arguments.output), content)
    time, height, width = model.grid
    print(
        f"{arguments.output}: {restored.config.name} at step {restored.step}, codes of "
        f"{model.modality} in [0, {model.num_codes}), {time} x {height} x {width} a row"
    )
    print(f"digest: {hashlib.sha256(content).hexdigest()[:16]}")
    return 0
