"""Captions that a frozen encoder read before training: the losses of one that reads them then."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from support.helpers import one_device_mesh, spread
from support.known_denoisers import Linear, LinearConfig

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.caption_encodings import CaptionEncodings, write_encodings
from jaxgen.data.generated import Sprites
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.protocols import Split
from jaxgen.data.tasks import Task, sources_of
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.caption_states import caption_states, distinct_captions, states_of_rows
from jaxgen.models.config import TransformerConfig
from jaxgen.models.diffusion.caption_encoder_config import CaptionEncoderConfig
from jaxgen.models.diffusion.config import DiffusionConfig
from jaxgen.models.diffusion.together_config import TogetherConfig
from jaxgen.objectives.diffusion import DiffusionLoss
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.ops.diffusion.schedules import Cosine
from jaxgen.sharding.layout import Layout
from jaxgen.training.loading import put_batch

LENGTH = 16
TEXT = TransformerConfig(
    vocab_size=ByteCodec().vocab_size, num_layers=1, embed_dim=20, num_heads=2, mlp_dim=24
)


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Grey squares with captions of several lengths."""

    captions: tuple[str, ...] = ("a", "a cat", "dog", "a", "three words", "b")

    def read(self, split):
        for place, caption in enumerate(self.captions if split == "train" else ("held", "out")):
            yield {"image": np.full((4, 4, 3), place, np.uint8), "caption": caption, "key": place}

    def content_digest(self):
        return f"{self.captions}"


@dataclasses.dataclass(frozen=True)
class MeanConfig(LinearConfig):
    """A denoiser that adds the mean of the states that are there."""

    def build_denoiser(self, rngs):
        return Mean(self, rngs)


class Mean(Linear):
    def __call__(self, x, time, conditioning, key=None):
        states, mask = conditioning.sequence, conditioning.mask
        if mask is not None:
            states = states * mask[..., None]
        return super().__call__(x, time, dataclasses.replace(conditioning, sequence=states), key)


DATA = ImageTextPairs(Task("squares", Captioned()), image_size=4, distinct=False)


def model_of(**changes: Any) -> Any:
    fields: dict[str, Any] = {"model": TEXT, "drop": 0.5} | changes
    told = CaptionEncoderConfig(**fields)
    own = MeanConfig(context_dim=20)
    config = DiffusionConfig(denoiser=own, conditioner=told)
    return spread(config.build(nnx.Rngs(0), Layout()))


