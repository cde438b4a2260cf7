"""What the points of a fit cannot tell is an error where it is certain, and else a warning.

The slopes of the fitted values by the working parameters tell which parameters the points can tell
apart: those that move all values in the same way cannot be, whatever the losses are. A column of
one or two values, tokens in proportion to parameters, and noise that drowns the trend all show
there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.huber_loss import HuberLoss, in_space
from jaxgen.laws.law import Law, short_name
from jaxgen.laws.table import Columns

PROBES = 16
"""Starts at which it is asked whether parameters can be told apart at all."""
BESIDE = 0.05
"""Standard deviation by which the probes are off the starts, against their size."""
SINGULAR = 1e-10
"""Ratio of the least to the largest singular value that is 0 but for rounding."""
NO_EFFECT = 1e-9
"""Slope of a parameter, against the largest, below which it moves no fitted value."""
ILL_CONDITIONED = 1e3
"""Condition number of the slopes from which parameters count as hardly told apart."""
UNCERTAIN = 0.5
"""Standard error of an exponent, against its value, from which it counts as undetermined."""
UNCERTAIN_LOG = 10.0
"""The same of a coefficient's logarithm; A is the size of a term at one parameter, which is far
from any run, so that a factor of ten is usual."""
TIED = 0.2
"""Standard deviation of ln D about a power of N below which tokens count as tied to size."""
EXPLAINED = 0.5
"""R^2 below which a law counts as explaining little."""
NULL = 0.2
"""Share of a parameter in what cannot be told, from which it is named."""
STEP = 1.01
"""Factor by which an input is raised to see whether the fitted value falls."""
FEW_STARTS = 8
UNSTABLE = 0.1
"""Share of the bootstraps with several optima from which it is warned of."""


def check_identifiable(law: Law, columns: Columns, starts: np.ndarray) -> None:
    """Raises a LawError if the points cannot tell parameters apart wherever a search begins.

    It is asked beside the starts, as one of them may lie where parameters happen to coincide.
    """
    chosen = starts[np.linspace(0, len(starts) - 1, PROBES).astype(int)]
    beside = np.random.default_rng(0).standard_normal(chosen.shape)
    chosen = chosen + BESIDE * np.maximum(1.0, np.abs(chosen)) * beside
    found = []
    with np.errstate(all="ignore"):
        slopes = law.bind(columns)(chosen, np.eye(starts.shape[1]))[1].jacobian()
    for matrix in slopes:
        if not np.all(np.isfinite(matrix)):
            continue
        names, values, vectors = _decompose(law, matrix)
        if not len(values) or values[-1] > SINGULAR * values[0]:
            return
        found.append((names, vectors[values <= SINGULAR * values[0]]))
    if not found:
        return
    names, null = found[0]
    raise LawError(
        f"{law.name}: the {slopes.shape[1]} points cannot tell {_listed(names, null)} apart"
        f"{_few(law, columns)}. Add runs that differ, or fix parameters with `restrict`."
    )


def warnings_of(
    law: Law, fit_loss: HuberLoss, columns: Columns, target: np.ndarray, vector: np.ndarray
) -> tuple[str, ...]:
    """Returns why not to trust a fit, a sentence each."""
    evaluate = in_space(law.bind(columns), law.is_log, fit_loss.space)
    with np.errstate(all="ignore"):
        values, slopes = evaluate(vector[None], np.eye(len(vector)))
        matrix = slopes.jacobian()[0]
    errors = fit_loss.target(target) - values[0]
    freedom = len(target) - len(vector)
    tie = _tie(law, columns)
    told = [*_rising(law, columns, vector, bool(tie)), *([tie] if tie else [])]
    if freedom < 1:
        told.append(
            f"{len(target)} points determine {len(vector)} parameters, so nothing is left to "
            "judge the fit by."
        )
    if np.all(np.isfinite(matrix)):
        told += _undetermined(law, matrix, vector, errors, freedom)
    explained = 1 - np.sum(errors**2) / np.sum(
        (errors + values[0] - np.mean(errors + values[0])) ** 2
    )
    if freedom > 0 and explained < EXPLAINED:
        told.append(
            f"The law explains {max(0.0, 100 * explained):.0f} % of the variance of what it was "
            "fitted to; the rest is noise, or the law is of the wrong form."
        )
    return tuple(told)


def warnings_of_search(starts: int, reached: int, unstable: float) -> tuple[str, ...]:
    """Returns what a search for the optimum should be warned of."""
    told = []
    if starts >= FEW_STARTS and reached <= 1:
        told.append(
            f"{reached or 'None'} of {starts} starts reached the best optimum found, so there may "
            "be a better one; give more starts=."
        )
    if unstable > UNSTABLE:
        told.append(
            f"{100 * unstable:.0f} % of the bootstraps have several optima, so intervals may be "
            "too narrow."
        )
    return tuple(told)


def _decompose(law: Law, matrix: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Returns parameters with an effect, and their slopes' singular values and vectors."""
    with np.errstate(over="ignore"):
        sizes = np.linalg.norm(matrix, axis=0)
    has_effect = sizes > NO_EFFECT * np.max(sizes, initial=0.0)
    names = [name for name, is_one in zip(law.parameters, has_effect, strict=True) if is_one]
    if not names:
        return [], np.zeros(0), np.zeros(0)
    scaled = matrix[:, has_effect] / sizes[has_effect]
    _, values, vectors = np.linalg.svd(scaled, full_matrices=len(scaled) < len(names))
    # With fewer points than parameters the missing singular values are zero.
    values = np.concatenate([values, np.zeros(len(names) - len(values))])
    return names, values, vectors


