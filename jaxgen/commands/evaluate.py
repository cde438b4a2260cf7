"""`jaxgen evaluate`: scores a checkpoint, with one row for each instance."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax

from jaxgen.commands.summary import score_lines
from jaxgen.configuration import load, load_recorded
from jaxgen.evaluation.evaluate import evaluate as evaluate_model
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def evaluate(arguments: argparse.Namespace) -> int:
    """Writes evals/STEP.jsonl of a run, or STEP.SUITE.jsonl, and prints the means.

    Args:
      arguments: `run_dir`, `step` or None, `num_examples` or None, `ema`, `average`; `gin_files`
        and `bindings` of another `evaluation`, such as a suite; without files the bindings change
        the run's own.
    """
    prepare_process()
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir,
            mesh,
            arguments.step,
            ema=arguments.ema or None,
            average=arguments.average,
        )
        settings = restored.config.evaluation
        if arguments.bindings and not arguments.gin_files:
            recorded = restored.directory.config_file
            settings = load_recorded(recorded, bindings=arguments.bindings).evaluation
        elif arguments.gin_files:
            settings = load(arguments.gin_files, arguments.bindings, root="evaluation")
        if arguments.num_examples is not None:
            settings = dataclasses.replace(settings, num_examples=arguments.num_examples)
        # The rows that a study reads are those of the run's own evaluation: suites go beside them.
        suite = f".{Path(arguments.gin_files[-1]).stem}" if arguments.gin_files else ""
        if arguments.ema and not restored.config.evaluation.ema:
            suite += ".ema"
        if arguments.average > 1:
            suite += f".average{arguments.average}"
        path = restored.directory.evaluations / f"{restored.step:08}{suite}.jsonl"
        train = restored.config.train
        summary = evaluate_model(
            restored.model,
            restored.config.objective,
            restored.config.mixture,
            settings,
            train.length,
            path,
            train.source_length,
        )
    print(f"{restored.config.name} at step {restored.step}:")
    for line in score_lines(summary):
        print(line)
    if path.stat().st_size:
        print(f"rows: {path}")
    return 0
