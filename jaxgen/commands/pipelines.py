"""`jaxgen import` and `jaxgen export` of whole pipelines of diffusers."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import shutil
from typing import Any

import jax

from jaxgen.codecs.joint import begin_ids
from jaxgen.codecs.tokenizer import SecondTokenizer, TokenizerCodec, read_tokenizer
from jaxgen.commands.imported_runs import keep_config, save_import
from jaxgen.configuration import load_run
from jaxgen.data.generated import Sprites
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.distributed import is_main, on_main
from jaxgen.errors import InterchangeError
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.evaluation.made_pictures import MadePictures
from jaxgen.generation.diffusion.guidance import Guidance
from jaxgen.generation.diffusion.sampling import PictureSampling
from jaxgen.interchange.files import TOKENIZER
from jaxgen.interchange.originals import GENERATION
from jaxgen.interchange.pipeline_kinds import PipelineKind
from jaxgen.interchange.pipeline_tokenizers import tokenizer_of
from jaxgen.interchange.pipelines import (
    Pipeline,
    export_pipeline,
    keep_pipeline,
    kind_of,
    load_pipeline,
    open_pipeline,
)
from jaxgen.interchange.tokenizers import read_codec, write_codec
from jaxgen.models.parameters import number_of_parameters
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.runs.cascades import stage_of
from jaxgen.runs.config import RunConfig
from jaxgen.runs.restoring import Restored
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.config import TrainConfig
from jaxgen.training.execution import ExecutionConfig

SOURCE_LENGTH = 256
"""Tokens of a caption by T5's tokenizer, where a pipeline is called without a number of them."""


def import_pipeline(arguments: argparse.Namespace, source: pathlib.Path) -> int:
    """Makes a run of a whole pipeline of diffusers; see `interchange.import_checkpoint`.

    Of a configuration the data and the training are taken; without one the data are sprites of the
    pipeline's size, enough to draw and to try things out.

    Args:
      arguments: `output`, `gin_files` and `bindings`.
      source: the folder.
    """
    pipeline = open_pipeline(source)
    directory = RunDirectory(arguments.output)
    if on_main(directory.path.exists):
        raise InterchangeError(f"{directory.path} exists; import to a folder that does not.")
    try:
        on_main(_keep_pipeline, pipeline, directory)
        codecs = _read_codecs(pipeline, directory)
        config, execution = run_of_pipeline(pipeline, codecs), ExecutionConfig()
        if arguments.gin_files:
            asked, execution = load_run(arguments.gin_files, arguments.bindings)
            mixture: Any = asked.mixture.with_codec(codecs[0])
            if len(codecs) > 1:
                mixture = dataclasses.replace(mixture, second_codec=codecs[1])
            config = dataclasses.replace(config, mixture=mixture, train=asked.train)
        on_main(keep_config, config, directory)
        load = functools.partial(load_pipeline, pipeline)
        model = save_import(config, execution, directory, load, str(pipeline.folder))
    except BaseException:
        if is_main():
            shutil.rmtree(directory.path, ignore_errors=True)  # It was not there before.
        raise
    print(f"{pipeline.kind.name}, {number_of_parameters(model):,} parameters")
    print(f"run directory: {directory.path}")
    return 0


def run_of_pipeline(pipeline: Pipeline, codecs: list[TokenizerCodec]) -> RunConfig:
    """Returns a run of a pipeline that draws as it does, on pictures of sprites."""
    config, kind = pipeline.config, pipeline.kind
    text: Any = config.conditioner
    size = config.picture_size
    task = Task("sprites", Sprites(size=size), codec=codecs[0])
    sampling = PictureSampling(pipeline.sampler, Guidance(kind.guidance))
    second = codecs[-1] if len(codecs) > 1 else None
    return RunConfig(
        config,
        ImageTextPairs(task, size, text="description", distinct=False, second_codec=second),
        TrainConfig(
            steps=1000,
            batch_size=8 * jax.device_count(),
            length=text.max_length,
            source_length=None if second is None else SOURCE_LENGTH,
        ),
        DiffusionLoss(corruption=pipeline.corruption),
        EvaluationConfig(evaluators=(MadePictures(sampling=sampling, verified=False),)),
        name="stable_diffusion",
    )


