"""Tuning on pictures must not destroy language: a model of prose, tuned with and without prose."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.codecs.media import Media
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.palette import made_for, palette_vectors, train_palette
from jaxgen.codecs.palettes import ImagePalette
from jaxgen.configuration import load
from jaxgen.data.embedded import StandardLibraryProse
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Sprites
from jaxgen.data.interleaving import Interleave
from jaxgen.data.mixtures import Mixture
from jaxgen.data.tasks import Task
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import read_metrics
from jaxgen.training.schedules import WarmupCosine

SPRITES = Sprites(size=12, tags=("colors",))
STEPS = 300


def tasks(path: str) -> dict[str, Task]:
    records = SPRITES.records_by_index("train").__getitems__(range(100))
    vectors = [palette_vectors(Media("image", one["image"]), (1, 1)) for one in records]
    train_palette(np.concatenate(vectors), 16, path, made_for("image", (1, 1, 1)))
    image = ImagePalette(path, height=12, width=12, patch_height=1, patch_width=1)
    codec = MultimodalCodec(media=(image,))
    order = Interleave(("image", "description"))
    return {
        "prose": Task("prose", StandardLibraryProse(), codec=codec),
        "described": Task("described", SPRITES, PromptAnswer(), codec, preprocessors=(order,)),
    }


def config_of(
    tasks: dict[str, Task], weights: dict[str, float], peak: float, parent: str | None
) -> Any:
    base: Any = load(["runs/quickstart.gin"], ["model.num_layers=2"])
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, vocab_size=384),
        mixture=Mixture("m", tuple(tasks[name] for name in weights), weights),
        train=dataclasses.replace(
            base.train, steps=STEPS, batch_size=8, length=192,
            schedule=WarmupCosine(peak=peak, warmup=STEPS // 20),
        ),
        evaluation=dataclasses.replace(
            base.evaluation, num_batches=8, num_examples=16, suite=()
        ),
        initialize_from=parent,
    )  # fmt: skip


@pytest.mark.slow  # Three runs of 300 steps: two minutes on two cores.
def test_tuning_on_pictures_keeps_language_where_prose_is_in_the_mixture(tmp_path):
    made = tasks(str(tmp_path / "sprites.safetensors"))

    def losses_of(name: str, weights: dict[str, float], parent: str | None = None):
        # Tuned at a third of the rate of pre-training.
        config = config_of(made, weights, 3e-3 if parent is None else 1e-3, parent)
        record = run(config, tmp_path / name, devices=jax.devices()[:1], show_progress=False).record
        return {task: scores["loss"] for task, scores in record["evaluation"].items()}

    folder = str(tmp_path / "prose")
    first = losses_of("prose", {"prose": 0.999, "described": 0.001})
    before = first["prose"]
    together = losses_of("together", {"prose": 0.5, "described": 0.5}, folder)
    forgetful = losses_of("forgetful", {"prose": 0.001, "described": 0.999}, folder)
    print(f"first {first}, tuned with prose {together}, nearly without {forgetful}")
    assert max(together["described"], forgetful["described"]) < first["described"] / 2
    assert together["prose"] < before + 0.02
    # So that what is asserted can fail:
    assert forgetful["prose"] > before + 0.3
    curve = read_metrics(tmp_path / "together" / "metrics.jsonl")
    prose = [row["loss/prose"] for row in curve if row.get("loss/prose") is not None]
    assert max(prose[len(prose) // 2 :]) < before + 0.2
