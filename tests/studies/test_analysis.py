"""The analysis against studies whose law and kinds of emergence are known; the page made of it."""

import json
import re

import numpy as np
import pytest
from support.browser import assert_paints
from support.synthetic_study import (
    ALPHA,
    BETA,
    E,
    config_text,
    law,
    write_ability_study,
    write_law_study,
    write_run,
)

from jaxgen.cli import main
from jaxgen.emergence import Design, breakthroughness, simulate
from jaxgen.emergence.intervals import wilson
from jaxgen.laws import fit_chinchilla
from jaxgen.studies.analysis import analyse, plain, sections_of
from jaxgen.studies.figures import write_figures
from jaxgen.studies.report import page_of
from jaxgen.studies.scored_answers import emergence_rows
from jaxgen.studies.study_runs import read_runs, table_of

DESIGN = Design(scales=7, seeds=6, instances=60)
TABLES = {kind: simulate(DESIGN, kind, seed=4) for kind in ("mirage", "break")}


@pytest.fixture(scope="module")
def abilities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abilities")
    write_ability_study(folder, TABLES)
    return folder, analyse(folder)


def test_a_known_law_is_found_and_holds(tmp_path):
    write_law_study(tmp_path)
    (found,) = analyse(tmp_path)["laws"]
    assert found["formula"].startswith("L = E + A N") and found["kind"] == "dense"
    by_name = {one["name"]: one for one in found["parameters"]}
    # Losses have 0.3% of noise.
    for name, true, tolerance in (("E", E, 0.01), ("alpha", ALPHA, 0.01), ("beta", BETA, 0.03)):
        low, high = by_name[name]["interval"]
        assert by_name[name]["standard_error"] > 0
        assert low < true < high
        assert by_name[name]["value"] == pytest.approx(true, rel=tolerance)
    table = table_of(read_runs(tmp_path))
    direct = fit_chinchilla(table)
    assert by_name["E"]["value"] == direct.parameters["E"]
    assert found["r_squared"] == direct.r_squared > 0.99
    assert {p["run"]: p["loss"] for p in found["points"]} == dict(
        zip(table.runs.tolist(), table.loss.tolist(), strict=True)  # pyright: ignore
    )
    assert len(found["curves"]) == len(np.unique(table.parameters))
    assert 0.5 <= found["holdout"]["coverage"] <= 1
    changes = {one["change"] for one in found["sensitivity"]["variations"]}
    assert "parameters as without_embedding" in changes and "delta inf" in changes


def test_a_ladder_at_fixed_tokens_has_a_law_of_size(abilities):
    _, analysis = abilities
    (found,) = analysis["laws"]
    assert found["formula"] == "L = E + A N^-alpha" and found["axis"] == "parameters"
    alpha = next(p for p in found["parameters"] if p["name"] == "alpha")
    assert alpha["value"] == pytest.approx(ALPHA, abs=0.02)


def test_too_few_sizes_are_said_to_be(tmp_path):
    config = config_text()
    for rung, size in enumerate((1e4, 1e5)):
        write_run(tmp_path, f"r{rung}", 0, size, 1e7, law(size, 1e7), {}, config)
    found = analyse(tmp_path)
    assert len(found["laws"]) == 1 and "too few for a law" in found["laws"][0]["why_not"]
    assert found["abilities"] == [] and found["prediction"] is None


def test_known_kinds_get_their_verdicts(abilities):
    _, analysis = abilities
    verdicts = {one["task"]: one["verdict"] for one in analysis["abilities"]}
    assert verdicts["mirage"]["verdict"] == "explained by the metric"
    assert verdicts["break"]["verdict"] == "not explained"
    names = {c["name"] for c in verdicts["mirage"]["criteria"]}
    assert names >= {"gradual", "one mode", "predicted"}