def written(folder, encoder, dtype="float32", data=DATA):
    """The data with a folder of what an encoder makes of all captions."""
    captions = distinct_captions(data, LENGTH)
    pads = not encoder.config.masks_padding
    with jax.set_mesh(one_device_mesh()):
        states = caption_states(encoder, captions.values(), LENGTH, data.codec.pad_id, 4)
        counts = {key: LENGTH if pads else len(ids) for key, ids in captions.items()}
        manifest = {
            "codec": data.codec.digest, "width": 20, "dtype": dtype, "length": LENGTH,
            "masks_padding": not pads,
            "encoder": {"name": "t5", "fingerprint": "f", "parameters": "p"},
        }  # fmt: skip
        write_encodings(folder, counts, zip(captions, states, strict=True), manifest)
    return dataclasses.replace(data, encodings=str(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("masks_padding", "dtype", "tolerance"),
    [(True, "float32", 1e-6), (False, "float32", 1e-6), (False, "float16", 5e-4)],
)
def test_losses_are_those_of_the_encoder_in_the_model(tmp_path, masks_padding, dtype, tolerance):
    """In training, where half of the captions are dropped, in evaluation, and without a prompt."""
    whole = model_of(masks_padding=masks_padding)
    bare = model_of(masks_padding=masks_padding, precomputed=True)
    assert bare.conditioner.model is None and bare.config.conditioner.count().total == 0
    bare.denoiser = whole.denoiser
    data = written(tmp_path / "states", whole.conditioner, dtype)
    loss_fn = jax.jit(DiffusionLoss(corruption=Corruption(Cosine(), "noise")))
    with jax.set_mesh(one_device_mesh()):
        keys: dict[Split, Any] = {"train": jax.random.key(3), "heldout": None}
        for split, key in keys.items():
            losses = []
            for pairs, model in ((DATA, whole), (data, bare)):
                opened = pairs.open(batch_size=6, length=LENGTH, seed=1, split=split)
                batch = put_batch(opened.batch(0), jax.sharding.get_mesh(), model.layout.rules)
                losses.append(float(loss_fn(model, batch, key).total))
            assert losses[0] == pytest.approx(losses[1], rel=tolerance)
        # The same of captions that were never kept, by the encoder itself.
        tokens, lengths = DATA.tokens(["a cat", "unseen"], LENGTH)
        made = states_of_rows(whole.conditioner, DATA.codec, tokens, lengths)
        kept = data.states(tokens[:1], lengths[:1])
        np.testing.assert_allclose(made["states"][:1], kept["states"], tolerance, tolerance)
        np.testing.assert_allclose(
            made["empty_states"][:1], kept["empty_states"], tolerance, tolerance
        )


def test_each_caption_is_kept_once_in_both_splits_and_files_are_recorded(tmp_path):
    data = written(tmp_path / "states", model_of().conditioner)
    # The empty one, five of training, of which one is there twice, and two held out.
    assert len(np.load(tmp_path / "states" / "keys.npy")) == 1 + 5 + 2
    source: Any = sources_of(data)["image_text_pairs.encodings"]
    assert [file.rsplit("/", 1)[1] for file in source.files()] == [
        "keys.npy", "starts.npy", "states.npy", "encodings.json",
    ]  # fmt: skip
    spec = data.batch_spec(batch_size=3, length=LENGTH)
    batch = data.open(batch_size=3, length=LENGTH, seed=0).batch(0)
    for name in ("states", "empty_states"):
        assert getattr(spec, name).shape == getattr(batch, name).shape
        assert getattr(spec, name).dtype == getattr(batch, name).dtype


def test_what_does_not_fit_is_told(tmp_path):
    folder = tmp_path / "states"
    data = written(folder, model_of(masks_padding=False).conditioner)
    with pytest.raises(DataError, match="rows of 16 tokens whose padding is read"):
        data.open(batch_size=2, length=10, seed=0)
    other = dataclasses.replace(data, task=Task("squares", Captioned(("new",))))
    with pytest.raises(DataError, match="lacks a caption of 5 tokens"):
        other.open(batch_size=2, length=LENGTH, seed=0).batch(0)
    with pytest.raises(ConfigError, match="leave the encoder in the model"):
        distinct_captions(dataclasses.replace(data, task=Task("drawn", Sprites())), LENGTH)
    manifest = json.loads((folder / "encodings.json").read_text())
    (folder / "encodings.json").write_text(json.dumps(manifest | {"codec": "another"}))
    with pytest.raises(DataError, match="of another codec's tokens, 'another'"):
        data.open(batch_size=2, length=LENGTH, seed=0)
    (folder / "encodings.json").write_text(json.dumps(manifest | {"width": 7}))
    with pytest.raises(DataError, match="its arrays are of other lengths"):
        data.open(batch_size=2, length=LENGTH, seed=0)
    with pytest.raises(DataError, match=r"has no encodings\.json"):
        CaptionEncodings(str(tmp_path)).files()


def test_settings_that_contradict_one_another_are_refused():
    with pytest.raises(ConfigError, match="has nothing to train"):
        CaptionEncoderConfig(TEXT, frozen=False, precomputed=True)
    one = CaptionEncoderConfig(TEXT, precomputed=True)
    with pytest.raises(ConfigError, match="give the states of one"):
        TogetherConfig((one, one))
    with pytest.raises(ConfigError, match="leave one out"):
        dataclasses.replace(DATA, classes=("a",), encodings="x")
