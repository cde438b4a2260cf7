"""Files of published checkpoints come back from an import and an export with every field."""

import argparse
import dataclasses
import functools
import json
import pathlib
import tempfile
from typing import Any

import pytest
from support.helpers import OTHER_FAMILIES
from support.published import PUBLISHED, TOKENIZERS, write_published
from support.tiers import slow_but
from tokenizers import Tokenizer

from jaxgen.codecs.joint import begin_ids, stop_ids
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.commands.interchange import export_settings, make_run
from jaxgen.interchange import changed_tokens
from jaxgen.interchange.configs import find_family
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.interchange.tokenizers import read_codec, write_codec
from jaxgen.runs.run_directory import RunDirectory

FILES = ("config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json")
TYPES = "the tensors exported are float32"
DIFFERENCES = {
    ("*", "config.json", "torch_dtype"): TYPES,
    ("*", "config.json", "dtype"): TYPES,
    ("gpt_oss", "config.json", "quantization_config"): "the tensors exported are whole",
}
"""All that differs, by (family, file, field), and why."""
FAST = ("gpt2", "Llama-3.1-8B", "t5-small", "bert-base-uncased", "gpt-oss-20b", "glm-4-9b-hf")
TEXTS = ["Once upon a time", "Answer: Paris", "user: hello there, 12 + 34", "the"]


