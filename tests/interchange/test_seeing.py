"""A model that sees is imported with a codec that gives it pictures, and is shown some."""

import dataclasses

import numpy as np
import pytest
from support.helpers import build, tiny_model
from support.tokenizers import SPECIAL, prefix_space

from jaxgen.cli import main
from jaxgen.codecs.media import Media
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.commands.interchange import codec_with_media
from jaxgen.data.image_files import encode_png
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny LLaVA whose tokenizer has <image>, as one would be downloaded."""
    folder = tmp_path_factory.mktemp("seeing")
    tokenizer = folder / "tokenizer.json"
    prefix_space(tokenizer, special=[*SPECIAL, "<image>"])
    config = tiny_model("llava")
    (media,) = config.media
    media = dataclasses.replace(media, token=len(SPECIAL), frozen=False)
    config = dataclasses.replace(config, vocab_size=448, media=(media,))
    export_model(
        build(config), folder / "hf", files={"tokenizer.json": tokenizer.read_bytes()},
        more={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    )  # fmt: skip
    (folder / "picture.png").write_bytes(encode_png(np.full((20, 30, 3), 90, np.uint8), {}))
    return folder


@pytest.mark.slow
def test_an_imported_model_is_shown_pictures(folder, capsys):
    run = folder / "run"
    assert main(["import", f"--from={folder / 'hf'}", f"--output={run}"]) == 0
    config = (run / "config.gin").read_text()
    assert "image_vectors.token = '<image>'" in config and "media_input.token = 5" in config
    flags = [f"--run_dir={run}", "--prompt=What is it?", "--max_tokens=4", "--temperature=0"]
    assert main(["generate", *flags, f"--image={folder / 'picture.png'}"]) == 0
    assert main(["generate", *flags, *[f"--image={folder / 'picture.png'}"] * 2]) == 0
    assert capsys.readouterr().out.count("What is it?") == 2
    again = folder / "again"
    assert main(["export", f"--run_dir={run}", f"--output={again}"]) == 0
    first, second = (
        dict(named_parameters(load_model(open_checkpoint(path)))) for path in (folder / "hf", again)
    )
    for path, parameter in first.items():
        assert np.array_equal(parameter[...], second[path][...]), path
    assert (again / "tokenizer.json").exists()


@pytest.mark.slow
def test_the_text_alone_is_imported_on_demand(folder, tmp_path, capsys):
    run = tmp_path / "text"
    flags = [f"--from={folder / 'hf'}", f"--output={run}", "--text_only"]
    assert main(["import", *flags]) == 0
    assert "the text part of LlavaForConditionalGeneration" in capsys.readouterr().out
    config = (run / "config.gin").read_text()
    assert "media_input" not in config and "image_vectors" not in config


def test_pictures_stand_between_the_tokens_that_a_checkpoint_names(tmp_path):
    names = ["<image>", "<start_of_image>", "<end_of_image>"]
    path = prefix_space(tmp_path / "tokenizer.json", special=[*SPECIAL, *names])
    codec = TokenizerCodec(path, begin="<s>", end="</s>", pad="<unk>")
    model = tiny_model("gemma3_vision")
    (media,) = model.media
    first = len(SPECIAL)
    model = dataclasses.replace(model, media=(dataclasses.replace(media, token=first),))
    ids = [first + 1] + [first] * media.num_vectors + [first + 2]
    picture = Media("image", np.zeros(media.encoder.input_shape, np.uint8))
    named = {"boi_token_index": first + 1, "eoi_token_index": first + 2}
    assert codec_with_media(codec, model, named).encode_media(picture).tolist() == ids
    assert codec_with_media(codec, model, {}).encode_media(picture).tolist() == ids[1:-1]
