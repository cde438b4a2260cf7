"""Every run and suite that comes with jaxgen loads, and its instances fit its rows."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import made_for, train_palette
from jaxgen.configuration import load
from jaxgen.data.packing import RowShape
from jaxgen.data.tasks import tasks_of
from jaxgen.evaluation.evaluate import scored_tasks

GIN = Path(__file__).parents[2] / "gin"
RUNS = sorted(path.relative_to(GIN).as_posix() for path in GIN.glob("runs/**/*.gin"))
TELEPHONE = MelFrames(8000, 256, 160, 64)
SPOKEN = MelFrames(8000, 256, 160, 40)
PURPOSES = {
    "IMAGE_PALETTE": made_for("image", (1, 1, 1)),
    "VIDEO_PALETTE": made_for("video", (1, 4, 4)),
    "SOUND_PALETTE": made_for("audio", mel=TELEPHONE),
}
LENGTHS = {"IMAGE_PALETTE": 3, "VIDEO_PALETTE": 48, "SOUND_PALETTE": TELEPHONE.bands}


def bindings_of(text: str, folder: Path) -> list[str]:
    """A palette of three vectors for each that a run or its mixture asks for."""
    bound = []
    for name, purpose in PURPOSES.items():
        if re.search(rf"{name}\b", text):
            path, length = folder / f"{name}.safetensors", LENGTHS[name]
            if "speech" in text and name == "SOUND_PALETTE":
                purpose, length = made_for("audio", mel=SPOKEN), SPOKEN.bands
            table = np.eye(3, length, dtype=np.float32)
            train_palette(table, 3, str(path), purpose)
            bound.append(f"{name}='{path}'")
    return bound


def check(config: Any) -> None:
    shape = RowShape(config.train.length)
    for one in scored_tasks(config.mixture, config.evaluation):
        examples = one.task.encode(one.task.instances(2, 0))
        if hasattr(one.scoring, "check"):
            one.scoring.check(one.task, examples, shape)
    assert config.train.steps > 0


@pytest.mark.parametrize("name", RUNS)
def test_a_run_loads_and_its_instances_fit(name, tmp_path):
    if "speech" in name and not shutil.which("flite"):
        pytest.skip("flite is not installed: apt-get install flite")
    text = (GIN / name).read_text()
    if "sprites.gin" in text or "dalle" in name:
        text += "IMAGE_PALETTE"
    more = ["synthesised_speech.num_examples=20"] if "speech" in name else []
    if "emoji" in name:
        pytest.skip("its labels are those of an npm package, emojibase-data")
    if "TEXT" in text:
        (tmp_path / "a.txt").write_text("Some text. " * 200)
        more.append(f"TEXT='{tmp_path}'")
    config: Any = load([name], bindings_of(text, tmp_path) + more)
    if hasattr(config.mixture, "every_task") and tasks_of(config.mixture):
        check(config)


def test_the_suite_of_pictures_is_drawn_and_asked(tmp_path):
    bindings = bindings_of("IMAGE_PALETTE", tmp_path)
    config: Any = load(["runs/sprites.gin", "suites/pictures.gin"], bindings)
    suite = config.evaluation.suite
    assert len(suite) == 6 + 4
    check(config)
    records = suite[3].task.instances(20, 0)
    # A caption of the tag "colors" names a colour and a shape, of a held-out combination.
    assert all(len(record["caption"].split()) == 3 for record in records)
    asked = {one.task.name.split("_")[-1]: one.task for one in suite[6:]}
    assert asked.keys() == {"count", "colour", "compare", "relation"}
    chances = {kind: task.source.chance for kind, task in asked.items()}
    assert chances["compare"] == chances["relation"] == 0.5