@functools.cache
def returned(name):
    """The folders of a checkpoint as published, and of its import's export; the run's codec."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="jaxgen-published-"))
    write_published(name, folder / "given")
    checkpoint = open_checkpoint(folder / "given")
    directory = RunDirectory(folder / "run")
    arguments = argparse.Namespace(gin_files=[], bindings=[])
    config, _ = make_run(checkpoint, directory, arguments)
    settings = export_settings(config, checkpoint.config, directory)
    export_model(load_model(checkpoint), folder / "back", **settings)
    return folder / "given", folder / "back", config.mixture.codec


def family_of(name):
    return find_family(FAMILIES, PUBLISHED[name]["config"]).name


def differing(name):
    """(file, field) of all that an export has otherwise."""
    given, back, _ = returned(name)
    found = set()
    for file in FILES:
        read = [
            json.loads((place / file).read_text()) if (place / file).exists() else {}
            for place in (given, back)
        ]
        fields = read[0] | read[1]
        found |= {(file, key) for key in fields if any(key not in one for one in read)}
        found |= {(file, key) for key in fields if read[0].get(key) != read[1].get(key)}
    return found


def allowed(name, found):
    return {
        (file, key)
        for family, file, key in DIFFERENCES
        if family == family_of(name) or (family == "*" and (file, key) in found)
    }


@pytest.mark.parametrize("name", slow_but(FAST, sorted(PUBLISHED)))
def test_every_field_comes_back(name):
    found = differing(name)
    assert found == allowed(name, found)
    given, back, _ = returned(name)
    assert {path.name for path in given.iterdir()} == {path.name for path in back.iterdir()}


CHANGES = {
    "Llama-3.1-8B": {"end": 7, "stops": (2,), "adds_begin": False},
    "gpt2": {"begin": 5, "pad": 6, "adds_begin": True},
    "bert-base-uncased": {"end": 9},
    "t5-small": {"stops": (4,)},
}
"""Tokens that a run which goes on from an import has otherwise, by id."""


@pytest.mark.parametrize("name", CHANGES)
def test_tokens_that_a_run_has_otherwise_are_exported_so(name, tmp_path):
    given, _, codec = returned(name)
    assert isinstance(codec, TokenizerCodec)
    tokenizer = Tokenizer.from_file(str(given / "tokenizer.json"))
    names = {role: (one if isinstance(one, bool) else tuple(map(tokenizer.id_to_token, one))
                    if isinstance(one, tuple) else tokenizer.id_to_token(one))
             for role, one in CHANGES[name].items()}  # fmt: skip
    changes: Any = names
    changed = dataclasses.replace(codec, **changes)
    written, _ = write_codec(changed, both_ends=name.startswith("bert"))
    files, config = changed_tokens.returned(given.parent / "run", changed, True, written)
    for file, content in (files | {"config.json": json.dumps(config).encode()}).items():
        (tmp_path / file).write_bytes(content)
    read = read_codec(open_checkpoint(tmp_path), str(tmp_path / "tokenizer.json"))
    assert dataclasses.replace(read, digest=changed.digest, path=changed.path) == changed
    back = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    begun = [*begin_ids(changed), *changed.encode("Once upon").tolist()]
    assert back.encode("Once upon").ids[: len(begun)] == begun
    ends = [changed.end_id, *(tokenizer.token_to_id(one) for one in changed.stops)]
    for file in ("config.json", "generation_config.json"):
        told = json.loads((tmp_path / file).read_text())["eos_token_id"]
        assert told in (ends, *ends[: 2 - len(ends)]) or changed.stops == codec.stops
    # All else is as it was.
    before, after = (json.loads((one / "config.json").read_text()) for one in (given, tmp_path))
    assert {key for key in before | after if before.get(key) != after.get(key)} <= TOKEN_IDS


TOKEN_IDS = {"bos_token_id", "eos_token_id", "pad_token_id"}
OF_MEDIA = {"chameleon", "chameleon_post", "gemma3_seeing", "llava"}
"""Compared with transformers by test_parity and test_seeing_parity, and others by test_pairs."""
ENCODERS = {"clip_text", "clip_text_projected", "t5_encoder", "t5_v1_1_encoder"}
"""Compared by test_text_encoder_parity."""


def test_every_family_is_published_here():
    tested = {family_of(name) for name in PUBLISHED} | OTHER_FAMILIES | OF_MEDIA
    tested |= ENCODERS
    of_transformers = {one.name for one in FAMILIES if one.library == "transformers"}
    assert of_transformers - tested == set()  # Others: test_denoiser_parity.
    assert {model["tokenizer"] for model in PUBLISHED.values()} == set(TOKENIZERS)
    assert {family for family, _, _ in DIFFERENCES} - tested == {"*"}
    of_all = {(file, key) for family, file, key in DIFFERENCES if family == "*"}
    assert of_all == differing("gpt2") | differing("Llama-3.1-8B")


OF_TOKENIZER = {PUBLISHED[name]["tokenizer"]: name for name in sorted(PUBLISHED)}


@pytest.mark.parametrize("tokenizer", sorted(TOKENIZERS))
def test_transformers_makes_the_same_ids_and_masks(tokenizer):
    transformers = pytest.importorskip("transformers")
    given, back, codec = returned(OF_TOKENIZER[tokenizer])
    before, after = (transformers.AutoTokenizer.from_pretrained(str(f)) for f in (given, back))
    for text in TEXTS:
        assert before(text) == after(text), text
        ids = after(text, add_special_tokens=False)["input_ids"]
        assert ids == codec.encode(text).tolist(), text
        assert after.decode(ids, skip_special_tokens=True) == codec.decode(codec.encode(text))
        begun = [*begin_ids(codec), *ids]
        assert after(text)["input_ids"][: len(begun)] == begun, text
    assert after.eos_token_id in (None, *stop_ids(codec)) or tokenizer == "bert"
    if before.pad_token is None:
        before.pad_token = after.pad_token = before.eos_token
    both = [one(TEXTS, padding=True) for one in (before, after)]
    assert both[0]["input_ids"] == both[1]["input_ids"]
    assert both[0]["attention_mask"] == both[1]["attention_mask"]


@pytest.mark.parametrize("name", slow_but(FAST, sorted(PUBLISHED)))
def test_transformers_reads_the_same_configuration(name):
    transformers = pytest.importorskip("transformers")
    read = [
        transformers.AutoConfig.from_pretrained(str(place)).to_dict()
        for place in returned(name)[:2]
    ]
    for one in read:
        for key in ("dtype", "_name_or_path", "quantization_config"):
            one.pop(key, None)
    assert read[0] == read[1]
