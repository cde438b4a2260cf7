"""Parametrisations under which the settings of a small model serve its wider and deeper kin.

A family is trained at one base size and then grown: its widths (embed, heads, mlp) by m_d and its
depth by m_L. What must change with them is told, as sharding is, by the logical axes of each
parameter. A side of a matrix grows if one of its axes is `embed`, `heads`, `kv_heads` or `mlp`;
`vocab`, experts, layers, the width of a head and axes without a name do not.

                        initial stddev   rate      decay   epsilon      of
  input, vectors        as the base's    1         1       1 / m_d      tables, norms, biases
  hidden matrices       / sqrt(m_d)      1 / m_d   m_d     1 / m_d      queries, up, down ...
  output matrices       / m_d            1 / m_d   m_d     1            routers, a lone key head
  neither side grows    as the base's    1         1       1            norms of heads, logit bias

  forward: hidden / m_d before the logits; attention's logits q k sqrt(base head) / head.

The rows are those of Tensor Programs V (2203.03466, tables 3 and 8): epsilon follows the size of
the gradient's entries, and decay keeps rate * decay, as muP's own AdamW does for coupled decay and
CompleteP does. The unembedding is held in the form of table 8, a parameter that begins and learns
like an input and whose logits are divided by m_d; so the tied table has one rule, and the untied
one the same. CompleteP (2505.01618, table 1 and equation 40, alpha = 1) adds, of depth:

  forward: what a block adds to the stream / m_L; epsilon of all within the blocks / m_L; rates
  m_L^(alpha - 1) = 1; projections back to the stream begin as at the base's depth.

At m_d = m_L = 1 every factor is exactly 1, and the model and its training are the standard ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from jaxgen.domains import PositiveInt, check_domains
from jaxgen.errors import ConfigError

GROWING = ("embed", "heads", "kv_heads", "mlp")
STACKED = ("layers", "experts")

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Multipliers:
    """Multipliers scale AdamW's settings for one parameter."""

    learning_rate: float = 1.0
    weight_decay: float = 1.0
    epsilon: float = 1.0


@dataclasses.dataclass(frozen=True)
class Parametrization:
    """A parametrization derives a model and its training from those of a base of another size.

    All widths are taken to grow by the same factor, embed_dim / base_embed_dim.

    Attributes:
      kind: "mup" (2203.03466), of width alone, or "completep" (2505.01618), of width and depth.
      base_embed_dim: the width at which the settings were found.
      base_num_layers: the depth at which they were found; of "completep" alone.
      base_head_dim: the width of a head there; None: heads do not change.
      zero_readout: whether an untied unembedding begins at zero, which takes away what the logits
        of small models are by chance (2203.03466, appendix D.2).
    """

    kind: Literal["mup", "completep"]
    base_embed_dim: PositiveInt
    base_num_layers: PositiveInt | None = None
    base_head_dim: PositiveInt | None = None
    zero_readout: bool = False

    def __post_init__(self):
        check_domains(self, "parametrization")
        if (self.kind == "completep") != (self.base_num_layers is not None):
            raise ConfigError(
                f"parametrization.base_num_layers={self.base_num_layers} with "
                f"parametrization.kind={self.kind!r}: 'completep' needs the base's depth, and "
                "'mup' has no rule for depth; give it or leave it out accordingly."
            )

    def width(self, embed_dim: int) -> float:
        """Returns m_d, how much wider than the base."""
        return embed_dim / self.base_embed_dim

    def depth(self, num_layers: int) -> float:
        """Returns m_L, how much deeper than the base; 1 where depth has no rule."""
        return 1.0 if self.base_num_layers is None else num_layers / self.base_num_layers

    def initial_layers(self, num_layers: int) -> int:
        """Returns the depth that projections back to the stream are initialised by."""
        return num_layers if self.base_num_layers is None else self.base_num_layers

    def initial_head(self, head_dim: int) -> int:
        """Returns the width of a head at the base."""
        return head_dim if self.base_head_dim is None else self.base_head_dim

    def initial_factor(self, axes: Axes, embed_dim: int) -> float:
        """Returns what the base's standard deviation is multiplied by."""
        n_in, n_out = grows(axes)
        if not n_in:
            return 1.0
        return self.width(embed_dim) ** (-0.5 if n_out else -1.0)

    def multipliers(self, axes: Axes, embed_dim: int, num_layers: int) -> Multipliers:
        """Returns those of a parameter with these axes, "layers" among them if it is of a block."""
        n_in, n_out = grows(axes)
        width, depth = self.width(embed_dim), self.depth(num_layers)
        rate = 1 / width if n_in else 1.0
        epsilon = (1 / width if n_out else 1.0) / (depth if "layers" in axes else 1.0)
        return Multipliers(rate, 1 / rate, epsilon)


def grows(axes: Axes) -> tuple[bool, bool]:
    """Returns whether the side a parameter sums over grows with width, and the side it gives.

    Tables, whose rows are looked up or (the unembedding) divided by m_d as a whole, have no side
    to sum over; nor have vectors. (embed, heads, head_dim) goes from embed to heads, and
    (heads, head_dim, embed) from heads to embed.
    """
    inner = [axis for axis in axes if axis not in STACKED]
    is_vector = len(inner) == 1 or (len(inner) == 2 and inner[1] == "head_dim")
    if is_vector or inner[0] in ("vocab", None):
        return False, any(axis in GROWING for axis in inner)
    first = 2 if inner[1] == "head_dim" else 1
    sides = inner[:first], inner[first:]
    n_in, n_out = (any(axis in GROWING for axis in side) for side in sides)
    return n_in, n_out


def check(parametrization: Parametrization, config: Any) -> None:
    """Refuses parts of a model that no rule is known for.

    Raises:
      ConfigError: naming the field.
    """
    where = f"model.parametrization (kind={parametrization.kind!r})"
    for name, why in (
        ("latent", "no paper tells whether its ranks grow"),
        ("table_dim", "no paper tells whether the table grows"),
        ("output_transform", "its matrix is of no kind that the axes tell"),
        ("pooler", "its matrix is of no kind that the axes tell"),
        ("mtp_depth", "no paper tells how its projection grows"),
    ):
        if getattr(config, name):
            raise ConfigError(
                f"{where} has no rule for model.{name}: {why}; leave one of them out."
            )
    if parametrization.zero_readout and config.tie_embeddings:
        raise ConfigError(
            "model.parametrization.zero_readout=True would begin a tied embedding at zero; set "
            "model.tie_embeddings=False or leave it out."
        )
    if parametrization.kind == "mup":
        return
    if config.norm_placement == "post":
        raise ConfigError(
            f"{where} divides what is added to a stream that no norm resets; "
            "model.norm_placement='post' does; use 'pre', 'both' or 'output'."
        )
    if config.num_encoder_layers:
        raise ConfigError(
            f"{where} knows one depth, and model.num_encoder_layers="
            f"{config.num_encoder_layers} is a second; use kind='mup'."
        )
