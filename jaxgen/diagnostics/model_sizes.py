"""Models of other widths and depths, all else equal: the family of a configuration."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from jaxgen.errors import ConfigError
from jaxgen.models.config import TransformerConfig


def with_width(config: TransformerConfig, width: int) -> TransformerConfig:
    """Returns the model at another width: more heads of the same width, wider feed-forwards.

    A lone key and value head (MQA) stays alone; the number of experts stays the same.

    Raises:
      ConfigError: a part that is not a whole number at that width, or latent attention, whose
        ranks follow no width.
    """
    if config.latent is not None:
        raise ConfigError("model.latent has ranks that follow no width; vary the depth instead.")
    if config.encoder is not None:
        raise ConfigError("model.encoder has a width of its own; vary the depth instead.")
    factor = Fraction(width, config.embed_dim)

    def scaled(name: str, value: int) -> int:
        found = value * factor
        if found.denominator != 1:
            raise ConfigError(
                f"at the width {width}, model.{name}={value} of the width {config.embed_dim} would "
                f"be {float(found):g}; choose widths at which it is a whole number."
            )
        return int(found)

    moe = config.moe
    if moe is not None:
        shared = scaled("moe.shared_mlp_dim", moe.shared_mlp_dim)
        mlp_dim = scaled("moe.mlp_dim", moe.mlp_dim)
        moe = dataclasses.replace(moe, mlp_dim=mlp_dim, shared_mlp_dim=shared)
    kv_heads = config.num_kv_heads
    return dataclasses.replace(
        config,
        embed_dim=width,
        num_heads=scaled("num_heads", config.num_heads),
        num_kv_heads=kv_heads if kv_heads in (None, 1) else scaled("num_kv_heads", kv_heads),
        head_dim=config.width_of_head,
        mlp_dim=scaled("mlp_dim", config.mlp_dim),
        moe=moe,
    )


def with_depth(config: TransformerConfig, depth: int) -> TransformerConfig:
    """Returns the model at another depth, that of the encoder included if there is one."""
    own = config.encoder
    return dataclasses.replace(
        config,
        num_layers=depth,
        num_encoder_layers=depth if config.num_encoder_layers else 0,
        encoder=None if own is None else dataclasses.replace(own, num_layers=depth),
    )
