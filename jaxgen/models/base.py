"""The protocol of a model's configuration, through which all other rooms know a model.

A model is a pytree, such as a `flax.nnx.Module`, that an objective knows how to call. Its
configuration is a frozen dataclass with these four methods, and can be bound in gin:

    @dataclasses.dataclass(frozen=True)
    class BigramConfig:
        vocab_size: int = 320

        def build(self, rngs, layout):
            return Bigram(self, rngs, layout)  # parameters by `parameters.make_parameter`

        def count(self):
            return ParameterCount(total=self.vocab_size**2, active=self.vocab_size)

        def flops(self, length, source_length=None):
            return 6 * self.vocab_size

        def batch_spec(self, *, batch_size, length, source_length=None):
            return token_batch_spec(batch_size, length)

A part that is not to be trained, such as a text encoder, is made with `parameters.freeze`.

A model around another, such as a policy with its reference, has it as `language_model`, and so has
its configuration; and it has `adopt(parent)`, which returns the model with a parent's parameters,
for a run that begins with a run of the inner model.

Two methods of the model itself are optional. `after_update(metrics)` returns the model after what
an optimiser's step does not do; `metrics` holds the step's means by name. `layout` is the static
attribute by which a loss that splits the vocabulary finds the rules.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
from flax import nnx

from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.checks import check_all_axes_split, check_layout
from jaxgen.sharding.layout import Layout


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """The numbers of parameters of a model.

    Attributes:
      total: all.
      active: those that compute one token: all but the experts a token is not sent to (where
        experts choose, on average), and the modules of multi-token prediction.
      embedding: the token, position, type and unembedding tables.
      head: those between the last block and the logits, and the logits' bias; those of a
        next-sentence head.
      multi_token: those of the modules that predict further tokens in training.
    """

    total: int
    active: int
    embedding: int = 0
    head: int = 0
    multi_token: int = 0

    @property
    def six_n_flops(self) -> int:
        """The approximation 6N of Kaplan et al. (2001.08361) of a token's training FLOPs."""
        return 6 * (self.active - self.embedding)


@runtime_checkable
class ModelConfig(Protocol):
    """Describes a model completely, apart from how it is split and compiled."""

    def build(self, rngs: nnx.Rngs, layout: Layout) -> Any:
        """Returns the model; under `jax.set_mesh` its parameters are born in their layout."""
        ...

    def count(self) -> ParameterCount:
        """Returns the exact numbers of parameters, without building anything."""
        ...

    def flops(self, length: int, source_length: int | None = None) -> int:
        """Returns the FLOPs of training (forward and backward) for a token of a row of `length`."""
        ...

    def batch_spec(self, *, batch_size: int, length: int, source_length: int | None = None) -> Any:
        """Returns the batch that the model reads, as `jax.ShapeDtypeStruct`.

        Raises:
          ConfigError: if the model cannot read rows of this length.
        """
        ...


def abstract_model(config: ModelConfig, layout: Layout | None = None) -> Any:
    """Returns the model's tree with shapes (and, under a mesh, layouts) but no memory."""
    layout = Layout() if layout is None else layout
    return jax.eval_shape(lambda: config.build(nnx.Rngs(0), layout))


def check_model_fits(config: ModelConfig, layout: Layout, mesh: jax.sharding.Mesh) -> None:
    """Raises ShardingError, naming the parameter, if the mesh does not divide it."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
        abstract = abstract_model(config, layout)
    arrays = [(name, p.shape, p.logical_axes) for name, p in named_parameters(abstract)]
    check_layout(arrays, layout.rules, dict(mesh.shape))
    check_all_axes_split([axes for *_, axes in arrays], layout.rules, dict(mesh.shape))


def language_model(model: Any) -> Any:
    """Returns what reads and writes text in a model, or in a configuration: itself or its inner."""
    return getattr(model, "language_model", model)
