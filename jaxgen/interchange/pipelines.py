"""Whole pipelines of diffusers: one model of diffusion from the folders of its parts, and back.

model_index.json  unet/ or transformer/  vae/  text_encoder/ ...  tokenizer/ ...  scheduler/
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
from jaxgen.interchange.pipeline_kinds import KINDS, PipelineKind
from jaxgen.interchange.pipeline_tokenizers import pad_ids
from jaxgen.interchange.schedulers import CLASS, read_scheduler, write_scheduler
from jaxgen.models.base import abstract_model
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.parameters import is_variable, named_parameters
from jaxgen.sharding.layout import Layout

INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A folder whose small files were read; no tensor was yet.

    Attributes:
      folder: its path.
      kind: its class.
      parts: the opened folders of its networks.
      config: of the whole model.
      corruption: that it was trained by, as its scheduler says.
      sampler: that it is sampled by.
    """

    folder: pathlib.Path
    kind: PipelineKind
    parts: Mapping[str, Checkpoint]
    config: DiffusionConfig
    corruption: Any
    sampler: Any


def is_pipeline(folder: str | os.PathLike) -> bool:
    """Returns whether a folder has a pipeline of diffusers."""
    return (pathlib.Path(folder).expanduser() / INDEX).exists()


def open_pipeline(folder: str | os.PathLike) -> Pipeline:
    """Reads the small files of a pipeline.

    Raises:
      InterchangeError: if it is of another class, or a part says something unsupported.
    """
    folder = pathlib.Path(folder).expanduser()
    name = read_json(folder / INDEX).get(CLASS)
    kinds = {one.name: one for one in KINDS}
    if name not in kinds:
        known = " and ".join(f"{one.name} ({one.models})" for one in KINDS)
        raise InterchangeError(
            f"{folder / INDEX} is of {name!r}, and jaxgen reads {known} whole; import the folder "
            "of one part, such as its transformer/."
        )
    kind = kinds[name]
    parts = {one: open_checkpoint(folder / one) for one in kind.parts}
    for one, part in kind.parts.items():
        if not isinstance(parts[one].config, part.kind):
            raise InterchangeError(
                f"{folder / one} is a {type(parts[one].config).__name__}, and {kind.name} has a "
                f"{part.kind.__name__} there."
            )
    denoiser, latents, *encoders = (one.config for one in parts.values())
    latents = dataclasses.replace(latents, size=denoiser.denoiser.size * latents.reduction)
    try:
        conditioner = kind.make_conditioner(encoders, pad_ids(folder, kind, parts))
        config = DiffusionConfig(
            denoiser=denoiser.denoiser, conditioner=conditioner, latents=latents
        )
    except ConfigError as error:
        raise InterchangeError(f"the parts of {folder} do not fit: {error}") from error
    scheduler = read_json(folder / "scheduler" / SCHEDULER)
    corruption, sampler = read_scheduler(scheduler, kind.steps)
    return Pipeline(folder, kind, parts, config, corruption, sampler)


def load_pipeline(pipeline: Pipeline, layout: Layout = Layout()) -> Any:
    """Returns a pipeline's model in float32, its parameters laid out on the mesh in force.

    Raises:
      InterchangeError: if files of a part are damaged, or lack a parameter.
    """
    abstract = abstract_model(pipeline.config, layout)
    parameters = dict(named_parameters(abstract))
    parts = pipeline.kind.parts
    others = tuple(part.prefix for part in parts.values() if part.prefix)
    arrays: dict[str, jax.Array] = {}
    for name, part in parts.items():
        own = {
            one.removeprefix(part.prefix): parameter.get_value()
            for one, parameter in parameters.items()
            if (one.startswith(part.prefix) if part.prefix else not one.startswith(others))
        }
        found = load_parameters(pipeline.parts[name], own)
        arrays |= {part.prefix + one: array for one, array in found.items()}
    structure = jax.tree_util.tree_structure(abstract, is_leaf=is_variable)
    leaves = [parameter.replace(arrays[name]) for name, parameter in parameters.items()]
    return jax.tree_util.tree_unflatten(structure, leaves)


def keep_pipeline(pipeline: Pipeline, run_dir: pathlib.Path) -> None:
    """Copies the small files of a pipeline into a run's directory."""
    folder, kind = pipeline.folder, pipeline.kind
    for name in (*kind.parts, *kind.tokenizers, "scheduler"):
        target = run_dir / FOLDER / name
        target.mkdir(parents=True)
        for file in (CONFIG, SCHEDULER, TOKENIZER, *FILES):
            if (folder / name / file).exists():
                shutil.copyfile(folder / name / file, target / file)
    shutil.copyfile(folder / INDEX, run_dir / FOLDER / INDEX)