def export_whole(restored: Restored, arguments: argparse.Namespace) -> int:
    """Writes a model of diffusion with its encoders and its autoencoder as a pipeline."""
    config, kind = restored.config, kind_of(restored.config.model)
    stage: Any = stage_of(restored)
    assert kind is not None
    export_pipeline(
        restored.model,
        arguments.output,
        stage.corruption,
        stage.sampling.sampler,
        _written_tokenizers(config, kind),
        arguments.dtype,
        arguments.max_shard_bytes,
        restored.directory.path,
    )
    print(f"{config.name} at step {restored.step} as a {kind.name}: {arguments.output}")
    return 0


def _written_tokenizers(config: RunConfig, kind: PipelineKind) -> dict[str, dict[str, bytes]]:
    """Returns the files of each tokenizer's folder by name."""
    data, length = config.mixture, config.train.length
    encoders = kind.find_encoders(getattr(config.model, "conditioner", None)) or []
    found = {}
    for name, encoder in zip(kind.tokenizers, encoders, strict=True):
        if encoder.codec == "second":
            codec: Any = getattr(data, "second_codec", None)
            begins = bool(begin_ids(codec))
            files, _ = write_codec(codec, not begins, begins, config.train.source_length)
        else:
            codec = _padded_by(data.codec, encoder.pad_id)
            files, _ = write_codec(codec, both_ends=True, max_length=length)
        found[name] = {one: content for one, content in files.items() if one != GENERATION}
    return found


def _padded_by(codec: Any, pad_id: int | None) -> Any:
    """Returns a codec that pads as an encoder reads its padding.

    Raises:
      InterchangeError: if it pads otherwise and is no tokenizer.json.
    """
    if pad_id is None or codec.pad_id == pad_id:
        return codec
    if not isinstance(codec, TokenizerCodec):
        raise InterchangeError(
            f"caption_encoder.pad_id={pad_id} is not the padding of {type(codec).__name__}, "
            f"{codec.pad_id}, and no tokenizer can be written that has it."
        )
    token = read_tokenizer(codec.path).id_to_token(pad_id)
    return dataclasses.replace(codec, pad=token)


def _read_codecs(pipeline: Pipeline, directory: RunDirectory) -> list[TokenizerCodec]:
    """Returns the codec of captions, and a second where the pipeline has one, of the run's copies.

    The first two of several tokenizers are one but for padding; see `open_pipeline`.
    """
    found = []
    for name, kind in _codecs_of(pipeline).items():
        path = directory.path / kind.KEPT_FILES["path"]
        codec = read_codec(tokenizer_of(pipeline.folder, pipeline.parts, name), str(path))
        fields = {one.name: getattr(codec, one.name) for one in dataclasses.fields(codec)}
        found.append(kind(**fields))
    return found


def _codecs_of(pipeline: Pipeline) -> dict[str, type[TokenizerCodec]]:
    """Returns what reads each folder of a tokenizer that makes tokens of its own."""
    first, *others = pipeline.kind.tokenizers
    return {first: TokenizerCodec} | dict.fromkeys(others[-1:], SecondTokenizer)


def _keep_pipeline(pipeline: Pipeline, directory: RunDirectory) -> None:
    directory.prepare()
    for name, kind in _codecs_of(pipeline).items():
        tokenizer = tokenizer_of(pipeline.folder, pipeline.parts, name).folder / TOKENIZER
        shutil.copyfile(tokenizer, directory.path / kind.KEPT_FILES["path"])
    keep_pipeline(pipeline, directory.path)
