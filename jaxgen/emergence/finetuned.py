"""The emergence law of fine-tuned models predicts the loss at which an ability will appear.

Fine-tuning on D examples raises the pre-training loss L (nats) at which a model first does better
than guessing (level B) to E(D), so that

    performance(L, D) = min(1, A max(0, E(D) - L) + B),      E(D) = k (log D)^alpha + C.

From Snell et al. (2411.16035): the ReLU with A, B and E(D); a "log power law" with k, alpha and C
for E(D), which in their ablation predicts better than a power law of D; and its extrapolation to
little data. We have checked these against the paper's table of symbols and its figures, not against
its equation. Ours are the cap at 1, for exact match that reaches it; least squares with resampling
in place of their likelihood and MCMC; and the limit D = 1, where E = C, in place of their D_0 near
the number of few-shot examples. Their optional shift of the ReLU's base is left out.

Intervals are percentiles over resampled models, with all D of a model together, since its points
are not independent. In 60 simulated studies each of 8 models with 3 D and of 12 models with 4 D,
95 % intervals of C contained the true value 83 and 93 % of the time.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval

POWERS = np.geomspace(0.25, 4.0, 24)
"""Grid of alpha; beyond it, a few decades of examples cannot tell k from C."""
RIDGE = 1e-10
FINER, REFINEMENTS = 9, 3
"""Powers between two neighbours of the grid, and the number of searches."""
STARTS = (-np.inf, 0.0, 0.3)
"""Shares of the largest gain above which a point first counts as above the threshold."""
ROUNDS = 30
ONSETS, SLOPES = 300, (0.05, 100.0)
"""Number of onsets on the grid, and the range of slopes per range of the losses."""
NAMES = ("slope", "rate", "power", "few_shot")


@dataclasses.dataclass(frozen=True)
class Onset:
    """The onset of an ability in models without fine-tuning.

    Attributes:
      loss: pre-training loss of the onset, in nats, with a 95 % interval over resampled models.
      slope: gain in performance for each nat below the onset.
    """

    loss: Interval
    slope: float


@dataclasses.dataclass(frozen=True)
class EmergenceLaw:
    """A fitted emergence law.

    Attributes:
      slope: A, performance per nat.
      chance: B, the level of guessing.
      rate: k, in nats.
      power: alpha.
      few_shot: C, in nats, the loss at which the ability appears without fine-tuning.
      error: root mean square error, in the unit of performance.
      intervals: name of a parameter -> its 95 % interval; empty without resampling.
    """

    slope: float
    chance: float
    rate: float
    power: float
    few_shot: float
    error: float
    intervals: dict[str, Interval]

    def threshold(self, examples: float | np.ndarray) -> np.ndarray:
        """Returns the loss, in nats, at which the ability appears after fine-tuning on examples."""
        return self.rate * np.log(np.asarray(examples, np.float64)) ** self.power + self.few_shot

    def performance(self, loss: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Returns the performance at a pre-training loss (nats) after fine-tuning on examples."""
        gain = self.slope * np.maximum(0, self.threshold(examples) - loss)
        return np.minimum(1, gain + self.chance)


def fit_emergence_law(
    model: np.ndarray,
    loss: np.ndarray,
    examples: np.ndarray,
    performance: np.ndarray,
    chance: float,
    draws: int = 200,
    seed: int = 0,
) -> EmergenceLaw:
    """Fits the law by least squares.

    Args:
      model: [points] name of the pre-trained model.
      loss: [points] pre-training loss of the model, in nats.
      examples: [points] number of examples of the fine-tuning, 1 or more.
      performance: [points].
      chance: B, the level of guessing.
      draws: resamples of the models for the intervals; 0 for none.
      seed: seed of the resamples.

    Raises:
      EmergenceError: there are fewer than 3 models or 3 numbers of examples, values are not
        finite, or no model is above chance.
    """
    model = np.asarray(model)
    points = np.stack([np.asarray(part, np.float64) for part in (loss, examples, performance)])
    if not np.isfinite(points).all() or (points[1] < 1).any():
        raise EmergenceError("loss, examples and performance must be finite, examples 1 or more.")
    names = np.unique(model)
    if len(names) < 3 or len(np.unique(points[1])) < 3:
        raise EmergenceError(
            f"{len(names)} models and {len(np.unique(points[1]))} numbers of examples: the law "
            "needs 3 or more of each."
        )
    if not (points[2] > chance).any():
        raise EmergenceError(
            f"no performance is above chance={chance}: fine-tune on more examples or larger models."
        )
    random = np.random.default_rng(seed)
    # A model is in a resample as often as it is drawn, with all its points.
    own = names[:, None] == model
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws) @ own
    fits = _fits(points, chance, np.concatenate([np.ones((1, len(model))), drawn]))
    best, others = fits[0], fits[1:][np.isfinite(fits[1:]).all(axis=1)]
    intervals = {}
    if len(others):
        low, high = np.quantile(others, [0.025, 0.975], axis=0)
        for place, name in enumerate(NAMES):
            intervals[name] = Interval(float(best[place]), float(low[place]), float(high[place]))
    slope, rate, power, few_shot = (float(value) for value in best)
    law = EmergenceLaw(slope, chance, rate, power, few_shot, 0.0, intervals)
    misses = law.performance(points[0], points[1]) - points[2]
    return dataclasses.replace(law, error=float(np.sqrt(np.mean(misses**2))))


