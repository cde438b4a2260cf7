"""`jaxgen generate`: continues prompts with a run's model, in text, pictures or sound."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import distributed
from jaxgen.codecs.joint import decode_continued, opening_ids
from jaxgen.codecs.media import locate, media_ranges
from jaxgen.commands.generate_defaults import MAX_TOKENS, PARALLEL_NOISE
from jaxgen.commands.media_files import (
    check_writable,
    numbered,
    range_of_output,
    read_image,
    read_sound,
    write_media,
)
from jaxgen.data.padding import pad_text, padded_length
from jaxgen.data.text_files import as_text
from jaxgen.errors import ConfigError
from jaxgen.evaluation.reranking import best_of, check_compares, similarities
from jaxgen.generation.continuing import continue_prompts, readable_length
from jaxgen.generation.policies import ParallelDecoding, SamplingPolicy
from jaxgen.models.transfusion_config import TransfusionConfig
from jaxgen.process import prepare_process
from jaxgen.runs.cascades import makes_pictures
from jaxgen.runs.restoring import Restored, read_record, restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.execution import ExecutionConfig


def generate(arguments: argparse.Namespace) -> int:
    """Prints each prompt with its continuations; for an encoder-decoder, its outputs alone.

    Args:
      arguments: `run_dir`, `step`, `prompt` (a list or None), `image` and `audio` (files that stand
        before each prompt), `output` (a file to make instead of text, or None), `max_tokens`,
        `temperature`, `top_k`, `top_p`, `guidance`, `parallel_steps`, `parallel_noise`,
        `num_samples`, `candidates` and `rerank` (a run, or None), `seed`, `ema`, `average`; of runs
        of diffusion `then`, `sampler_steps`, `negative_prompt`, `mask`, `strength`.
    """
    _check_candidates(arguments)
    steps = arguments.parallel_steps
    policy = SamplingPolicy(
        arguments.temperature,
        arguments.top_k,
        arguments.top_p,
        1.0 if arguments.guidance is None else arguments.guidance,
        None if steps is None else ParallelDecoding(steps, noise=arguments.parallel_noise),
    )
    has_files = arguments.image or arguments.audio
    for path in (*arguments.then, *([arguments.rerank] if arguments.rerank else [])):
        read_record(path)  # Refused before the first model is read.
    prepare_process()
    # A few sequences are not split over devices: one computes them, or all of them the same, with
    # the parameters split, where there are several processes.
    execution = ExecutionConfig(mesh=MeshConfig(1, fsdp=-1), rules=Rules(batch=None))
    alone = distributed.process_count() == 1
    mesh = make_mesh(execution.mesh, jax.devices()[:1] if alone else None)
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir,
            mesh,
            arguments.step,
            execution,
            ema=arguments.ema,
            average=arguments.average,
        )
        model = restored.config.model
        # What reads no prompts waits for none.
        is_told = getattr(restored.model, "conditioner", True) is not None
        nothing_to_read = has_files or not is_told
        prompts = arguments.prompt or ([""] if nothing_to_read else [_from_standard_input()])
        can_write = isinstance(model, TransfusionConfig)
        if makes_pictures(restored.config) and not (can_write and arguments.output is None):
            from jaxgen.commands.pictures import generate_pictures

            return generate_pictures(arguments, restored, prompts, mesh, execution)
        _check_of_text(arguments, can_write)
        codec = restored.config.mixture.codec
        has_encoder = restored.transformer.has_encoder
        read = [read_image(path, codec) for path in arguments.image]
        read += [read_sound(path, codec) for path in arguments.audio]
        files, beside = [ids for ids, _ in read], [one for _, media in read for one in media]
        encoded = [np.concatenate([*files, codec.encode(prompt)]) for prompt in prompts]
        max_tokens, stops, without = arguments.max_tokens, None, None
        made = max(arguments.num_samples, arguments.candidates)
        if arguments.output is not None:
            medium = range_of_output(arguments.output, codec)
            distributed.on_main(check_writable, Path(arguments.output))
            if has_encoder:
                raise ConfigError("--output needs a model without an encoder.")
            padded = padded_length(getattr(restored.config.mixture, "every_task", ()))
            *encoded, nothing = (
                np.append(pad_text(ids, padded or len(ids), codec), np.int32(medium.begin_id))
                for ids in [*encoded, np.zeros(0, np.int32)]
            )
            max_tokens, stops = medium.size + 1, (medium.end_id,)
            without = [nothing] * len(encoded) * made
        _warn_if_long(restored, encoded, max_tokens)
        judge = None
        if arguments.rerank is not None:
            judge = restore(arguments.rerank, mesh, execution=execution, ema=None)
            check_compares(judge.model, judge.config.mixture)
        answers = continue_prompts(
            restored.language_model,
            codec,
            [ids for ids in encoded for _ in range(made)],
            jax.random.key(arguments.seed),
            policy,
            max_tokens,
            stops=stops,
            without=without,
            media=[beside] * len(encoded) * made,
        )
        if judge is not None:
            answers = _best(judge, codec, prompts, answers, arguments.num_samples)
    if arguments.output is not None:
        distributed.on_main(_write, arguments, codec, prompts, answers)
        return 0
    for index, ids in enumerate(answers):
        place = index // arguments.num_samples
        _tell_of_media(ids, codec)
        if has_encoder:
            print(codec.decode(ids))
        else:
            print(prompts[place] + decode_continued(codec, encoded[place], ids))
    return 0


def _check_of_text(arguments: argparse.Namespace, draws: bool) -> None:
    """Raises ConfigError for what nothing reads, such as what only pictures from noise take.

    Args:
      arguments: of the command.
      draws: whether the run would make them, if it were given an output.
    """
    of_diffusion = {
        "then": arguments.then,
        "sampler_steps": arguments.sampler_steps,
        "negative_prompt": arguments.negative_prompt,
        "mask": arguments.mask,
        "strength": arguments.strength != 1,
    }
    wrong = [name for name, value in of_diffusion.items() if value]
    makes_media = arguments.output is not None
    if not makes_media and arguments.parallel_steps is not None:
        raise ConfigError(
            "--parallel_steps is of pictures, and without --output text is written; give "
            "--output=FILE, or leave it out."
        )
    if arguments.parallel_steps is None and arguments.parallel_noise != PARALLEL_NOISE:
        raise ConfigError("--parallel_noise is of --parallel_steps; give both, or neither.")
    if makes_media and arguments.max_tokens != MAX_TOKENS:
        raise ConfigError(
            "--max_tokens is of text, and --output=FILE has as many codes as it has; leave it out."
        )
    if wrong and draws:
        raise ConfigError(
            f"--{wrong[0]} is of pictures, and without --output text is written; give "
            "--output=FOLDER/ or FILE.png."
        )
    if wrong:
        raise ConfigError(
            f"--{wrong[0]} is of runs that make pictures from noise (run.model = @diffusion()); "
            "leave it out."
        )


def _check_candidates(arguments: argparse.Namespace) -> None:
    """Raises ConfigError if candidates are asked for that nothing chooses among."""
    if (arguments.rerank is None) != (arguments.candidates == 1):
        raise ConfigError(
            "--candidates=N and --rerank=RUN_DIR go together: so many pictures are made for each "
            "prompt, and the run's contrastive model chooses the best --num_samples."
        )
    if arguments.rerank is None:
        return
    if arguments.output is None or not arguments.output.lower().endswith(".png"):
        raise ConfigError("--rerank chooses among pictures; give --output=FILE.png.")
    if arguments.candidates < arguments.num_samples:
        raise ConfigError(
            f"--candidates={arguments.candidates} are fewer than --num_samples="
            f"{arguments.num_samples}, which are chosen from them."
        )


def _best(
    judge: Restored, codec: Any, prompts: list[str], answers: list[np.ndarray], count: int
) -> list[np.ndarray]:
    """Returns the `count` pictures of each prompt that a contrastive model finds nearest to it."""
    candidates = len(answers) // len(prompts)
    pictures = [codec.decode_media(ids)[0].values for ids in answers]
    texts = [prompt for prompt in prompts for _ in range(candidates)]
    config = judge.config
    scores = similarities(judge.model, config.mixture, config.train.length, pictures, texts)
    return [answers[number] for number in best_of(scores, len(prompts), count)]


def _tell_of_media(ids: np.ndarray, codec: Any) -> None:
    """Says on standard error what was written that is no text."""
    found = locate(ids, media_ranges(codec))[0]
    for number in np.unique(found[found > 0]):
        modality = media_ranges(codec)[number - 1].modality
        print(
            f"jaxgen: {int((found == number).sum())} codes of {modality} were written too; "
            "--output=FILE makes a file.",
            file=sys.stderr,
        )


def _from_standard_input() -> str:
    return as_text(sys.stdin.buffer.read(), "standard input")


def _write(
    arguments: argparse.Namespace, codec: Any, prompts: list[str], answers: list[np.ndarray]
) -> None:
    """Writes what was made, and prints the names of the files."""
    for index, path in enumerate(numbered(arguments.output, len(answers))):
        (made,) = codec.decode_media(answers[index])
        prompt = prompts[index // arguments.num_samples]
        notes = {
            "prompt": prompt,
            "seed": str(arguments.seed),
            "sample": str(index % arguments.num_samples),
            "run_dir": arguments.run_dir,
        }
        write_media(path, made, codec, notes)
        print(path)


def _warn_if_long(restored: Restored, encoded: list[np.ndarray], max_tokens: int) -> None:
    """Says on standard error that the model is about to read more than it was made for."""
    longest = max(len(ids) for ids in encoded)
    readable = readable_length(restored.transformer, restored.config.train.length)
    codec = restored.config.mixture.codec
    needed = (
        len(opening_ids(codec)) + (0 if restored.transformer.has_encoder else longest) + max_tokens
    )
    source = restored.config.train.source_length or needed
    if needed > readable or (restored.transformer.has_encoder and longest + 1 > source):
        print(
            f"jaxgen: a prompt of {longest} tokens and {max_tokens} to generate are more than the "
            f"{readable} that the model is made to read (model.max_length, train.length): what it "
            "writes past them may make no sense.",
            file=sys.stderr,
        )
