"""Every run and suite that comes with jaxgen loads, and its instances fit its rows."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.shipped import NotHere, bindings_of

from jaxgen.configuration import load
from jaxgen.data.packing import RowShape
from jaxgen.data.tasks import tasks_of
from jaxgen.evaluation.evaluate import scored_tasks

GIN = Path(__file__).parents[2] / "gin"
RUNS = sorted(path.relative_to(GIN).as_posix() for path in GIN.glob("runs/**/*.gin"))


def check(config: Any) -> None:
    shape = RowShape(config.train.length)
    for one in scored_tasks(config.mixture, config.evaluation):
        examples = one.task.encode(one.task.instances(2, 0))
        checking = getattr(one.scoring, "check", None)
        if checking is not None:
            checking(one.task, examples, shape)
    assert config.train.steps > 0


@pytest.mark.parametrize("name", RUNS)
def test_a_run_loads_and_its_instances_fit(name, tmp_path):
    if "speech" in name and not shutil.which("flite"):
        pytest.skip("flite is not installed: apt-get install flite")
    try:
        bindings = bindings_of(name, tmp_path)
    except NotHere as error:
        pytest.skip(f"{name} needs {error}, which this test does not make")
    more = ["synthesised_speech.num_examples=20"] if "speech" in name else []
    config: Any = load([name], bindings + more)
    if hasattr(config.mixture, "every_task") and tasks_of(config.mixture):
        check(config)


def test_the_suite_of_pictures_is_drawn_and_asked(tmp_path):
    bindings = bindings_of("runs/sprites.gin", tmp_path)
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


@pytest.mark.parametrize("suite", ["abilities", "spells", "zero_shot"])
def test_a_suite_of_generated_tasks_loads_and_fits(suite, tmp_path):
    (tmp_path / "a.txt").write_text("Some text. " * 100)
    small = [f"model.{name}=8" for name in ("embed_dim", "mlp_dim")]
    small += ["model.num_layers=1", "model.num_heads=1", "train.steps=1", f"TEXT={str(tmp_path)!r}"]
    config: Any = load(["runs/text.gin", f"suites/{suite}.gin"], [*small, "train.length=640"])
    assert len(config.evaluation.suite) >= 1
    check(config)


@pytest.mark.parametrize("mixture", ["instructions", "town"])
def test_a_mixture_for_assistants_loads_and_fits(mixture):
    files = ["runs/quickstart.gin", f"mixtures/{mixture}.gin"]
    config: Any = load(files, ["train.length=640"])
    check(config)
