"""Whole pipelines of diffusers: one model of diffusion from the folders of its parts, and back.

model_index.json  unet/  vae/  text_encoder/  tokenizer/  scheduler/
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, Literal

import jax

from jaxgen.distributed import on_main
from jaxgen.errors import ConfigError, InterchangeError
from jaxgen.files import write_atomically
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.files import CONFIG, TOKENIZER, read_json
from jaxgen.interchange.importing import Checkpoint, load_parameters, open_checkpoint
from jaxgen.interchange.originals import FILES, FOLDER
from jaxgen.interchange.schedulers import CLASS, read_scheduler, write_scheduler
from jaxgen.models.base import abstract_model
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.kl_autoencoder_config import KlAutoencoderConfig
from jaxgen.models.parameters import is_variable, named_parameters
from jaxgen.sharding.layout import Layout

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
PIPELINE = "StableDiffusionPipeline"
PARTS = {"unet": "", "vae": "latents.", "text_encoder": "conditioner.model."}
"""The folders of networks, and where their parameters are in the model."""
WRITTEN = {
    CLASS: PIPELINE,
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
"""The model_index.json of what is written, but for its scheduler."""


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A folder whose small files were read; no tensor was yet.

    Attributes:
      folder: its path.
      parts: the opened folders of its networks.
      config: of the whole model.
      corruption: that it was trained by, as its scheduler says.
      sampler: that it is sampled by.
    """

    folder: pathlib.Path
    parts: Mapping[str, Checkpoint]
    config: DiffusionConfig
    corruption: Any
    sampler: Any

    @property
    def tokenizer(self) -> Checkpoint:
        """The folder of the tokenizer, as `tokenizers.read_codec` reads one.

        Its special tokens are those that it names: CLIP's config.json has other ids.
        """
        return dataclasses.replace(
            self.parts["text_encoder"], folder=self.folder / "tokenizer", values={}
        )


def is_pipeline(folder: str | os.PathLike) -> bool:
    """Returns whether a folder has a pipeline of diffusers."""
    return (pathlib.Path(folder).expanduser() / INDEX).exists()


def open_pipeline(folder: str | os.PathLike) -> Pipeline:
    """Reads the small files of a pipeline.

    Raises:
      InterchangeError: if it is of another class, or a part says something unsupported.
    """
    folder = pathlib.Path(folder).expanduser()
    index = read_json(folder / INDEX)
    if index.get(CLASS) != PIPELINE:
        raise InterchangeError(
            f"{folder / INDEX} is of {index.get(CLASS)!r}, and jaxgen reads {PIPELINE} (Stable "
            "Diffusion 1 and 2) whole; import the folder of one part, such as its transformer/."
        )
    parts = {name: open_checkpoint(folder / name) for name in PARTS}
    denoiser, latents, text = (parts[name].config for name in PARTS)
    kinds = (DiffusionConfig, KlAutoencoderConfig, TransformerConfig)
    for name, one, kind in zip(PARTS, (denoiser, latents, text), kinds, strict=True):
        if not isinstance(one, kind):
            raise InterchangeError(
                f"{folder / name} is a {type(one).__name__}, and {PIPELINE} has a "
                f"{kind.__name__} there."
            )
    size = denoiser.denoiser.size
    latents = dataclasses.replace(latents, size=size * latents.reduction)
    conditioner = CaptionEncoderConfig(text, masks_padding=False)
    try:
        config = DiffusionConfig(
            denoiser=denoiser.denoiser, conditioner=conditioner, latents=latents
        )
    except ConfigError as error:
        raise InterchangeError(f"the parts of {folder} do not fit: {error}") from error
    corruption, sampler = read_scheduler(read_json(folder / "scheduler" / SCHEDULER))
    return Pipeline(folder, parts, config, corruption, sampler)


def load_pipeline(pipeline: Pipeline, layout: Layout = Layout()) -> Any:
    """Returns a pipeline's model in float32, its parameters laid out on the mesh in force.

    Raises:
      InterchangeError: if files of a part are damaged, or lack a parameter.
    """
    abstract = abstract_model(pipeline.config, layout)
    parameters = dict(named_parameters(abstract))
    others = tuple(prefix for prefix in PARTS.values() if prefix)
    arrays: dict[str, jax.Array] = {}
    for part, prefix in PARTS.items():
        own = {
            name.removeprefix(prefix): parameter.get_value()
            for name, parameter in parameters.items()
            if (name.startswith(prefix) if prefix else not name.startswith(others))
        }
        found = load_parameters(pipeline.parts[part], own)
        arrays |= {prefix + name: array for name, array in found.items()}
    structure = jax.tree_util.tree_structure(abstract, is_leaf=is_variable)
    leaves = [parameter.replace(arrays[name]) for name, parameter in parameters.items()]
    return jax.tree_util.tree_unflatten(structure, leaves)


