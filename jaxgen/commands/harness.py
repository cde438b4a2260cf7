"""`jaxgen harness`: tasks of the LM Evaluation Harness on a run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax

from jaxgen.distributed import on_main
from jaxgen.evaluation.harness import HarnessModel, run_harness
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.files import check_folder_of, write_atomically
from jaxgen.generation.continuing import readable_length
from jaxgen.process import prepare_process
from jaxgen.runs.restoring import restore
from jaxgen.sharding.mesh import MeshConfig, make_mesh


def harness(arguments: argparse.Namespace) -> int:
    """Prints the harness's table, and writes its results beside the run's own evaluations.

    Args:
      arguments: `run_dir`, `step` or None, `tasks`, `include_path`, `num_fewshot`, `limit`,
        `batch_size`, `output` or None.
    """
    prepare_process()
    if arguments.output is not None:
        on_main(check_folder_of, arguments.output)
    mesh = make_mesh(MeshConfig())
    with jax.set_mesh(mesh):
        restored = restore(
            arguments.run_dir, mesh, arguments.step, ema=arguments.ema, average=arguments.average
        )
        train = restored.config.train
        batch_size = arguments.batch_size or restored.config.evaluation.batch_size
        length = restored.config.evaluation.length
        length = length or readable_length(restored.transformer, train.length)
        scorer = Scorer(restored.language_model, batch_size, length, train.source_length)
        model = HarnessModel(scorer, restored.config.mixture.codec)
        names = arguments.tasks.split(",")
        results = run_harness(
            model, names, arguments.include_path, arguments.num_fewshot, arguments.limit
        )
    print(f"{restored.config.name} at step {restored.step}:\n{results['table']}")
    for name, found in results["truncated"].items():
        print(
            f"{name}: {found['contexts']} of {found['of']} contexts were too long and lost their "
            f"beginning, up to {found['most_tokens']} tokens; the model reads {length}"
        )
    default = restored.directory.evaluations / f"{restored.step:08}.harness.json"
    path = Path(arguments.output or default)
    text = json.dumps(results, indent=1, default=str) + "\n"
    on_main(write_atomically, path, text)
    print(f"results: {path}")
    return 0
