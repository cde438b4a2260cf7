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
  one mode    No scale's seeds form two groups that differ in exact match: probability below 5 %
              (dip and two Gaussians, corrected over scales), their means apart by 3 standard
              deviations, by 25 % of the range in which exact match moves (`bimodality`) and by 25 %
              of the rise of exact match, with at least 2 seeds in the smaller groups of all scales
              that are so far apart. With fewer than 6 seeds this cannot be tested; it holds where
              the seeds of a scale lie within 25 % of that range or of that rise, too close for two.
  predicted   Exact match follows from the log probabilities by one map for all scales: at no fewer
              than four scales in five, the prediction from the other scales is within the 95 %
              interval or 5 points of the observation. A scale whose interval is wider than 15
              points can count against this, not for it. Without single instances, the map is that
              of independent tokens where the runs have it as a metric, or a map of the runs' means.

"explained by the metric": all three hold. "not explained": gradual or one mode fails.
"inconclusive": anything else, and always with fewer than 6 scales, 4 seeds at a scale or 50
instances, or where exact match does not rise by 30 % of the way from chance to 1 ("no transition").
Breakthroughness and linearity take no part: they score a simulated mirage above a real transition.

These thresholds were set on the tables of `simulate`, before any was tried on measured tasks. The
question of one mode was asked of the whole range of the log probability until two measured sets of
seeds showed that wrong; its rule was set anew, on simulated tables again, "idle" and "late groups"
among them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.emergence.bimodality import (
    FEWEST_TESTED_SEEDS,
    Modes,
    scales_with_groups,
    seed_modes,
    without_idle_groups,
)
from jaxgen.emergence.prediction import (
    ExactMatchPrediction,
    compare_means,
    predict_exact_match,
    predict_from_means,
)
from jaxgen.emergence.runs import PER_TOKEN, Runs, average_runs
from jaxgen.emergence.table import TaskRows
from jaxgen.emergence.trends import FEWEST_SCALES, GRADUAL, SUDDEN, Trend, fit_trend

EXPLAINED = "explained by the metric"
NOT_EXPLAINED = "not explained"
INCONCLUSIVE = "inconclusive"

