"""Public language models of Wu and Lo (2024, 2410.01692): accuracy beside Brier score.

A file of theirs is one task: a row a model with its training FLOPs, accuracy and target-conditioned
Brier score (smaller is better).
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from jaxgen.emergence import EmergenceError, Runs, compare_metrics

ROOT = Path(__file__).parents[2]
REFERENCE = Path(os.environ.get("JAXGEN_REFERENCE", ROOT.parent / "shared/reference/scaling"))
FOLDER = REFERENCE / "expemergence"
COLUMNS = ("FLOPs (1E21)", "acc", "brier")


def read(task):
    """The models of a task that have all three numbers, as runs along FLOPs."""
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}: set JAXGEN_REFERENCE to the folder of reference data")
    (path,) = (FOLDER / task).glob(f"{task}_instance_brier_*_10_redist.csv")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if all(row[name] for name in COLUMNS)]
    table = np.array([[float(row[name]) for name in COLUMNS] for row in rows])
    return runs_of(*table[np.argsort(table[:, 0], kind="stable")].T)


def runs_of(flops, accuracy, brier):
    return Runs(
        task="t",
        chance=0.0,
        scale=flops,
        axis="flops",
        rung=np.arange(len(flops)),
        seed=np.full(len(flops), "0"),
        instances=np.full(len(flops), 1000.0),
        metrics={"acc": accuracy, "brier": brier},
    )


@pytest.mark.parametrize(
    "task", ["arithmetic", "mmlu", "hellaswag", "arc", "hindu_knowledge", "conceptual_combinations"]
)
def test_brier_score_predicts_accuracy_better_than_scale_does(task):
    """Wu and Lo map Brier score to accuracy by a line, so it must leave little to explain."""
    found = compare_metrics(read(task), "acc", "brier")
    assert found.models >= 60
    assert found.rank_correlation < -0.9
    assert found.error_from_metric < 0.35 * found.error_from_scale
    assert found.error_from_metric < 0.2 * found.spread


@pytest.mark.parametrize(
    "task", ["abstract_narrative_understanding", "analogical_similarity", "parsinlu_qa_mc"]
)
def test_it_does_so_by_less_on_the_other_tasks(task):
    """Two of them stay near chance, with spreads of 5 and 3 points."""
    found = compare_metrics(read(task), "acc", "brier")
    assert found.rank_correlation < -0.65
    assert found.error_from_metric < 0.7 * found.error_from_scale


def test_equal_metrics_are_refused():
    with pytest.raises(EmergenceError, match="same for all models"):
        compare_metrics(
            runs_of(np.arange(1.0, 9), np.full(8, 0.5), np.full(8, 0.5)), "acc", "brier"
        )


def test_too_few_models_are_refused():
    three = np.array([0.1, 0.2, 0.4])
    with pytest.raises(EmergenceError, match="3 models: 4 or more"):
        compare_metrics(runs_of(np.arange(1.0, 4), three, three), "acc", "brier")
    odd = np.array([0.1, 0.1, 0.1, 0.1, 0.9])
    with pytest.raises(EmergenceError, match="same for all models but one"):
        compare_metrics(runs_of(np.arange(1.0, 6), odd, np.arange(5) / 5), "acc", "brier")
