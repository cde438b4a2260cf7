"""The model of gin/models/switch computes what transformers' Switch Transformer does."""

import dataclasses

import jax
import numpy as np
import pytest
from support.helpers import one_row, random_model, tiny_model

from jaxgen.batch import EncoderInput
from jaxgen.commands.models import load_model
from jaxgen.interchange.exporting import tensors_of
from jaxgen.interchange.families.t5 import T5
from jaxgen.interchange.tables import row
from jaxgen.models.parameters import named_parameters

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def peer_config(config):
    """Without a limit on what an expert takes, as our model in use has none."""
    layers, encoder = config.num_layers, config.encoder_stack.num_layers
    return transformers.SwitchTransformersConfig(
        vocab_size=config.vocab_size, d_model=config.embed_dim, d_kv=config.head_dim,
        d_ff=config.mlp_dim, num_heads=config.num_heads, num_layers=encoder,
        num_decoder_layers=layers, num_sparse_encoder_layers=encoder // config.moe.every,
        num_sparse_decoder_layers=layers // config.moe.every, num_experts=config.moe.num_experts,
        expert_capacity=10_000, dropout_rate=0.0, router_jitter_noise=0.0,
    )  # fmt: skip


def with_experts(stack):
    """T5's table of a stack, with experts."""
    mlp = "layer.1.mlp." if stack.ours == "encoder" else "layer.2.mlp."
    dense = [
        dataclasses.replace(one, theirs=one.theirs.replace("DenseReluDense", "mlp"))
        for one in stack.rows
    ]
    sparse = (
        row("feed_forward.router", f"{mlp}router.classifier.weight", "d e", "e d"),
        row("feed_forward.up", mlp + "experts.expert_{expert}.wi.weight", "d f", "f d"),
        row("feed_forward.down", mlp + "experts.expert_{expert}.wo.weight", "f d", "d f"),
    )
    return dataclasses.replace(stack, rows=(*dense, *sparse))


def test_logits_are_transformers_own():
    config = tiny_model("switch")
    model = random_model(config)
    family = dataclasses.replace(T5, stacks=tuple(with_experts(stack) for stack in T5.stacks))
    parameters = {name: parameter[...] for name, parameter in named_parameters(model)}
    peer = transformers.SwitchTransformersForConditionalGeneration(peer_config(config)).eval()
    tensors = tensors_of(family, config, parameters)
    tensors = {name: torch.tensor(np.asarray(value)) for name, value in tensors}
    left = peer.load_state_dict(tensors, strict=False)
    tied = {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    assert set(left.missing_keys) == tied and not left.unexpected_keys
    targets, source = (one_row(length, config.vocab_size, 2) for length in (16, 20))
    read = EncoderInput(source.tokens, source.positions, source.segment_ids)
    batch = dataclasses.replace(targets, encoder=read)
    ours = np.asarray(jax.jit(lambda m, b: m.logits(m(b).hidden))(model, batch))
    with torch.no_grad():
        ids = (torch.tensor(np.asarray(x)).long() for x in (source.tokens, targets.tokens))
        theirs = peer(input_ids=next(ids), decoder_input_ids=next(ids)).logits.numpy()
    assert np.abs(ours - theirs).max() < 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("name", ["switch/base_128", "switch/large_128"])
def test_the_exact_counts_are_those_of_transformers(name):
    config = load_model(name)
    with torch.device("meta"):
        peer = transformers.SwitchTransformersForConditionalGeneration(peer_config(config))
    peer.tie_weights()
    assert sum(p.numel() for p in peer.parameters()) == config.count().total
