"""A task's accuracy is predicted from a ladder of small runs in two steps.

Bhagia et al. (2412.04403): first the task's loss (bits a byte of the right answer) by parameters
and tokens, Chinchilla's form; then accuracy by that loss, Acc = ceiling - drop / (1 + exp(-k (L -
L0))), by least squares over runs and their checkpoints, with a point of loss 0 at the best score.
Ceiling and drop are between 0 and 1 (the paper's b and -a, and its bounds of them).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.laws.chinchilla import fit_chinchilla
from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit, Prediction
from jaxgen.laws.fitting import ROBUST, Fitting, fit_law
from jaxgen.laws.huber_loss import LEAST_SQUARES
from jaxgen.laws.law import Law, by_complex_step, logistic
from jaxgen.laws.overtraining import predict_error
from jaxgen.laws.table import Columns, Table, check_varies, floats

STEEPNESS = (3.0, 6.0, 12.0)
"""Starts of k times the range of the loss."""


def _sigmoid() -> Law:
    parameters = ("logit_ceiling", "logit_drop", "log_k", "L0")

    def accuracy(named, columns: Columns) -> np.ndarray:
        falls = logistic(np.exp(named["log_k"]) * (columns["loss"] - named["L0"]))
        return logistic(named["logit_ceiling"]) - logistic(named["logit_drop"]) * falls

    def starts(columns: Columns, target: np.ndarray) -> np.ndarray:
        losses = columns["loss"]
        found = []
        for middle in np.quantile(losses, [0.1, 0.4, 0.7]):
            for steepness in STEEPNESS:
                k = steepness / max(np.ptp(losses), 1e-9)
                slope, high = np.polyfit(logistic(k * (losses - middle)), target, 1)
                high, drop = np.clip([high, -slope], 0.05, 0.95)
                found.append(
                    [np.log(high / (1 - high)), np.log(drop / (1 - drop)), np.log(k), middle]
                )
        return np.array(found)

    bind = by_complex_step(accuracy, parameters, ("loss",))
    formula = "accuracy = ceiling - drop / (1 + exp(-k (L - L0)))"
    return Law("task accuracy", parameters, ("loss",), bind, starts, is_log=False, formula=formula)


TASK_ACCURACY = _sigmoid()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TwoStep:
    """Both fits of a task.

    Attributes:
      loss: the task's loss by parameters and tokens.
      accuracy: the accuracy by the task's loss.
    """

    loss: Fit
    accuracy: Fit

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, level: float = 0.95) -> str:
        """Returns both fits as text."""
        return f"{self.loss.summary(level)}\n{self.accuracy.summary(level)}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns why not to trust them, a sentence each."""
        return self.loss.warnings + self.accuracy.warnings

    def predict(
        self,
        columns: Mapping[str, ArrayLike] | None = None,
        *,
        level: float = 0.95,
        **named: ArrayLike,
    ) -> Prediction:
        """Predicts the accuracy of models of `parameters` and `tokens`."""
        return predict_error(self.loss, self.accuracy, columns, level=level, **named)


def fit_task_accuracy(
    loss: ArrayLike,
    accuracy: ArrayLike,
    best: float | None = 1.0,
    runs: ArrayLike | None = None,
    fitting: Fitting = Fitting(LEAST_SQUARES, bootstraps=0),  # noqa: B008  # frozen
) -> Fit:
    """Fits the second step, accuracy by loss.

    Args:
      loss: [points] the task's loss of runs and their checkpoints.
      accuracy: [points].
      best: score at a loss of 0, which becomes a further point; None for no such point.
      runs: [points] names; points of a run are resampled together.
      fitting: how to fit.
    """
    loss, accuracy = floats("loss", loss), floats("accuracy", accuracy)
    if loss.shape != accuracy.shape or loss.ndim != 1:
        raise LawError(
            f"loss {loss.shape} and accuracy {accuracy.shape} must be one number a point."
        )
    if not (np.all(np.isfinite(loss)) and np.all(np.isfinite(accuracy))):
        raise LawError("loss and accuracy must be finite; drop the points that are not.")
    check_varies("the accuracy", accuracy)
    labels = np.arange(len(loss)) if runs is None else np.asarray(runs)
    if labels.shape != loss.shape:
        raise LawError(f"runs has shape {labels.shape}; it must be one name for each point.")
    groups = np.unique(labels, return_inverse=True)[1].ravel()
    if best is not None:
        loss, accuracy = np.append(loss, 0.0), np.append(accuracy, best)
        groups = np.append(groups, groups.max() + 1)
    return fit_law(TASK_ACCURACY, {"loss": loss}, accuracy, fitting, groups=groups)


def fit_two_step(
    table: Table,
    loss: ArrayLike,
    accuracy: ArrayLike,
    best: float | None = 1.0,
    runs: ArrayLike | None = None,
    fitting: Fitting = ROBUST,
) -> TwoStep:
    """Fits both steps.

    Args:
      table: finished runs, whose loss is the task's.
      loss: [points] of the second step; see `fit_task_accuracy` for this and the next three.
      accuracy: [points].
      best: score at a loss of 0.
      runs: [points] names.
      fitting: of the first step; the second differs in being by least squares.
    """
    second = dataclasses.replace(fitting, fit_loss=LEAST_SQUARES)
    return TwoStep(
        fit_chinchilla(table, fitting), fit_task_accuracy(loss, accuracy, best, runs, second)
    )
