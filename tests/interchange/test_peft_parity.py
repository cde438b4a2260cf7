"""Adapters of PEFT compute what PEFT computes, read from its folders and written to them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import peft
import torch
from safetensors.numpy import load_file
from support.helpers import one_row
from support.interchange_peers import make_peer, save_peer

from jaxgen.errors import InterchangeError
from jaxgen.interchange.exporting import export_model
from jaxgen.interchange.importing import open_checkpoint
from jaxgen.interchange.peft import export_adapter, load_adapted, open_adapter
from jaxgen.models.adapters import AdaptedParameter

TOLERANCE = 2e-5
KINDS = {
    "lora": {"target_modules": "all-linear"},
    "some": {"target_modules": ["q_proj", "v_proj", "down_proj"], "use_rslora": True},
    "one_layer": {"target_modules": ["model.layers.1.mlp.up_proj", "model.layers.0.mlp.up_proj"]},
    "dora": {"target_modules": "all-linear", "use_dora": True},
}


def make_adapted(family, **settings):
    """PEFT's model around a tiny one, all that it trains moved from where it began."""
    base = make_peer(family)
    config = peft.LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **settings)
    model = peft.get_peft_model(base, config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def save_both(folder, family, **settings):
    save_peer(make_peer(family), folder / "base")
    model = make_adapted(family, **settings)
    model.save_pretrained(folder / "adapter")
    return model


def logits_of_peer(model, row):
    with torch.no_grad():
        return model(torch.tensor(np.asarray(row.tokens))).logits.numpy()


def logits_of(model, row):
    model = getattr(model, "language_model", model)
    return np.asarray(jax.jit(lambda model: model.logits(model(row).hidden))(model))


def assert_alike(found, expected):
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_adapters_go_both_ways(family, kind, tmp_path):
    model, row = save_both(tmp_path, family, **KINDS[kind]), one_row(12, 96, 2)
    checkpoint = open_checkpoint(tmp_path / "base")
    adapter = open_adapter(tmp_path / "adapter", checkpoint)
    ours = load_adapted(checkpoint, adapter)
    expected = logits_of_peer(model, row)
    with model.disable_adapter():
        bare = logits_of_peer(model, row)
    assert np.abs(expected - bare).max() > 0.1
    assert_alike(logits_of(ours, row), expected)
    assert_alike(logits_of(ours.without_adapters(), row), bare)
    export_adapter(ours, tmp_path / "again", checkpoint.family)
    theirs, again = (load_file(tmp_path / one / "adapter_model.safetensors")
                     for one in ("adapter", "again"))  # fmt: skip
    assert theirs.keys() == again.keys()
    for name in theirs:
        np.testing.assert_array_equal(theirs[name], again[name], err_msg=name)
    read = peft.PeftModel.from_pretrained(make_peer(family), tmp_path / "again").eval()
    assert_alike(logits_of_peer(read, row), expected)
    # Merged by PEFT, and by us.
    merged = ours.merged()
    assert_alike(logits_of(merged, row), logits_of_peer(model.merge_and_unload(), row))
    export_model(ours.language_model, tmp_path / "merged", checkpoint.family)
    export_model(merged, tmp_path / "whole", checkpoint.family)
    found, whole = (load_file(tmp_path / one / "model.safetensors") for one in ("merged", "whole"))
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)


def test_gradients_of_dora_are_pefts(tmp_path):
    """The norm of the merged columns has no gradient, as PEFT has it."""
    model, row = save_both(tmp_path, "llama", **KINDS["dora"]), one_row(12, 96, 2)
    checkpoint = open_checkpoint(tmp_path / "base")
    ours = load_adapted(checkpoint, open_adapter(tmp_path / "adapter", checkpoint))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    logits = model(torch.tensor(np.asarray(row.tokens))).logits
    torch.sin(logits).sum().backward()
    theirs = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}

    def total(ours):
        model = ours.language_model
        return jnp.sum(jnp.sin(model.logits(model(row).hidden)))

    gradients = jax.jit(jax.grad(total))(ours)
    nodes = jax.tree.leaves(gradients, is_leaf=lambda x: isinstance(x, AdaptedParameter))
    assert sum(isinstance(one, AdaptedParameter) for one in nodes) == 7
    attention = gradients.language_model.stack.groups[0].blocks[0].attention
    for layer in range(2):
        at = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora"
        a, b = attention.query.a[layer], attention.query.b[layer]
        norms = attention.query.magnitude[layer]
        for found, name in (
            (a.T, f"{at}_A.default.weight"),
            (b.reshape(4, -1).T, f"{at}_B.default.weight"),
            (norms.reshape(-1), f"{at}_magnitude_vector.default.weight"),
        ):
            scale = np.abs(theirs[name]).max()
            np.testing.assert_allclose(found, theirs[name], atol=1e-4 * scale, err_msg=name)


