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
from jaxgen.errors import ConfigError, JaxgenError, JaxgenWarning

GIN_HELP = """\
configuration flags, of train, diagnose, evaluate, import, config, prepare, tasks and data:
  --gin_file=FILE        a gin file, repeatable; later files win
  --gin.NAME=VALUE       a binding, such as --gin.train.steps=200 or --gin.TEXT=my/folder
"""

CONFIGURED = ("train", "diagnose", "evaluate", "interchange", "config", "prepare", "tasks", "data")
"""The modules of commands that take these flags."""


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxgen",
        description="Trains, evaluates and studies generative transformers.",
        epilog=GIN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxgen {jaxgen.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a run; started again, it goes on")
    train.add_argument("--run_dir", required=True, help="the run's directory")
    train.set_defaults(function=("train", "train"))

    sweep = commands.add_parser("sweep", help="show or run the runs that a Python file declares")
    sweep.add_argument("file", help="with SWEEP = Sweep(...), such as experiments/quickstart.py")
    sweep.add_argument("--run_dir", help="the sweep's folder; runs/NAME@VERSION if unset")
    sweep.add_argument("--go", action="store_true", help="run it; on another host as well, to help")
    sweep.add_argument("--engine", choices=("local", "ray", "slurm"), default="local")
    sweep.add_argument("--address", help="Ray cluster, such as auto; a new one if unset")
    sweep.add_argument("--jobs", type=int, help="runs at a time; one for each core if unset")
    sweep.add_argument("--retries", type=int, default=1, help="tries more of a failed run")
    sweep.add_argument(
        "--lease_timeout",
        type=float,
        default=60.0,
        help="seconds without a heartbeat until another host counts as gone",
    )
    sweep.add_argument("--only", metavar="RUN", help="one run, by name or index, in this process")
    sweep.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    sweep.add_argument("--dry-run", action="store_true", help="print the Slurm script")
    sweep.add_argument("--sbatch", action="append", help="an option of sbatch, repeatable")
    sweep.add_argument(
        "--no_measure",
        dest="measure",
        action="store_false",
        help="measure no steps to estimate the time",
    )
    sweep.set_defaults(function=("sweep", "sweep"))

    diagnose = commands.add_parser("diagnose", help="examine training: activations, batch sizes")
    of_diagnose = diagnose.add_subparsers(
        required=True, metavar="coordinates|noise_scale|critical_batch"
    )
    check = of_diagnose.add_parser(
        "coordinates", help="how activations grow with width or depth; status 1 if they do"
    )
    sizes = check.add_mutually_exclusive_group(required=True)
    sizes.add_argument("--widths", type=int, nargs="+", help="of the model, such as 32 64 128")
    sizes.add_argument("--depths", type=int, nargs="+", help="of the model, such as 2 4 8")
    check.add_argument("--steps", type=int, default=5, help="training steps on one batch")
    check.add_argument("--seeds", type=int, default=4, help="how many are averaged")
    check.add_argument("--learning_rate", type=float, help="the run's peak if unset")
    check.add_argument("--threshold", type=float, default=0.1, help="largest power of the size")
    check.set_defaults(function=("diagnose", "coordinates"))
    noise = of_diagnose.add_parser(
        "noise_scale", help="gradient noise scale of a run with execution.noise_scale=True"
    )
    noise.add_argument("run_dir", metavar="RUN_DIR")
    noise.add_argument("--parts", type=int, default=4, help="into how many the run is divided")
    noise.set_defaults(function=("diagnose", "noise_scale"))
    batch = of_diagnose.add_parser(
        "critical_batch", help="critical batch from runs of three batch sizes or more"
    )
    batch.add_argument("study", metavar="STUDY_FOLDER", help="the folder whose folders are runs")
    batch.add_argument("--loss", type=float, help="the lowest that all batch sizes reach if unset")
    batch.set_defaults(function=("diagnose", "critical_batch"))

    evaluate = commands.add_parser("evaluate", help="score a checkpoint of a run")
    _add_checkpoint_arguments(evaluate)
    evaluate.add_argument(
        "--num_examples", type=int, help="instances a task; the run's own if unset"
    )
    evaluate.set_defaults(function=("evaluate", "evaluate"))

    harness = commands.add_parser("harness", help="tasks of the LM Evaluation Harness on a run")
    _add_checkpoint_arguments(harness)
    harness.add_argument("--tasks", required=True, help="names, separated by commas")
    harness.add_argument("--include_path", help="a folder of tasks in YAML beside lm-eval's own")
    harness.add_argument("--num_fewshot", type=int, help="as the tasks say if unset")
    harness.add_argument("--limit", type=float, help="instances of each task, or a share below 1")
    harness.add_argument("--batch_size", type=int, help="the run's evaluation.batch_size if unset")
    harness.add_argument("--output", help="evals/STEP.harness.json of the run if unset")
    harness.set_defaults(function=("harness", "harness"))

    generate = commands.add_parser("generate", help="continue a prompt with a run's model")
    _add_checkpoint_arguments(generate)
    generate.add_argument("--prompt", action="append", help="repeatable; standard input if unset")
    generate.add_argument("--max_tokens", type=int, default=128)
    generate.add_argument("--temperature", type=float, default=1.0, help="0 is greedy")
    generate.add_argument("--top_k", type=int)
    generate.add_argument("--top_p", type=float)
    generate.add_argument("--num_samples", type=int, default=1, help="continuations of each prompt")
    generate.add_argument("--seed", type=int, default=0)
    generate.set_defaults(function=("generate", "generate"))

    imported = commands.add_parser(
        "import", help="make a run of a Hugging Face checkpoint, to evaluate, generate or train on"
    )
    imported.add_argument(
        "--from", required=True, dest="source", metavar="DIR", help="config.json and safetensors"
    )
    imported.add_argument("--output", required=True, help="the run's directory, made anew")
    imported.set_defaults(function=("interchange", "import_checkpoint"))

    export = commands.add_parser("export", help="write a checkpoint of a run for Hugging Face")
    _add_checkpoint_arguments(export)
    export.add_argument("--output", required=True, help="the folder, made anew")
    export.add_argument("--family", help="such as llama; the first that fits if unset")
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    export.add_argument("--max_shard_bytes", type=int, default=5_000_000_000)
    export.set_defaults(function=("interchange", "export_checkpoint"))

    study = commands.add_parser("report", help="a page on a study: laws, prediction, abilities")
    study.add_argument("study", metavar="STUDY_FOLDER", help="the folder whose folders are runs")
    study.add_argument("--output", help="report.html in the study's folder if unset")
    study.add_argument("--figures", metavar="DIR", help="write each figure as PDF and PNG too")
    study.add_argument("--title", help="of the page")
    study.add_argument("--lead", help="a paragraph on what was asked")
    study.set_defaults(function=("report", "report"))

    tokenizer = commands.add_parser("tokenizer", help="train or look at tokenizers")
    of_tokenizers = tokenizer.add_subparsers(required=True, metavar="train|show")
    fit = of_tokenizers.add_parser("train", help="BPE or Unigram over bytes, from text files")
    fit.add_argument("text", nargs="+", help="files, folders or globs of UTF-8 text, or .jsonl")
    fit.add_argument("--vocab_size", type=int, default=8192)
    fit.add_argument("--output", required=True, help="the tokenizer.json to write")
    fit.add_argument("--kind", choices=("bpe", "unigram"), default="bpe")
    fit.add_argument("--sample", type=float, default=200, help="megabytes of text to learn from")
    fit.add_argument("--seed", type=int, default=0, help="of the sample")
    fit.add_argument("--sentinels", type=int, default=40, help="for span corruption")
    fit.add_argument("--reserved", type=int, default=0, help="control tokens for later")
    fit.add_argument("--plain", action="store_true", help="no control tokens but pad, begin, end")
    fit.set_defaults(function=("tokenizer", "train"))
    seen = of_tokenizers.add_parser("show", help="what a tokenizer is, and does to a text")
    seen.add_argument("file", help="a tokenizer.json or a SentencePiece .model")
    seen.add_argument("--text", help="to be cut into tokens")
    seen.set_defaults(function=("tokenizer", "show"))

    models = commands.add_parser("models", help="published models and their counts")
    models.set_defaults(function=("models", "listing"), filter=None)
    of_models = models.add_subparsers(metavar="list|show")
    listing = of_models.add_parser("list", help="a line each; `jaxgen models` alone lists all")
    listing.add_argument("filter", nargs="?", help="a part of the names, such as llama")
    listing.set_defaults(function=("models", "listing"))
    shown = of_models.add_parser("show", help="card, counts and parameters, without allocating")
    shown.add_argument("name", metavar="MODEL", help="such as palm/540b")
    shown.set_defaults(function=("models", "show"))

    tasks = commands.add_parser("tasks", help="tasks, and what a model sees of them")
    tasks.set_defaults(function=("tasks", "listing"))
    of_tasks = tasks.add_subparsers(metavar="show")
    seen = of_tasks.add_parser("show", help="records, tokens, targets and weights")
    seen.add_argument(
        "name", metavar="TASK", help="such as addition; or one of the mixture of --gin_file"
    )
    seen.add_argument("--examples", type=int, default=3)
    seen.add_argument("--seed", type=int, default=0)
    seen.add_argument("--split", choices=("train", "heldout"), default="train")
    seen.add_argument("--longest", type=int, default=80, help="tokens of a document to show")
    seen.add_argument("--encoder", action="store_true", help="as a model with an encoder reads it")
    seen.set_defaults(function=("tasks", "show_task"))

    prepare = commands.add_parser("prepare", help="raw corpora to tokenised shards")
    prepare.add_argument("--output", help="the folder, new or of a preparation that was stopped")
    prepare.add_argument("--engine", choices=("local", "ray"), default="local")
    prepare.add_argument("--workers", type=int, help="processes; one a core if unset")
    prepare.add_argument("--address", help="of a Ray cluster, such as auto")
    prepare.add_argument("--check", metavar="FOLDER", help="compare a corpus with its manifest")
    prepare.set_defaults(function=("prepare", "prepare"))

    data = commands.add_parser("data", help="what a mixture is made of").add_subparsers(
        required=True, metavar="report"
    )
    page = data.add_parser("report", help="an HTML page: shares, lengths, waste, repeats, examples")
    page.add_argument("mixture", help="a gin file of a mixture or of a run")
    page.add_argument("--output", default="data_report.html")
    page.add_argument("--length", type=int, help="tokens of a row; the run's, or 256")
    page.add_argument("--source_length", type=int, help="of the encoder's row; the run's, or none")
    page.add_argument("--batch_size", type=int, help="the run's, or 16")
    page.add_argument("--steps", type=int, help="the run's, or 1000")
    page.set_defaults(function=("data", "report"))

    config = commands.add_parser("config", help="look at configurations").add_subparsers(
        required=True, metavar="show|diff|check"
    )
    show = config.add_parser("show", help="print the operative configuration")
    show.add_argument("path", nargs="?", help="a gin file or run directory")
    show.set_defaults(function=("config", "show"))
    diff = config.add_parser("diff", help="print where two differ; status 1 if they do")
    diff.add_argument("first", help="a gin file or run directory")
    diff.add_argument("second", help="a gin file or run directory")
    diff.set_defaults(function=("config", "diff"))
    check = config.add_parser("check", help="check gin files, each for itself")
    check.add_argument("files", nargs="+")
    check.set_defaults(function=("config", "check"))

    completion = commands.add_parser(
        "completion", help="print a script that completes commands, flags and names on TAB"
    ).add_subparsers(required=True, metavar="bash|zsh|fish")
    for shell in ("bash", "zsh", "fish"):
        of_shell = completion.add_parser(shell, help=f"the script for {shell}")
        of_shell.set_defaults(function=("completion", "script"), shell=shell)
    following = completion.add_parser("words")
    following.add_argument("line", help="a command line up to the cursor")
    following.set_defaults(function=("completion", "words"))
    return parser


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run_dir", required=True, help="the directory of a run")
    parser.add_argument("--step", type=int, help="which checkpoint; the newest if unset")
    parser.add_argument("--ema", action="store_true", help="the averages of train.ema_decay")


if __name__ == "__main__":
    sys.exit(main())