def keep_pipeline(folder: pathlib.Path, run_dir: pathlib.Path) -> None:
    """Copies the small files of a pipeline into a run's directory."""
    for name in (*PARTS, "tokenizer", "scheduler"):
        target = run_dir / FOLDER / name
        target.mkdir(parents=True)
        for file in (CONFIG, SCHEDULER, TOKENIZER, *FILES):
            if (folder / name / file).exists():
                shutil.copyfile(folder / name / file, target / file)
    shutil.copyfile(folder / INDEX, run_dir / FOLDER / INDEX)


def is_whole(config: Any) -> bool:
    """Returns whether a model has the parts of a pipeline: it is exported as one."""
    return (
        isinstance(config, DiffusionConfig)
        and isinstance(config.conditioner, CaptionEncoderConfig)
        and isinstance(config.latents, KlAutoencoderConfig)
    )


def export_pipeline(
    model: Any,
    folder: str | os.PathLike,
    corruption: Any,
    sampler: Any,
    files: Mapping[str, bytes],
    dtype: Literal["float32", "bfloat16"] = "float32",
    max_shard_bytes: int = 5 * 10**9,
    run_dir: pathlib.Path | None = None,
) -> None:
    """Writes a model as a pipeline of Stable Diffusion; every process calls this.

    Args:
      model: the `DiffusionModel`.
      folder: the path, which must not exist.
      corruption: that it was trained by.
      sampler: that it is sampled by.
      files: of its tokenizer, by name.
      dtype: that of the tensors.
      max_shard_bytes: the most of one file.
      run_dir: of a run, whose `imported` files are given back where they still say the same.

    Raises:
      InterchangeError: if the folder exists, or a part cannot be expressed.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    if on_main(folder.exists):
        raise InterchangeError(f"{folder} exists; export to a folder that does not, or remove it.")
    config = model.config
    if config.conditioner.precomputed or config.conditioner.masks_padding:
        raise InterchangeError(
            f"{PIPELINE} has an encoder that reads the padding of captions: it can express "
            "caption_encoder.masks_padding=False and precomputed=False alone."
        )
    kept = None if run_dir is None else run_dir / FOLDER
    scheduler = write_scheduler(corruption, sampler)
    if kept is not None and (kept / "scheduler" / SCHEDULER).exists():
        original = read_json(kept / "scheduler" / SCHEDULER)
        if read_scheduler(original) == read_scheduler(scheduler):
            scheduler = original
    network = jax.tree.map(lambda leaf: leaf, model)
    network.config = DiffusionConfig(denoiser=config.denoiser)
    network.conditioner, network.latents = None, None
    parts = {"unet": network, "vae": model.latents, "text_encoder": model.conditioner.model}
    chosen = {"text_encoder": "clip_text"}
    families = {name: choose_family(one.config, chosen.get(name)) for name, one in parts.items()}
    on_main(folder.mkdir, 0o777, True)
    try:
        for name, one in parts.items():
            path = None if kept is None else kept / name / CONFIG
            export_model(
                one,
                folder / name,
                families[name],
                dtype,
                max_shard_bytes,
                original=read_json(path) if path is not None and path.exists() else None,
            )
        on_main(_write_files, folder, files, scheduler, kept)
    except BaseException:
        on_main(shutil.rmtree, folder, True)
        raise


def _write_files(
    folder: pathlib.Path,
    files: Mapping[str, bytes],
    scheduler: Mapping[str, Any],
    kept: pathlib.Path | None,
) -> None:
    """Writes the tokenizer, the scheduler and, last, the index."""
    tokenizer = dict(files)
    if kept is not None and (kept / "tokenizer").exists():
        tokenizer |= {path.name: path.read_bytes() for path in (kept / "tokenizer").iterdir()}
    for name in ("tokenizer", "scheduler"):
        (folder / name).mkdir()
    for name, content in tokenizer.items():
        (folder / "tokenizer" / name).write_bytes(content)
    write_atomically(folder / "scheduler" / SCHEDULER, json.dumps(dict(scheduler), indent=2) + "\n")
    index = WRITTEN | {"scheduler": ["diffusers", scheduler[CLASS]]}
    write_atomically(folder / INDEX, json.dumps(index, indent=2) + "\n")
