"""Models of other sizes keep their proportions."""

import dataclasses

import pytest

from jaxgen.configuration import load
from jaxgen.diagnostics.model_sizes import with_depth, with_width
from jaxgen.errors import ConfigError
from jaxgen.ops.moe_config import MoEConfig

MODEL = dataclasses.replace(
    load(["runs/quickstart.gin"]).model,
    num_kv_heads=2,
    moe=MoEConfig(num_experts=4, mlp_dim=96, shared_mlp_dim=32),
)


def test_a_wider_model_has_more_heads_and_wider_experts():
    wide = with_width(MODEL, 128)
    assert (wide.embed_dim, wide.num_heads, wide.kv_heads, wide.mlp_dim) == (128, 8, 4, 384)
    assert wide.width_of_head == MODEL.width_of_head == 16
    assert wide.moe is not None and (wide.moe.mlp_dim, wide.moe.shared_mlp_dim) == (192, 64)
    assert wide.moe.num_experts == 4
    assert with_width(dataclasses.replace(MODEL, num_kv_heads=1), 128).kv_heads == 1
    same = dataclasses.replace(MODEL, head_dim=16)
    assert with_width(MODEL, 64) == same


def test_depth_is_that_of_both_stacks():
    assert with_depth(MODEL, 6).num_layers == 6
    assert with_depth(MODEL, 6).num_encoder_layers == 0
    both = dataclasses.replace(MODEL, num_encoder_layers=2)
    assert with_depth(both, 6).num_encoder_layers == 6


def test_widths_that_do_not_divide_are_refused():
    words = r"at the width 72, model.num_heads=4 of the width 64 would be 4\.5"
    with pytest.raises(ConfigError, match=words):
        with_width(dataclasses.replace(MODEL, moe=None), 72)
