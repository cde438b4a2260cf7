"""The settings by which tasks of the LM Evaluation Harness ask for a generated answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jaxgen.errors import ConfigError, DataError
from jaxgen.generation.policies import SamplingPolicy

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
READ = ("until", "do_sample", "temperature", "top_k", "top_p", *LENGTHS)
IDLE = {
    "num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1, "no_repeat_ngram_size": 0,
    "presence_penalty": 0, "frequency_penalty": 0, "length_penalty": 1, "min_p": 0, "seed": None,
    "use_cache": True, "early_stopping": False,
}  # fmt: skip
"""Settings of other back ends, and the value at which each of them changes nothing."""


@dataclasses.dataclass(frozen=True)
class GenerationSettings:
    """What a task asks for.

    Attributes:
      policy: how tokens are chosen.
      stops: texts that end an answer and are not part of it.
      max_tokens: the most that are generated; None: the task sets no limit.
    """

    policy: SamplingPolicy
    stops: tuple[str, ...]
    max_tokens: int | None


def read_settings(task: str, asked: Mapping[str, Any]) -> GenerationSettings:
    """Returns a task's `generation_kwargs` as they are understood here.

    As in the harness, a temperature above 0 samples unless do_sample is false.

    Raises:
      DataError: naming every setting that is not honoured, and its value.
    """
    if not isinstance(asked, Mapping):
        raise DataError(f"the task {task} has generation_kwargs={asked!r}, which must be a table "
                        "of settings.")  # fmt: skip
    wrong = {
        name: value
        for name, value in asked.items()
        if name not in READ and (name not in IDLE or value not in (None, IDLE[name]))
    }
    if wrong:
        listed = ", ".join(f"{name}={value!r}" for name, value in sorted(wrong.items()))
        raise DataError(
            f"the task {task} asks for {listed} in its generation_kwargs, which jaxgen does not do "
            f"(it does {', '.join(READ)}); take them out of the task, or leave the task out."
        )
    stops = asked.get("until") or ()
    stops = (stops,) if isinstance(stops, str) else stops
    if not isinstance(stops, list | tuple) or not all(isinstance(one, str) for one in stops):
        raise DataError(
            f"the task {task} has until={stops!r} in its generation_kwargs, which must be texts; "
            "put numbers into quotes."
        )
    lengths = [asked[name] for name in LENGTHS if asked.get(name) is not None]
    temperature, draws = asked.get("temperature"), asked.get("do_sample")
    if draws is None:
        draws = bool(temperature)
    try:
        temperature = float(1.0 if temperature is None else temperature) if draws else 0.0
        policy = SamplingPolicy(temperature)
        if draws:
            top_k = int(asked.get("top_k") or 0) or None  # 0 keeps all, as in transformers.
            policy = SamplingPolicy(temperature, top_k, asked.get("top_p"))
        max_tokens = int(lengths[0]) if lengths else None
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_gen_toks={max_tokens} must be positive")
        return GenerationSettings(policy, tuple(one for one in stops if one), max_tokens)
    except (TypeError, ValueError, ConfigError) as error:
        why = str(error).rstrip(".")
        raise DataError(f"the task {task} has generation_kwargs={dict(asked)}: {why}.") from error


def check_tasks(tasks: Mapping[Any, Any]) -> None:
    """Refuses tasks that ask for what is not done, so that none of them stops others half-way.

    Args:
      tasks: the harness's dictionary of tasks and groups of tasks.

    Raises:
      DataError: as `read_settings`, and of tasks that execute what the model writes, or show it
        media.
    """
    for name, task in _flat(tasks):
        if getattr(task, "UNSAFE_CODE", False):
            raise DataError(
                f"the task {name} executes code that the model writes (unsafe_code: true), which "
                "`jaxgen harness` never does; leave it out, or make it a suite of jaxgen with "
                "@code_execution(), which runs programs in a sandbox."
            )
        if getattr(task, "MULTIMODAL", False):
            raise DataError(
                f"the task {name} shows the model pictures or sounds (doc_to_image, doc_to_audio), "
                "which `jaxgen harness` does not; leave it out."
            )
        config = getattr(task, "config", None)
        if getattr(config, "output_type", None) == "generate_until":
            read_settings(name, getattr(config, "generation_kwargs", None) or {})


def _flat(tasks: Mapping[Any, Any]) -> Iterable[tuple[str, Any]]:
    for name, task in tasks.items():
        if isinstance(task, Mapping):
            yield from _flat(task)
        else:
            yield str(name), task
