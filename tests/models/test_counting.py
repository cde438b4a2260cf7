"""Closed forms against the real tree and published numbers."""

import math

import jax
import pytest
from support.helpers import ALL_BIASES, tiny_dense, tiny_gpt2, tiny_moe

from jaxgen.models.base import abstract_model
from jaxgen.models.block_config import LayerConfig
from jaxgen.models.config import TransformerConfig
from jaxgen.models.counting import count_parameters
from jaxgen.models.parameters import named_parameters, number_of_parameters
from jaxgen.models.transformer import Transformer

CONFIGS = [
    tiny_dense(),
    tiny_gpt2(),
    tiny_dense(tie_embeddings=False, gated=False, num_kv_heads=1),
    tiny_moe(),
    tiny_moe(gated=False),
    tiny_dense(table_dim=16, layers=(LayerConfig(qk_norm="heads"),)),
    tiny_gpt2(table_dim=16, tie_embeddings=False, norm_placement="post"),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_equal_the_real_tree(config):
    model = abstract_model(config)
    count = count_parameters(config)
    assert count.total == number_of_parameters(model)
    tables = [
        p
        for name, p in named_parameters(model)
        if "embedding" in name and name != "embedding.widen"
    ]
    assert count.embedding == sum(math.prod(p.shape) for p in tables)
    experts = [p for _, p in named_parameters(model) if "experts" in p.logical_axes[:-1]]
    idle = 0
    if config.moe:
        share = 1 - config.moe.experts_per_token / config.moe.num_experts
        idle = round(share * sum(math.prod(p.shape) for p in experts))
    assert count.active == count.total - idle


def test_gpt2_and_llama_have_their_published_counts():
    gpt2 = TransformerConfig(
        num_layers=12, embed_dim=768, num_heads=12, vocab_size=50257, mlp_dim=3072, norm="layer",
        embedding_positions="learned", max_length=1024, activation="gelu_tanh", gated=False,
        biases=ALL_BIASES, layers=(LayerConfig(rope=None),),
    )  # fmt: skip
    assert count_parameters(gpt2).total == 124_439_808  # Hugging Face openai-community/gpt2
    llama = TransformerConfig(
        num_layers=32, embed_dim=4096, num_heads=32, vocab_size=32000, mlp_dim=11008,
        tie_embeddings=False,
    )  # fmt: skip
    assert count_parameters(llama).total == 6_738_415_616  # meta-llama/Llama-2-7b


def test_the_model_is_a_plain_pytree():
    model = abstract_model(tiny_dense())
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model))
    assert isinstance(jax.tree.map(lambda x: x, model), Transformer)