def test_curves_are_what_the_answers_give(abilities):
    folder, analysis = abilities
    found = next(one for one in analysis["abilities"] if one["task"] == "mirage")
    rows = emergence_rows(read_runs(folder)).tasks["mirage"]
    exact = rows.metrics["exact_match"]
    for axis in ("parameters", "flops", "loss"):
        points = found["axes"][axis]["curves"]["exact_match"]
        assert [point["rung"] for point in points] == [f"rung{r}" for r in range(7)]
        for rung, point in enumerate(points):
            assert point["mean"]["value"] == pytest.approx(exact[rows.rung == rung].mean())
            for run in point["by_run"]:
                mine = (rows.rung == rung) & (rows.seed == run["seed"])
                assert run["value"] == exact[mine].mean()
                assert run["run"] == f"rung{rung}-seed{run['seed']}"
    assert "why_not" in found["axes"]["tokens"]
    success = found["axes"]["parameters"]["success"][-1]
    assert success["share"]["low"] == wilson(success["successes"], 6).low
    means = [exact[rows.rung == rung].mean() for rung in range(7)]
    shape = found["axes"]["flops"]["shapes"][0]
    assert shape["seed"] is None
    assert shape["breakthroughness"] == pytest.approx(breakthroughness(np.array(means)))


@pytest.mark.slow
def test_runs_of_two_mixtures_are_never_in_one_law_or_curve(tmp_path):
    shifts = {"first": 0.0, "second": 2.0}
    for mixture, shift in shifts.items():
        write_ability_study(
            tmp_path, {"break": TABLES["break"]}, mixture=mixture, prefix=mixture, shift=shift
        )
    found = analyse(tmp_path)
    assert [law["mixture"] for law in found["laws"]] == list(shifts)
    for fitted, (mixture, shift) in zip(found["laws"], shifts.items(), strict=True):
        assert all(point["run"].startswith(mixture) for point in fitted["points"])
        floor = next(p["value"] for p in fitted["parameters"] if p["name"] == "E")
        assert floor == pytest.approx(law(1e12, 1e7) + shift, abs=0.05)
    assert [(one["task"], one["mixture"], one["runs"]) for one in found["abilities"]] == [
        ("break", mixture, 42) for mixture in shifts
    ]
    assert len(found["abilities"][0]["heat_map"]["rungs"]) == 7
    names = {path.name for path in write_figures(sections_of(found), tmp_path / "figures")}
    assert {"law-first-mean.pdf", "ability-second-break.png"} <= names


def test_a_cell_of_the_heat_map_leads_to_its_rows(abilities):
    folder, analysis = abilities
    found = next(one for one in analysis["abilities"] if one["task"] == "break")["heat_map"]
    runs = {run["name"]: run for run in analysis["runs"]}
    row, column = 5, 4
    right = []
    for name in found["runs"][column]:
        lines = (folder / runs[name]["answers_file"]).read_text().splitlines()
        answer = json.loads(lines[found["lines"][row] - 1])
        assert (answer["task"], answer["instance"]) == ("break", found["instances"][row])
        right.append(answer["exact_match"])
    assert found["solved"][row][column] == pytest.approx(np.mean(right), abs=1e-4)


def test_the_command_writes_a_page_of_its_own(abilities, capsys):
    folder, analysis = abilities
    assert main(["report", str(folder), "--title=T <i>", "--lead=Why?"]) == 0
    path = folder / "report.html"
    assert str(path) in capsys.readouterr().out
    page = path.read_text()
    assert "T &lt;i&gt;" in page and "Why?" in page and "{{" not in page.split("<script>")[0]
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//""", page)
    assert "fetch(" not in page and "@import" not in page
    data = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert data is not None
    assert json.loads(data.group(1))["analysis"] == json.loads(json.dumps(analysis))


def test_a_browser_shows_every_figure_whole(abilities, tmp_path):
    sections = sections_of(abilities[1])
    assert_paints(page_of("T", "L", sections, {}), sections, tmp_path)


def test_a_folder_without_runs_is_one_message(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "has no finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_are_files(abilities, tmp_path):
    names = {path.name for path in write_figures(sections_of(abilities[1]), tmp_path)}
    assert {"law-mean.pdf", "ability-mirage.png", "instances-break.pdf"} <= names
    assert (tmp_path / "law-mean.pdf").read_bytes().startswith(b"%PDF")


def test_plain_values_are_json():
    tree = plain({"a": np.array([1.0, np.nan]), 2: (np.float32(1), np.bool_(True))})
    assert json.loads(json.dumps(tree, allow_nan=False)) == {"a": [1.0, None], "2": [1.0, True]}
