"""`jaxgen import` and `jaxgen export` of whole pipelines of diffusers."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import shutil
from typing import Any

import jax

from jaxgen.codecs.tokenizer import TokenizerCodec
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
from jaxgen.interchange.pipelines import (
    PIPELINE,
    Pipeline,
    export_pipeline,
    keep_pipeline,
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

GUIDANCE = 7.5
"""Of a pipeline that is called without one."""


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
        codec = read_codec(pipeline.tokenizer, str(directory.path / TOKENIZER))
        config, execution = run_of_pipeline(pipeline, codec), ExecutionConfig()
        if arguments.gin_files:
            asked, execution = load_run(arguments.gin_files, arguments.bindings)
            mixture = asked.mixture.with_codec(codec)
            config = dataclasses.replace(config, mixture=mixture, train=asked.train)
        on_main(keep_config, config, directory)
        load = functools.partial(load_pipeline, pipeline)
        model = save_import(config, execution, directory, load, str(pipeline.folder))
    except BaseException:
        if is_main():
            shutil.rmtree(directory.path, ignore_errors=True)  # It was not there before.
        raise
    print(f"{PIPELINE}, {number_of_parameters(model):,} parameters")
    print(f"run directory: {directory.path}")
    return 0


def run_of_pipeline(pipeline: Pipeline, codec: TokenizerCodec) -> RunConfig:
    """Returns a run of a pipeline that draws as it does, on pictures of sprites."""
    config = pipeline.config
    text: Any = config.conditioner
    size = config.picture_size
    task = Task("sprites", Sprites(size=size), codec=codec)
    sampling = PictureSampling(pipeline.sampler, Guidance(GUIDANCE))
    return RunConfig(
        config,
        ImageTextPairs(task, size, text="description", distinct=False),
        TrainConfig(steps=1000, batch_size=8 * jax.device_count(), length=text.max_length),
        DiffusionLoss(corruption=pipeline.corruption),
        EvaluationConfig(evaluators=(MadePictures(sampling=sampling, verified=False),)),
        name="stable_diffusion",
    )


def export_whole(restored: Restored, arguments: argparse.Namespace) -> int:
    """Writes a model of diffusion with its encoder and its autoencoder as a pipeline."""
    config = restored.config
    stage: Any = stage_of(restored)
    length = config.train.length
    files, _ = write_codec(config.mixture.codec, both_ends=True, max_length=length)
    export_pipeline(
        restored.model,
        arguments.output,
        stage.corruption,
        stage.sampling.sampler,
        {name: content for name, content in files.items() if name != GENERATION},
        arguments.dtype,
        arguments.max_shard_bytes,
        restored.directory.path,
    )
    print(f"{config.name} at step {restored.step} as a {PIPELINE}: {arguments.output}")
    return 0


def _keep_pipeline(pipeline: Pipeline, directory: RunDirectory) -> None:
    directory.prepare()
    tokenizer = pipeline.folder / "tokenizer" / TOKENIZER
    if not tokenizer.exists():
        raise InterchangeError(
            f"{tokenizer} is not there, and jaxgen reads no vocab.json and merges.txt: save the "
            "tokenizer once with transformers' CLIPTokenizerFast, which writes it."
        )
    shutil.copyfile(tokenizer, directory.path / TOKENIZER)
    keep_pipeline(pipeline.folder, directory.path)
