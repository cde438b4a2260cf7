"""When will an ability appear? Fine-tuned models show it at a higher loss (Snell et al., 2024).

Fine-tuning on D examples moves the pre-training loss at which a task is first done better than by
guessing from the few-shot value to E(D), and performance follows

    performance(L, D) = A max(0, E(D) - L) + B,      E(D) = k (log D)^alpha + C,

with L the pre-training loss in nats and B the level of guessing. Models fine-tuned on several D
give k, alpha and C; the few-shot limit D -> 1 example gives E = C at alpha > 0: the loss at which
a model will do the task unasked. (arXiv:2411.16035; the form of E is as our notes of the paper
have it.) Intervals are percentiles over resampled models, all their D together, since the points of
one model are not independent.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import least_squares

from jaxgen.scaling.emergence.errors import EmergenceError
from jaxgen.scaling.emergence.intervals import Interval

STARTS = ((0.3, 0.5), (0.3, 1.0), (0.03, 1.0), (0.03, 2.0))
"""Of (k (log D_max)^alpha in ranges of the loss, alpha)."""
NAMES = ("slope", "rate", "power", "few_shot")


@dataclasses.dataclass(frozen=True)
class EmergenceLaw:
    """A fitted law.

    Attributes:
      slope: A, performance a nat.
      chance: B.
      rate: k, nats.
      power: alpha.
      few_shot: C, nats: the loss where the ability begins without fine-tuning.
      error: root mean square error, in the unit of performance.
      intervals: name -> 95 % interval of a parameter; empty without resampling.
    """

    slope: float
    chance: float
    rate: float
    power: float
    few_shot: float
    error: float
    intervals: dict[str, Interval]

    def threshold(self, examples: float | np.ndarray) -> np.ndarray:
        """The loss, in nats, at which the ability begins after fine-tuning on so many examples."""
        return self.rate * np.log(np.asarray(examples, np.float64)) ** self.power + self.few_shot

    def performance(self, loss: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Of models of a pre-training loss (nats) fine-tuned on so many examples."""
        return self.slope * np.maximum(0, self.threshold(examples) - loss) + self.chance


def fit_emergence_law(
    model: np.ndarray,
    loss: np.ndarray,
    examples: np.ndarray,
    performance: np.ndarray,
    chance: float,
    draws: int = 200,
    seed: int = 0,
) -> EmergenceLaw:
    """Fits the law by least squares from several starts.

    Args:
      model: [points], which points are of one pre-trained model.
      loss: [points], of the model in pre-training, nats.
      examples: [points], 1 or more, of the fine-tuning.
      performance: [points].
      chance: B, the level of guessing.
      draws: resamplings of the models for the intervals; 0 for none.
      seed: of the resampling.

    Raises:
      EmergenceError: fewer than 3 models or 3 numbers of examples, values that are no numbers,
        or no model above chance.
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
    best = _fit(points, chance, None)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        picked = random.choice(names, len(names))
        again = points[:, np.concatenate([np.flatnonzero(model == name) for name in picked])]
        if (again[2] > chance).any():
            drawn.append(_fit(again, chance, best))
    intervals = {}
    if drawn:
        low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
        for place, name in enumerate(NAMES):
            intervals[name] = Interval(best[place], float(low[place]), float(high[place]))
    error = _residuals(best, points, chance)
    return EmergenceLaw(
        slope=float(best[0]),
        chance=chance,
        rate=float(best[1]),
        power=float(best[2]),
        few_shot=float(best[3]),
        error=float(np.sqrt(np.mean(error**2))),
        intervals=intervals,
    )


def _residuals(law: np.ndarray, points: np.ndarray, chance: float) -> np.ndarray:
    slope, rate, power, few_shot = law
    loss, examples, performance = points
    threshold = rate * np.log(examples) ** power + few_shot
    return slope * np.maximum(0, threshold - loss) + chance - performance


def _fit(points: np.ndarray, chance: float, start: np.ndarray | None) -> np.ndarray:
    """Slope, rate, power, few-shot threshold."""
    loss, examples, performance = points
    reach, largest = max(float(np.ptp(loss)), 1e-6), max(float(np.log(examples.max())), 1e-6)
    slope = max(float(performance.max()) - chance, 1e-6) / reach
    starts = (
        [start]
        if start is not None
        else [
            np.array([slope * steeper, share * reach / largest**power, power, level])
            for share, power in STARTS
            for level in np.quantile(loss, [0.0, 0.3, 0.7])
            for steeper in (1.0, 3.0)
        ]
    )
    bounds = (
        [1e-9, 0.0, 1e-2, loss.min() - 10 * reach],
        [np.inf, np.inf, 10.0, loss.max() + reach],
    )
    fits = [
        least_squares(
            _residuals,
            np.clip(one, np.array(bounds[0]) + 1e-9, bounds[1]),
            bounds=bounds,
            x_scale=np.maximum(np.abs(one), 1e-3),
            args=(points, chance),
        )
        for one in starts
    ]
    return min(fits, key=lambda fit: fit.cost).x
