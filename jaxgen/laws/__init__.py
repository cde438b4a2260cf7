"""This room fits scaling laws to any table of runs, with intervals and predictions.

    table = Table(parameters=[...], tokens=[...], loss=[...])
    fit = fit_chinchilla(table, Fitting(bootstraps=1000))
    fit.parameters, fit.intervals(), fit.search
    fit.predict(parameters=7e10, tokens=1.4e12, of_new_run=True)
    chinchilla_optimum(fit, flops=5.76e23)

docs/laws.md is the guide. A law is a `Law` (law.py), a fit minimises a `HuberLoss`
(huber_loss.py), a `Fitting` says how it is searched and resampled (fitting.py), and the result is a
`Fit` (fit.py). The room needs numpy and scipy only, and nothing else of jaxgen.
"""

from jaxgen.laws.backtest import backtest
from jaxgen.laws.broken import fit_broken
from jaxgen.laws.chinchilla import (
    BESIROGLU,
    CHINCHILLA,
    HOFFMANN,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_chinchilla,
)
from jaxgen.laws.data_constrained import DATA_CONSTRAINED, MUENNIGHOFF, fit_data_constrained
from jaxgen.laws.drifting import DriftingFit, DriftPrior, fit_drifting
from jaxgen.laws.envelope import fit_envelope
from jaxgen.laws.errors import LawError
from jaxgen.laws.fit import Fit
from jaxgen.laws.fitting import ROBUST, Fitting, fit_law, fit_table
from jaxgen.laws.frontier import Frontier, Optimum, search_optimum
from jaxgen.laws.huber_loss import (
    LEAST_SQUARES,
    LOG1P_LEAST_SQUARES,
    LOG_LEAST_SQUARES,
    HuberLoss,
)
from jaxgen.laws.isoflop import IsoFlop, fit_isoflop
from jaxgen.laws.kaplan import fit_kaplan
from jaxgen.laws.law import Law, by_complex_step, restrict
from jaxgen.laws.overfitting import OVERFITTING, fit_overfitting
from jaxgen.laws.overtraining import fit_downstream_error, fit_overtraining, predict_error
from jaxgen.laws.power_terms import GRANULARITY, SPARSITY, WIDTH_DEPTH, Term, power_terms
from jaxgen.laws.resampling import interval
from jaxgen.laws.sensitivity import Variation, drop_sizes, vary_delta, vary_parameters
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import TokenFlops, token_flops_of
from jaxgen.laws.two_step import fit_task_accuracy, fit_two_step

__all__ = [
    "BESIROGLU",
    "CHINCHILLA",
    "DATA_CONSTRAINED",
    "GRANULARITY",
    "HOFFMANN",
    "LEAST_SQUARES",
    "LOG1P_LEAST_SQUARES",
    "LOG_LEAST_SQUARES",
    "MUENNIGHOFF",
    "OVERFITTING",
    "ROBUST",
    "SPARSITY",
    "WIDTH_DEPTH",
    "DriftPrior",
    "DriftingFit",
    "Fit",
    "Fitting",
    "Frontier",
    "HuberLoss",
    "IsoFlop",
    "Law",
    "LawError",
    "Optimum",
    "Table",
    "Term",
    "TokenFlops",
    "Variation",
    "backtest",
    "by_complex_step",
    "chinchilla_frontier",
    "chinchilla_optimum",
    "drop_sizes",
    "fit_broken",
    "fit_chinchilla",
    "fit_data_constrained",
    "fit_downstream_error",
    "fit_drifting",
    "fit_envelope",
    "fit_isoflop",
    "fit_kaplan",
    "fit_law",
    "fit_overfitting",
    "fit_overtraining",
    "fit_table",
    "fit_task_accuracy",
    "fit_two_step",
    "interval",
    "power_terms",
    "predict_error",
    "restrict",
    "search_optimum",
    "token_flops_of",
    "vary_delta",
    "vary_parameters",
]
