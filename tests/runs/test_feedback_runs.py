"""From a model's feedback to a preference model, and from that to a policy: the runs' files."""

import json
from typing import Any

import pytest

from jaxgen.cli import main
from jaxgen.configuration import load
from jaxgen.files import read_rows
from jaxgen.runs.run_directory import RunDirectory, read_metrics

SMALL = [
    "--gin.model.num_layers=1", "--gin.model.embed_dim=8", "--gin.model.num_heads=1",
    "--gin.model.mlp_dim=8", "--gin.train.steps=2", "--gin.train.batch_size=8",
    "--gin.evaluation.num_batches=1", "--gin.evaluation.num_examples=4",
    "--gin.evaluation.batch_size=8", "--gin.evaluation.suite=()", "--gin.execution.log_every=1",
]  # fmt: skip


@pytest.mark.parametrize("name", ["feedback_reward", "feedback_dpo", "feedback_rewarded"])
def test_the_files_load(name, tmp_path):
    macros = ["PARENT='../skilled'"]
    macros += [f"FEEDBACK='{tmp_path}/a.jsonl'" if "rewarded" not in name else "JUDGE='../judge'"]
    config: Any = load([f"runs/{name}.gin"], macros)
    assert config.name == name and config.initialize_from == "../skilled"
    assert config.model.head == (name == "feedback_reward")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny run that helps, and its labels of twelve pairs of its answers."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder, "spells_skilled", "skilled")
    judge = ["feedback", f"--run_dir={folder / 'skilled'}", "--task=spells", "--max_tokens=6"]
    sizes = ["--num_examples=12", "--batch_size=6", "--stop=|", "--clamp=0.4"]
    assert main([*judge, *sizes, f"--output={folder / 'labels.jsonl'}"]) == 0
    return folder


def train(folder, file, name, *bindings):
    where = [f"--gin_file=runs/{file}.gin", f"--run_dir={folder / name}"]
    assert main(["train", *where, *SMALL, *(f"--gin.{one}" for one in bindings)]) == 0
    return read_metrics(RunDirectory(folder / name).metrics_file)


@pytest.mark.slow
def test_feedback_trains_a_preference_model_and_that_a_policy(made):
    labels = read_rows(made / "labels.jsonl")
    assert len(labels) == 12 and all(0.4 <= row["preference"] <= 0.6 for row in labels)
    given = [f"PARENT='{made / 'skilled'}'", f"FEEDBACK='{made / 'labels.jsonl'}'"]
    sizes = ["feedback/jsonl.heldout_fraction=0.5", "preference_accuracy.num_comparisons=4"]
    rows = train(made, "feedback_reward", "judge", *given, *sizes)
    # Cross-entropy against labels within 0.4 to 0.6 is log 2 for a head that tells nothing apart.
    assert rows[0]["loss"] == pytest.approx(0.693, abs=0.2)
    evaluation = json.loads((made / "judge" / "run.json").read_text())["evaluation"]
    assert 0 <= evaluation["preferences"]["accuracy"] <= 1
    rows = train(made, "feedback_dpo", "dpo", *given, *sizes)
    assert rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and rows[0]["margin"] == 0
    given = [given[0], f"JUDGE='{made / 'judge'}'", "rollouts.group=2", "rollouts.max_tokens=6"]
    rows = train(made, "feedback_rewarded", "rewarded", *given)
    assert all(abs(row["reward"]) < 100 and row["unscored"] < 1 for row in rows)


@pytest.mark.slow
def test_a_soft_label_weighs_both_orders(made, tmp_path):
    """A label of 1/2 has its optimum, log 2, where nothing is told apart."""
    rows = read_rows(made / "labels.jsonl")
    for share in (0.5, 1.0):
        path = tmp_path / f"{share}.jsonl"
        changed = [row | {"preference": share} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))
    given = [
        f"PARENT='{made / 'skilled'}'", "warmup_cosine.peak=0.03", "warmup_cosine.warmup=0",
        "feedback/jsonl.heldout_fraction=0.5", "preference_accuracy.num_comparisons=4",
    ]  # fmt: skip
    ends = [
        train(made, "feedback_reward", f"judge-{share}", *given, "train.steps=12",
              f"FEEDBACK='{tmp_path / f'{share}.jsonl'}'")[-1]["loss"]
        for share in (0.5, 1.0)
    ]  # fmt: skip
    assert ends[0] > 0.68 and ends[1] < 0.6
