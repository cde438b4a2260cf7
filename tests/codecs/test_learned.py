"""Learned codecs: files that are known, codes that depend on the row alone, media in and out."""

import dataclasses
import pickle
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from support.autoencoders import AUTOENCODERS, build_autoencoder, random_media, write_codec
from support.helpers import spread

from jaxgen.codecs.learned import ImageCodec, SoundCodec
from jaxgen.codecs.media import Media
from jaxgen.codecs.mu_law import MuLaw
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.errors import ConfigError, DataError
from jaxgen.sharding.mesh import MeshConfig, make_mesh

KINDS = {"fsq": ImageCodec, "dvae": ImageCodec, "sound": SoundCodec}


def written(path, name="fsq", identity=None, **changes):
    """The file of a random autoencoder, as `jaxgen codec export` writes it, and its model."""
    config = AUTOENCODERS[name]
    model = spread(build_autoencoder(config))
    write_codec(path, config, model, identity, **changes)
    return model


def codec_in(folder, name="fsq", **options) -> Any:
    written(folder / "codec.safetensors", name)
    return KINDS[name](str(folder / "codec.safetensors"), AUTOENCODERS[name], **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsq", "dvae"])
def test_codes_are_those_of_the_model_and_come_back(tmp_path, name):
    model = written(tmp_path / "codec.safetensors", name)
    codec = codec_in(tmp_path, name)
    pictures = random_media(AUTOENCODERS[name], 6).values
    expected = np.asarray(model.encode(pictures))
    found = np.stack([codec.encode(one) for one in pictures])
    np.testing.assert_array_equal(found, expected)
    made = (np.clip(model.decode(expected), 0, 1) * 255 + 0.5).astype(np.uint8)
    assert np.abs(codec.decode(found[2]).astype(int) - made[2]).max() <= 1
    assert codec.grid == AUTOENCODERS[name].grid and not codec.varies


def test_codes_are_stable_across_copies_meshes_and_order(tmp_path):
    codec, pictures = codec_in(tmp_path), random_media(AUTOENCODERS["fsq"], 5).values
    expected = [codec.encode(one) for one in pictures]
    copy = pickle.loads(pickle.dumps(codec))
    assert copy == codec and not copy._kept
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=4))):
        again = [copy.encode(one) for one in pictures[::-1]][::-1]
    np.testing.assert_array_equal(again, expected)
    first = codec.encode(pictures[0])
    first[:] = 0  # What is given out is not what is kept.
    np.testing.assert_array_equal(codec.encode(pictures[0]), expected[0])


@pytest.mark.slow
def test_a_sound_has_the_codes_of_its_frames(tmp_path):
    codec = codec_in(tmp_path, "sound", seconds=0.025)
    config = AUTOENCODERS["sound"]
    assert codec.rate == 8000 and codec.varies and codec.grid == (-(-200 // 16), 2, 1)
    sound = random_media(config, 1).values[0]
    codes = codec.encode(sound[:50])
    assert len(codes) == 4 * 2
    made = codec.decode(codes)
    assert made.dtype == np.float32 and len(made) == 4 * 16 and np.abs(made).max() <= 1
    with pytest.raises(DataError, match="1 to 200 samples"):
        codec.encode(np.zeros(201, np.float32))
    with pytest.raises(DataError, match="not finite"):
        codec.encode(np.full(9, np.nan, np.float32))


def test_pictures_and_sounds_are_read_and_written_among_text(tmp_path):
    image = codec_in(tmp_path)
    codec = MultimodalCodec(media=(image, MuLaw(seconds=0.01)))
    assert codec.vocab_size == codec.text.vocab_size + 60 + 256
    picture = random_media(AUTOENCODERS["fsq"], 1).values[0]
    sound = random_media(AUTOENCODERS["sound"], 1).values[0][:40]
    ids = np.concatenate(
        [codec.encode("a"), codec.encode_media(Media("image", picture)), codec.encode("b"),
         codec.encode_media(Media("audio", sound, 8000))]
    )  # fmt: skip
    first, made, second, heard = codec.decode_media(ids)
    assert (first, second) == ("a", "b") and isinstance(made, Media) and isinstance(heard, Media)
    np.testing.assert_array_equal(made.values, image.decode(image.encode(picture)))
    # mu-law's levels are near each sample; see tests/codecs/test_sound.py.
    assert np.abs(heard.values - sound).max() < 0.03
    with pytest.raises(DataError, match="16000 samples a second"):
        codec.encode_media(Media("audio", sound, 16_000))


def test_the_file_is_known_by_its_digest_and_kept_in_a_run(tmp_path):
    codec, run = codec_in(tmp_path), tmp_path / "run"
    run.mkdir()
    codec.keep_in(run)
    kept = dataclasses.replace(codec, path=str(run / "image_codec.safetensors"))
    assert kept == codec
    with (tmp_path / "codec.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match="only understands the codes it was trained with"):
        dataclasses.replace(codec)
    other = dataclasses.replace(codec, digest=None)
    with pytest.raises(DataError, match="only understands the codes it was trained with"):
        other.keep_in(run)


def encode_with(path, **fields):
    config = AUTOENCODERS["fsq"]
    codec = ImageCodec(**({"path": str(path), "autoencoder": config} | fields))
    return codec.encode(random_media(config, 1).values[0])


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "codec.safetensors"
    with pytest.raises(DataError, match="make one with `jaxgen codec export`"):
        encode_with(path)
    path.write_text("no codec")
    with pytest.raises(DataError, match="is not a codec"):
        encode_with(path)
    save_file({"colours": np.zeros((2, 3), np.float32)}, path)  # As a palette is.
    with pytest.raises(DataError, match=r"a file of arrays and not a codec.*@image_palette"):
        encode_with(path)
    written(path, identity="another")
    with pytest.raises(DataError, match=r"is of another, and image_codec\.autoencoder is Image"):
        encode_with(path)
    with pytest.raises(ConfigError, match="one of audio, not of image"):
        encode_with(path, autoencoder=AUTOENCODERS["sound"])
    bias: dict[str, Any] = {"first.bias": np.full(16, np.nan, np.float32)}
    written(path, **bias)
    with pytest.raises(DataError, match="not finite"):
        encode_with(path)
    bias["first.bias"] = np.zeros(8, np.float32)
    written(path, **bias)
    with pytest.raises(ConfigError, match=r"first.bias is float32 \(8,\), not float32 \(16,\)"):
        encode_with(path)
    written(path)
    with pytest.raises(DataError, match="uint8 of 4x4x3, and its codec is for uint8 of 8x16x3"):
        codec_in(tmp_path).encode(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(81, np.float32), "1 to 80 samples"),
        (np.zeros(0, np.float32), "1 to 80 samples"),
        (np.full(3, np.inf, np.float32), "not finite"),
    ],
)
def test_sounds_that_mu_law_cannot_take_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        MuLaw(seconds=0.01).encode(values)
    with pytest.raises(ConfigError, match="no sample"):
        MuLaw(seconds=1e-5)