def kind_of(config: Any) -> PipelineKind | None:
    """Returns the class of pipelines whose parts a model has: it is exported as one."""
    return next((kind for kind in KINDS if kind.describes(config)), None)


def export_pipeline(
    model: Any,
    folder: str | os.PathLike,
    corruption: Any,
    sampler: Any,
    tokenizers: Mapping[str, Mapping[str, bytes]],
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
      tokenizers: the files of each tokenizer's folder, by name.
      dtype: that of the tensors.
      max_shard_bytes: the most of one file.
      run_dir: of a run, whose `imported` files are given back where they still say the same.

    Raises:
      InterchangeError: if the folder exists, or a part cannot be expressed.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    if on_main(folder.exists):
        raise InterchangeError(f"{folder} exists; export to a folder that does not, or remove it.")
    kind = kind_of(model.config)
    assert kind is not None, "the caller has asked"
    parts = _parts_of(model, kind)
    kept = None if run_dir is None else run_dir / FOLDER
    scheduler = write_scheduler(corruption, sampler)
    if kept is not None and (kept / "scheduler" / SCHEDULER).exists():
        original = read_json(kept / "scheduler" / SCHEDULER)
        if read_scheduler(original) == read_scheduler(scheduler):
            scheduler = original
    families = {
        name: choose_family(one.config, kind.parts[name].family) for name, one in parts.items()
    }
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
        on_main(_write_files, folder, kind, tokenizers, scheduler, kept)
    except BaseException:
        on_main(shutil.rmtree, folder, True)
        raise


def _parts_of(model: Any, kind: PipelineKind) -> dict[str, Any]:
    """Returns the module of each folder, configured as its file says it.

    Raises:
      InterchangeError: if captions are read otherwise than the class of pipelines reads them.
    """
    encoders = kind.find_encoders(model.config.conditioner) or []
    made = kind.make_conditioner(
        [
            alone(one) if part.kind is CaptionEncoderConfig else one.model
            for one, part in zip(encoders, list(kind.parts.values())[2:], strict=True)
        ],
        [0 if one.pad_id is None else one.pad_id for one in encoders],
    )
    for own, other in zip(encoders, kind.find_encoders(made) or [], strict=True):
        expected = dataclasses.replace(other, frozen=own.frozen, drop=own.drop)
        if own != expected:
            names = [one.name for one in dataclasses.fields(own)]
            wrong = next(n for n in names if getattr(own, n) != getattr(expected, n))
            raise InterchangeError(
                f"{kind.name} cannot express caption_encoder.{wrong}={getattr(own, wrong)!r:.60}: "
                f"its encoders have {getattr(expected, wrong)!r:.60}."
            )
    network = jax.tree.map(lambda leaf: leaf, model)
    network.config = DiffusionConfig(denoiser=model.config.denoiser)
    network.conditioner, network.latents = None, None
    found = {}
    for name, part in kind.parts.items():
        module: Any = model if part.path else network
        for step in part.path.split(".") if part.path else ():
            module = module[int(step)] if step.isdigit() else getattr(module, step)
        if part.kind is CaptionEncoderConfig:
            module = jax.tree.map(lambda leaf: leaf, module)
            module.config = alone(module.config)
        found[name] = module
    return found


def alone(encoder: CaptionEncoderConfig) -> CaptionEncoderConfig:
    """Returns an encoder with a projection as a file of its own has it."""
    return CaptionEncoderConfig(
        encoder.model, pooled=True, projection=encoder.projection, masks_padding=False
    )


def _write_files(
    folder: pathlib.Path,
    kind: PipelineKind,
    tokenizers: Mapping[str, Mapping[str, bytes]],
    scheduler: Mapping[str, Any],
    kept: pathlib.Path | None,
) -> None:
    """Writes the tokenizers, the scheduler and, last, the index."""
    for name in kind.tokenizers:
        files = dict(tokenizers[name])
        if kept is not None and (kept / name).exists():
            files |= {path.name: path.read_bytes() for path in (kept / name).iterdir()}
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
    (folder / "scheduler").mkdir()
    write_atomically(folder / "scheduler" / SCHEDULER, json.dumps(dict(scheduler), indent=2) + "\n")
    index = kind.written_index(scheduler[CLASS])
    write_atomically(folder / INDEX, json.dumps(index, indent=2) + "\n")
