"""`jaxgen codec`: writes an autoencoder, or the components of a pair's vectors, for a codec."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.learned import AutoencoderLike
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.distributed import fetch, on_main
from jaxgen.errors import ConfigError
from jaxgen.evaluation.pairs import in_batches
from jaxgen.files import check_folder_of, write_atomically
from jaxgen.models.dual_encoder_config import DualEncoderConfig
from jaxgen.models.pair_codes import PAIR, PairCodesConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.ops.principal import fit_principal
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
    on_main(check_folder_of, arguments.output)
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


def fit(arguments: argparse.Namespace) -> int:
    """Writes the principal components of a pair's vectors with the pair, for a `vector_codec`.

    Args:
      arguments: `run_dir`, `output`, `components`, `buckets`, `examples`, `step`, `ema`.

    Raises:
      ConfigError: if the run's model is no contrastive pair.
    """
    import safetensors.numpy

    prepare_process()
    on_main(check_folder_of, arguments.output)
    mesh = make_mesh(MeshConfig(1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(arguments.run_dir, mesh, arguments.step, ema=arguments.ema)
        pair, pairs = restored.config.model, restored.config.mixture
        if not isinstance(pair, DualEncoderConfig) or not isinstance(pairs, ImageTextPairs):
            raise ConfigError(
                f"the model of {arguments.run_dir} is {type(pair).__name__}; components are found "
                "in the vectors of a contrastive pair, such as runs/contrastive.gin."
            )
        config = PairCodesConfig(pair, arguments.components, arguments.buckets)
        pixels = pairs.pixels(pairs.examples(arguments.examples, 0, "train"))
        batch_size = min(restored.config.evaluation.batch_size, len(pixels))
        vectors = in_batches(_vectors, restored.model, (pixels,), batch_size)
        arrays = {PAIR + name: fetch(p[...]) for name, p in named_parameters(restored.model)}
    principal, values = fit_principal(vectors, arguments.components)
    arrays |= principal._asdict()
    arrays = {n: np.asarray(one, np.float32, order="C") for n, one in arrays.items()}
    notes = {"autoencoder": config.identity, "codec": pairs.codec.digest}
    content = safetensors.numpy.save(arrays, notes)
    on_main(write_atomically, Path(arguments.output), content)
    kept = values[: arguments.components].sum() / values.sum()
    print(
        f"{arguments.output}: {arguments.components} components of {len(vectors):,} vectors of "
        f"{pair.embed_dim} numbers keep {kept:.4f} of their variance"
    )
    print(f"digest: {hashlib.sha256(content).hexdigest()[:16]}")
    return 0


@jax.jit
def _vectors(model: Any, pictures: jax.Array) -> jax.Array:
    return model.encode_images(pictures)
