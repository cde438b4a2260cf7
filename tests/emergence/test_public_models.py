"""Public language models: the reader, and accuracy beside Brier score."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxgen.emergence import EmergenceError, compare_metrics, read_public_models

ROOT = Path(__file__).parents[2]
REFERENCE = Path(os.environ.get("JAXGEN_REFERENCE", ROOT.parent / "shared/reference/scaling"))
FOLDER = REFERENCE / "expemergence"


def table(task, kind="", groups=10):
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}: set JAXGEN_REFERENCE to the folder of reference data")
    (path,) = (FOLDER / task).glob(f"{kind}{task}_instance_brier_*_{groups}_redist.csv")
    return path


def test_reader():
    runs, names = read_public_models(table("arithmetic"), instances=15023)
    assert len(names) == len(runs.scale) >= 60
    assert (np.diff(runs.scale) >= 0).all()
    place = names.index("meta-llama/Llama-2-7b-hf")
    assert runs.scale[place] == pytest.approx(84e21)
    assert runs.metric("acc")[place] == pytest.approx(0.5304533049324369)
    assert runs.metric("brier")[place] == pytest.approx(0.4012387986242451)
    assert runs.metric("brier/9")[place] == pytest.approx(0.7745382745249075)
    assert list(runs.metrics) == ["acc", "brier", *(f"brier/{group}" for group in range(10))]


def test_accuracy_by_group():
    runs, names = read_public_models(table("mmlu", "acc_"), instances=14042)
    assert "acc/9" in runs.metrics
    assert runs.metric("acc/0")[names.index("meta-llama/Llama-2-7b-hf")] == pytest.approx(0.1688034)


@pytest.mark.parametrize(
    "task", ["arithmetic", "mmlu", "hellaswag", "arc", "hindu_knowledge", "conceptual_combinations"]
)
def test_brier_score_says_more_of_accuracy_than_scale_does(task):
    """Wu and Lo map Brier score to accuracy by a line; so it must leave little to say."""
    runs, _ = read_public_models(table(task), instances=1000)
    found = compare_metrics(runs, "acc", "brier")
    assert found.rank_correlation < -0.9
    assert found.error_from_metric < 0.35 * found.error_from_scale
    assert found.error_from_metric < 0.2 * found.spread


@pytest.mark.parametrize(
    "task", ["abstract_narrative_understanding", "analogical_similarity", "parsinlu_qa_mc"]
)
def test_brier_score_says_more_also_of_the_other_tasks(task):
    """The two that stay near chance (a spread of 5 and 3 points) by less."""
    found = compare_metrics(read_public_models(table(task), instances=1000)[0], "acc", "brier")
    assert found.rank_correlation < -0.65
    assert found.error_from_metric < 0.7 * found.error_from_scale


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("Model,loss\na,1\n")
    with pytest.raises(EmergenceError, match="no column 'FLOPs"):
        read_public_models(path, instances=10)
    path.write_text("Model,FLOPs (1E21),acc\na,,1\n")
    with pytest.raises(EmergenceError, match="no model with all"):
        read_public_models(path, instances=10)
    path.write_text("Model,FLOPs (1E21),acc,brier\n" + "a,2,0.5,0.5\n" * 8)
    with pytest.raises(EmergenceError, match="same for all models"):
        compare_metrics(read_public_models(path, instances=10)[0], "acc", "brier")
