"""A run that learns from another, larger run's distributions."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import one_device_mesh
from support.tiny_sweep import BINDINGS, base

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.models.distilled_config import DistilledConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.distillation import Distillation
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import read_metrics
from jaxgen.training.execution import ExecutionConfig

FILES = ["runs/quickstart.gin", "tuning/distilled.gin"]
WIDE = ["teacher/model.embed_dim=16", "teacher/model.mlp_dim=16"]


def start(config, folder):
    return run(config, folder, devices=jax.devices()[:1], show_progress=False)


def parameters(folder):
    mesh = one_device_mesh()
    with jax.set_mesh(mesh):
        model = restore(folder, mesh).model
        return {name: np.asarray(p[...]) for name, p in named_parameters(model)}


@pytest.mark.slow
def test_the_teacher_is_a_runs_and_stays_so(tmp_path, capsys):
    from jaxgen.cli import main

    moving = ["train.steps=2", "warmup_cosine.peak=0.1", "warmup_cosine.warmup=0"]
    large = base(*moving, "model.embed_dim=16", "model.mlp_dim=16")
    start(dataclasses.replace(large, name="large"), tmp_path / "large")
    config = load(FILES, [*BINDINGS, *moving, *WIDE])
    assert isinstance(config.model, DistilledConfig) and config.objective == Distillation()
    assert (config.model.teacher, config.model.model) == (large.model, base().model)
    config = dataclasses.replace(config, initialize_parts={"teacher": "../large"})
    told = start(config, tmp_path / "small").record
    assert told["initialized_parts"]["teacher"]["name"] == "large"
    found, teacher = parameters(tmp_path / "small"), parameters(tmp_path / "large")
    for name, value in teacher.items():
        np.testing.assert_array_equal(found[f"teacher.{name}"], value, err_msg=name)
    assert main(["export", f"--run_dir={tmp_path / 'small'}", f"--output={tmp_path / 'hf'}"]) == 0
    flags = [f"--run_dir={tmp_path / 'small'}", "--prompt=1", "--max_tokens=2"]
    assert main(["generate", *flags]) == 0


@pytest.mark.slow
def test_a_student_learns_on_its_own_batches_and_on_answers(tmp_path):
    """The gin file's run, with a teacher that is not the student: both kinds of batch teach."""
    tasks = ["rollouts.tasks=[@addition/task()]", "rollouts.max_tokens=6", "train.length=32"]
    files = ["runs/sums_taught.gin", "tuning/distilled.gin", "tuning/distilled_rollouts.gin"]
    tiny = ["model.embed_dim=16", "model.num_heads=2", "model.mlp_dim=16", "train.steps=4",
            "evaluation.num_examples=8", "evaluation.num_batches=1",
            "evaluation.batch_size=8"]  # fmt: skip
    config = load(files, [*tiny, *tasks, "teacher/model.embed_dim=32"])
    execution = ExecutionConfig(log_every=1)
    run(config, tmp_path / "small", execution, devices=jax.devices()[:1], show_progress=False)
    rows = [
        row for row in read_metrics(tmp_path / "small" / "metrics.jsonl") if "divergence" in row
    ]
    assert len(rows) == 4 and all(row["divergence"] > 0 for row in rows)


def test_another_vocabulary_is_refused():
    with pytest.raises(ConfigError, match=r"teacher has a vocabulary of 384 .* one of 320; a dive"):
        load(FILES, [*BINDINGS, "teacher/model.vocab_size=384"])


def test_the_file_of_context_distillation_wraps_a_run():
    bindings = [*BINDINGS, "prompted_mixture.prompt='Be brief. '"]
    config = load(["runs/quickstart.gin", "tuning/prompted.gin"], bindings)
    assert config.mixture.mixture == base().mixture and config.model.reference
