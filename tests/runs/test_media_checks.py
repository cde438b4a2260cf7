"""A run is refused where its model, its masks and its codec speak of other pictures."""

import dataclasses
from typing import Any

import pytest
from support.shipped import bindings_of

from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from jaxgen.models.block_config import LayerConfig
from jaxgen.ops.attention.grids import GridColumn, GridRow
from jaxgen.ops.attention.masks import Either, Window


def changed(config: Any, layers: tuple[LayerConfig, ...]) -> Any:
    model = dataclasses.replace(config.model, layers=layers)
    return dataclasses.replace(config, model=model)


@pytest.fixture(scope="module")
def sprites(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("palette")
    return load(["runs/sprites.gin"], bindings_of("runs/sprites.gin", folder))


def test_masks_are_for_the_codecs_grid(sprites):
    rope = sprites.model.layers[0].rope
    fitting = LayerConfig(rope=rope, mask=(GridRow(12, 12),))
    changed(sprites, (fitting,))
    for mask in (
        GridRow(6, 6),
        GridColumn(12, 12, modality=2),
        Either((Window(4), GridRow(4, 36))),
    ):
        with pytest.raises(ConfigError, match=r"grids .* \[\(1, 12, 12\)\]"):
            changed(sprites, (fitting, LayerConfig(rope=rope, mask=(mask,))))


def test_vectors_lie_as_the_codec_says():
    config: Any = load(["runs/pictures_described.gin"])
    with pytest.raises(ConfigError, match="columns of vectors=4 for each image, and the codec 8"):
        load(["runs/pictures_described.gin"], ["image_vectors.rows=2", "image_vectors.columns=8"])
    assert config.model.media


def test_an_input_of_vectors_is_not_for_codes(sprites):
    seeing: Any = load(["runs/pictures_described.gin"])
    with pytest.raises(ConfigError, match="which the codec gives as codes"):
        model = dataclasses.replace(sprites.model, media=seeing.model.media)
        dataclasses.replace(sprites, model=model)


def test_no_mixture_gives_sounds_to_an_encoder():
    with pytest.raises(ConfigError, match="which no mixture of tasks gives to one yet"):
        load(["runs/quickstart.gin", "models/whisper/tiny.gin"])


@pytest.mark.parametrize(
    ("run", "binding", "message"),
    [
        ("diffusion/sprites", "dit.size=32", r"\(32, 32, 3\), and ImageTextPairs gives \(16, 16"),
        ("contrastive", "image_text_pairs.image_size=32", r"\(16, 16, 3\), and .* gives \(32, 32"),
        ("codecs/kl_sprites", "media_rows.shape=(8, 8, 3)", r"\(16, 16, 3\), and MediaRows gives"),
    ],
)
def test_pictures_are_of_the_model_s_size(run, binding, message):
    with pytest.raises(ConfigError, match=message):
        load([f"runs/{run}.gin"], [binding])
