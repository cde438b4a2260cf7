"""`jaxgen sweep` lists or runs the sweep that a file of experiments/ declares."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxgen import distributed
from jaxgen.errors import ConfigError
from jaxgen.process import prepare_process
from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.slurm import submit
from jaxgen.studies.report import write_heading
from jaxgen.sweeps.dependencies import dependencies
from jaxgen.sweeps.estimates import Speeds, measure_speeds, recorded_speeds
from jaxgen.sweeps.in_process import run_one
from jaxgen.sweeps.leases import LeaseMonitor
from jaxgen.sweeps.local_engine import LocalEngine
from jaxgen.sweeps.preregistration import ensure_registered, is_held_out, split_held_out
from jaxgen.sweeps.run_sweep import run_sweep
from jaxgen.sweeps.slurm import render
from jaxgen.sweeps.status import RunStatus, refusal, status_of
from jaxgen.sweeps.sweep import Sweep, load_sweep
from jaxgen.sweeps.together_engine import TogetherEngine
from jaxgen.training.tracking import clock, si


def sweep(arguments: argparse.Namespace) -> int:
    """Shows a sweep, or runs it with `go`. Returns 1 if a run failed or was refused, else 0.

    Args:
      arguments: `file`, `run_dir`, `go`, `engine`, `address`, `jobs`, `retries`,
        `lease_timeout`, `only`, `parent`, `dry_run`, `sbatch`, `measure`.
    """
    _check(arguments)
    if arguments.go and arguments.engine == "local" and arguments.only is None:
        distributed.start()
    file = Path(arguments.file).resolve()
    declared = load_sweep(file)
    folder = Path(arguments.run_dir or Path("runs") / declared.identity).expanduser().absolute()
    if arguments.only is not None:
        return _run_only(declared, folder, arguments)
    if arguments.engine == "slurm" and (arguments.go or arguments.dry_run):
        return _slurm(declared, file, folder, arguments)
    if not arguments.go:
        _show(declared, folder, arguments.measure)
        return 0
    if distributed.process_count() > 1:
        return _sweep_together(declared, folder, arguments)
    if arguments.engine == "ray":
        from jaxgen.sweeps.ray_engine import RayEngine

        engine = RayEngine(declared, file, folder, arguments.address, arguments.jobs)
    else:
        engine = LocalEngine(declared, folder, arguments.jobs)
    try:
        return run_sweep(declared, folder, engine, arguments.retries, arguments.lease_timeout)
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        return 130


def _sweep_together(declared: Sweep, folder: Path, arguments: argparse.Namespace) -> int:
    """Runs a sweep whose every run takes all processes of this program."""
    if arguments.jobs is not None:
        raise ConfigError(
            f"--jobs={arguments.jobs} runs at a time need processes of their own, and these "
            f"{distributed.process_count()} train each run together; leave --jobs out."
        )
    prepare_process()
    engine = TogetherEngine(declared, folder)
    if not distributed.is_main():
        engine.follow()
        return 0
    try:
        return run_sweep(declared, folder, engine, arguments.retries, arguments.lease_timeout)
    except KeyboardInterrupt:
        print("stopped; run the same command to continue.", file=sys.stderr)
        return 130
    finally:
        engine.close()


def _check(arguments: argparse.Namespace) -> None:
    for flag, value, engine in (
        ("--address", arguments.address, "ray"),
        ("--sbatch", arguments.sbatch, "slurm"),
        ("--dry-run", arguments.dry_run, "slurm"),
    ):
        if value and arguments.engine != engine:
            raise ConfigError(f"{flag} needs --engine={engine}; leave it out, or change engines.")
    if arguments.only is not None and not arguments.go:
        raise ConfigError(f"--only={arguments.only} does one run: add --go.")


def _run_only(declared: Sweep, folder: Path, arguments: argparse.Namespace) -> int:
    config = declared.runs[declared.index_of(arguments.only)]
    if is_held_out(declared, config):
        _register(declared, folder)
    status = run_one(declared, config, folder, arguments.retries, arguments.parent)
    why = f": {status.why}" if status.why else ""
    print(f"{config.name} {status.state}{why}", file=sys.stderr)
    return 1 if status.state in ("failed", "refused") else 0


def _slurm(declared: Sweep, file: Path, folder: Path, arguments: argparse.Namespace) -> int:
    statuses = _statuses(declared, folder)
    left = [index for index, status in enumerate(statuses) if status.is_open]
    parents = dependencies(declared.runs, folder, declared.branches)
    open_runs = {declared.runs[index].name for index in left}

    def waits(run: RunConfig) -> bool:
        return is_held_out(declared, run) or not open_runs.isdisjoint(parents.get(run.name, ()))

    ready = [index for index in left if not waits(declared.runs[index])]
    if ready:
        left = ready  # The others begin when these have finished: submit again.
    elif left and declared.held_out and not arguments.dry_run:
        _register(declared, folder)
    _print_unfinished(declared, statuses)
    if not left:
        print(f"all {len(statuses)} runs of {declared.identity} have ended; nothing to submit")
        return 0
    if not arguments.dry_run:
        write_heading(folder, declared.title or declared.identity, declared.lead)
    options = [arguments.jobs, arguments.retries, arguments.sbatch or ()]
    script = render(declared, file, folder, left, *options)
    print(script if arguments.dry_run else submit(script, folder / "sweep.sbatch"))
    return 1 if any(status.state == "refused" for status in statuses) else 0


def _register(declared: Sweep, folder: Path) -> None:
    """Registers the prediction before a held-out run begins."""
    directories = [RunDirectory(folder / run.name) for run in split_held_out(declared)[0]]
    message = ensure_registered(declared, folder, [one.is_finished() for one in directories])
    if message:
        print(message, flush=True)


def _statuses(declared: Sweep, folder: Path) -> list[RunStatus]:
    monitor, statuses = LeaseMonitor(), []
    for config, directory in zip(declared.runs, declared.directories(folder), strict=True):
        problem = refusal(config, directory)
        status = status_of(declared, config, directory, monitor)
        statuses.append(RunStatus("refused", problem, status.attempts) if problem else status)
    return statuses


def _print_unfinished(declared: Sweep, statuses: list[RunStatus]) -> None:
    for config, status in zip(declared.runs, statuses, strict=True):
        if status.state in ("refused", "failed", "stopped"):
            print(f"{status.state}: {config.name}: {status.why}", file=sys.stderr)


def _show(declared: Sweep, folder: Path, measure: bool) -> None:
    statuses, directories = _statuses(declared, folder), declared.directories(folder)
    left = sum(status.is_open for status in statuses)
    speeds = recorded_speeds(declared.runs, directories)
    if not speeds.by_size and measure and left:
        speeds = measure_speeds(declared.runs, declared.execution)
    elif not speeds.by_size:
        speeds = Speeds({}, "no finished run, and nothing was measured")
    table = Table(title=f"{declared.identity} in {folder}", title_justify="left")
    for heading in ("", "run", "parameters", "tokens", "FLOPs", "time", "kWh", "state"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
    model, flops, seconds = declared.energy, 0, 0.0
    for index, (config, status) in enumerate(zip(declared.runs, statuses, strict=True)):
        cost, time = cost_of(config), speeds.seconds(config)
        if status.is_open:
            flops, seconds = flops + cost.flops, seconds + (time or 0)
        energy = "?" if time is None else f"{model.kilowatt_hours(time):.3g}"
        table.add_row(
            str(index), config.name, si(cost.parameters), si(cost.tokens), si(cost.flops),
            "?" if time is None else clock(time), energy, status.state,
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    lines = [f"{len(statuses)} runs, {left} to do: {si(flops)}FLOPs"]
    if speeds.by_size:
        lines[0] += f", {clock(seconds)} one after another"
        lines.append(f"time: an estimate {speeds.source}")
        lines.append(
            f"energy: an estimate, {model.kilowatt_hours(seconds):.3g} kWh = chip-hours x "
            f"{model.chips} chip(s) of {model.chip_watts:g} W x {model.overhead:g} (PUE)"
        )
    else:
        lines.append(f"time and energy: unknown ({speeds.source})")
    if left:
        lines.append("add --go to run it")
    print("\n".join(lines))
    _print_unfinished(declared, statuses)
