"""Scaling laws: fitted to any table of runs, with how sure they are and what they predict.

    table = Table(parameters=[...], tokens=[...], loss=[...])
    fit = fit_chinchilla(table, Fitting(bootstraps=1000))
    fit.parameters, fit.intervals(), fit.search
    fit.predict(parameters=7e10, tokens=1.4e12, of_new_run=True)
    chinchilla_optimum(fit, flops=5.76e23)

A law is a `Law` (law.py), what a fit makes small an `Objective` (objective.py), how it is searched
and resampled a `Fitting` (fitting.py), the result a `Fit` (fit.py). Numpy and scipy only, and
nothing else of jaxgen.
"""

from jaxgen.laws.broken import broken_law, fit_broken, without_breaks
from jaxgen.laws.chinchilla import (
    BESIROGLU,
    CHINCHILLA,
    HOFFMANN,
    chinchilla_frontier,
    chinchilla_optimum,
    fit_chinchilla,
    hoffmann_starts,
)
from jaxgen.laws.data_constrained import (
    DATA_CONSTRAINED,
    MUENNIGHOFF,
    fit_data_constrained,
)
from jaxgen.laws.embeddings import flops_of_best, local_exponent, total_parameters
from jaxgen.laws.envelope import Envelope, fit_envelope
from jaxgen.laws.errors import LawError
from jaxgen.laws.farseer import farseer_law, fit_farseer
from jaxgen.laws.fit import Fit, Prediction, Search
from jaxgen.laws.fitting import ROBUST, Fitting, fit_law, fit_table
from jaxgen.laws.frontier import Frontier, Optimum, search_optimum
from jaxgen.laws.holdout import Holdout, Origin, roll
from jaxgen.laws.isoflop import Budget, IsoFlop, fit_isoflop
from jaxgen.laws.kaplan import KAPLAN, KAPLAN_JOINT, fit_kaplan
from jaxgen.laws.law import Law, by_complex_step, restrict
from jaxgen.laws.mixture_of_experts import (
    CLARK_SBASE,
    EXPERTS,
    GRANULARITY,
    SPARSITY,
    effective_experts,
    fit_experts,
    fit_granularity,
    fit_sparsity,
)
from jaxgen.laws.objective import LEAST_SQUARES, LOG_LEAST_SQUARES, Objective
from jaxgen.laws.observational import (
    Capabilities,
    Family,
    as_components,
    find_capabilities,
    fit_families,
    fit_task,
)
from jaxgen.laws.overtraining import (
    DOWNSTREAM_ERROR,
    OVERTRAINING,
    fit_downstream_error,
    fit_overtraining,
    paper_form,
    predict_error,
)
from jaxgen.laws.power_terms import Term, power_terms
from jaxgen.laws.projection import Projected, project_chinchilla
from jaxgen.laws.sensitivity import (
    Variation,
    drop_sizes,
    fix_irreducible,
    vary_delta,
    vary_parameters,
)
from jaxgen.laws.shape import SHAPE, fit_shape
from jaxgen.laws.table import Table
from jaxgen.laws.token_flops import SIX_N, TokenFlops, token_flops_of
from jaxgen.laws.two_step import TASK_ACCURACY, TwoStep, fit_task_accuracy, fit_two_step

__all__ = [
    "BESIROGLU",
    "CHINCHILLA",
    "CLARK_SBASE",
    "DATA_CONSTRAINED",
    "DOWNSTREAM_ERROR",
    "EXPERTS",
    "GRANULARITY",
    "HOFFMANN",
    "KAPLAN",
    "KAPLAN_JOINT",
    "LEAST_SQUARES",
    "LOG_LEAST_SQUARES",
    "MUENNIGHOFF",
    "OVERTRAINING",
    "ROBUST",
    "SHAPE",
    "SIX_N",
    "SPARSITY",
    "TASK_ACCURACY",
    "Budget",
    "Capabilities",
    "Envelope",
    "Family",
    "Fit",
    "Fitting",
    "Frontier",
    "Holdout",
    "IsoFlop",
    "Law",
    "LawError",
    "Objective",
    "Optimum",
    "Origin",
    "Prediction",
    "Projected",
    "Search",
    "Table",
    "Term",
    "TokenFlops",
    "TwoStep",
    "Variation",
    "as_components",
    "broken_law",
    "by_complex_step",
    "chinchilla_frontier",
    "chinchilla_optimum",
    "drop_sizes",
    "effective_experts",
    "farseer_law",
    "find_capabilities",
    "fit_broken",
    "fit_chinchilla",
    "fit_data_constrained",
    "fit_downstream_error",
    "fit_envelope",
    "fit_experts",
    "fit_families",
    "fit_farseer",
    "fit_granularity",
    "fit_isoflop",
    "fit_kaplan",
    "fit_law",
    "fit_overtraining",
    "fit_shape",
    "fit_sparsity",
    "fit_table",
    "fit_task",
    "fit_task_accuracy",
    "fit_two_step",
    "fix_irreducible",
    "flops_of_best",
    "hoffmann_starts",
    "local_exponent",
    "paper_form",
    "power_terms",
    "predict_error",
    "project_chinchilla",
    "restrict",
    "roll",
    "search_optimum",
    "token_flops_of",
    "total_parameters",
    "vary_delta",
    "vary_parameters",
    "without_breaks",
]
