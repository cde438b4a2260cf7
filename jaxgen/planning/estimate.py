"""Memory and time of a step by arithmetic: what layouts are sorted by before any is compiled.

The memory of the state is exact. That of activations (2205.05198, section 4) and the times (the
rules of rings, as in `roofline`) are those of a transformer: they say which layouts are worth a
compilation, and do not replace it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax

from jaxgen.errors import ShardingError
from jaxgen.models.base import abstract_model, language_model
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.cross_entropy import POSITIONS_AT_A_TIME
from jaxgen.planning.topology import Topology
from jaxgen.runs.config import RunConfig
from jaxgen.sharding.checks import axis_names, check_all_axes_split, check_layout
from jaxgen.sharding.mesh import MESH_AXES
from jaxgen.training.execution import ExecutionConfig
from jaxgen.training.freezing import with_frozen
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import trained

_HALF, _SINGLE = 2, 4  # bytes of what is computed with, and of what is kept
_KEPT_OF_A_BLOCK = {"full": 1.0, "dots": 8.0, "none": 17.0}
"""Values of the stream's width that the backward pass needs of a block and a token."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a search chooses of an execution.

    Attributes:
      sizes: of the mesh axes, in the order of MESH_AXES.
      remat: the policy of rematerialisation.
      accumulation: microbatches of a step.
    """

    sizes: tuple[int, ...]
    remat: str
    accumulation: int

    @property
    def mesh(self) -> dict[str, int]:
        """The size of every mesh axis."""
        return dict(zip(MESH_AXES, self.sizes, strict=True))

    @property
    def settings(self) -> dict[str, Any]:
        """The choice as bindings of a configuration."""
        mesh = {f"mesh.{axis}": size for axis, size in self.mesh.items()}
        return mesh | {
            "execution.remat": self.remat,
            "execution.accumulation": self.accumulation,
        }

    def flags(self, before: Choice) -> str:
        """Returns the flags of a command that make this choice of an earlier one."""
        was = before.settings
        changed = {name: value for name, value in self.settings.items() if value != was[name]}
        return " ".join(f"--gin.{name}={value}" for name, value in changed.items())


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate of one device's step.

    Attributes:
      state: bytes of parameters, optimiser state and averages.
      temporaries: bytes of gradients, activations, gathered weights and the loss's table.
      compute: seconds of the operations, recomputed ones included.
      by_axis: seconds of the collectives over each mesh axis.
    """

    state: float
    temporaries: float
    compute: float
    by_axis: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """The time of a step in which what is shorter of work and collectives is half hidden."""
        waiting = sum(self.by_axis.values())
        return max(self.compute, waiting) + 0.5 * min(self.compute, waiting)


