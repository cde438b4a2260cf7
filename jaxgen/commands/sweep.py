"""`jaxgen sweep`: what a file of experiments/ would run; and running it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from jaxgen.errors import ConfigError
from jaxgen.runs.config import RunConfig
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.report import write_heading
from jaxgen.sweeps.attempts import Observer
from jaxgen.sweeps.carrying_out import carry_out
from jaxgen.sweeps.estimates import Speeds, speeds_here, speeds_of_finished
from jaxgen.sweeps.holding_out import divided, ensure_registered, is_held_out
from jaxgen.sweeps.in_process import run_one
from jaxgen.sweeps.local import LocalEngine
from jaxgen.sweeps.slurm import render, submit
from jaxgen.sweeps.standing import RunState, refusal, standing
from jaxgen.sweeps.sweep import Sweep, load_sweep
from jaxgen.sweeps.waiting import parents_among
from jaxgen.training.tracking import clock, si


def sweep(arguments: argparse.Namespace) -> int:
    """Shows a sweep, or with `go` runs it. The status is 1 if a run failed or was refused.

    Args:
      arguments: `file`, `run_dir`, `go`, `engine`, `address`, `jobs`, `retries`, `patience`,
        `only`, `parent`, `dry_run`, `sbatch`, `measure`.
    """
    _check(arguments)
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
    if arguments.engine == "ray":
        from jaxgen.sweeps.on_ray import RayEngine

        engine = RayEngine(declared, file, folder, arguments.address, arguments.jobs)
    else:
        engine = LocalEngine(declared, folder, arguments.jobs)
    try:
        return carry_out(declared, folder, engine, arguments.retries, arguments.patience)
    except KeyboardInterrupt:
        print("stopped; give the same command to go on.", file=sys.stderr)
        return 130


def _check(arguments: argparse.Namespace) -> None:
    if arguments.retries < 0:
        raise ConfigError(f"--retries={arguments.retries} must not be negative.")
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ConfigError(f"--jobs={arguments.jobs} must be positive.")
    for flag, given, engine in (
        ("--address", arguments.address, "ray"),
        ("--sbatch", arguments.sbatch, "slurm"),
        ("--dry-run", arguments.dry_run, "slurm"),
    ):
        if given and arguments.engine != engine:
            raise ConfigError(f"{flag} is for --engine={engine}; leave it out, or change engines.")
    if arguments.only is not None and not arguments.go:
        raise ConfigError(f"--only={arguments.only} runs one run: add --go.")


def _run_only(declared: Sweep, folder: Path, arguments: argparse.Namespace) -> int:
    config = declared.runs[declared.index_of(arguments.only)]
    if is_held_out(declared, config):
        _register(declared, folder)
    state = run_one(declared, config, folder, arguments.retries, arguments.parent)
    why = f": {state.why}" if state.why else ""
    print(f"{config.name} {state.state}{why}", file=sys.stderr)
    return 1 if state.state in ("failed", "refused") else 0


def _slurm(declared: Sweep, file: Path, folder: Path, arguments: argparse.Namespace) -> int:
    states = _states(declared, folder)
    left = [place for place, state in enumerate(states) if _is_open(state)]
    parents = parents_among(declared.runs, folder)
    open_runs = {declared.runs[place].name for place in left}

    def waits(run: RunConfig) -> bool:
        return is_held_out(declared, run) or parents.get(run.name) in open_runs

    first = [place for place in left if not waits(declared.runs[place])]
    if first:
        left = first  # The others begin when these are over: submit again.
    elif left and declared.held_out and not arguments.dry_run:
        _register(declared, folder)
    _tell_refused(declared, states)
    if not left:
        print(f"all {len(states)} runs of {declared.identity} are over; nothing to submit")
        return 0
    if not arguments.dry_run:
        write_heading(folder, declared.title or declared.identity, declared.lead)
    options = [arguments.jobs, arguments.retries, arguments.sbatch or ()]
    script = render(declared, file, folder, left, *options)
    print(script if arguments.dry_run else submit(script, folder))
    return 1 if any(state.state == "refused" for state in states) else 0


def _register(declared: Sweep, folder: Path) -> None:
    """Before a run that is held out begins."""
    directories = [RunDirectory(folder / run.name) for run in divided(declared)[0]]
    told = ensure_registered(declared, folder, [one.is_finished() for one in directories])
    if told:
        print(told, flush=True)


def _states(declared: Sweep, folder: Path) -> list[RunState]:
    observer, states = Observer(), []
    for config, directory in zip(declared.runs, declared.directories(folder), strict=True):
        problem = refusal(config, directory)
        state = standing(declared, config, directory, observer)
        states.append(RunState("refused", problem, state.attempts) if problem else state)
    return states


def _is_open(state: RunState) -> bool:
    return state.state not in ("finished", "stopped", "refused")


def _tell_refused(declared: Sweep, states: list[RunState]) -> None:
    for config, state in zip(declared.runs, states, strict=True):
        if state.state in ("refused", "failed", "stopped"):
            print(f"{state.state}: {config.name}: {state.why}", file=sys.stderr)


def _show(declared: Sweep, folder: Path, measure: bool) -> None:
    states, directories = _states(declared, folder), declared.directories(folder)
    speeds = speeds_of_finished(declared.runs, directories)
    if not speeds.by_size and measure and any(map(_is_open, states)):
        speeds = speeds_here(declared.runs)
    elif not speeds.by_size:
        speeds = Speeds({}, "no finished run, and nothing was measured")
    table = Table(title=f"{declared.identity} in {folder}", title_justify="left")
    for heading in ("", "run", "parameters", "tokens", "FLOPs", "time", "kWh", "state"):
        table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
    flops, seconds = 0, 0.0
    for place, (config, state) in enumerate(zip(declared.runs, states, strict=True)):
        cost, time = cost_of(config), speeds.seconds(config)
        if _is_open(state):
            flops, seconds = flops + cost.flops, seconds + (time or 0)
        energy = "?" if time is None else f"{declared.power.kilowatt_hours(time):.3g}"
        table.add_row(
            str(place), config.name, si(cost.parameters), si(cost.tokens), si(cost.flops),
            "?" if time is None else clock(time), energy, state.state,
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    power = declared.power
    left = sum(map(_is_open, states))
    lines = [f"{len(states)} runs, {left} to do: {si(flops)}FLOPs"]
    if speeds.by_size:
        lines[0] += f", {clock(seconds)} one after another"
        lines.append(f"time: an estimate {speeds.source}")
        lines.append(
            f"energy: an estimate, {power.kilowatt_hours(seconds):.3g} kWh = chip-hours x "
            f"{power.chips} chip(s) of {power.chip_watts:g} W x {power.overhead:g} (PUE)"
        )
    else:
        lines.append(f"time and energy: unknown ({speeds.source})")
    if left:
        lines.append("add --go to run it")
    print("\n".join(lines))
    _tell_refused(declared, states)
