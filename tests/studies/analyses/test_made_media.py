"""The grid of pictures a rung: which are shown, and that a browser and matplotlib show them."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from support.browser import assert_paints, visit
from support.synthetic_study import config_text, write_run

from jaxgen.data.image_files import encode_png
from jaxgen.data.sound_files import encode_wav
from jaxgen.studies.analyses.made_media import MADE_MEDIA, SHOWN
from jaxgen.studies.analysis import analyse, sections_of
from jaxgen.studies.figures import write_figures
from jaxgen.studies.plots import MediaGrid, unfolded
from jaxgen.studies.report import page_of

RED, BLUE = (220, 30, 30), (30, 30, 220)
INSTANCES = 12


def picture(color):
    pixels = np.full((8, 8, 3), color, np.uint8)
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()


def sound():
    wave = np.sin(np.arange(400) / 4).astype(np.float32)
    return "data:audio/wav;base64," + base64.b64encode(encode_wav(wave, 8000)).decode()


def rows(correct, made):
    return [
        {"task": "drawn", "instance": str(i), "exact_match": int(i < correct), "prompt": f"red {i}",
         "made": made, "reference": picture(RED)}
        for i in range(INSTANCES)
    ]  # fmt: skip


def played():
    return [
        {"task": "played", "instance": "0", "exact_match": 0, "prompt": "5", "made": sound(),
         "reference": sound()}
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("study"), config_text()
    for rung, size, correct, color in (("small", 1e4, 0, BLUE), ("large", 1e5, 9, RED)):
        for seed in (1, 0):
            answers = {"drawn": rows(correct, picture(color)), "played": played()}
            write_run(folder, rung, seed, size, 1e6, 2.0, answers, config)
    return analyse(folder)


def test_of_each_rung_the_lowest_seed_is_shown_smallest_first(tree):
    drawn, sounds = tree["made_media"]
    assert [one["run"] for one in drawn["rungs"]] == ["small-seed0", "large-seed0"]
    assert [one["exact_match"] for one in drawn["rungs"]] == [0, 0.75]
    assert drawn["rungs"][1]["correct"] == [True] * 9 + [False] * 3
    assert drawn["prompts"][:2] == ["red 0", "red 1"] and len(drawn["references"]) == INSTANCES
    assert sounds["task"] == "played" and sounds["rungs"][0]["made"][0].startswith("data:audio")


@pytest.mark.slow
def test_the_page_shows_them_and_a_paper_has_the_grid(tree, tmp_path):
    (section,) = [one for one in sections_of(tree) if one.key == "made_media"]
    grid = next(one for one in unfolded(section.blocks) if isinstance(one, MediaGrid))
    assert [name.split("\n") for name in grid.columns] == [
        ["small", "0%"], ["large", "75%"], ["described"]
    ]  # fmt: skip
    assert len(grid.rows) == SHOWN and grid.tones[0] == ["bad", "good", ""]
    page = page_of("T", "L", sections_of(tree), tree)
    assert_paints(page, sections_of(tree), tmp_path)
    only = tmp_path / "only.html"
    only.write_text(page_of("T", "L", [section], tree))
    visit(only, tmp_path / "seen", 1200, False)
    seen = np.asarray(Image.open(tmp_path / "seen" / "page.png").convert("RGB")).reshape(-1, 3)
    for color in (RED, BLUE):  # Each picture is some 70 pixels high.
        assert (np.abs(seen.astype(int) - color).max(1) < 12).sum() > SHOWN * 60 * 60
    (file,) = [one for one in write_figures([section], tmp_path) if one.name == "made-drawn.png"]
    painted = np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")).reshape(-1, 3)
    for color in (RED, BLUE):
        assert (np.abs(painted.astype(int) - color).max(1) < 12).mean() > 0.05


def test_rows_of_anybody_put_no_address_into_the_page(tmp_path):
    strange = [
        {"task": "drawn", "instance": str(i), "exact_match": None, "made": made, "reference": made}
        for i, made in enumerate(
            ("https://example.org/a.png", "data:text/html;base64,AAAA", 3, picture(RED))
        )
    ]
    directory = write_run(tmp_path, "r", 0, 1e4, 1e6, 2.0, {}, config_text())
    file = next(directory.evaluations.iterdir())
    file.write_text("".join(json.dumps(row) + "\n" for row in strange))
    (found,) = analyse(tmp_path)["made_media"]
    assert found["rungs"][0]["made"] == [picture(RED)] == found["references"]
    assert found["rungs"][0]["exact_match"] is None
    assert found["rungs"][0]["correct"] == [None]


def test_a_study_without_any_has_no_section(tmp_path):
    write_run(tmp_path, "r", 0, 1e4, 1e6, 2.0, {}, config_text())
    assert MADE_MEDIA.section(analyse(tmp_path)) is None
