"""The arguments of commands about several runs, and of the published models."""

from __future__ import annotations

import argparse
from typing import Any

from jaxgen.domains import InnerFraction, number
from jaxgen.parsing.arguments import AMOUNT, PROCESSES, SEED, WHOLE


def add_commands(commands: Any) -> None:
    """Adds the commands to those of a parser."""
    sweep = commands.add_parser("sweep", help="list or run the sweep that a Python file declares")
    sweep.add_argument("file", help="file that defines SWEEP, such as experiments/quickstart.py")
    sweep.add_argument("--run_dir", help="folder of the sweep; default: runs/NAME@VERSION")
    sweep.add_argument("--go", action="store_true", help="run it; other hosts may join in")
    sweep.add_argument("--engine", choices=("local", "ray", "slurm"), default="local")
    sweep.add_argument("--address", help="a Ray cluster, such as auto; default: a new one")
    sweep.add_argument(
        "--jobs", type=PROCESSES, help="number of runs at a time; default: one per core"
    )
    sweep.add_argument("--retries", type=WHOLE, default=1, help="number of retries of a failed run")
    sweep.add_argument(
        "--lease_timeout",
        type=AMOUNT,
        default=60.0,
        help="seconds without a heartbeat after which a host counts as dead",
    )
    sweep.add_argument("--only", metavar="RUN", help="one run, by name or index, in this process")
    sweep.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    sweep.add_argument("--dry-run", action="store_true", help="print the Slurm script")
    sweep.add_argument("--sbatch", action="append", help="an option for sbatch; repeatable")
    sweep.add_argument(
        "--no_measure",
        dest="measure",
        action="store_false",
        help="estimate the time without measuring training steps",
    )
    sweep.set_defaults(function=("sweep", "sweep"))

    study = commands.add_parser("report", help="report on a study: laws, predictions, abilities")
    study.add_argument("study", metavar="STUDY_FOLDER", help="folder of run directories")
    study.add_argument("--output", help="default: report.html in the study's folder")
    study.add_argument("--figures", metavar="DIR", help="also write each figure as PDF and PNG")
    study.add_argument("--title", help="title of the report")
    study.add_argument("--lead", help="opening paragraph: the question of the study")
    study.set_defaults(function=("report", "report"))

    tested = commands.add_parser(
        "backtest", help="how well past ladders' larger sizes are forecast from their smaller ones"
    )
    tested.add_argument(
        "studies", nargs="+", metavar="STUDY", help="folder of run directories, or a file of --csv"
    )
    tested.add_argument("--csv", metavar="FILE", help="also write the measurements, without runs")
    tested.add_argument(
        "--method",
        choices=("drift", "ends", "law"),
        default="drift",
        help="a drifting power law, the same without losses at checkpoints, or the law that the "
        "runs can identify; default: drift",
    )
    tested.add_argument(
        "--level", type=number(InnerFraction), default=0.9, help="level of the intervals"
    )
    tested.add_argument("--by_task", action="store_true", help="also a row for each task")
    tested.add_argument(
        "--half",
        choices=("fixed", "judged"),
        help="only one half of the tasks, by a hash of their names; choose on one, judge on one",
    )
    tested.set_defaults(function=("backtest", "backtest"))

    law = commands.add_parser("laws", help="fit a scaling law to a CSV file of anybody's runs")
    law.add_argument("file", help="CSV file with a row for each run, or each checkpoint of a run")
    law.add_argument(
        "--law",
        choices=(
            "chinchilla", "isoflop", "envelope", "kaplan", "broken", "overtraining",
            "data_constrained", "overfitting", "granularity", "sparsity", "width_depth",
        ),
        default="chinchilla",
    )  # fmt: skip
    law.add_argument(
        "--columns",
        help="such as N=params*1e6,D=tokens,L=val_loss (also C); default: by their usual names",
    )
    law.add_argument(
        "--skip_incomplete", action="store_true", help="leave out rows that lack a value"
    )
    law.add_argument("--bootstraps", type=WHOLE, help="default: 200; isoflop and envelope: 1000")
    law.add_argument(
        "--resample", metavar="run|seed|COLUMN", help="what is resampled; default: run"
    )
    law.add_argument("--seed", type=SEED, default=0, help="seed of the resamples")
    law.add_argument(
        "--level", type=number(InnerFraction), default=0.95, help="level of the intervals"
    )
    law.add_argument("--flops", type=AMOUNT, nargs="+", help="budgets to print the best models of")
    law.add_argument("--of", help="column of x: of kaplan (or both) and broken")
    law.add_argument("--target", help="column of y of broken; default: loss")
    law.add_argument("--breaks", type=WHOLE, help="of broken; default: 1, 0: a power law")
    law.add_argument("--curve", choices=("quadratic", "local", "akima"), help="of isoflop")
    law.add_argument("--weights", choices=("equal", "variance"), help="of isoflop's budgets")
    law.add_argument("--budgets", type=AMOUNT, nargs="+", help="FLOPs; of isoflop")
    law.add_argument("--noise", type=AMOUNT, help="of a run's log loss; of isoflop")
    law.add_argument("--envelope", choices=("lower", "hull"), help="of envelope")
    law.add_argument("--plot", metavar="FILE", help="figure to write, as PNG, PDF or SVG")
    law.add_argument("--json", metavar="FILE", help="values to write as JSON; - prints them alone")
    law.set_defaults(function=("laws", "laws"))

    models = commands.add_parser("models", help="list published models and their parameter counts")
    models.set_defaults(function=("models", "listing"), filter=None)
    of_models = models.add_subparsers(metavar="list|show")
    listing = of_models.add_parser("list", help="list those that match; `jaxgen models` lists all")
    listing.add_argument("filter", nargs="?", help="part of a name, such as llama")
    listing.set_defaults(function=("models", "listing"))
    shown = of_models.add_parser("show", help="card, counts and parameters, without allocating")
    shown.add_argument("name", metavar="MODEL", help="such as palm/540b")
    shown.set_defaults(function=("models", "show"))
