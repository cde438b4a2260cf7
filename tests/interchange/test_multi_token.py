"""The modules of multi-token prediction in the files of DeepSeek-V3, its layer 61."""

import dataclasses
import json

import numpy as np
import pytest
from interchange.test_round_trip import assert_equal
from safetensors.numpy import load_file, save_file
from support.helpers import random_model, tiny_dense
from support.interchange_tiny import CONFIGS

from jaxgen.errors import InterchangeError
from jaxgen.interchange.configs import find_family, read_config
from jaxgen.interchange.exporting import choose_family, export_model
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters


@pytest.fixture(scope="module")
def model():
    values = CONFIGS["deepseek_v3"]
    config = read_config(find_family(FAMILIES, values), values)
    return random_model(dataclasses.replace(config, mtp_depth=1))


def exported(model, folder, change=lambda tensors: tensors):
    """The folder as DeepSeek publishes it: the module repeats the embedding and the head."""
    export_model(model, folder, choose_family(model.config))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.3.embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.3.shared_head.head.weight"] = tensors["lm_head.weight"]
    save_file(change(tensors), path)
    return tensors


def test_a_module_comes_back_and_its_tensors_have_their_published_names(model, tmp_path):
    tensors = exported(model, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "config.json").read_text())
    assert values["num_nextn_predict_layers"] == 1
    opened = open_checkpoint(tmp_path / "out")
    assert opened.config.mtp_depth == 1
    assert_equal(model, load_model(opened))
    layers = [
        {
            n.removeprefix(f"model.layers.{i}.")
            for n in tensors
            if n.startswith(f"model.layers.{i}.")
        }
        for i in (2, 3)
    ]
    assert layers[1] - layers[0] == {
        "embed_tokens.weight", "enorm.weight", "hnorm.weight", "eh_proj.weight",
        "shared_head.norm.weight", "shared_head.head.weight",
    }  # fmt: skip
    # The authors' own code joins the embedding and the hidden state in this order.
    named = {name: np.asarray(p[...]) for name, p in named_parameters(model)}
    joined = np.concatenate([named["mtp.0.from_embedding"], named["mtp.0.from_hidden"]])
    np.testing.assert_array_equal(tensors["model.layers.3.eh_proj.weight"], joined.T)


def test_a_file_that_has_lost_its_module_is_the_model_without(model, tmp_path):
    """As transformers saves it: what config.json says stays, and the layer is gone."""

    def without(tensors):
        return {n: x for n, x in tensors.items() if not n.startswith("model.layers.3.")}

    exported(model, tmp_path / "out", without)
    opened = open_checkpoint(tmp_path / "out")
    assert opened.config.mtp_depth == 0
    found = dict(named_parameters(load_model(opened)))
    for name, parameter in named_parameters(model):
        if not name.startswith("mtp."):
            np.testing.assert_array_equal(parameter[...], found.pop(name)[...])
    assert not found


def test_a_module_with_a_head_of_its_own_is_refused(model, tmp_path):
    def other(tensors):
        return tensors | {"model.layers.3.shared_head.head.weight": tensors["lm_head.weight"] + 1}

    exported(model, tmp_path / "out", other)
    with pytest.raises(InterchangeError, match=r"shared_head.* should repeat lm_head\.weight"):
        load_model(open_checkpoint(tmp_path / "out"))


def test_a_family_without_modules_has_the_model_without_them(tmp_path):
    config = dataclasses.replace(tiny_dense(tie_embeddings=False), mtp_depth=1)
    model = random_model(config)
    family = export_model(model, tmp_path / "out", choose_family(config))
    assert family.name == "llama"
    found = dict(named_parameters(load_model(open_checkpoint(tmp_path / "out"))))
    kept = {n: p for n, p in named_parameters(model) if not n.startswith("mtp.")}
    assert found.keys() == kept.keys()
    for name, parameter in kept.items():
        np.testing.assert_array_equal(parameter[...], found[name][...])
