"""Transfer of learning rates: does the best one stay as models widen (2203.03466, figure 1)?

`final_losses` trains one model at every rate of a grid, compiled once; a `RateSweep` has the losses
of every width, the best rate of each, and how far it moves, in steps of the grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.batch import Batch
from jaxgen.errors import ConfigError
from jaxgen.models.config import TransformerConfig
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout
from jaxgen.training.optimizers.adamw import AdamW
from jaxgen.training.optimizers.parametrized import build_optimizer
from jaxgen.training.state import initial_state
from jaxgen.training.step import make_train_step


@dataclasses.dataclass(frozen=True)
class RateSweep:
    """A rate sweep has the losses of several widths at the same rates.

    Attributes:
      widths: ascending.
      rates: ascending, each the same factor above the one before.
      losses: [widths, rates]; a run that diverged is nan or infinite.
    """

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    losses: np.ndarray

    def __post_init__(self):
        if self.losses.shape != (len(self.widths), len(self.rates)):
            raise ConfigError(
                f"losses of shape {self.losses.shape} for {len(self.widths)} widths and "
                f"{len(self.rates)} rates; they must be [widths, rates]."
            )
        steps = np.diff(np.log2(self.rates))
        if len(steps) == 0 or np.any(steps <= 0) or np.ptp(steps) > 1e-6:
            raise ConfigError(f"rates={self.rates} must ascend by one factor.")
        if np.any(np.all(~np.isfinite(self.losses), axis=1)):
            raise ConfigError("a width has no finite loss; give smaller rates.")

    @property
    def best(self) -> tuple[int, ...]:
        """The index of the best rate at every width."""
        finite = np.where(np.isfinite(self.losses), self.losses, np.inf)
        return tuple(int(index) for index in np.argmin(finite, axis=1))

    @property
    def at_edge(self) -> tuple[bool, ...]:
        """Where the best rate is the first or last of the grid, and so perhaps beyond it."""
        return tuple(index in (0, len(self.rates) - 1) for index in self.best)

    @property
    def shift(self) -> int:
        """The largest distance between the best rates of two widths, in steps of the grid."""
        return max(self.best) - min(self.best)

    @property
    def transfers(self) -> bool:
        """Whether the best rate moves by at most one step and is inside the grid everywhere."""
        return self.shift <= 1 and not any(self.at_edge)

    def rows(self) -> list[dict[str, float]]:
        """Returns the table, a row for each width and rate."""
        return [
            {"width": width, "rate": rate, "loss": float(self.losses[i, j])}
            for i, width in enumerate(self.widths)
            for j, rate in enumerate(self.rates)
        ]


def final_losses(
    config: TransformerConfig,
    rates: Sequence[float],
    batches: Batch,
    seed: int = 0,
    warmup: float = 0.1,
    last: float = 0.1,
    optimizer: AdamW | None = None,
) -> np.ndarray:
    """Trains a model from one start at every rate: [rates], the mean loss of the last steps.

    The rate rises linearly, stays, and falls linearly to zero over the second half.

    Args:
      config: the model.
      rates: peaks.
      batches: arrays [steps, batch, length], the same for every rate.
      seed: of the parameters.
      warmup: its share of the steps.
      last: the share of the steps whose losses are averaged.
      optimizer: AdamW without decay by default.
    """
    settings = AdamW(weight_decay=0.0) if optimizer is None else optimizer
    steps = batches.tokens.shape[0]
    shape = _trapezoid(steps, warmup)

    def train(rate: jax.Array, batches: Batch) -> jax.Array:
        built = build_optimizer(settings, lambda count: rate * shape(count), config)
        step = make_train_step(NextToken(), built)

        def one(state: Any, batch: Batch) -> tuple[Any, jax.Array]:
            state, metrics = step(state, batch)
            return state, metrics.objective

        state = initial_state(config, built, Layout(), seed)
        return jax.lax.scan(one, state, batches)[1]

    run = jax.jit(train)
    batches = jax.tree.map(jnp.asarray, batches)
    count = max(1, round(last * steps))
    # One after the other, compiled once: side by side they would not be faster on a CPU.
    return np.array([np.mean(np.asarray(run(rate, batches))[-count:]) for rate in rates])


def _trapezoid(steps: int, warmup: float) -> Callable[[Any], jax.Array]:
    """Returns a function from a step, counted from 0, to the share of the peak."""

    def shape(count: Any) -> jax.Array:
        done = (jnp.asarray(count, jnp.float32) + 1) / steps
        rising = done / warmup if warmup else 1.0
        return jnp.minimum(jnp.minimum(1.0, rising), 2 * (1 + 1 / steps - done))

    return shape
