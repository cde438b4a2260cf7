"""Tokens and FLOPs of runs on groups: every completion's row is counted, by hand."""

from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh
from support.rollouts import ANCHORED, BINDINGS, State, one_device, opened, rewarded

from jaxgen.configuration import load
from jaxgen.models.base import language_model
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.training.execution import ExecutionConfig

# Of a layer of width 16: four projections, a feed-forward with its gate, the table of 320 tokens,
# and of scores and mixtures of attention 32 places each, each a multiplication and an addition.
FORWARD = 2 * (4 * 16 * 16 + 3 * 16 * 32 + 320 * 16 + 2 * 32 * 16)


@pytest.mark.slow
def test_rows_of_a_run_count_every_completion(tmp_path):
    """Four prompts with three completions each of 32 places a step."""
    config = rewarded("rollouts.group=3", *ANCHORED)
    with jax.set_mesh(one_device_mesh()):
        model = build(language_model(config.model))
        batch = opened(rewarded("rollouts.group=3")).batch(0, State(model))
    assert batch.tokens.size == 4 * 3 * 32
    found = run(
        config, tmp_path / "run", ExecutionConfig(log_every=1), one_device(), show_progress=False
    )
    rows = read_metrics(RunDirectory(tmp_path / "run").metrics_file)
    assert [row["tokens"] for row in rows] == [384, 768, 1152, 1536]
    record = found.record
    # A forward and a backward pass of the policy, and a forward pass of its reference.
    assert record["flops_per_token"] == (3 + 1) * FORWARD
    assert (record["tokens"], record["flops"]) == (1536, 1536 * 4 * FORWARD)
    fastest = max(row["tokens_per_second"] or 0 for row in rows)
    slowest = [row for row in rows if row["tokens_per_second"]][-1]
    assert fastest > 0 and np.isclose(
        slowest["model_flops_per_second"] / slowest["tokens_per_second"], 4 * FORWARD
    )


@pytest.mark.parametrize(("kind", "rows"), [("rollouts", 2), ("text", 3), ("pairs", 2)])
def test_costs_and_durations_count_them_too(kind, rows):
    text = ["run.mixture=@rollouts_and_text()", "rollouts_and_text.rollouts=@rollouts()",
            "rollouts_and_text.text=@mixture()", "mixture.name='text'",
            "mixture.tasks=[@prose/task()]", "run.objective=@with_text_loss()"]  # fmt: skip
    pairs = ["run.mixture=@comparisons()", "comparisons.tasks=(@gold_preferences/task(),)",
             "comparisons.layout=@preference_pairs()", "run.objective=@preference_loss()",
             "preference_loss.kind='simpo'"]  # fmt: skip
    tasks = {"rollouts": ["addition"], "text": ["addition", "prose"], "pairs": ["gold_preferences"]}
    files = ["base.gin", *(f"tasks/{task}.gin" for task in tasks[kind])]
    more = {"rollouts": [], "text": text, "pairs": pairs}[kind]
    bindings = [*BINDINGS, *more]
    if kind == "pairs":
        bindings = [one for one in bindings if not one.startswith(("rollouts", "answer_match"))]
    config: Any = load(files, [*bindings, f"train.steps='{10 * 4 * 32 * rows} tokens'"])
    cost = cost_of(config)
    assert (cost.steps, cost.tokens) == (10, 10 * 4 * 32 * rows)
    assert cost.flops == cost.tokens * 3 * FORWARD
    spec = config.mixture.batch_spec(batch_size=4, length=32)
    leaves = [x for x in jax.tree.leaves(spec) if x.dtype == np.int32 and x.shape[-1:] == (32,)]
    shapes = {x.shape for x in leaves}
    assert sum(np.prod(shape) for shape in shapes) == 4 * 32 * rows