HELDOUT_ERROR = 0.05
NOISE_MULTIPLE = 3.0
RESIDUAL_SHARE = 0.5
POINTS = 0.05
SHARE_PREDICTED = 0.8
WIDEST = 0.15
FEWEST_SEEDS = 4
FEWEST_INSTANCES = 50
TRANSITION = 0.3
SAME_SIZE = 0.02
"""Least log of the ratio of two sizes; closer ones are likely one size, counted anew."""

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
        counts = ((self.scales, "scale"), (self.seeds, "seed"), (self.instances, "instance"))
        size = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
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

    They need "exact_match" and "log_probability_per_token". Where they have "independent_tokens",
    the exact match that independent tokens would have, it is compared with exact match; else the
    map from log probability to exact match is fitted to the means of six scales or more.
    """
    return _verdict(runs, None)


def _verdict(runs: Runs, rows: TaskRows | None) -> Verdict:
    instances = rows.num_instances if rows is not None else int(runs.instances.min())
    criteria = [_enough(runs, instances), _transition(runs)]
    # With too few seeds or instances nothing is decided, but the other questions are still asked.
    if len(np.unique(runs.scale)) >= FEWEST_SCALES and np.ptp(runs.means(PER_TOKEN)) > 0:
        typical = without_idle_groups(runs, PER_TOKEN)
        criteria.append(_gradual(fit_trend(typical, PER_TOKEN), len(runs.rung) - len(typical.rung)))
        criteria.append(_one_mode(seed_modes(runs, PER_TOKEN)))
    if len(runs.scale) > 1:
        criteria.append(_predicted(runs, rows))
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
            "The log probability per token changes gradually, no two groups of seeds differ in "
            "exact match, and exact match follows from the log probability."
        )
    if len(asked) < 3:
        return INCONCLUSIVE, "The log probability per token is the same at every scale."
    return INCONCLUSIVE, " ".join(one.evidence for one in asked if one.outcome != HOLDS)


def _enough(runs: Runs, instances: int) -> Criterion:
    seeds = int(runs.seeds.min())
    counts = (
        ("scales", len(np.unique(runs.scale)), FEWEST_SCALES),
        ("seed at a scale" if seeds == 1 else "seeds at a scale", seeds, FEWEST_SEEDS),
        ("instances", instances, FEWEST_INSTANCES),
    )
    short = [f"{have} {what}, of {need} needed" for what, have, need in counts if have < need]
    if short:
        return Criterion("enough", FAILS, f"Too few: {'; '.join(short)}.{_same_size(runs)}")
    return Criterion("enough", HOLDS, ", ".join(f"{have} {what}" for what, have, _ in counts) + ".")


def _same_size(runs: Runs) -> str:
    """Returns a hint where scales lie so close that they must be seeds of one size."""
    steps = np.diff(runs.log_scale)
    sizes = 1 + int((steps > SAME_SIZE).sum())
    if sizes == len(runs.scale):
        return ""
    return (
        f" Of {len(runs.scale)} scales, {len(runs.scale) - sizes} lie within {SAME_SIZE:.0%} of "
        f"the one before (the closest within {steps.min():.2g}): if those are seeds of one size, "
        f"give its rows the same `rung`, which would make {sizes} scales."
    )


def _transition(runs: Runs) -> Criterion:
    means = (runs.means("exact_match") - runs.chance) / (1 - runs.chance)
    rise, fall = float(means.max() - means[0]), float(means[0] - means.min())
    if rise >= TRANSITION:
        text = f"Exact match rises by {rise:.0%} of the way from chance to 1 over the scales."
        return Criterion("transition", HOLDS, text)
    moves = f"rises by {rise:.0%}" if rise >= fall else f"falls by {fall:.0%}"
    text = f"Exact match {moves} of the way from chance to 1 over the scales"
    if rise >= fall:
        text += f", less than {TRANSITION:.0%}"
    return Criterion("transition", FAILS, f"{text}: no transition is seen.")


def _gradual(trend: Trend, left_out: int) -> Criterion:
    gradual, sudden = trend.heldout[trend.gradual], trend.heldout[trend.sudden]
    residuals = [
        min(trend.residual[law] for law in GRADUAL),
        min(trend.residual[law] for law in SUDDEN),
    ]
    text = (
        f"held-out error {gradual:.1%} of its range without a break ({trend.gradual}) and "
        f"{sudden:.1%} with one ({trend.sudden}), residuals {residuals[0]:.1%} and "
        f"{residuals[1]:.1%}, noise of a mean {trend.noise:.1%}"
        + (f"; without {left_out} runs that differ in it alone." if left_out else ".")
    )
    if gradual <= HELDOUT_ERROR:
        return Criterion("gradual", HOLDS, f"The log probability per token is gradual: {text}")
    is_seen = gradual > NOISE_MULTIPLE * trend.noise
    if is_seen and (sudden < gradual or residuals[1] <= RESIDUAL_SHARE * residuals[0]):
        return Criterion("gradual", FAILS, f"The log probability per token itself breaks: {text}")
    return Criterion(
        "gradual", UNCLEAR, f"Neither kind of law fits the log probability per token: {text}"
    )


def _one_mode(modes: list[Modes]) -> Criterion:
    two = scales_with_groups(modes)
    if two:
        best = min(two, key=lambda mode: mode.probability)
        fit = best.two_components
        # Their means are of values clipped to the range in which exact match moves.
        return Criterion(
            "one mode",
            FAILS,
            f"Seeds form two groups in the log probability per token at {len(two)} of "
            f"{len(modes)} scales, most clearly at {best.scale:,.5g}: {fit.share:.0%} of "
            f"{best.seeds} seeds at {fit.high:.3g} nats, the others at {fit.low:.3g} or below, "
            f"{best.gap:.0%} of the rise of exact match apart (probability {best.probability:.2g} "
            "under a single group).",
        )
    if min(mode.seeds for mode in modes) < FEWEST_SEEDS:
        return Criterion(
            "one mode",
            UNCLEAR,
            f"A scale has under {FEWEST_SEEDS} seeds, too few to tell one group from two.",
        )
    wide = [mode for mode in modes if mode.may_have_groups]
    if wide:
        return Criterion(
            "one mode",
            UNCLEAR,
            f"At {len(wide)} of {len(modes)} scales the seeds lie apart by up to "
            f"{max(mode.spread for mode in wide):.0%} of the range in which exact match moves, and "
            f"are too few (under {FEWEST_TESTED_SEEDS}) to tell one group from two.",
        )
    least = min(mode.probability for mode in modes)
    return Criterion(
        "one mode",
        HOLDS,
        "At no scale do the seeds form two groups that differ in exact match (least probability "
        f"{least:.2g}).",
    )


def _prediction(runs: Runs, rows: TaskRows | None) -> tuple[str, ExactMatchPrediction] | None:
    """Returns how exact match is predicted, and the prediction; None from too few means."""
    if rows is not None:
        found = predict_exact_match(rows)
        # The rows' rungs are in the order of compute, the runs' in that of their axis.
        order = np.argsort(
            rows.scale(runs.axis) * (-1 if runs.axis == "loss" else 1), kind="stable"
        )
        return "predicted from the log probabilities by the map of the other scales", (
            ExactMatchPrediction(
                found.observed[order], found.predicted[order], found.half_width[order]
            )
        )
    if "independent_tokens" in runs.metrics:
        return "predicted as that of independent tokens", compare_means(
            runs, runs.metric("independent_tokens")
        )
    if len(runs.scale) < FEWEST_SCALES:
        return None
    return "predicted from the runs' mean log probability by the map of the other scales", (
        predict_from_means(runs)
    )


def _predicted(runs: Runs, rows: TaskRows | None) -> Criterion:
    found = _prediction(runs, rows)
    if found is None:
        return Criterion(
            "predicted",
            UNCLEAR,
            f"Without instances, a map from log probability to exact match needs {FEWEST_SCALES} "
            "scales, or the metric `independent_tokens` of the runs.",
        )
    how, prediction = found
    error = np.abs(prediction.error)
    is_within = error <= np.maximum(prediction.half_width, POINTS)
    is_telling = prediction.half_width <= WIDEST
    share = float(np.mean(is_within))
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
