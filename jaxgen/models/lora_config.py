"""The configuration of low-rank adapters, which wraps that of the model that they tune."""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import jax

from jaxgen.domains import PositiveFloat, PositiveInt, ProperFraction, check_domains
from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, ParameterCount, abstract_model, language_model
from jaxgen.models.parameters import named_parameters

if TYPE_CHECKING:
    from flax import nnx

    from jaxgen.models.lora import Lora
    from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters of a model whose own parameters are frozen (LoRA, 2106.09685).

    A target W, with inputs and outputs of any number of axes, becomes W + alpha / rank * A B, where
    it is used; B begins at zero. A run that begins with a run or an import of the bare model
    (`run.initialize_from`) tunes its parameters.

    Attributes:
      model: what is adapted.
      rank: the width between A and B.
      alpha: what their product is multiplied by, times the rank.
      targets: patterns of matrices' names, or of their logical axes as `jaxgen models show` prints
        them without "layers": "*attention.query", "embed heads*"; `*` stands for anything. Vectors
        and matrices of which a side has no name are left out.
      dora: whether the norm of each column is trained by itself, and the adapters its direction
        alone (DoRA, 2402.09353).
      dropout: the share of what the adapters read that a training pass leaves out, an entry of each
        token by itself; the frozen matrix reads all of it.
    """

    model: ModelConfig
    rank: PositiveInt
    alpha: PositiveFloat = 16.0
    targets: tuple[str, ...] = ("*attention.*", "*feed_forward.*")
    dora: bool = False
    dropout: ProperFraction = 0.0

    def __post_init__(self):
        check_domains(self, "lora")
        if hasattr(self.model, "language_model"):
            raise ConfigError(
                f"lora.model is {type(self.model).__name__}, which wraps another model: adapt the "
                "bare one, lora.model = @model(), and let the other wrap @lora()."
            )
        if getattr(self.model, "parametrization", None) is not None:
            raise ConfigError(
                "model.parametrization has no rule for how adapters' rates change with width; set "
                "it to None in lora.model."
            )
        if self.dropout:
            self._check_dropout()

    def _check_dropout(self) -> None:
        for name, one in _adapted_shapes(self.model, self.targets).items():
            in_blocks = name.split(".")[0] in ("stack", "encoder", "mtp") and ".blocks." in name
            if not in_blocks or one.is_expert:
                raise ConfigError(
                    f"lora.dropout={self.dropout} is of what a block's own matrices read, and "
                    f"lora.targets include {name}, which "
                    f"{'is of experts' if one.is_expert else 'is outside of the blocks'}; leave it "
                    "out of the targets, or set lora.dropout = 0."
                )

    @property
    def language_model(self) -> ModelConfig:
        """The configuration of what is evaluated, sampled from and exported."""
        return language_model(self.model)

    @property
    def base(self) -> ModelConfig:
        """The configuration of the frozen model."""
        return self.model

    @property
    def scale(self) -> float:
        """On the product of the adapters."""
        return self.alpha / self.rank

    @property
    def adapted_names(self) -> frozenset[str]:
        """Dotted names, in the model, of the matrices that have adapters.

        Raises:
          ConfigError: a pattern matches none.
        """
        return frozenset(_adapted_shapes(self.model, self.targets))

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Lora:
        """Returns the model."""
        from jaxgen.models.lora import Lora

        return Lora(self, rngs, layout)

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters, the frozen ones included."""
        base = self.model.count()
        total, active = 0, Fraction(0)
        for one in _adapted_shapes(self.model, self.targets).values():
            each = self.rank * (one.inputs + one.outputs) + self.dora * one.outputs
            total, active = (
                total + one.stacked * each,
                active + one.active_share * one.stacked * each,
            )
        return dataclasses.replace(
            base, total=base.total + total, active=base.active + round(active)
        )

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training for a token of a row of `length`.

        A frozen matrix without adapters has no gradient, a third of its operations; one with them
        has a whole one, of which theirs are products. Those products and the merging are of a
        matrix and step, 6 * rank * its size, and of no token. With dropout adapters are multiplied
        by themselves, and the frozen matrix has no gradient (DoRA multiplies by it twice).
        """
        whole = self.model.flops(length, source_length)
        # Of a token's operations attention's alone grow with the length, and in proportion.
        twice_source = None if source_length is None else 2 * source_length
        of_weights = 2 * whole - self.model.flops(2 * length, twice_source)
        adapted = sum(
            one.active_share * one.stacked * self._extra_flops(one)
            for one in _adapted_shapes(self.model, self.targets).values()
        )
        return round(whole - Fraction(of_weights, 3) + adapted)

    def _extra_flops(self, one: _Matrix) -> int:
        """Returns what a token costs beside the forward and backward pass of a frozen matrix."""
        product = 2 * one.inputs * one.outputs
        if not self.dropout:
            return product
        return 6 * self.rank * (one.inputs + one.outputs) + self.dora * 2 * product

    def batch_spec(self, *, batch_size: int, length: int, source_length: int | None = None) -> Any:
        """Returns the shapes of the batch that the model reads."""
        return self.model.batch_spec(
            batch_size=batch_size, length=length, source_length=source_length
        )


@dataclasses.dataclass(frozen=True)
class _Matrix:
    """Sizes of matrices of one name, and the share of them that a token meets."""

    stacked: int
    inputs: int
    outputs: int
    active_share: Fraction
    is_expert: bool


@functools.lru_cache(maxsize=64)
def _adapted_shapes(model: ModelConfig, targets: tuple[str, ...]) -> dict[str, _Matrix]:
    from jaxgen.models.adapters import is_adaptable, split_axes
    from jaxgen.models.naming import matching

    # Shapes alone are asked for, whatever the mesh in force divides.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        abstract = abstract_model(model)
    matrices = {name: one for name, one in named_parameters(abstract) if is_adaptable(one)}
    described = {
        name: (name, " ".join(str(axis) for axis in one.logical_axes if axis != "layers"))
        for name, one in matrices.items()
    }
    names = matching("lora.targets", targets, described, "matrix")
    moe = getattr(model, "moe", None)
    visited = Fraction(1) if moe is None else moe.visits / moe.num_experts
    shapes = {}
    for name in names:
        axes, shape = matrices[name].logical_axes, matrices[name].shape
        stacked, inputs, _ = split_axes(axes)
        shapes[name] = _Matrix(
            math.prod(shape[:stacked]),
            math.prod(shape[stacked : stacked + inputs]),
            math.prod(shape[stacked + inputs :]),
            visited if "experts" in axes else Fraction(1),
            "experts" in axes,
        )
    return shapes
