"""The `jaxgen` command. Each subcommand's work is in `jaxgen/commands/`, loaded when it is used."""

from __future__ import annotations

import argparse
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jaxgen
from jaxgen.arguments import GIN_HELP, ArgumentParser
from jaxgen.domains import (
    InnerFraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Seed,
    number,
)
from jaxgen.errors import ConfigError, JaxgenError, JaxgenWarning

COUNT, WHOLE, AMOUNT = number(PositiveInt), number(NonNegativeInt), number(PositiveFloat)
SEED = number(Seed)
CONFIGURED = ("train", "diagnose", "evaluate", "interchange", "config", "prepare", "tasks", "data")
"""The modules of commands that read a configuration."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; prints a JaxgenError as one message. Returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
        try:
            return _run(arguments)
        except JaxgenError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:
            return 1
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130


def _show_warning(usual: Callable[..., None], message: Warning, *details: Any) -> None:
    if isinstance(message, JaxgenWarning):
        print(f"note: {message}", file=sys.stderr)
    else:
        usual(message, *details)


def _run(arguments: list[str]) -> int:
    from jaxgen.configuration import imported, parse_flags

    flags = parse_flags(arguments)
    parser = _parser()
    parsed = parser.parse_args(flags.rest)
    parsed.gin_files, parsed.bindings, parsed.parser = flags.gin_files, flags.bindings, parser
    module, function = parsed.function
    if (flags.gin_files or flags.bindings) and module not in CONFIGURED:
        raise ConfigError(
            f"`jaxgen {flags.rest[0]}` takes no configuration flags (--gin_file, --gin.)."
        )
    with imported(flags.imports):
        return getattr(importlib.import_module(f"jaxgen.commands.{module}"), function)(parsed)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="jaxgen",
        description="Trains, evaluates and studies generative transformers.",
        epilog=GIN_HELP,
    )
    parser.add_argument("--version", action="version", version=f"jaxgen {jaxgen.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train", help="train a run, or continue it where it stopped", epilog=GIN_HELP
    )
    train.add_argument("--run_dir", required=True, help="directory of the run")
    train.set_defaults(function=("train", "train"))

    extend = commands.add_parser(
        "extend", help="make a finished run longer, where its schedule has a constant part"
    )
    extend.add_argument("--run_dir", required=True, help="directory of the finished run")
    extend.add_argument("--steps", type=COUNT, required=True, help="length of the longer run")
    extend.add_argument("--output", required=True, help="directory of the longer run")
    extend.set_defaults(function=("extend", "extend"))

    runs = commands.add_parser("runs", help="list runs: state, step, losses, speed, when")
    runs.add_argument("folder", nargs="?", default="runs", help="default: runs")
    runs.set_defaults(function=("runs", "listing"))

    watch = commands.add_parser("watch", help="show the curves of a run on a page as it trains")
    watch.add_argument("run_dir", metavar="RUN_DIR")
    watch.add_argument("--output", help="default: watch.html in the run's directory")
    watch.add_argument("--every", type=COUNT, default=10, help="seconds between two drawings")
    watch.add_argument("--once", action="store_true", help="draw it once, and stop")
    watch.set_defaults(function=("runs", "watch"))

    sweep = commands.add_parser("sweep", help="list or run the sweep that a Python file declares")
    sweep.add_argument("file", help="file that defines SWEEP, such as experiments/quickstart.py")
    sweep.add_argument("--run_dir", help="folder of the sweep; default: runs/NAME@VERSION")
    sweep.add_argument("--go", action="store_true", help="run it; other hosts may join in")
    sweep.add_argument("--engine", choices=("local", "ray", "slurm"), default="local")
    sweep.add_argument("--address", help="a Ray cluster, such as auto; default: a new one")
    sweep.add_argument("--jobs", type=COUNT, help="number of runs at a time; default: one per core")
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

    diagnose = commands.add_parser("diagnose", help="examine training: activations, batch sizes")
    of_diagnose = diagnose.add_subparsers(
        required=True, metavar="coordinates|noise_scale|critical_batch"
    )
    check = of_diagnose.add_parser(
        "coordinates", help="whether activations grow with width or depth; status 1 if so"
    )
    sizes = check.add_mutually_exclusive_group(required=True)
    sizes.add_argument("--widths", type=COUNT, nargs="+", help="model widths, such as 32 64 128")
    sizes.add_argument("--depths", type=COUNT, nargs="+", help="model depths, such as 2 4 8")
    check.add_argument("--steps", type=COUNT, default=5, help="training steps on one batch")
    check.add_argument("--seeds", type=COUNT, default=4, help="number of seeds to average over")
    check.add_argument("--learning_rate", type=AMOUNT, help="default: the peak rate of the run")
    check.add_argument("--threshold", type=AMOUNT, default=0.1, help="largest exponent to accept")
    check.set_defaults(function=("diagnose", "coordinates"))
    noise = of_diagnose.add_parser(
        "noise_scale", help="gradient noise scale of a run with execution.noise_scale=True"
    )
    noise.add_argument("run_dir", metavar="RUN_DIR")
    noise.add_argument("--parts", type=COUNT, default=4, help="parts to divide the run into")
    noise.set_defaults(function=("diagnose", "noise_scale"))
    batch = of_diagnose.add_parser(
        "critical_batch", help="fit the critical batch size to runs of three batch sizes or more"
    )
    batch.add_argument("study", metavar="STUDY_FOLDER", help="folder of run directories")
    batch.add_argument("--loss", type=AMOUNT, help="default: the lowest that all batch sizes reach")
    batch.set_defaults(function=("diagnose", "critical_batch"))

    evaluate = commands.add_parser(
        "evaluate", help="evaluate a checkpoint of a run", epilog=GIN_HELP
    )
    _add_checkpoint_arguments(evaluate)
    evaluate.add_argument(
        "--num_examples", type=COUNT, help="instances per task; default: the run's"
    )
    evaluate.set_defaults(function=("evaluate", "evaluate"))

    harness = commands.add_parser("harness", help="evaluate a run by the LM Evaluation Harness")
    _add_checkpoint_arguments(harness)
    harness.add_argument("--tasks", required=True, help="names of tasks, separated by commas")
    harness.add_argument("--include_path", help="folder with further tasks as YAML files")
    harness.add_argument("--num_fewshot", type=WHOLE, help="default: as each task sets it")
    harness.add_argument("--limit", type=AMOUNT, help="instances per task, or a fraction below 1")
    harness.add_argument(
        "--batch_size", type=COUNT, help="default: the run's evaluation.batch_size"
    )
    harness.add_argument("--output", help="default: evals/STEP.harness.json of the run")
    harness.set_defaults(function=("harness", "harness"))

    generate = commands.add_parser("generate", help="continue a prompt with a run's model")
    _add_checkpoint_arguments(generate)
    generate.add_argument("--prompt", action="append", help="repeatable; default: standard input")
    generate.add_argument("--max_tokens", type=COUNT, default=128)
    generate.add_argument(
        "--temperature", type=number(NonNegativeFloat), default=1.0, help="0 is greedy decoding"
    )
    generate.add_argument("--top_k", type=COUNT)
    generate.add_argument("--top_p", type=number(PositiveFraction))
    generate.add_argument("--num_samples", type=COUNT, default=1, help="continuations per prompt")
    generate.add_argument("--seed", type=SEED, default=0)
    generate.set_defaults(function=("generate", "generate"))

    imported = commands.add_parser(
        "import",
        help="make a run from a Hugging Face checkpoint, to evaluate, sample or fine-tune",
        epilog=GIN_HELP,
    )
    imported.add_argument(
        "--from",
        required=True,
        dest="source",
        metavar="DIR",
        help="folder of the checkpoint, or its name on the Hugging Face hub: Qwen/Qwen3-0.6B",
    )
    imported.add_argument("--output", required=True, help="directory of the new run")
    imported.add_argument(
        "--revision",
        help="one of several, such as Pythia's step1000: a folder in DIR, or of the hub's cache",
    )
    imported.add_argument(
        "--ignore_keys", type=lambda text: tuple(text.split(",")), default=(), metavar="KEY,KEY",
        help="keys of config.json that jaxgen does not know and that change nothing",
    )  # fmt: skip
    imported.set_defaults(function=("interchange", "import_checkpoint"))

    export = commands.add_parser("export", help="write a checkpoint of a run for Hugging Face")
    _add_checkpoint_arguments(export)
    export.add_argument("--output", required=True, help="the folder to create")
    export.add_argument("--family", help="such as llama; default: the first that fits")
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    export.add_argument("--max_shard_bytes", type=COUNT, default=5_000_000_000)
    export.set_defaults(function=("interchange", "export_checkpoint"))

    study = commands.add_parser("report", help="report on a study: laws, predictions, abilities")
    study.add_argument("study", metavar="STUDY_FOLDER", help="folder of run directories")
    study.add_argument("--output", help="default: report.html in the study's folder")
    study.add_argument("--figures", metavar="DIR", help="also write each figure as PDF and PNG")
    study.add_argument("--title", help="title of the report")
    study.add_argument("--lead", help="opening paragraph: the question of the study")
    study.set_defaults(function=("report", "report"))

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
    law.add_argument("--breaks", type=COUNT, help="of broken; default: 1")
    law.add_argument("--curve", choices=("quadratic", "local", "akima"), help="of isoflop")
    law.add_argument("--weights", choices=("equal", "variance"), help="of isoflop's budgets")
    law.add_argument("--budgets", type=AMOUNT, nargs="+", help="FLOPs; of isoflop")
    law.add_argument("--noise", type=AMOUNT, help="of a run's log loss; of isoflop")
    law.add_argument("--envelope", choices=("lower", "hull"), help="of envelope")
    law.add_argument("--plot", metavar="FILE", help="figure to write, as PNG, PDF or SVG")
    law.add_argument("--json", metavar="FILE", help="values to write as JSON; - prints them alone")
    law.set_defaults(function=("laws", "laws"))

    tokenizer = commands.add_parser("tokenizer", help="train or inspect a tokenizer")
    of_tokenizers = tokenizer.add_subparsers(required=True, metavar="train|show")
    fit = of_tokenizers.add_parser("train", help="train BPE or Unigram over bytes on text files")
    fit.add_argument("text", nargs="+", help="files, folders or globs of UTF-8 text, or .jsonl")
    fit.add_argument("--vocab_size", type=COUNT, default=8192)
    fit.add_argument("--output", required=True, help="the tokenizer.json to write")
    fit.add_argument("--kind", choices=("bpe", "unigram"), default="bpe")
    fit.add_argument("--sample", type=AMOUNT, default=200, help="megabytes of text to train on")
    fit.add_argument("--seed", type=SEED, default=0, help="seed of the sample")
    fit.add_argument("--sentinels", type=WHOLE, default=40, help="sentinels for span corruption")
    fit.add_argument("--reserved", type=WHOLE, default=0, help="further control tokens for later")
    fit.add_argument("--plain", action="store_true", help="no control tokens but pad, begin, end")
    fit.set_defaults(function=("tokenizer", "train"))
    seen = of_tokenizers.add_parser("show", help="describe a tokenizer, and tokenize a text")
    seen.add_argument("file", help="a tokenizer.json or a SentencePiece .model")
    seen.add_argument("--text", help="text to tokenize")
    seen.set_defaults(function=("tokenizer", "show"))

    models = commands.add_parser("models", help="list published models and their parameter counts")
    models.set_defaults(function=("models", "listing"), filter=None)
    of_models = models.add_subparsers(metavar="list|show")
    listing = of_models.add_parser("list", help="list those that match; `jaxgen models` lists all")
    listing.add_argument("filter", nargs="?", help="part of a name, such as llama")
    listing.set_defaults(function=("models", "listing"))
    shown = of_models.add_parser("show", help="card, counts and parameters, without allocating")
    shown.add_argument("name", metavar="MODEL", help="such as palm/540b")
    shown.set_defaults(function=("models", "show"))

    tasks = commands.add_parser(
        "tasks", help="list tasks, and show what a model reads", epilog=GIN_HELP
    )
    tasks.set_defaults(function=("tasks", "listing"))
    of_tasks = tasks.add_subparsers(metavar="show")
    seen = of_tasks.add_parser("show", help="print records, tokens, targets and loss weights")
    seen.add_argument(
        "name", metavar="TASK", help="such as addition, or a task of the mixture in --gin_file"
    )
    seen.add_argument("--examples", type=COUNT, default=3)
    seen.add_argument("--seed", type=SEED, default=0)
    seen.add_argument("--split", choices=("train", "heldout"), default="train")
    seen.add_argument("--longest", type=COUNT, default=80, help="most tokens to show of a document")
    seen.add_argument("--encoder", action="store_true", help="as an encoder-decoder reads it")
    seen.set_defaults(function=("tasks", "show_task"))

    prepare = commands.add_parser(
        "prepare", help="turn raw corpora into tokenised shards", epilog=GIN_HELP
    )
    prepare.add_argument("--output", help="folder to create, or of a preparation to continue")
    prepare.add_argument("--engine", choices=("local", "ray"), default="local")
    prepare.add_argument("--workers", type=COUNT, help="number of processes; default: one per core")
    prepare.add_argument("--address", help="address of a Ray cluster, such as auto")
    prepare.add_argument("--check", metavar="FOLDER", help="check a corpus against its manifest")
    prepare.set_defaults(function=("prepare", "prepare"))

    data = commands.add_parser("data", help="report on a mixture").add_subparsers(
        required=True, metavar="report"
    )
    page = data.add_parser("report", help="HTML page: shares, lengths, padding, repeats, examples")
    page.add_argument("mixture", help="a gin file of a mixture or of a run")
    page.add_argument("--output", default="data_report.html")
    page.add_argument("--length", type=COUNT, help="tokens per row; default: the run's, or 256")
    page.add_argument(
        "--source_length", type=COUNT, help="of the encoder's rows; default: the run's"
    )
    page.add_argument("--batch_size", type=COUNT, help="default: the run's, or 16")
    page.add_argument("--steps", type=COUNT, help="default: the run's, or 1000")
    page.set_defaults(function=("data", "report"))

    config = commands.add_parser("config", help="inspect configurations").add_subparsers(
        required=True, metavar="show|diff|fields|check"
    )
    show = config.add_parser("show", help="print the complete configuration")
    show.add_argument("path", nargs="?", help="a gin file or run directory")
    show.set_defaults(function=("config", "show"))
    diff = config.add_parser("diff", help="print how two differ; exit status 1 if they do")
    diff.add_argument("first", help="a gin file or run directory")
    diff.add_argument("second", help="a gin file or run directory")
    diff.set_defaults(function=("config", "diff"))
    fields = config.add_parser("fields", help="list what can be bound, with types and defaults")
    fields.add_argument("name", nargs="?", metavar="NAME", help="such as model or train")
    fields.set_defaults(function=("config", "fields"))
    check = config.add_parser("check", help="check gin files, one by one")
    check.add_argument("files", nargs="+")
    check.set_defaults(function=("config", "check"))

    completion = commands.add_parser(
        "completion", help="print a shell script that completes commands, flags and names on TAB"
    ).add_subparsers(required=True, metavar="bash|zsh|fish")
    for shell in ("bash", "zsh", "fish"):
        of_shell = completion.add_parser(shell, help=f"print the script for {shell}")
        of_shell.set_defaults(function=("completion", "script"), shell=shell)
    following = completion.add_parser("words")
    following.add_argument("line", help="a command line up to the cursor")
    following.set_defaults(function=("completion", "words"))
    return parser


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run_dir", required=True, help="directory of the run")
    parser.add_argument("--step", type=WHOLE, help="step of the checkpoint; default: the newest")
    parser.add_argument("--ema", action="store_true", help="use the averages of train.ema_decay")


if __name__ == "__main__":
    sys.exit(main())