def mask_of(shape):
    """What is kept of a product's input, by its shape alone, so that both drop the same."""
    return np.random.default_rng(shape[-1]).random(shape, np.float32) >= 0.25


class SameDropout(torch.nn.Module):
    def forward(self, x):
        return x * torch.tensor(mask_of(tuple(x.shape)) / np.float32(0.75))


@pytest.mark.parametrize("dora", [False, True])
def test_a_training_pass_drops_what_adapters_read_as_pefts_does(dora, tmp_path, monkeypatch):
    """The same draws: logits of a training pass, and the gradients of A and B."""
    settings = {"target_modules": "all-linear", "use_dora": dora, "lora_dropout": 0.25}
    model, row = save_both(tmp_path, "llama", **settings), one_row(12, 96, 2)
    checkpoint = open_checkpoint(tmp_path / "base")
    adapter = open_adapter(tmp_path / "adapter", checkpoint)
    ours = load_adapted(checkpoint, adapter)
    assert adapter.config.dropout == 0.25
    export_adapter(ours, tmp_path / "again", checkpoint.family)
    again = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert again["lora_dropout"] == 0.25
    assert_alike(logits_of(ours, row), logits_of_peer(model, row))
    model.train()
    for name, module in model.named_modules():
        if name.endswith("lora_dropout"):
            module["default"] = SameDropout()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    logits = model(torch.tensor(np.asarray(row.tokens))).logits
    torch.sin(logits).sum().backward()

    def same_dropout(x, rate, key):
        assert rate == 0.25 and key is not None
        return x * jnp.asarray(mask_of(x.shape)) / 0.75

    monkeypatch.setattr("jaxgen.models.adapter_dropout.dropout", same_dropout)

    def total(ours):
        model = ours.language_model
        found = model.logits(model(row, key=jax.random.key(0)).hidden)
        return jnp.sum(jnp.sin(found)), found

    gradients, found = jax.jit(jax.grad(total, has_aux=True))(ours)
    assert_alike(found, logits.detach().numpy())
    theirs = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    block = gradients.language_model.stack.groups[0].blocks[0]
    for part, at in (
        (block.attention.query, "self_attn.q_proj"),
        (block.attention.out, "self_attn.o_proj"),
        (block.feed_forward.down, "mlp.down_proj"),
    ):
        for layer in range(2):
            name = f"base_model.model.model.layers.{layer}.{at}.lora"
            for array, of in ((part.a, "A"), (part.b, "B")):
                expected = theirs[f"{name}_{of}.default.weight"].T
                array = np.asarray(array[layer]).reshape(expected.shape)
                scale = np.abs(expected).max()
                np.testing.assert_allclose(array, expected, atol=1e-4 * scale, err_msg=name)


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    save_both(tmp_path, "llama", **KINDS["some"])
    checkpoint, path = open_checkpoint(tmp_path / "base"), tmp_path / "adapter/adapter_config.json"
    good = json.loads(path.read_text())
    for changes, said in (
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern=.*merge_and_unload"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"bias": "all"}, "bias='all'"),
        ({"r": "four"}, "adapter_config.json: r"),
        ({"r": 8}, "of another shape"),
    ):
        path.write_text(json.dumps(good | changes))
        with pytest.raises(InterchangeError, match=said):
            load_adapted(checkpoint, open_adapter(tmp_path / "adapter", checkpoint))
