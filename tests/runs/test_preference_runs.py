"""Runs that learn from preferences and score completions: what they begin with, and their ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.configuration import load, load_run
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.generated.preferences import GoldPreferences
from jaxgen.errors import ConfigError
from jaxgen.runs.restoring import restore
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory, read_metrics
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.execution import ExecutionConfig

GIN = Path(__file__).parents[2] / "gin"
OBJECTIVES = sorted(
    path.stem
    for pattern in ("dpo*", "ipo", "simpo", "orpo", "kto", "reward_*")
    for path in GIN.glob(f"objectives/{pattern}.gin")
)
SMALL = (
    "train.batch_size=8", "train.length=64", "evaluation.num_batches=1", "evaluation.batch_size=8",
    "evaluation.num_examples=4", "model.num_layers=1", "model.embed_dim=16", "model.mlp_dim=32",
    "warmup_cosine.warmup=1",
)  # fmt: skip
ONE = ExecutionConfig(MeshConfig(data=1), log_every=1, checkpoint_every=3)


def trained(folder, name, bindings=(), steps=6, files=(), execution=ONE, **options):
    config, _ = load_run([f"runs/{name}.gin", *files], [*SMALL, f"train.steps={steps}", *bindings])
    devices = jax.devices()[: execution.mesh.fsdp * execution.mesh.data * execution.mesh.tensor]
    return run(config, folder, execution, devices, show_progress=False, **options)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_published_settings_load_and_are_complete(name):
    files = ["runs/gold_imitated.gin", "mixtures/gold_pairs.gin", f"objectives/{name}.gin"]
    # The held-out pairs of that mixture are pairs still.
    bindings = ["judged/comparisons.others=False"] if name == "kto" else []
    if name == "reward_steps":  # It asks about steps in place of pairs.
        files.remove("mixtures/gold_pairs.gin")
        bindings = [
            "run.mixture=@comparisons()", "comparisons.tasks=(@gold_preferences/task(),)",
            "gold_preferences/task.name='steps'",
        ]  # fmt: skip
    config: Any = load(files, bindings)
    assert isinstance(config.mixture, Comparisons) and hasattr(config.model, "head")
    assert config.model.head == name.startswith("reward_")
    needs_none = name in ("simpo", "orpo") or name.startswith("reward_")
    assert config.model.reference != needs_none


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imitated") / "run"
    trained(folder, "gold_imitated")
    return folder


@pytest.mark.slow
def test_dpo_begins_where_its_parent_is_and_learns_the_pairs(parent, tmp_path):
    found = trained(
        tmp_path / "dpo", "gold_dpo", [f"PARENT='{parent}'", "warmup_cosine.peak=3e-3"], steps=16
    )
    rows = read_metrics(RunDirectory(tmp_path / "dpo").metrics_file)
    # The policy is its reference: nothing is told apart.
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-5) and rows[0]["margin"] == 0
    assert np.mean([row["margin"] for row in rows[-8:]]) > 0.01
    scores = found.record["evaluation"]
    assert scores["gold_pairs"]["loss_unit"] == "nats/pair"
    low, high = scores["preferences"]["accuracy_interval"]
    assert low <= scores["preferences"]["accuracy"] <= high
    assert scores["preferences"]["calibration_error_interval"][0] >= 0
    with jax.set_mesh(make_mesh(MeshConfig(data=1), jax.devices()[:1])):
        mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
        policy: Any = restore(tmp_path / "dpo", mesh).model
        imitated: Any = restore(parent, mesh).model
        reference = jax.tree.leaves(policy.reference)
        for one, other in zip(reference, jax.tree.leaves(imitated), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_stopped_run_ends_bit_for_bit_as_one_that_was_not(parent, tmp_path):
    bindings = [f"PARENT='{parent}'"]
    whole = trained(tmp_path / "whole", "gold_reward", bindings).record
    trained(tmp_path / "stopped", "gold_reward", bindings)
    # Without its later checkpoint and its end, it goes on from step 3.
    directory = RunDirectory(tmp_path / "stopped")
    shutil.rmtree(directory.checkpoints / "6")
    found = json.loads(directory.run_file.read_text())
    directory.run_file.write_text(json.dumps(found | {"finished": False}))
    again = trained(tmp_path / "stopped", "gold_reward", bindings).record
    assert whole["evaluation"] == again["evaluation"]
    one, other = (
        read_metrics(RunDirectory(tmp_path / name).metrics_file) for name in ("whole", "stopped")
    )
    assert [row["loss"] for row in one] == [row["loss"] for row in other]


@pytest.mark.slow
def test_a_run_on_a_mesh_has_the_losses_of_one_device(parent, tmp_path):
    bindings = [f"PARENT='{parent}'"]
    mesh = ExecutionConfig(MeshConfig(data=1, fsdp=2, tensor=2), log_every=1)
    trained(tmp_path / "one", "gold_dpo", bindings)
    trained(tmp_path / "mesh", "gold_dpo", bindings, execution=mesh)
    one, other = (
        read_metrics(RunDirectory(tmp_path / name).metrics_file) for name in ("one", "mesh")
    )
    for row, beside in zip(one, other, strict=True):
        assert row["loss"] == pytest.approx(beside["loss"], rel=1e-4)
        assert row["margin"] == pytest.approx(beside["margin"], abs=1e-3)


@pytest.mark.slow
def test_kto_learns_from_both_completions_of_pairs(parent, tmp_path):
    source = GoldPreferences().records_by_index("train")
    records = [source.__getitems__([n])[0] for n in range(40)]
    pairs = tmp_path / "pairs.jsonl"
    names = ("prompt", "chosen", "rejected")
    pairs.write_text("".join(json.dumps({n: one[n] for n in names}) + "\n" for one in records))
    bindings = [
        f"run.initialize_from='{parent}'", "judged/comparisons.others=False",
        "judged/comparisons.layout=@judged/preference_pairs()", "evaluation.evaluators=()",
        "gold_pairs/task.source=@jsonl()", f"jsonl.pattern={str(pairs)!r}",
        "jsonl.heldout_fraction=0.3", "gold_pairs/task.preprocessors=(@unpair(),)",
        "warmup_cosine.peak=1e-2",
    ]  # fmt: skip
    files = ["mixtures/gold_pairs.gin", "objectives/kto.gin"]
    trained(tmp_path / "kto", "gold_imitated", bindings, steps=16, files=files)
    rows = read_metrics(RunDirectory(tmp_path / "kto").metrics_file)
    assert rows[0]["loss"] == pytest.approx(0.5, abs=1e-5) and rows[0]["baseline"] == 0
    gap = [row["good_reward"] - row["bad_reward"] for row in rows]
    assert np.nanmean(gap[-6:]) > 0.05


@pytest.mark.slow
def test_a_reference_of_another_vocabulary_is_refused(parent, tmp_path):
    with pytest.raises(ConfigError, match="parameters differ, such as"):
        trained(tmp_path / "other", "gold_dpo", [f"PARENT='{parent}'", "model.vocab_size=384"])
