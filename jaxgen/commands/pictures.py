"""`jaxgen generate` of runs of diffusion and Transfusion: files of pictures, and a grid of them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import distributed
from jaxgen.codecs.media import Media
from jaxgen.commands.generate_defaults import MAX_TOKENS, PARALLEL_NOISE, TEMPERATURE
from jaxgen.commands.media_files import check_writable, numbered, write_media
from jaxgen.commands.sampling_progress import sampling_progress
from jaxgen.data.image_files import decode_image, resize_image
from jaxgen.errors import ConfigError, DataError
from jaxgen.generation.diffusion.sampling import Given
from jaxgen.ops.pixels import as_numbers, as_pixels
from jaxgen.runs.cascades import Stage, check_stages, read_run, run_stages, stage_of
from jaxgen.runs.restoring import Restored
from jaxgen.runs.written_vectors import VectorWriter
from jaxgen.training.execution import ExecutionConfig

AT_A_TIME = 16
GAP = 2
"""Pixels between the pictures of a grid."""
OF_TEXT = {
    "temperature": TEMPERATURE, "top_k": None, "top_p": None, "max_tokens": MAX_TOKENS,
    "parallel_steps": None, "parallel_noise": PARALLEL_NOISE, "rerank": None,
}  # fmt: skip
"""Flags that nothing here reads, and what they are where they are not given."""


def generate_pictures(
    arguments: argparse.Namespace,
    first: Restored,
    prompts: list[str],
    mesh: jax.sharding.Mesh,
    execution: ExecutionConfig,
) -> int:
    """Writes a picture for each prompt and sample, and prints the files' names.

    Call under `jax.set_mesh(mesh)`.

    Args:
      arguments: of `jaxgen generate`; `then` are the runs of the stages that follow.
      first: the first stage's run.
      prompts: captions.
      mesh: of the models.
      execution: gives its rules.

    Raises:
      ConfigError: if the arguments do not go together, or the stages.
    """
    if arguments.output is None:
        raise ConfigError("a run of diffusion makes pictures; give --output=FOLDER/ or FILE.png.")
    _check_output(arguments.output)
    if wrong := [name for name, value in OF_TEXT.items() if getattr(arguments, name) != value]:
        raise ConfigError(f"--{wrong[0]} is of models that write tokens; leave it out.")
    options: dict[str, Any] = {"execution": execution, "ema": arguments.ema}
    rest = [read_run(path, mesh, **options) for path in arguments.then]
    stages = [_as_asked(stage, arguments) for stage in (stage_of(first), *rest)]
    check_stages(stages)
    _check_prompts(arguments, stages)
    _tell_of_long(stages, prompts)
    many = arguments.num_samples
    captions = [prompt for prompt in prompts for _ in range(many)]
    given = _given(arguments, stages[0], len(captions))
    at_a_time = min(AT_A_TIME, len(captions))
    with sampling_progress(stages, len(captions), at_a_time, arguments.strength) as on_step:
        made = run_stages(
            stages,
            captions,
            range(len(captions)),
            arguments.seed,
            at_a_time,
            given,
            on_step,
            strength=arguments.strength,
        )
    pixels = as_pixels(made)
    distributed.on_main(_write, arguments, captions, pixels)
    return 0


def _as_asked(stage: Stage | VectorWriter, arguments: argparse.Namespace) -> Stage | VectorWriter:
    """Returns a stage with the settings of the command line in place of the run's own."""
    if isinstance(stage, VectorWriter):
        return stage
    sampling = stage.sampling
    if arguments.sampler_steps is not None:
        sampler: Any = sampling.sampler
        sampler = dataclasses.replace(sampler, steps=arguments.sampler_steps)
        sampling = dataclasses.replace(sampling, sampler=sampler)
    if arguments.guidance is not None and stage.data is not None:
        guidance = dataclasses.replace(sampling.guidance, scale=arguments.guidance)
        sampling = dataclasses.replace(sampling, guidance=guidance)
    sampling.check(stage.corruption)
    return dataclasses.replace(stage, sampling=sampling)


