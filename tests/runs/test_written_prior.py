"""DALL-E 2's prior in codes: fitted to a contrastive run's vectors, trained, and gone on with."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.picture_runs import UNET, pair_run, train

from jaxgen.cli import main
from jaxgen.codecs.bytes import ByteCodec, SpecialTokens
from jaxgen.codecs.written_vectors import VectorCodec
from jaxgen.configuration import load
from jaxgen.data.parts import encode_parts
from jaxgen.data.protocols import Context
from jaxgen.data.vector_prompts import CaptionVectors
from jaxgen.errors import DataError
from jaxgen.models.pair_codes import PairCodesConfig
from jaxgen.runs.run_directory import RunDirectory

CIRCLE = "a red circle at the top left"
FEW_CODES = [
    "--gin.pair_codes.components=6", "--gin.pair_codes.buckets=16", "--gin.train.length=112",
    "--gin.writer/model.num_layers=1", "--gin.writer/model.embed_dim=32",
    "--gin.writer/model.mlp_dim=32", "--gin.execution.scan_unroll=1",
    "--gin.evaluation.num_examples=8", "--gin.written_vectors.num_examples=8",
]  # fmt: skip

ONE_LEVEL = ["--gin.unet.multipliers=(1,)", "--gin.unet.attention=('joint',)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A contrastive run of two steps, and the components of its vectors."""
    folder = tmp_path_factory.mktemp("written")
    pair_run(folder / "clip")
    fit = ["codec", "fit", str(folder / "clip"), str(folder / "codes.safetensors")]
    assert main([*fit, "--components=6", "--buckets=16", "--examples=64"]) == 0
    return folder


@pytest.fixture(scope="module")
def config(folder):
    flags = [flag.removeprefix("--gin.") for flag in FEW_CODES if "execution" not in flag]
    macro = f"VECTOR_CODES='{folder}/codes.safetensors'"
    return load(["runs/diffusion/written_prior.gin"], [macro, *flags])


@pytest.mark.slow
def test_a_row_is_a_caption_its_vector_s_codes_and_its_picture_s(config):
    task = config.mixture.tasks[0]
    record = next(iter(task.records("train")))
    codec, media = task.codec, task.codec.media[0]
    steps: CaptionVectors = task.preprocessors[0]
    example = encode_parts(record["jaxgen.parts"], codec)
    first = codec.media_ranges[0].first_id
    caption = ByteCodec().encode(record["description"])
    np.testing.assert_array_equal(example.ids[: len(caption)], caption)
    codes = example.ids[example.ids >= first] - first
    assert len(codes) == 12 and codes.max() < 16
    np.testing.assert_array_equal(codes[6:], media.encode(record["image"]))
    # The loss is that of the picture's codes, and of the tokens about them.
    assert example.flags is not None and (example.flags & 1).sum() == 6 + 2
    # The codes of the picture are those of its vector in components.
    pair = media._model.pair
    vector = np.asarray(pair.encode_images(record["image"][None]))[0]
    low, high = np.asarray(media._model.principal.low), np.asarray(media._model.principal.high)
    numbers = np.asarray(media._model.principal.basis) @ (
        vector - np.asarray(media._model.principal.mean)
    )
    expected = np.clip((numbers - low) / (high - low) * 16, 0, 15).astype(int)
    np.testing.assert_array_equal(codes[6:], expected)
    other = CaptionVectors(steps.codec, text_codec=ByteCodec(SpecialTokens()))
    with pytest.raises(DataError, match="reads the tokens of"):
        next(
            other.apply(
                iter([{"caption": "a", "image": record["image"]}]), Context(lambda: iter(()))
            )
        )


@pytest.mark.slow
def test_it_trains_and_a_decoder_goes_on(folder, capsys):
    macro = f"--gin.VECTOR_CODES='{folder}/codes.safetensors'"
    train("diffusion/written_prior", folder / "prior", macro, *FEW_CODES)
    found = RunDirectory(folder / "prior").read_record()["evaluation"]["written_vectors"]
    assert -1 <= found["cosine"] <= 1 and found["chance"] == 1 / 8
    flags = ["--gin.ENCODER='../clip'", f"--gin.PRIOR='{folder}/prior'", *UNET, *ONE_LEVEL]
    few = ["--gin.cascade_pictures.num_examples=8", "--gin.ddpm.steps=2"]
    train("diffusion/decoder", folder / "decoder", *flags, *few)
    capsys.readouterr()
    asked = ["generate", f"--run_dir={folder}/prior", f"--prompt={CIRCLE}"]
    output = f"--output={folder}/made.png"
    assert main([*asked, f"--then={folder}/decoder", output]) == 0
    with Image.open(folder / "made.png") as picture:
        assert picture.size == (16, 16)
    for wrong, message in (
        ([output], "makes vectors of pictures; name a decoder's run"),
        ([output, "--image=x.png", f"--then={folder}/decoder"], "--image is not read by"),
        ([output, f"--then={folder}/prior"], "reads texts alone"),
    ):
        assert main([*asked, *wrong]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_of_other_components_is_refused(folder):
    config: Any = PairCodesConfig(load(["runs/contrastive.gin"]).model, 7, 16)
    codec = VectorCodec(str(folder / "codes.safetensors"), config)
    with pytest.raises(DataError, match=r"vector_codec\.autoencoder is"):
        codec.decode(np.zeros(7, np.int32))
