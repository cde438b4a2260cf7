"""The verdict says whether the metric explains an ability's sudden appearance.

It rests on three questions about the log probability per token of the answers (nats), the
continuous metric of the same outputs that exact match is computed from. P is its range: the largest
less the smallest mean over a scale's seeds.

  gradual     A law without a break predicts the scales between the first and the last, each held
              out in turn, with a mean absolute error of at most 5 % of P.
              It *fails* (there is a break) where that error is above 5 % of P and above three
              standard errors of a scale's mean, and a law with a break either predicts better or
              leaves at most half the residual. The residual counts because no law can place a jump
              next to a held-out scale.
  one mode    No scale's seeds form two groups: probability below 5 % (dip and two Gaussians,
              corrected over scales), at least 2 seeds in each group, their means apart by 25 % of P
              and by 3 standard deviations. With fewer than 6 seeds this cannot be tested; it holds
              where the seeds of a scale lie within 25 % of P of each other, too close for two.
  predicted   Exact match follows from the log probabilities by one map for all scales: at no fewer
              than four scales in five, the prediction from the other scales is within the 95 %
              interval or 5 points of the observation. A scale whose interval is wider than 15
              points can count against this, not for it. Without single instances, the map is that
              of independent tokens, accuracy to the power of the answer's length.

"explained by the metric": all three hold. "not explained": gradual or one mode fails.
"inconclusive": anything else, and always with fewer than 6 scales, 4 seeds at a scale or 50
instances, or where exact match does not rise by 30 % of the way from chance to 1 ("no transition").
Breakthroughness and linearity take no part: they score a simulated mirage above a real transition.

These thresholds were set on the tables of `simulate`, before any was tried on measured tasks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.bimodality import Modes, seed_modes
from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.prediction import ExactMatchPrediction, predict_exact_match
from jaxgen.emergence.runs import PER_TOKEN, Runs, average_runs
from jaxgen.emergence.table import TaskRows
from jaxgen.emergence.trends import FEWEST_SCALES, GRADUAL, SUDDEN, Trend, fit_trend

EXPLAINED = "explained by the metric"
NOT_EXPLAINED = "not explained"
INCONCLUSIVE = "inconclusive"

HELDOUT_ERROR = 0.05
NOISE_MULTIPLE = 3.0
RESIDUAL_SHARE = 0.5
LEVEL = 0.05
FEWEST_OF_A_KIND = 2
DISTANCE = 0.25
SEPARATION = 3.0
FEWEST_TESTED_SEEDS = 6
POINTS = 0.05
SHARE_PREDICTED = 0.8
WIDEST = 0.15
FEWEST_SEEDS = 4
FEWEST_INSTANCES = 50
TRANSITION = 0.3

HOLDS, FAILS, UNCLEAR = "holds", "fails", "unclear"


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A criterion has the answer to one question.

    Attributes:
      name: "enough", "transition", "gradual", "one mode" or "predicted".
      outcome: "holds", "fails" or "unclear".
      evidence: a sentence with the numbers.
    """

    name: str
    outcome: str
    evidence: str


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A verdict answers whether the metric explains one task, with the evidence.

    Attributes:
      task: its name.
      verdict: "explained by the metric", "not explained" or "inconclusive".
      because: the reason in a sentence.
      scales: number of scales.
      seeds: the fewest seeds at a scale.
      instances: number of instances of the task.
      criteria: answers to all questions that could be asked.
    """

    task: str
    verdict: str
    because: str
    scales: int
    seeds: int
    instances: int
    criteria: tuple[Criterion, ...]

    def __str__(self) -> str:
        size = f"{self.scales} scales, {self.seeds} seeds, {self.instances} instances"
        return f"{self.task}: {self.verdict} ({size}). {self.because}"


def verdict(rows: TaskRows, axis: str | None = None) -> Verdict:
    """Returns the verdict on a task's rows; the module says how.

    Args:
      rows: the rows of one task.
      axis: the axis of scale; by default the first that the rows have.
    """
    return _verdict(average_runs(rows, axis), rows)


def verdict_of_runs(runs: Runs) -> Verdict:
    """Returns the verdict on runs that have means alone, such as those of a published table.

    Raises:
      EmergenceError: the runs lack the metric `independent_tokens`.
    """
    return _verdict(runs, None)


def _verdict(runs: Runs, rows: TaskRows | None) -> Verdict:
    instances = rows.num_instances if rows is not None else int(runs.instances.min())
    criteria = [_enough(runs, instances), _transition(runs)]
    # With too few seeds or instances nothing is decided, but the other questions are still asked.
    if len(runs.scale) >= FEWEST_SCALES and np.ptp(runs.means(PER_TOKEN)) > 0:
        trend = fit_trend(runs, PER_TOKEN)
        criteria.append(_gradual(trend))
        criteria.append(_one_mode(seed_modes(runs, PER_TOKEN), trend.extent))
    if len(runs.scale) > 1:
        criteria.append(_predicted(_prediction(runs, rows), rows is not None))
    outcome, because = _decide(criteria)
    return Verdict(
        runs.task,
        outcome,
        because,
        len(runs.scale),
        int(runs.seeds.min()),
        instances,
        tuple(criteria),
    )


def _decide(criteria: list[Criterion]) -> tuple[str, str]:
    by_name = {criterion.name: criterion for criterion in criteria}
    for name in ("enough", "transition"):
        if name in by_name and by_name[name].outcome != HOLDS:
            return INCONCLUSIVE, by_name[name].evidence
    asked = [by_name[name] for name in ("gradual", "one mode", "predicted") if name in by_name]
    failed = [one.evidence for one in asked if one.outcome == FAILS and one.name != "predicted"]
    if failed:
        return NOT_EXPLAINED, " ".join(failed)
    if len(asked) == 3 and all(one.outcome == HOLDS for one in asked):
        return EXPLAINED, (
            "The log probability per token changes gradually, its seeds form one group, and exact "
            "match follows from it."
        )
    if len(asked) < 3:
        return INCONCLUSIVE, "The log probability per token is the same at every scale."
    return INCONCLUSIVE, " ".join(one.evidence for one in asked if one.outcome != HOLDS)


def _enough(runs: Runs, instances: int) -> Criterion:
    counts = (
        ("scales", len(runs.scale), FEWEST_SCALES),
        ("seeds at a scale", int(runs.seeds.min()), FEWEST_SEEDS),
        ("instances", instances, FEWEST_INSTANCES),
    )
    short = [f"{have} {what}, of {need} needed" for what, have, need in counts if have < need]
    if short:
        return Criterion("enough", FAILS, f"Too few: {'; '.join(short)}.")
    return Criterion("enough", HOLDS, ", ".join(f"{have} {what}" for what, have, _ in counts) + ".")


def _transition(runs: Runs) -> Criterion:
    means = (runs.means("exact_match") - runs.chance) / (1 - runs.chance)
    rise = float(means.max() - means[0])
    text = (
        f"Exact match rises by {rise:.0%} of the way from chance to 1 over the scales"
        f"{'' if rise >= TRANSITION else f', less than {TRANSITION:.0%}: no transition is seen'}."
    )
    return Criterion("transition", HOLDS if rise >= TRANSITION else FAILS, text)


def _gradual(trend: Trend) -> Criterion:
    gradual, sudden = trend.heldout[trend.gradual], trend.heldout[trend.sudden]
    residuals = [
        min(trend.residual[law] for law in GRADUAL),
        min(trend.residual[law] for law in SUDDEN),
    ]
    text = (
        f"held-out error {gradual:.1%} of its range without a break ({trend.gradual}) and "
        f"{sudden:.1%} with one ({trend.sudden}), residuals {residuals[0]:.1%} and "
        f"{residuals[1]:.1%}, noise of a mean {trend.noise:.1%}."
    )
    if gradual <= HELDOUT_ERROR:
        return Criterion("gradual", HOLDS, f"The log probability per token is gradual: {text}")
    is_seen = gradual > NOISE_MULTIPLE * trend.noise
    if is_seen and (sudden < gradual or residuals[1] <= RESIDUAL_SHARE * residuals[0]):
        return Criterion("gradual", FAILS, f"The log probability per token itself breaks: {text}")
    return Criterion(
        "gradual", UNCLEAR, f"Neither kind of law fits the log probability per token: {text}"
    )


def _one_mode(modes: list[Modes], extent: float) -> Criterion:
    two = [
        mode
        for mode in modes
        if mode.seeds >= FEWEST_TESTED_SEEDS
        and mode.probability < LEVEL
        and mode.two_components.fewer >= FEWEST_OF_A_KIND
        and mode.two_components.distance >= DISTANCE * extent
        and mode.two_components.separation >= SEPARATION
    ]
    if two:
        best = min(two, key=lambda mode: mode.probability)
        fit = best.two_components
        return Criterion(
            "one mode",
            FAILS,
            f"Seeds form two groups in the log probability per token at {len(two)} of "
            f"{len(modes)} scales, most clearly at {best.scale:,.5g}: {fit.share:.0%} of "
            f"{best.seeds} seeds at {fit.high:.3g} nats, the others at {fit.low:.3g} (probability "
            f"{best.probability:.2g} under a single group).",
        )
    if min(mode.seeds for mode in modes) < FEWEST_SEEDS:
        return Criterion(
            "one mode",
            UNCLEAR,
            f"A scale has under {FEWEST_SEEDS} seeds, too few to tell one group from two.",
        )
    wide = [
        mode
        for mode in modes
        if mode.seeds < FEWEST_TESTED_SEEDS and mode.spread > DISTANCE * extent
    ]
    if wide:
        return Criterion(
            "one mode",
            UNCLEAR,
            f"At {len(wide)} of {len(modes)} scales the seeds lie apart by up to "
            f"{max(mode.spread for mode in wide) / extent:.0%} of the range, and are too few "
            f"(under {FEWEST_TESTED_SEEDS}) to tell one group from two.",
        )
    least = min(mode.probability for mode in modes)
    return Criterion(
        "one mode",
        HOLDS,
        f"At no scale do the seeds form two groups (least probability {least:.2g}).",
    )


def _prediction(runs: Runs, rows: TaskRows | None) -> ExactMatchPrediction:
    if rows is not None:
        found = predict_exact_match(rows)
        # The rows' rungs are in the order of compute, the runs' in that of their axis.
        order = np.argsort(
            rows.scale(runs.axis) * (-1 if runs.axis == "loss" else 1), kind="stable"
        )
        return ExactMatchPrediction(
            found.observed[order], found.predicted[order], found.half_width[order]
        )
    if "independent_tokens" not in runs.metrics:
        raise EmergenceError(
            f"task {runs.task!r} has neither instances nor 'independent_tokens': give rows, or the "
            "exact match that independent tokens would have as a metric of the runs."
        )
    error = runs.metric("exact_match") - runs.metric("independent_tokens")
    seeds = runs.seeds
    mean = np.bincount(runs.rung, error) / seeds
    squares = np.bincount(runs.rung, (error - mean[runs.rung]) ** 2)
    width = 1.96 * np.sqrt(squares / np.maximum(seeds - 1, 1) / seeds)
    return ExactMatchPrediction(runs.means("exact_match"), runs.means("independent_tokens"), width)


def _predicted(prediction: ExactMatchPrediction, has_instances: bool) -> Criterion:
    error = np.abs(prediction.error)
    is_within = error <= np.maximum(prediction.half_width, POINTS)
    is_telling = prediction.half_width <= WIDEST
    share = float(np.mean(is_within))
    how = (
        "predicted from the log probabilities by the map of the other scales"
        if has_instances
        else "predicted as that of independent tokens"
    )
    text = (
        f"{how}, exact match is within its interval or {100 * POINTS:.0f} points at {share:.0%} of "
        f"the scales (mean error {error.mean():.3f}, largest {error.max():.3f})."
    )
    if share >= SHARE_PREDICTED and np.mean(is_within & is_telling) < SHARE_PREDICTED:
        return Criterion(
            "predicted",
            UNCLEAR,
            f"At {int((~is_telling).sum())} of {len(error)} scales the seeds scatter so much that "
            f"any exact match within {100 * WIDEST:.0f} points would do: {text}",
        )
    if share >= SHARE_PREDICTED:
        return Criterion("predicted", HOLDS, f"The metric accounts for the curve: {text}")
    return Criterion("predicted", FAILS, f"The metric does not account for the curve: {text}")
