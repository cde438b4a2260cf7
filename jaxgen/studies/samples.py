"""Sample outputs of a finished run, by the sampler itself, for people to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.codecs.joint import decode_continued
from jaxgen.data.tasks import Task, tasks_of
from jaxgen.evaluation.answers import last_answer, writes_answers
from jaxgen.files import write_atomically
from jaxgen.generation.continuing import continue_prompts
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.runs.restoring import Restored, restore
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.sharding.mesh import MeshConfig, make_mesh

NUM_SAMPLES = 4
PROMPT_TOKENS, TEXT_TOKENS = 64, 96
GREEDY = SamplingPolicy(temperature=0)
FOR_TEXT = SamplingPolicy(temperature=0.8, top_p=0.95)


def samples_file(directory: RunDirectory):
    """Returns the file of a run's samples."""
    return directory.path / "samples.json"


def save_samples(directory: RunDirectory) -> None:
    """Writes samples.json: of each task some held-out prompts, completions and reference answers.

    Answers are greedy; continuations of text are drawn at temperature 0.8.
    """
    if samples_file(directory).exists():
        return
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        restored = restore(directory.path, mesh)
        tasks = tasks_of(restored.config.mixture)
        answered = [task for task in tasks if writes_answers(task)]
        others = [task for task in tasks if not task.has_answers]
        rows = _samples_of(restored, answered, GREEDY) + _samples_of(restored, others, FOR_TEXT)
    write_atomically(samples_file(directory), json.dumps(rows, indent=1) + "\n")


def _samples_of(
    restored: Restored, tasks: Sequence[Task], policy: SamplingPolicy
) -> list[dict[str, Any]]:
    """Returns samples of several tasks, in one batch so that one program is compiled."""
    if not tasks:
        return []
    codec = restored.config.mixture.codec
    seed = restored.config.evaluation.seed
    has_source = restored.transformer.has_encoder
    asked = [(task.name, *pair) for task in tasks for pair in _prompts(task, seed, has_source)]
    answers = [len(reference) for _, _, reference in asked if reference is not None]
    completions = continue_prompts(
        restored.language_model,
        codec,
        [prompt for _, prompt, _ in asked],
        jax.random.key(0),
        policy,
        # An answer and the end token.
        max_tokens=1 + max(answers) if answers else TEXT_TOKENS,
    )
    return [
        {
            "task": name,
            "prompt": codec.decode(prompt),
            "completion": decode_continued(codec, prompt, ids),
            "reference": None if reference is None else decode_continued(codec, prompt, reference),
        }
        for (name, prompt, reference), ids in zip(asked, completions, strict=True)
    ]


def _prompts(task: Task, seed: int, has_source: bool) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Returns ids of prompts and of references, if any; a prompt ends before the last answer."""
    records = task.instances(NUM_SAMPLES, seed)
    if not task.has_answers:
        examples = task.encode(records[:2])
        return [(example.ids[:PROMPT_TOKENS], None) for example in examples]
    return [last_answer(example) for example in task.encode(records, has_source)]
