"""The arguments of commands that train a run, or take one."""

from __future__ import annotations

import argparse
from typing import Any

from jaxgen.domains import NonNegativeFloat, PositiveFraction, number
from jaxgen.parsing.arguments import AMOUNT, COUNT, GIN_HELP, SEED, WHOLE

PLAN_HELP = """\
topologies:
  v4:4x4x8 v5p:8x8x16 7x:4x4x4   chips of a 3D torus; v5e:2x4 v6e:16x16: of a 2D torus
  2xv6e:16x16                    two slices along mesh.data, joined by the data centre's network
  cpu:8                          a mesh of CPU devices, without times
  TPUs need `pip install 'jaxgen[plan]'` (their compiler; no TPU)
example:
  jaxgen plan --topology=v6e:16x16 --gin_file=base.gin --gin_file=mixtures/quickstart.gin
      --gin_file=models/llama/3_8b.gin --gin.train.steps=1000 --gin.train.batch_size=256
      --gin.train.length=8192 --gin.mesh.data=1 --gin.mesh.fsdp=256 --gin.execution.remat=full
"""


def add_commands(commands: Any) -> None:
    """Adds the commands to those of a parser."""
    train = commands.add_parser(
        "train", help="train a run, or continue it where it stopped", epilog=GIN_HELP
    )
    train.add_argument("--run_dir", required=True, help="directory of the run")
    train.set_defaults(function=("train", "train"))

    plan = commands.add_parser(
        "plan",
        help="what a run needs of chips that are not here: memory, collectives, time, cost",
        description="Compiles the train step of a run ahead of time for a topology, with nothing "
        "but a CPU, and prints memory,\ncollectives, operations and the least time of a step. "
        "Status 1 if the program does not fit.",
        epilog=f"{PLAN_HELP}\n{GIN_HELP}",
    )
    plan.add_argument("run_dir", nargs="?", metavar="RUN", help="run directory; or give --gin_file")
    plan.add_argument(
        "--topology", required=True, metavar="CHIP:SHAPE", help="such as v5p:8x8x16 or cpu:8"
    )
    plan.add_argument(
        "--decode",
        action="store_true",
        help="a step of decoding: train.batch_size sequences, a cache of train.length tokens",
    )
    plan.add_argument(
        "--search",
        action="store_true",
        help="try meshes, remat policies and microbatches by arithmetic, and compile the best",
    )
    plan.add_argument(
        "--compile", type=COUNT, default=3, help="layouts that --search compiles; default: 3"
    )
    plan.add_argument("--json", metavar="FILE", help="also write the plan as JSON")
    plan.add_argument("--price_per_chip_hour", type=AMOUNT, help="in any currency")
    plan.add_argument("--watts_per_chip", type=AMOUNT, help="of a chip with its share of the host")
    plan.add_argument(
        "--pue", type=AMOUNT, help="watts of the data centre for one of its machines; default: 1"
    )
    plan.set_defaults(function=("plan", "plan"))

    extend = commands.add_parser(
        "extend",
        help="make a run longer: as it was, where its rate is constant, or as a stage",
        epilog=GIN_HELP,
    )
    extend.add_argument("--run_dir", required=True, help="directory of the run")
    extend.add_argument("--steps", type=COUNT, required=True, help="length of the longer run")
    extend.add_argument("--output", required=True, help="directory of the longer run")
    extend.set_defaults(function=("extend", "extend"))

    runs = commands.add_parser("runs", help="list runs: state, step, losses, speed, when")
    runs.add_argument("folder", nargs="?", default="runs", help="default: runs")
    runs.set_defaults(function=("runs", "listing"))

    status = commands.add_parser(
        "status", help="what runs are doing, how fast, since when, and what failed"
    )
    status.add_argument(
        "run_dirs", nargs="+", metavar="RUN", help="run directory; gs:// and s3:// too"
    )
    status.set_defaults(function=("status", "status"))

    checkpoints = commands.add_parser(
        "checkpoints",
        help="the checkpoints of a run: why each is kept, whether it is whole, and what may go",
    )
    checkpoints.add_argument("run_dir", metavar="RUN_DIR")
    checkpoints.add_argument("--verify", action="store_true", help="read all, and compare digests")
    checkpoints.add_argument(
        "--prune",
        action="store_true",
        help="remove unfinished saves and what was set aside; the run must not be training",
    )
    checkpoints.add_argument(
        "--keep", type=COUNT, help="with --prune: leave this many of the newest, and those for good"
    )
    checkpoints.add_argument(
        "--slim", metavar="FOLDER", help="copy the newest model, without what only training needs"
    )
    checkpoints.set_defaults(function=("checkpoints", "checkpoints"))

    watch = commands.add_parser("watch", help="show the curves of a run on a page as it trains")
    watch.add_argument("run_dir", metavar="RUN_DIR")
    watch.add_argument("--output", help="default: watch.html in the run's directory")
    watch.add_argument("--every", type=COUNT, default=10, help="seconds between two drawings")
    watch.add_argument("--once", action="store_true", help="draw it once, and stop")
    watch.set_defaults(function=("runs", "watch"))

    profile = commands.add_parser(
        "profile", help="time of traced steps by kind of operation (execution.profile_steps)"
    )
    profile.add_argument("run_dir", metavar="RUN_DIR")
    profile.add_argument("--longest", type=COUNT, default=10, help="instructions to list")
    profile.set_defaults(function=("profile", "profile"))

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
    add_checkpoint_arguments(evaluate)
    evaluate.add_argument(
        "--num_examples", type=COUNT, help="instances per task; default: the run's"
    )
    evaluate.set_defaults(function=("evaluate", "evaluate"))

    reference = commands.add_parser(
        "reference",
        help="score a run-to-be's comparisons with a run's model, once, for its preference loss",
        epilog=GIN_HELP,
    )
    add_checkpoint_arguments(reference)
    reference.add_argument(
        "--output", required=True, metavar="FILE", help="the .safetensors file to write"
    )
    reference.set_defaults(function=("reference", "reference"))

    harness = commands.add_parser("harness", help="evaluate a run by the LM Evaluation Harness")
    add_checkpoint_arguments(harness)
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
    add_checkpoint_arguments(generate)
    generate.add_argument("--prompt", action="append", help="repeatable; default: standard input")
    generate.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="FILE",
        help="before the prompts, repeatable; of runs of diffusion the picture to begin with",
    )
    generate.add_argument(
        "--audio",
        action="append",
        default=[],
        metavar="FILE",
        help="a sound file, likewise",
    )
    generate.add_argument(
        "--output",
        metavar="FILE",
        help="make a picture (.png), sound (.wav) or clip (.gif); a folder of pictures",
    )
    generate.add_argument(
        "--guidance",
        type=number(NonNegativeFloat),
        help="scale of classifier-free guidance; 1: none; default: 1, or the run's own",
    )
    generate.add_argument(
        "--then",
        action="append",
        default=[],
        metavar="RUN_DIR",
        help="a run of diffusion that goes on with what was made, such as an upsampler; repeatable",
    )
    generate.add_argument(
        "--sampler_steps", type=COUNT, help="of runs of diffusion; default: as the run evaluates"
    )
    generate.add_argument("--negative_prompt", help="what guidance leads away from")
    generate.add_argument(
        "--strength",
        type=number(PositiveFraction),
        default=1.0,
        help="share of the sampler's steps that --image is made noisy for; 1: nothing is left",
    )
    generate.add_argument(
        "--mask", metavar="FILE", help="a picture, white where --image is painted anew"
    )
    generate.add_argument("--max_tokens", type=COUNT, default=128, help="of text")
    generate.add_argument(
        "--temperature", type=number(NonNegativeFloat), default=1.0, help="0 is greedy decoding"
    )
    generate.add_argument("--top_k", type=COUNT)
    generate.add_argument("--top_p", type=number(PositiveFraction))
    generate.add_argument("--num_samples", type=COUNT, default=1, help="continuations per prompt")
    generate.add_argument(
        "--parallel_steps",
        type=COUNT,
        metavar="STEPS",
        help="make all codes of a picture at once in so many steps, by a model of masked codes",
    )
    generate.add_argument(
        "--parallel_noise",
        type=number(NonNegativeFloat),
        default=4.5,
        help="how much the order in which those codes are kept is stirred; 0: the surest first",
    )
    generate.add_argument(
        "--candidates",
        type=COUNT,
        default=1,
        help="pictures made for each prompt, of which --rerank chooses",
    )
    generate.add_argument(
        "--rerank",
        metavar="RUN_DIR",
        help="a contrastive run that writes the best --num_samples of the candidates alone",
    )
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
    imported.add_argument(
        "--text_only", action="store_true",
        help="import the text model alone of LLaVA or Gemma 3, without what reads images",
    )  # fmt: skip
    imported.add_argument(
        "--adapter", metavar="DIR",
        help="a folder of PEFT's adapters (LoRA, DoRA) of the checkpoint, which stay adapters",
    )  # fmt: skip
    imported.set_defaults(function=("interchange", "import_checkpoint"))

    export = commands.add_parser("export", help="write a checkpoint of a run for Hugging Face")
    add_checkpoint_arguments(export)
    export.add_argument("--output", required=True, help="the folder to create")
    export.add_argument("--family", help="such as llama; default: the first that fits")
    export.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    export.add_argument("--max_shard_bytes", type=COUNT, default=5_000_000_000)
    export.add_argument(
        "--adapter",
        action="store_true",
        help="the adapters of a run of lora alone, for PEFT; default: merged into the model",
    )
    export.set_defaults(function=("interchange", "export_checkpoint"))


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a run and the checkpoint that is taken of it."""
    parser.add_argument("--run_dir", required=True, help="directory of the run")
    parser.add_argument("--step", type=WHOLE, help="step of the checkpoint; default: the newest")
    parser.add_argument("--ema", action="store_true", help="use the averages of train.ema_decay")
    parser.add_argument(
        "--average",
        type=COUNT,
        default=1,
        help="mean of the last checkpoints, so many up to --step",
    )