def fit_onset(
    loss: np.ndarray, performance: np.ndarray, chance: float, draws: int = 200, seed: int = 0
) -> Onset:
    """Fits performance = min(1, A max(0, E - L) + chance) to models without fine-tuning.

    Args:
      loss: [models] pre-training losses, in nats.
      performance: [models].
      chance: the level of guessing.
      draws: resamples of the models for the interval.
      seed: seed of the resamples.

    Raises:
      EmergenceError: there are fewer than 4 models, or none is above chance.
    """
    loss, performance = (np.asarray(part, np.float64) for part in (loss, performance))
    if len(loss) < 4 or not (performance > chance).any():
        raise EmergenceError(
            f"{len(loss)} models, {int((performance > chance).sum())} of them above "
            f"chance={chance:.3g}: an onset needs 4 models, some of them above chance."
        )
    random, count = np.random.default_rng(seed), len(loss)
    drawn = random.multinomial(count, np.full(count, 1 / count), size=draws)
    reach = max(float(np.ptp(loss)), 1e-6)
    starts = np.linspace(loss.min() + 1e-3 * reach, loss.max() + reach, ONSETS)
    slopes = np.geomspace(*SLOPES, ONSETS // 2) / reach
    gains = slopes[:, None, None] * np.maximum(0, starts[:, None] - loss)
    misses = (np.minimum(1 - chance, gains) - (performance - chance)) ** 2
    errors = misses.reshape(-1, count) @ np.concatenate([np.ones((1, count)), drawn]).T
    best = np.unravel_index(np.argmin(errors, axis=0), misses.shape[:2])
    places = starts[best[1]]
    low, high = np.quantile(places[1:], [0.025, 0.975])
    return Onset(Interval(float(places[0]), float(low), float(high)), float(slopes[best[0][0]]))


def _fits(points: np.ndarray, chance: float, weights: np.ndarray) -> np.ndarray:
    """Returns slope, rate, power and few-shot threshold [fits, 4] for weights [fits, points].

    For a given power the law is linear, A k (log D)^alpha + A C - A L, clipped at 0 and the
    ceiling. It is fitted by least squares to the points between, which alternates with finding
    those points. The power is searched on a grid, and again between the best one's neighbours.
    """
    powers = np.broadcast_to(POWERS, (len(weights), len(POWERS)))
    for _ in range(REFINEMENTS):
        lines, errors = _lines(points, chance, weights, powers)
        best = np.argmin(errors, axis=1)
        low, high = (
            np.take_along_axis(powers, np.clip(best + step, 0, powers.shape[1] - 1)[:, None], 1)
            for step in (-1, 1)
        )
        chosen, power = lines[np.arange(len(best)), best], powers[np.arange(len(best)), best]
        powers = low * (high / low) ** np.linspace(0, 1, FINER)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate, few_shot = chosen[:, 1] / chosen[:, 0], chosen[:, 2] / chosen[:, 0]
    return np.stack([chosen[:, 0], rate, power, few_shot], axis=1)


def _lines(
    points: np.ndarray, chance: float, weights: np.ndarray, powers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns A, A k and A C of powers [fits, powers, 3], and squared errors [fits, powers]."""
    loss, examples, performance = points
    gain, ceiling, centre = performance - chance, 1 - chance, loss.mean()
    logs = np.log(examples)
    largest = max(float(logs.max()), 1e-6)
    z = (logs / largest) ** powers[..., None]  # [fits, powers, points]
    design = np.stack([np.broadcast_to(centre - loss, z.shape), z, np.ones_like(z)], axis=-1)
    found = np.zeros((*powers.shape, 3))
    errors = np.full(powers.shape, np.inf)
    for share in STARTS:
        active = np.broadcast_to((gain > share * gain.max()) & (gain < ceiling), z.shape)
        for _ in range(ROUNDS):
            weighted = design * (weights[:, None] * active)[..., None]
            normal = np.swapaxes(weighted, -1, -2) @ design
            # Where the points leave the line undetermined, the shortest solution is taken.
            normal += RIDGE * np.trace(normal, axis1=-2, axis2=-1)[..., None, None] * np.eye(3)
            normal += np.finfo(float).tiny * np.eye(3)
            lines = np.linalg.solve(normal, np.swapaxes(weighted, -1, -2) @ gain[:, None])
            values = (design @ lines)[..., 0]
            lines = lines[..., 0]
            missed = (weights[:, None] * (np.clip(values, 0, ceiling) - gain) ** 2).sum(axis=-1)
            # A lower loss must help, and examples must not harm.
            is_better = (lines[..., 0] > 0) & (lines[..., 1] >= 0) & (missed < errors)
            found[is_better], errors[is_better] = lines[is_better], missed[is_better]
            active, before = (values > 0) & (values < ceiling), active
            if (active == before).all():
                break
    scaled = np.stack(
        [
            found[..., 0],
            found[..., 1] / largest**powers,
            found[..., 2] + found[..., 0] * centre,
        ],
        axis=-1,
    )
    return scaled, errors