def _given(arguments: argparse.Namespace, stage: Stage | VectorWriter, count: int) -> Given:
    """Returns what the first stage is given of the command line's files and prompts."""
    if isinstance(stage, VectorWriter):
        of_pictures = ("image", "audio", "mask", "negative_prompt")
        wrong = [name for name in of_pictures if getattr(arguments, name)]
        if wrong or arguments.strength != 1:
            raise ConfigError(
                f"--{(*wrong, 'strength')[0]} is not read by {stage.name}, which writes the codes "
                "of a vector after a prompt alone; leave it out."
            )
        return Given()
    size = stage.model.config.picture_size
    picture, keep, without = None, None, None
    if arguments.audio:
        raise ConfigError("--audio is not read by what makes pictures from noise; leave it out.")
    if len(arguments.image) > 1:
        raise ConfigError("pictures from noise begin with one picture; give --image=FILE once.")
    is_changed = arguments.mask is not None or arguments.strength != 1
    if arguments.mask is not None and arguments.strength != 1:
        raise ConfigError(
            "--mask paints a part of the picture anew from noise alone; leave --strength out."
        )
    if arguments.image and not is_changed:
        otherwise = ", or leave --output out, and it is read before the prompt"
        raise ConfigError(
            "--image=FILE with --output leaves open what becomes of it: give --strength below 1 "
            "to change the picture or --mask=FILE to paint a part of it anew"
            f"{otherwise if stage.draws_in_rows else ''}."
        )
    if arguments.image:
        pixels = _read(arguments.image[0], size)
        picture = np.repeat(as_numbers(pixels)[None], count, axis=0)
    if arguments.mask is not None:
        if picture is None or stage.model.latents is not None:
            raise ConfigError(
                "--mask says where --image=FILE is painted anew, pixel by pixel: give both, with a "
                "run whose denoiser works on pixels."
            )
        white = _read(arguments.mask, size).mean(axis=-1, keepdims=True) >= 128
        keep = np.repeat(1 - white.astype(np.float32)[None], count, axis=0)
    if arguments.negative_prompt is not None:
        if stage.data is None or stage.sampling.guidance.is_none:
            raise ConfigError(
                "--negative_prompt is what guidance leads away from; give --guidance above 1, with "
                "a run that reads prompts."
            )
        without = stage.prompts([arguments.negative_prompt] * count, None)
    if arguments.strength != 1 and picture is None:
        raise ConfigError("--strength says how far --image=FILE is changed; give both.")
    return Given(without=without, picture=picture, keep=keep)


def _read(path: str, size: int) -> np.ndarray:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return resize_image(decode_image(content, path), (size, size))


def _check_prompts(arguments: argparse.Namespace, stages: list[Stage | VectorWriter]) -> None:
    """Raises ConfigError for what is said to runs that read no prompts."""
    reads = [isinstance(one, VectorWriter) or one.data is not None for one in stages]
    wrong = [name for name in ("prompt", "guidance") if getattr(arguments, name) is not None]
    if wrong and not any(reads):
        raise ConfigError(
            f"--{wrong[0]} is of runs that read prompts, and {arguments.run_dir} has no "
            "diffusion.conditioner; leave it out."
        )


def _tell_of_long(stages: list[Stage | VectorWriter], prompts: list[str]) -> None:
    """Says on standard error which prompts are read in part."""
    for stage in stages:
        if isinstance(stage, VectorWriter) or stage.data is None or stage.draws_in_rows:
            continue
        for prompt in stage.data.cut(prompts, stage.length, stage.source_length):
            print(
                f"jaxgen: {stage.name} reads captions of {stage.length} tokens (train.length), and "
                f"not the end of {prompt[:40]!r}...",
                file=sys.stderr,
            )


def _is_file(output: str) -> bool:
    return Path(output).suffix.lower() == ".png" and not output.endswith("/")


def _check_output(output: str) -> None:
    """Raises an error for what cannot be written, before anything is computed."""
    is_folder = not Path(output).suffix or output.endswith("/")
    if not output or not (is_folder or _is_file(output)):
        raise ConfigError(
            f"--output={output}: a picture is written as .png, several into a folder."
        )
    distributed.on_main(check_writable, Path(output), is_folder)


def _write(arguments: argparse.Namespace, captions: list[str], pixels: np.ndarray) -> None:
    """Writes the pictures, of several into a folder also a grid, and prints the files' names."""
    output = Path(arguments.output)
    is_file = _is_file(arguments.output)
    paths = (
        numbered(arguments.output, len(pixels))
        if is_file
        else [output / f"{number:04d}.png" for number in range(len(pixels))]
    )
    for place, path in enumerate(paths):
        notes = {
            "prompt": captions[place],
            "seed": str(arguments.seed),
            "sample": str(place),
            "run_dir": ", ".join([arguments.run_dir, *arguments.then]),
        }
        if arguments.negative_prompt is not None:
            notes["negative_prompt"] = arguments.negative_prompt
        write_media(path, Media("image", pixels[place]), None, notes)
        print(path)
    if len(pixels) > 1 and not is_file:
        columns = arguments.num_samples if arguments.num_samples > 1 else _columns(len(pixels))
        grid = output / "grid.png"
        whole = Media("image", grid_of(pixels, columns))
        write_media(grid, whole, None, {"prompts": "\n".join(captions)})
        print(grid)


def grid_of(pictures: np.ndarray, columns: int) -> np.ndarray:
    """Returns pictures [n, height, width, 3] side by side in so many columns, on white."""
    count, height, width, channels = pictures.shape
    rows = -(-count // columns)
    shape = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels)
    whole = np.full(shape, 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        whole[top : top + height, left : left + width] = picture
    return whole


def _columns(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))
