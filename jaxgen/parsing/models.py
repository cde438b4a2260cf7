"""The arguments of commands that take the model of a checkpoint: a run's, or Hugging Face's."""

from __future__ import annotations

import argparse
from typing import Any

from jaxgen.commands.generate_defaults import MAX_TOKENS, PARALLEL_NOISE, TEMPERATURE
from jaxgen.domains import NonNegativeFloat, PositiveFraction, number
from jaxgen.parsing.arguments import AMOUNT, COUNT, GIN_HELP, SAMPLES, SEED, TOKENS, WHOLE, utf8


def add_commands(commands: Any) -> None:
    """Adds the commands to those of a parser."""
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
    generate.add_argument(
        "--prompt", action="append", type=utf8, help="repeatable; default: standard input"
    )
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
    generate.add_argument("--negative_prompt", type=utf8, help="what guidance leads away from")
    generate.add_argument(
        "--strength",
        type=number(PositiveFraction),
        default=1.0,
        help="share of the sampler's steps that --image is made noisy for; 1: nothing is left",
    )
    generate.add_argument(
        "--mask", metavar="FILE", help="a picture, white where --image is painted anew"
    )
    generate.add_argument("--max_tokens", type=TOKENS, default=MAX_TOKENS, help="of text")
    generate.add_argument(
        "--temperature",
        type=number(NonNegativeFloat),
        default=TEMPERATURE,
        help="0 is greedy decoding",
    )
    generate.add_argument("--top_k", type=COUNT)
    generate.add_argument("--top_p", type=number(PositiveFraction))
    generate.add_argument("--num_samples", type=SAMPLES, default=1, help="continuations per prompt")
    generate.add_argument(
        "--parallel_steps",
        type=COUNT,
        metavar="STEPS",
        help="make all codes of a picture at once in so many steps, by a model of masked codes",
    )
    generate.add_argument(
        "--parallel_noise",
        type=number(NonNegativeFloat),
        default=PARALLEL_NOISE,
        help="how much the order in which those codes are kept is stirred; 0: the surest first",
    )
    generate.add_argument(
        "--candidates",
        type=SAMPLES,
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
