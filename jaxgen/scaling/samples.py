"""Sample outputs of a finished run, by the sampler itself, for people to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.data.tasks import PromptAnswer, Task, Text, field
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, sample
from jaxgen.run import Restored, restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.run_directory import RunDirectory, write_atomically

NUM_SAMPLES = 4
PROMPT_TOKENS, TEXT_TOKENS = 64, 96
GREEDY = SamplingPolicy(temperature=0)
FOR_TEXT = SamplingPolicy(temperature=0.8, top_p=0.95)


def samples_file(directory: RunDirectory):
    """Where a run's samples are."""
    return directory.path / "samples.json"


def save_samples(directory: RunDirectory) -> None:
    """Writes samples.json: of each task some held-out prompts, what the model said, what is right.

    Answers are greedy; continuations of text are drawn at temperature 0.8.
    """
    if samples_file(directory).exists():
        return
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(directory.path, mesh)
        tasks = sorted(restored.config.mixture.tasks, key=lambda task: task.name)
        answered = [task for task in tasks if task.has_answers]
        others = [task for task in tasks if not task.has_answers]
        rows = _samples_of(restored, answered, GREEDY) + _samples_of(restored, others, FOR_TEXT)
    write_atomically(samples_file(directory), json.dumps(rows, indent=1) + "\n")


def _samples_of(
    restored: Restored, tasks: Sequence[Task], policy: SamplingPolicy
) -> list[dict[str, Any]]:
    """The samples of several tasks, in one batch so that one program is compiled."""
    if not tasks:
        return []
    codec = restored.config.mixture.codec
    seed = restored.config.evaluation.seed
    asked = [(task.name, *pair) for task in tasks for pair in _prompts(task, seed)]
    encoded = [np.concatenate([[codec.begin_id], codec.encode(prompt)]) for _, prompt, _ in asked]
    answers = [len(codec.encode(right)) for _, _, right in asked if right is not None]
    max_tokens = max(answers, default=TEXT_TOKENS)
    tokens, lengths = pad_prompts(encoded, codec.pad_id)
    samples = sample(
        restored.model,
        tokens,
        lengths,
        jax.random.key(0),
        policy=policy,
        max_tokens=max_tokens,
        end_id=codec.end_id,
    )
    said = [
        codec.decode(row[: int(length)])
        for row, length in zip(*map(np.asarray, (samples.tokens, samples.lengths)), strict=True)
    ]
    return [
        {"task": name, "prompt": prompt, "said": text, "right": right}
        for (name, prompt, right), text in zip(asked, said, strict=True)
    ]


def _prompts(task: Task, seed: int) -> list[tuple[str, str | None]]:
    """(prompt, right answer or None); of several turns the prompt is all before the last answer."""
    records = task.instances(NUM_SAMPLES, seed)
    features = task.features
    if isinstance(features, PromptAnswer):
        pairs = []
        for record in records:
            turns = features.turns(record)
            before = "".join(prompt + answer for prompt, answer in turns[:-1])
            pairs.append((before + turns[-1][0], turns[-1][1]))
        return pairs
    assert isinstance(features, Text)
    codec = task.codec
    texts = [field(record, features.field) for record in records[:2]]
    return [(codec.decode(codec.encode(text[:2000])[:PROMPT_TOKENS]), None) for text in texts]
