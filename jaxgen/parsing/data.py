"""The arguments of commands about data and configurations, and of shell completion."""

from __future__ import annotations

from typing import Any

from jaxgen.parsing.arguments import (
    AMOUNT,
    COUNT,
    GIN_HELP,
    PROCESSES,
    SEED,
    TOKENS,
    WHOLE,
    shape,
    utf8,
)


def add_commands(commands: Any) -> None:
    """Adds the commands to those of a parser."""
    tokenizer = commands.add_parser("tokenizer", help="train or inspect a tokenizer")
    of_tokenizers = tokenizer.add_subparsers(required=True, metavar="train|show")
    fit = of_tokenizers.add_parser("train", help="train BPE or Unigram over bytes on text files")
    fit.add_argument("text", nargs="+", help="files, folders or globs of UTF-8 text, or .jsonl")
    fit.add_argument("--vocab_size", type=TOKENS, default=8192)
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
    seen.add_argument("--text", type=utf8, help="text to tokenize")
    seen.set_defaults(function=("tokenizer", "show"))

    palette = commands.add_parser("palette", help="make codes of pictures, clips and sounds")
    fit = palette.add_subparsers(required=True, metavar="train").add_parser(
        "train",
        help="find a palette of patches or log-mel frames by k-means",
        epilog=GIN_HELP,
    )
    fit.add_argument(
        "task", metavar="TASK", help="such as sprites_drawn, or a task of the mixture in --gin_file"
    )
    fit.add_argument("--field", default="image", help="the field that holds the media")
    fit.add_argument("--patch", type=shape, help="of pictures 4x4 (rows, columns), of clips 2x4x4")
    fit.add_argument("--rate", type=COUNT, help="samples a second of sounds; default: the task's")
    fit.add_argument("--window", type=COUNT, default=400, help="samples of a frame")
    fit.add_argument("--hop", type=COUNT, default=160, help="samples from a frame to the next")
    fit.add_argument("--bands", type=COUNT, default=80, help="numbers of a frame")
    fit.add_argument("--codes", type=COUNT, default=512, help="vectors of the palette, at most")
    fit.add_argument("--examples", type=COUNT, default=2_000)
    fit.add_argument("--seed", type=SEED, default=0)
    fit.add_argument("--output", required=True, help="the .safetensors file to write")
    fit.set_defaults(function=("palette", "train"))

    codec = commands.add_parser("codec", help="take a trained autoencoder as a codec")
    of_codec = codec.add_subparsers(required=True, metavar="export|fit")
    export = of_codec.add_parser(
        "export", help="write the file of an image_codec or a sound_codec from a run"
    )
    export.add_argument("run_dir", metavar="RUN", help="directory of an autoencoder's run")
    export.add_argument("output", metavar="FILE", help="the .safetensors file to write")
    export.add_argument("--step", type=WHOLE, help="step of the checkpoint; default: the newest")
    export.add_argument("--ema", action="store_true", help="use the averages of train.ema_decay")
    export.set_defaults(function=("codec", "export"))
    fit = of_codec.add_parser(
        "fit", help="write the file of a vector_codec: components of a contrastive run's vectors"
    )
    fit.add_argument("run_dir", metavar="RUN", help="directory of a contrastive run")
    fit.add_argument("output", metavar="FILE", help="the .safetensors file to write")
    fit.add_argument("--components", type=COUNT, default=319, help="codes of a vector")
    fit.add_argument("--buckets", type=COUNT, default=1024, help="of each component")
    fit.add_argument("--examples", type=COUNT, default=2_000, help="training pictures")
    fit.add_argument("--step", type=WHOLE, help="step of the checkpoint; default: the newest")
    fit.add_argument("--ema", action="store_true", help="use the averages of train.ema_decay")
    fit.set_defaults(function=("codec", "fit"))

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
    prepare.add_argument("--engine", choices=("local", "ray", "slurm"), default="local")
    prepare.add_argument(
        "--workers", type=PROCESSES, help="number of processes; default: one per core"
    )
    prepare.add_argument("--address", help="address of a Ray cluster, such as auto")
    prepare.add_argument("--sbatch", action="append", help="an option for sbatch; repeatable")
    prepare.add_argument(
        "--captions",
        action="store_true",
        help="of a run's configuration: its captions as its frozen encoder reads them, once",
    )
    prepare.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="with --captions"
    )
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