class Estimator:
    """Estimates a run's step for choices on one topology."""

    def __init__(self, config: RunConfig, topology: Topology, execution: ExecutionConfig):
        self.config, self.topology, self.rules = config, topology, execution.rules
        with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
            model = abstract_model(config.model)
            optimizer = build_optimizer(config.train.optimizer, lambda step: 1e-3, config.model)
            left = trained(with_frozen(model, config.train.freeze))
            moments = jax.eval_shape(optimizer.init, left)
        self.arrays = [(name, p.shape, p.logical_axes) for name, p in named_parameters(model)]
        total = sum(math.prod(shape) for _, shape, _ in self.arrays)
        on_devices = [] if execution.offload_optimizer else jax.tree.leaves(moments)
        kept = sum(math.prod(x.shape) * x.dtype.itemsize for x in on_devices)
        self.state_bytes = _SINGLE * (2 if config.train.ema_decay else 1) + kept / total

    @property
    def has_experts(self) -> bool:
        """Whether a parameter is split over the experts' axis."""
        return any("experts" in logical for *_, logical in self.arrays)

    def refusal(self, choice: Choice) -> str | None:
        """Returns why the mesh cannot split the run so; None if it can."""
        train, mesh = self.config.train, choice.mesh
        rows = math.prod(mesh[axis] for axis in axis_names(self.rules.batch))
        places = math.prod(mesh[axis] for axis in axis_names(self.rules.length))
        if train.batch_size % choice.accumulation:
            return f"{train.batch_size} rows are not {choice.accumulation} microbatches"
        if (train.batch_size // choice.accumulation) % rows or train.length % places:
            return "the mesh does not divide a microbatch"
        if mesh["stage"] > 1:
            return "the arithmetic knows no pipeline stages"
        try:
            check_layout(self.arrays, self.rules, mesh)
            check_all_axes_split([axes for *_, axes in self.arrays], self.rules, mesh)
        except ShardingError as error:
            return str(error)
        return None

    def of(self, choice: Choice) -> Estimate:
        """Returns the estimate of a choice that `refusal` accepts."""
        train, mesh = self.config.train, choice.mesh
        model: Any = language_model(self.config.model)
        stored, gathered = self._parameters(mesh, True), self._parameters(mesh, False)
        rows = train.batch_size / choice.accumulation
        rows /= math.prod(mesh[axis] for axis in axis_names(self.rules.batch))
        width, layers = getattr(model, "embed_dim", 0), getattr(model, "num_layers", 1)
        tokens = rows * self.config.rows_per_example * train.length / mesh["sequence"]
        stream = _HALF * tokens * width
        inner = _HALF * tokens * getattr(model, "mlp_dim", 0) / mesh["tensor"]
        vocab = getattr(model, "vocab_size", 0) / mesh["tensor"]
        temporaries = (
            _SINGLE * stored
            + layers * stream * _KEPT_OF_A_BLOCK[choice.remat]
            + 2 * _HALF * gathered / layers
            # The table and its gradient; the logits of a block and their gradient.
            + (_HALF + _SINGLE) * vocab * (width + min(tokens, POSITIONS_AT_A_TIME))
            + 4 * (stream + inner)
        )
        again = 1 if choice.remat == "full" else 0
        flops = (
            train.batch_size
            * self.config.rows_per_example
            * train.length
            * self.config.model.flops(train.length)
            * (1 + again / 3)
        )
        peak = self.topology.chip.peak_flops or math.inf
        return Estimate(
            state=self.state_bytes * stored,
            temporaries=temporaries,
            compute=flops / (peak * self.topology.chips),
            by_axis=self._times(choice, stored, gathered, stream, tokens, again),
        )

    def _parameters(self, mesh: Mapping[str, int], is_stored: bool) -> float:
        """Returns the parameters of a device as they are kept, or as they compute."""
        total = 0.0
        for _, shape, logical in self.arrays:
            axes = {name for axis in logical for name in axis_names(self.rules.mesh_axes(axis))}
            parts = math.prod(mesh[axis] for axis in axes if is_stored or axis != "fsdp")
            total += math.prod(shape) / parts
        return total

    def _times(
        self,
        choice: Choice,
        stored: float,
        gathered: float,
        stream: float,
        tokens: float,
        again: int,
    ) -> dict[str, float]:
        model: Any = language_model(self.config.model)
        layers, moe = getattr(model, "num_layers", 1), getattr(model, "moe", None)
        key_values = _HALF * tokens * 2 * getattr(model, "kv_heads", 0)
        key_values *= getattr(model, "width_of_head", 0)
        sent = {
            # Gathered in each forward pass, which the backward pass keeps; the gradient scattered.
            "fsdp": _HALF * gathered * (1 + again + 1),
            "data": 2 * _SINGLE * stored,
            # Two sums of the stream in each pass of a block; each is a scatter and a gather.
            "tensor": layers * 2 * 2 * stream * (2 + again),
            "sequence": layers * key_values * choice.mesh["sequence"] * (2 + again),
            "expert": layers * 2 * stream * (2 + again) * (moe.experts_per_token if moe else 0),
        }
        return {
            axis: choice.accumulation * sent[axis] * (size - 1) / size / self._bandwidth(size)
            for axis, size in choice.mesh.items()
            if size > 1
        }

    def _bandwidth(self, size: int) -> float:
        """Returns the bytes per second of the links of an axis that lies along the torus."""
        chip, spanned, covered = self.topology.chip, 0, 1
        for length in sorted(self.topology.shape, reverse=True):
            if covered < size:
                spanned += 2 if length <= size // covered and length % chip.wraps_at == 0 else 1
                covered *= length
        return (chip.link_bandwidth or math.inf) * max(1, spanned)
