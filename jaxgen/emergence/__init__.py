"""Does an ability emerge in the model, or only in the metric? Tables in, verdicts with numbers out.

    tasks = read_rows(rows)                      # task -> rows, checked
    print(verdict(tasks["addition"]))            # explained by the metric, not explained, ...
    runs = average_runs(tasks["addition"])       # one value a run and metric
    curve(runs, "exact_match"), success_curve(runs), seed_modes(runs, "exact_match")
    power(Design(scales=8, seeds=5), "bimodal")  # would that design have shown it?

docs/laws.md is the guide. The room needs numpy and scipy only, and nothing else of jaxgen, so it
works on anybody's runs.
"""

from jaxgen.emergence.bimodality import seed_modes
from jaxgen.emergence.breakthrough import breakthroughness, curve_shapes, linearity
from jaxgen.emergence.comparison import compare_metrics
from jaxgen.emergence.curves import curve, success_curve
from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.finetuned import fit_emergence_law, fit_onset
from jaxgen.emergence.heatmap import heat_map
from jaxgen.emergence.power import power
from jaxgen.emergence.runs import PER_TOKEN, Runs, average_runs
from jaxgen.emergence.simulate import KINDS, Design, simulate
from jaxgen.emergence.table import TaskRows, read_rows
from jaxgen.emergence.trends import fit_trend
from jaxgen.emergence.verdict import (
    EXPLAINED,
    INCONCLUSIVE,
    NOT_EXPLAINED,
    Verdict,
    verdict,
    verdict_of_runs,
)

__all__ = [
    "EXPLAINED",
    "INCONCLUSIVE",
    "KINDS",
    "NOT_EXPLAINED",
    "PER_TOKEN",
    "Design",
    "EmergenceError",
    "Runs",
    "TaskRows",
    "Verdict",
    "average_runs",
    "breakthroughness",
    "compare_metrics",
    "curve",
    "curve_shapes",
    "fit_emergence_law",
    "fit_onset",
    "fit_trend",
    "heat_map",
    "linearity",
    "power",
    "read_rows",
    "seed_modes",
    "simulate",
    "success_curve",
    "verdict",
    "verdict_of_runs",
]
