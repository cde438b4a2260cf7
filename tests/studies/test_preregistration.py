"""A prediction is made before, kept as it was, and held against what came."""

import dataclasses
import json

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import answers_of, config_text, law, write_ability_study, write_run

from jaxgen.configuration import load
from jaxgen.emergence import Design, simulate
from jaxgen.errors import StudyError
from jaxgen.files import append_rows
from jaxgen.models.counting import count_parameters
from jaxgen.studies.analyses.prediction import PREDICTION
from jaxgen.studies.analysis import plain
from jaxgen.studies.held_out_rung import HeldOutRung, held_out_rung
from jaxgen.studies.preregistration import (
    FILE,
    outcomes,
    preregister,
    read_preregistration,
)
from jaxgen.studies.report import page_of
from jaxgen.studies.scored_answers import emergence_rows
from jaxgen.studies.study_runs import read_runs, table_of

MIXTURE = "quickstart"
TABLE = simulate(Design(scales=8, seeds=3, instances=100), "mirage", seed=3)
FLAT = simulate(Design(scales=8, seeds=3, instances=100, decades=0.01), "break", seed=3)
LAST = 7
SIZE = int(TABLE.scales["parameters"][LAST])
COUNTS = {"active": SIZE, "total": SIZE, "without_embedding": SIZE - 64}
RUNG = HeldOutRung(f"rung{LAST}", MIXTURE, COUNTS, 10**7, 6 * SIZE * 10**7, (0, 1, 2))


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A study without its largest rung, the prediction of it, then the whole study."""
    folder = tmp_path_factory.mktemp("study")
    write_ability_study(folder, {"mirage": TABLE, "flat": FLAT}, skip=(LAST,))
    content = preregister(folder, [RUNG])
    before = outcomes(folder)
    answers = {s: answers_of(TABLE, LAST, str(s)) for s in (0, 1)}
    for seed in (0, 1):
        loss = law(SIZE, 1e7) if seed else 9.0
        write_run(
            folder, RUNG.name, seed, SIZE, 1e7, loss, {"mirage": answers[seed]}, config_text(),
            first_started=f"{2020 if seed else 2099}-01-01T00:00:00+00:00",
        )  # fmt: skip
    return folder, content, before


def test_the_prediction_knows_the_law(registered):
    folder, content, _ = registered
    (prediction,) = content["predictions"]
    loss = prediction["loss"]
    assert loss["value"] == pytest.approx(law(SIZE, 1e7), rel=0.01)
    low, high = loss["new_run"]
    assert low < loss["seed_mean"][0] < loss["value"] < loss["seed_mean"][1] < high
    assert loss["law"]["formula"] == "L = A N^-alpha, whose alpha drifts"
    assert isinstance(loss["law"]["warnings"], list)
    assert len(prediction["points"]) == 21
    assert prediction["points"][0]["run"] == "rung0-seed0" and len(content["digest"]) == 64
    score = prediction["scores"]["mirage"]
    runs = read_runs(folder)
    fitted = [run for run in runs if run.rung != RUNG.name]
    assert table_of(fitted).loss.tolist() == [point["loss"] for point in prediction["points"]]
    _, exact = emergence_rows(fitted).means("mirage", fitted)
    assert max(exact) - 0.2 < score["value"] <= 1
    assert "nothing tells when one will" in prediction["scores"]["flat"]["why_not"]


def test_losses_at_checkpoints_are_used(tmp_path):
    """Those of a ladder that bends: what is forecast is less certain then."""
    intervals = []
    for name, bend in (("ends", None), ("even", 0.0), ("bent", 0.4)):
        folder = tmp_path / name
        write_ability_study(folder, {"mirage": TABLE}, skip=(LAST,))
        for run in read_runs(folder) if bend is not None else ():
            loss = run.loss() * 2 * np.exp(bend * (-1) ** int(run.rung.removeprefix("rung")))
            (task,) = run.losses
            half = {"step": run.record["steps"] // 2, f"heldout_loss/{task}": loss}
            append_rows(run.directory.metrics_file, [half])
        (prediction,) = preregister(folder, [RUNG])["predictions"]
        intervals.append(np.ptp(prediction["loss"]["seed_mean"]))
    ends, even, bent = intervals
    assert even <= 1.01 * ends and bent > 1.2 * even


def test_what_came_is_set_beside_it(registered):
    folder, content, before = registered
    assert before is not None
    (waiting,) = before["rungs"]
    assert waiting["loss"] is None and waiting["missing"] == [0, 1, 2]
    after = outcomes(folder)
    assert after is not None
    (found,) = after["rungs"]
    assert found["missing"] == [2] and found["late"] == [f"{RUNG.name}-seed1"]
    far, near = (found["loss"]["by_run"][f"{RUNG.name}-seed{s}"] for s in (0, 1))
    assert near["is_inside"] and near["outside_by"] == 0
    assert not far["is_inside"]
    assert far["outside_by"] == pytest.approx(9 - content["predictions"][0]["loss"]["new_run"][1])
    mean = np.mean([9.0, law(SIZE, 1e7)])
    assert found["loss"]["actual"] == pytest.approx(mean) and not found["loss"]["is_inside"]
    assert found["scores"]["mirage"]["actual"] > 0 and "flat" not in found["scores"]


def test_the_page_shows_the_outcome(registered, tmp_path):
    section = PREDICTION.section({"prediction": plain(outcomes(registered[0]))})
    assert section is not None
    page = page_of("T", "L", [section], {})
    assert (
        "outside by" in page
        and "Not finished: seed 2" in page
        and "nothing tells when one will" in page
    )
    assert_paints(page, [section], tmp_path)


def test_nothing_is_predicted_after_the_fact(registered, tmp_path):
    folder, _, _ = registered
    with pytest.raises(StudyError, match="has already finished"):
        preregister(folder, [RUNG])
    other = HeldOutRung("rung9", MIXTURE, COUNTS | {"total": 1}, RUNG.tokens, RUNG.flops, (0,))
    with pytest.raises(StudyError, match="exists already"):
        preregister(folder, [other])
    assert outcomes(tmp_path) is None


def test_a_changed_file_is_noticed(registered, tmp_path):
    folder, content, _ = registered
    changed = json.loads((folder / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(changed))  # Another layout is the same file.
    assert read_preregistration(tmp_path) == content
    changed["predictions"][0]["loss"]["new_run"][1] += 1e-9
    (tmp_path / FILE).write_text(json.dumps(changed))
    with pytest.raises(StudyError, match="was changed after it was written"):
        outcomes(tmp_path)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(StudyError, match="is not JSON"):
        outcomes(tmp_path)


def test_too_few_runs_predict_nothing(tmp_path):
    config = config_text()
    sparse = HeldOutRung(
        "big", MIXTURE, COUNTS | {"total": 2 * SIZE}, RUNG.tokens, RUNG.flops, (0,)
    )
    for rung, size in enumerate((1e4, 1e5)):
        write_run(tmp_path, f"r{rung}", 0, size, 1e7, law(size, 1e7), {}, config)
    with pytest.raises(StudyError, match="too few for a law: 2"):
        preregister(tmp_path, [RUNG])
    with pytest.raises(StudyError, match=r"no finished sparse run on 'quickstart'.*'big'"):
        preregister(tmp_path, [sparse])
    assert not (tmp_path / FILE).exists()


def test_each_ladder_is_predicted_by_its_own_runs(tmp_path):
    for mixture, shift in (("quickstart", 0.0), ("other", 2.0)):
        write_ability_study(
            tmp_path, {mixture: TABLE}, (LAST,), mixture=mixture, prefix=mixture, shift=shift
        )
    rungs = [dataclasses.replace(RUNG, name=f"{m}big", mixture=m) for m in ("other", "quickstart")]
    content = preregister(tmp_path, rungs)
    for prediction, shift in zip(content["predictions"], (2.0, 0.0), strict=True):
        assert {one["run"].split("rung")[0] for one in prediction["points"]} == {
            prediction["held_out"]["mixture"]
        }
        assert prediction["loss"]["value"] == pytest.approx(law(SIZE, 1e7) + shift, rel=0.01)
        assert list(prediction["scores"]) == [prediction["held_out"]["mixture"]]


def test_a_rung_is_counted_before_it_is_trained():
    config = load(["runs/quickstart.gin"])
    rung = held_out_rung([config])
    assert rung.parameters["total"] == count_parameters(config.model).total
    assert (
        rung.mixture == config.mixture.name
        and rung.flops % rung.tokens == 0
        and rung.seeds == (config.train.seed,)
    )
    assert rung.columns["unique_tokens"] == rung.tokens
    with pytest.raises(StudyError, match="of 0 rungs"):
        held_out_rung([])


def test_tokens_that_a_rung_will_see_again_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.txt").write_text("a" * 99)
    config = load(
        ["runs/text.gin"],
        [f"TEXT='{folder}'", "text_files.heldout_fraction=0.0", "train.length=10", "train.steps=40",
         "train.batch_size=10"],
    )  # fmt: skip
    rung = held_out_rung([config])
    # 12 texts of 99 bytes and an end token each, seen 4000 / 1200 times.
    assert rung.columns["tokens"] == 4000
    assert rung.columns["unique_tokens"] == pytest.approx(1200)
