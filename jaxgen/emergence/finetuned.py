"""When will an ability appear? Fine-tuned models show it at a higher loss (Snell et al., 2024).

Fine-tuning on D examples moves the pre-training loss at which a task is first done better than by
guessing from the few-shot value to E(D), and performance follows

    performance(L, D) = min(1, A max(0, E(D) - L) + B),      E(D) = k (log D)^alpha + C,

with L the pre-training loss in nats and B the level of guessing. Models fine-tuned on several D
give k, alpha and C; the few-shot limit D -> 1 example gives E = C at alpha > 0: the loss at which
a model will do the task unasked. (arXiv:2411.16035; the form of E is as our notes of the paper
have it.) Intervals are percentiles over resampled models, all their D together, since the points of
one model are not independent; of 60 simulated studies of 8 models with 3 D, and of 12 with 4, the
95 % intervals of C held 83 and 93 %. The cap at 1 is ours, for exact matches that come to it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.intervals import Interval

POWERS = np.geomspace(0.25, 4.0, 24)
"""Where alpha is looked for: outside, points of a few decades of examples cannot tell k from C."""
RIDGE = 1e-10
FINER, REFINEMENTS = 9, 3
"""Of the powers between two neighbours, and how often one looks."""
STARTS = (-np.inf, 0.0, 0.3)
"""Of the largest gain, above which a point is first taken to be above the cut."""
TURNS = 30
ONSETS, SLOPES = 300, (0.05, 100.0)
"""Places that are looked at, and the range of slopes, a range of the losses."""
NAMES = ("slope", "rate", "power", "few_shot")


@dataclasses.dataclass(frozen=True)
class Onset:
    """Where performance begins to rise, of models as they are.

    Attributes:
      loss: in pre-training, nats, with a 95 % interval over resampled models.
      slope: performance a nat below it.
    """

    loss: Interval
    slope: float


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
    random = np.random.default_rng(seed)
    # A model is in a resampling as often as it is drawn, with all its points.
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
    """Fits performance = min(1, A max(0, E - L) + chance) to models that were not fine-tuned.

    Args:
      loss: [models], nats.
      performance: [models].
      chance: the level of guessing.
      draws: resamplings of the models for the interval.
      seed: of the resampling.

    Raises:
      EmergenceError: fewer than 4 models, or none above chance.
    """
    loss, performance = (np.asarray(part, np.float64) for part in (loss, performance))
    if len(loss) < 4 or not (performance > chance).any():
        raise EmergenceError(
            f"{len(loss)} models, {int((performance > chance).sum())} of them above "
            f"chance={chance:.3g}: an onset needs 4 models, and some above."
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
    """[fits, 4] slope, rate, power and few-shot threshold for each row of weights [fits, points].

    For a power the law is a line, A k (log D)^alpha + A C - A L, cut off at 0 and the ceiling: it
    is a least squares of the points between, which are found by turns. The power is looked for on a
    grid, and again between the best one's neighbours.
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
    """The best line of each power: [fits, powers, 3] A, A k, A C; [fits, powers] squared errors."""
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
        for _ in range(TURNS):
            weighted = design * (weights[:, None] * active)[..., None]
            normal = np.swapaxes(weighted, -1, -2) @ design
            # Points that tell fewer than three numbers apart take the shortest of their lines.
            normal += RIDGE * np.trace(normal, axis1=-2, axis2=-1)[..., None, None] * np.eye(3)
            normal += np.finfo(float).tiny * np.eye(3)
            lines = np.linalg.solve(normal, np.swapaxes(weighted, -1, -2) @ gain[:, None])
            values = (design @ lines)[..., 0]
            lines = lines[..., 0]
            missed = (weights[:, None] * (np.clip(values, 0, ceiling) - gain) ** 2).sum(axis=-1)
            # A loss must help, and examples must not harm.
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
