"""Is an emergent ability the model's or the metric's? Tables in, statements with numbers out.

    tasks = read_rows(rows)                     # task -> rows, checked
    print(verdict(tasks["addition"]))           # explained by the metric, not explained, ...
    runs = average_runs(tasks["addition"])      # one value a run and metric
    curve(runs, "exact_match"), success_curve(runs), seed_modes(runs, "exact_match")
    power(Design(scales=8, seeds=5), "bimodal") # would that design have shown it?

Numpy and scipy on tables: nothing else of jaxgen is needed, so anybody's runs will do.
"""

from jaxgen.emergence.bimodality import Modes, seed_modes
from jaxgen.emergence.breakthrough import Shape, breakthroughness, linearity, shapes
from jaxgen.emergence.comparison import Comparison, compare_metrics
from jaxgen.emergence.curves import Point, Success, curve, success_curve
from jaxgen.emergence.dip import dip_probability, dip_statistic
from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.finetuned import EmergenceLaw, fit_emergence_law, fit_onset
from jaxgen.emergence.heatmap import HeatMap, heat_map
from jaxgen.emergence.intervals import Interval, bootstrap_mean, wilson
from jaxgen.emergence.mixtures import Mixture, fit_mixture, logit
from jaxgen.emergence.power import Power, power
from jaxgen.emergence.prediction import Prediction, predict_exact_match
from jaxgen.emergence.public_models import read_public_models
from jaxgen.emergence.runs import PER_TOKEN, Runs, average_runs
from jaxgen.emergence.simulate import KINDS, Design, simulate
from jaxgen.emergence.table import TaskRows, read_rows
from jaxgen.emergence.trends import Trend, fit_trend
from jaxgen.emergence.verdict import (
    EXPLAINED,
    INCONCLUSIVE,
    NOT_EXPLAINED,
    Criterion,
    Verdict,
    judge,
    verdict,
)

__all__ = [
    "EXPLAINED",
    "INCONCLUSIVE",
    "KINDS",
    "NOT_EXPLAINED",
    "PER_TOKEN",
    "Comparison",
    "Criterion",
    "Design",
    "EmergenceError",
    "EmergenceLaw",
    "HeatMap",
    "Interval",
    "Mixture",
    "Modes",
    "Point",
    "Power",
    "Prediction",
    "Runs",
    "Shape",
    "Success",
    "TaskRows",
    "Trend",
    "Verdict",
    "average_runs",
    "bootstrap_mean",
    "breakthroughness",
    "compare_metrics",
    "curve",
    "dip_probability",
    "dip_statistic",
    "fit_emergence_law",
    "fit_mixture",
    "fit_onset",
    "fit_trend",
    "heat_map",
    "judge",
    "linearity",
    "logit",
    "power",
    "predict_exact_match",
    "read_public_models",
    "read_rows",
    "seed_modes",
    "shapes",
    "simulate",
    "success_curve",
    "verdict",
    "wilson",
]
