"""The coordinate check (2203.03466, appendix D.1): do activations keep their size as models grow?

A model of each width is trained for a few steps on one batch, and the mean |activation| of every
module's output is taken before each step. Under muP the logarithm of that mean is flat in the
logarithm of the width, once training has begun; under the standard parametrisation some module's
grows. Over depth (2505.01618, figure 7) it is the last block and the logits that are compared: what
an early block finds in the stream is less, the more blocks there are.

The modules report their outputs to a tap (`ops/taps.py`) that is open while the model is traced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch
from jaxgen.models.config import TransformerConfig
from jaxgen.models.transformer import Transformer
from jaxgen.objectives.base import Objective
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.taps import open_tap
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.base import Optimizer
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import initial_state
from jaxgen.training.step import make_train_step

Sizes = dict[str, float]
"""The mean |activation| of every module's output, by name."""


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """The measured activations of models of several sizes.

    Attributes:
      sizes: the widths or depths, ascending.
      names: of the modules that all sizes have, sorted.
      means: [sizes, seeds, steps + 1, modules], mean |activation|; the first is before training.
    """

    sizes: tuple[int, ...]
    names: tuple[str, ...]
    means: np.ndarray

    def slopes(self, step: int) -> dict[str, float]:
        """Returns the slope of log mean |activation| in log size after `step` steps, by module.

        Means are taken over seeds first. A module whose output is zero at some size (a readout of
        zeros) has no slope: nan.
        """
        values = self.means[:, :, step].mean(axis=1)
        x = np.log(np.asarray(self.sizes, np.float64))
        x = x - x.mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = x @ np.log(values) / (x @ x)
        slopes = np.where((values > 0).all(axis=0), slopes, np.nan)
        return dict(zip(self.names, slopes.tolist(), strict=True))

    def flagged(self, step: int, threshold: float = 0.1) -> dict[str, float]:
        """Returns the slopes of the modules whose slope is steeper than `threshold` either way.

        The default is our choice: over four doublings it is a factor of 1.3.
        """
        return {n: s for n, s in self.slopes(step).items() if abs(s) > threshold}


def check_coordinates(
    config_of: Callable[[int], TransformerConfig],
    sizes: Sequence[int],
    batch: Batch,
    steps: int = 5,
    learning_rate: float = 1e-2,
    seeds: Iterable[int] = (0,),
    optimizer: Optimizer = AdamW(weight_decay=0.0),
    objective: Objective | None = None,
) -> Coordinates:
    """Trains models of several sizes on one batch and measures their activations.

    Args:
      config_of: gives the model of a size; sizes should differ in width, or in depth, alone.
      sizes: widths or depths.
      batch: trained on at every step.
      steps: how many steps.
      learning_rate: constant; where there is a parametrisation, that of its base.
      seeds: seeds of the parameters.
      optimizer: AdamW without decay by default.
      objective: minimised; next-token prediction by default.
    """
    objective = NextToken() if objective is None else objective
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    sizes, seeds = tuple(sorted(sizes)), tuple(seeds)
    measured = [
        _measure(config_of(size), optimizer, objective, learning_rate, batch, steps, seeds, mesh)
        for size in sizes
    ]
    shared = [set(row) for runs in measured for rows in runs for row in rows]
    names = tuple(sorted(set.intersection(*shared)))
    means = np.array(
        [[[[row[n] for n in names] for row in rows] for rows in runs] for runs in measured]
    )
    return Coordinates(sizes, names, means)


def _measure(
    config: TransformerConfig,
    settings: Optimizer,
    objective: Objective,
    learning_rate: float,
    batch: Batch,
    steps: int,
    seeds: Sequence[int],
    mesh: jax.sharding.Mesh,
) -> list[list[Sizes]]:
    """Returns the sizes of every seed, before training and after each step."""
    optimizer = build_optimizer(settings, lambda count: learning_rate, config)
    train_step = make_train_step(objective, optimizer, clip_norm=None)
    start = jax.jit(lambda key: initial_state(config, optimizer, Layout(), key))
    measure = jax.jit(activations)
    results = []
    with jax.set_mesh(mesh):
        laid_out = put_batch(batch, mesh, Rules())
        for seed in seeds:
            state = start(jax.random.key(seed))
            rows = [measure(state.model, laid_out)]
            for _ in range(steps):
                state, _ = train_step(state, laid_out)
                rows.append(measure(state.model, laid_out))
            results.append([{name: float(x) for name, x in row.items()} for row in rows])
    return results


def activations(model: Transformer, batch: Batch) -> dict[str, jax.Array]:
    """Returns the mean |activation| of every module's output, and of the logits; scalars.

    Modules are named by their kind and the order of their calls within it: attention.1 is that of
    the second block. The last of a kind is attention.-1 as well, so that models of unlike depths
    share it.
    """
    with open_tap(_mean_size) as reports:
        hidden = model(batch).hidden
    by_kind: dict[str, list[jax.Array]] = {}
    for kind, size in reports:
        by_kind.setdefault(kind, []).append(size)
    found = {f"{kind}.{i}": size for kind, sizes in by_kind.items() for i, size in enumerate(sizes)}
    last = {f"{kind}.-1": sizes[-1] for kind, sizes in by_kind.items()}
    return found | last | {"logits": _mean_size(model.logits(hidden))}


def _mean_size(value: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(value.astype(jnp.float32)))