def _undetermined(
    law: Law, matrix: np.ndarray, vector: np.ndarray, errors: np.ndarray, freedom: int
) -> list[str]:
    names, values, vectors = _decompose(law, matrix)
    told = []
    without = [short_name(name) for name in law.parameters if name not in names]
    if without:
        moves, it = ("moves", "it") if len(without) == 1 else ("move", "them")
        told.append(
            f"{' and '.join(without)} {moves} no fitted value, so the points do not determine {it}."
        )
    if not names:
        return told
    if values[-1] * ILL_CONDITIONED < values[0]:
        null = vectors[values * ILL_CONDITIONED < values[0]]
        condition = values[0] / max(values[-1], 1e-16 * values[0])
        told.append(
            f"The points hardly tell {_listed(names, null)} apart (condition number "
            f"{condition:.1g})."
        )
    if freedom < 1:
        return told
    places = [law.parameters.index(name) for name in names]
    inverse = np.linalg.pinv(matrix[:, places].T @ matrix[:, places], hermitian=True)
    noise = np.sqrt(np.sum(errors**2) / freedom)
    vague = []
    for name, place, variance in zip(names, places, np.diagonal(inverse), strict=True):
        error, value = noise * np.sqrt(max(variance, 0.0)), vector[place]
        short = short_name(name)
        if name == short and error > UNCERTAIN * abs(value):
            vague.append(f"{short} is {value:.3g} ± {error:.2g}")
        elif name != short and error > UNCERTAIN_LOG:
            vague.append(f"{short} is known to a factor of {np.exp(min(error, 99.0)):.2g}")
    if vague:
        told.append(f"Not determined by these points: {'; '.join(vague)} (one standard error).")
    return told


def _rising(law: Law, columns: Columns, vector: np.ndarray, is_tied: bool) -> list[str]:
    """Returns a warning for each input with which a law that should fall rises.

    Where inputs are tied to each other, only what happens if all rise together can be seen.
    """
    together = [law.falling] if is_tied else [(name,) for name in law.falling]
    told = []
    with np.errstate(all="ignore"):
        before = law.values(columns, vector)
        for names in together:
            moved = {**columns, **{name: STEP * np.asarray(columns[name]) for name in names}}
            if np.median(law.values(moved, vector) - before) > 0:
                told.append(
                    f"The fitted value rises with {' and '.join(names)}, where a loss falls. Is "
                    "the column a loss, or an accuracy?"
                )
    return told


def _tie(law: Law, columns: Columns) -> str:
    """Returns a warning that tokens follow from sizes, or an empty string."""
    if not {"parameters", "tokens"} <= set(law.inputs):
        return ""
    sizes, tokens = np.log(columns["parameters"]), np.log(columns["tokens"])
    if np.ptp(sizes) == 0 or np.ptp(tokens) == 0:
        return ""
    slope, constant = np.polyfit(sizes - sizes.mean(), tokens, 1)
    spread = float(np.std(tokens - constant - slope * (sizes - sizes.mean())))
    if spread > TIED:
        return ""
    return (
        f"Tokens are tied to parameters: D is a power of N (N^{slope:.2g}) within "
        f"{100 * spread:.1f} %. The effects of size and of data are not told apart; trust neither "
        "exponents nor optima."
    )


def _listed(names: Sequence[str], null: np.ndarray) -> str:
    """Returns the parameters that take part in directions [directions, parameters]."""
    shares = np.linalg.norm(null, axis=0)
    found = [short_name(name) for name, share in zip(names, shares, strict=True) if share > NULL]
    return f"{', '.join(found[:-1])} and {found[-1]}" if len(found) > 1 else "".join(found)


def _few(law: Law, columns: Columns) -> str:
    few = []
    for name in law.inputs:
        values = np.unique(columns[name])
        if len(values) < 3:
            few.append(
                f"{name} is {' or '.join(f'{value:.4g}' for value in values)} in all of them"
            )
    return f": {'; '.join(few)}" if few else ""
