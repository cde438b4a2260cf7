"""The arguments of commands that train a run, look at one, or plan it."""

from __future__ import annotations

from typing import Any

from jaxgen.parsing.arguments import AMOUNT, COUNT, GIN_HELP

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
