"""Features of pictures by a contrastive run, and by a run that has none."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from support.helpers import one_device_mesh
from support.pairs import build_pair, tiny_clip

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.runs import features
from jaxgen.runs.features import RunFeatures
from jaxgen.runs.run import run

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 9, 12, 3), np.uint8)


def test_features_are_the_towers_vectors_whatever_the_pictures_size(monkeypatch):
    config = tiny_clip()
    with jax.set_mesh(one_device_mesh()):
        model = build_pair(config)
        restored = SimpleNamespace(model=model, config=SimpleNamespace(model=config))
        monkeypatch.setattr(features, "restore", lambda *_: restored)
        found = RunFeatures("runs/pair", batch_size=2)(PICTURES)
        again = RunFeatures("runs/pair", batch_size=2)(PICTURES[3:])
    assert found.shape == (5, config.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(again, found[3:], atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-4


def test_a_run_without_an_image_tower_is_refused(monkeypatch):
    restored = SimpleNamespace(model=object(), config=SimpleNamespace(model=object()))
    monkeypatch.setattr(features, "restore", lambda *_: restored)
    with jax.set_mesh(one_device_mesh()), pytest.raises(ConfigError, match="encodes no images"):
        RunFeatures("runs/text")(PICTURES)


@pytest.mark.slow
def test_a_trained_run_gives_them(tmp_path):
    sizes = ["train.steps=1", "train.batch_size=8", "evaluation.num_batches=1"]
    config: Any = load(["runs/contrastive.gin"], [*sizes, "evaluation.batch_size=8"])
    evaluation = dataclasses.replace(config.evaluation, evaluators=())
    config = dataclasses.replace(config, evaluation=evaluation)
    run(config, tmp_path, devices=jax.devices()[:1], show_progress=False)
    with jax.set_mesh(one_device_mesh()):
        found = RunFeatures(str(tmp_path))(PICTURES)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
