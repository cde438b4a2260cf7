"""`jaxgen diagnose` examines training itself: activations over size, and the size of batches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from jaxgen.configuration import load, load_recorded
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.runs.run_directory import RunDirectory, read_metrics


def coordinates(arguments: argparse.Namespace) -> int:
    """Prints how activations grow with width or depth. Returns 1 if a module is flagged, else 0.

    Args:
      arguments: `gin_files` and `bindings` of a run; `widths` or `depths`; `steps`, `seeds`,
        `learning_rate`, `threshold`.
    """
    if not arguments.gin_files:
        raise ConfigError("no configuration given; try --gin_file=runs/quickstart.gin.")
    from jaxgen.diagnostics.coordinates import check_coordinates
    from jaxgen.diagnostics.model_sizes import with_depth, with_width
    from jaxgen.process import prepare_process
    from jaxgen.training.loading import open_data

    config = load(arguments.gin_files, arguments.bindings)
    resized, sizes, what = (
        (with_width, arguments.widths, "width")
        if arguments.widths
        else (with_depth, arguments.depths, "depth")
    )
    if len(set(sizes)) < 2:
        raise ConfigError(f"--{what}s={sizes} must be two sizes or more.")
    models = {size: resized(config.model, size) for size in sizes}
    rate = arguments.learning_rate
    if rate is None and (rate := getattr(config.train.schedule, "peak", None)) is None:
        raise ConfigError("train.schedule has no peak: give --learning_rate.")
    prepare_process()
    found = check_coordinates(
        models.__getitem__,
        sizes,
        open_data(config.mixture, config.train, 1).batch(0),
        arguments.steps,
        rate,
        range(arguments.seeds),
        config.train.optimizer,
        config.objective,
    )
    # Over depth only the last block and the logits compare; over width "-1" is a second name.
    over_depth = what == "depth"
    names = [n for n in found.names if n.endswith(".-1") == over_depth or n == "logits"]
    slopes, flagged = (
        found.slopes(arguments.steps),
        found.flagged(arguments.steps, arguments.threshold),
    )
    means = found.means[:, :, arguments.steps].mean(axis=1)
    _print_table(
        f"mean |activation| after {arguments.steps} steps at rate {rate:g}, and its power of the "
        f"{what}",
        ["module", *(f"{what} {size}" for size in found.sizes), "power", ""],
        (
            [
                name,
                *(f"{value:.4g}" for value in means[:, found.names.index(name)]),
                f"{slopes[name]:+.3f}",
                "flagged" if name in flagged else "",
            ]
            for name in names
        ),
    )
    count = sum(name in flagged for name in names)
    print(
        f"{count} of {len(names)} modules grow or shrink with a power beyond "
        f"+-{arguments.threshold:g} of the {what}"
    )
    return 1 if count else 0


def noise_scale(arguments: argparse.Namespace) -> int:
    """Prints the gradient noise scale over a run, beside its batch.

    Args:
      arguments: `run_dir`, `parts`.
    """
    from jaxgen.diagnostics.critical_batch import CriticalBatch, noise_scales

    directory = RunDirectory(arguments.run_dir)
    if not directory.config_file.exists():
        raise CheckpointError(f"{directory.path} is not a run directory: it has no config.gin.")
    train = load_recorded(directory.config_file).train

    def row(scale: float, first: int, last: int) -> list[str]:
        batch = train.batch_sizes.at(last - 1)
        trade = CriticalBatch(1.0, scale)
        # The trade-off says nothing where there is no signal to measure the noise against.
        columns = [f"{scale:.4g}", f"{trade.steps(batch):.3g}"] if scale > 0 else ["?", "?"]
        columns.append(f"{trade.examples(batch) / scale:.3g}" if scale > 0 else "?")
        return [f"{first:,} to {last:,}", str(batch), *columns]

    _print_table(
        f"noise scale of {directory.path.name}",
        ["steps", "batch", "noise scale", "steps / least", "examples / least"],
        (
            row(part.rows, part.first_step, part.last_step)
            for part in noise_scales(read_metrics(directory.metrics_file), arguments.parts)
        ),
    )
    print(
        f"batches and noise scale in rows of {train.length} tokens; a batch of the noise scale "
        "needs twice the least steps and twice the least examples (1812.06162)"
    )
    return 0


def critical_batch(arguments: argparse.Namespace) -> int:
    """Prints the steps to one loss by batch size, and the critical batch fitted to them.

    Returns 1 if the critical batch is outside the batch sizes of the runs, else 0.

    Args:
      arguments: `study`, the folder of the runs; `loss`.
    """
    from jaxgen.diagnostics.critical_batch import (
        fit_critical_batch,
        lowest_shared_loss,
        steps_to_loss,
    )
    from jaxgen.studies.study_runs import read_runs

    groups: dict[int, dict[str, list]] = {}
    lengths, rates = set(), {}
    for run in read_runs(arguments.study):
        file = run.directory.config_file
        train = load_recorded(file).train
        if train.batch_ramp is not None:
            raise ConfigError(f"the run {run.name} has a train.batch_ramp, so it has no one batch.")
        lengths.add(train.length)
        rates[run.name] = getattr(train.schedule, "peak", 0.0)
        rows = read_metrics(run.directory.metrics_file)
        groups.setdefault(train.batch_size, {})[run.name] = rows
    if len(lengths) > 1:
        raise ConfigError(f"the runs have rows of {sorted(lengths)} tokens; compare equal ones.")
    loss = arguments.loss
    if loss is None:
        loss = lowest_shared_loss({size: list(runs.values()) for size, runs in groups.items()})
    best = {}
    for size, runs in sorted(groups.items()):
        reached = {name: steps_to_loss(rows, loss) for name, rows in runs.items()}
        reached = {name: steps for name, steps in reached.items() if steps is not None}
        if reached:
            best[size] = min((steps, name) for name, steps in reached.items())
    fit = fit_critical_batch({size: steps for size, (steps, _) in best.items()})
    worst = max(abs(fit.steps(size) / steps - 1) for size, (steps, _) in best.items())
    at_edge = [
        size
        for size, (_, name) in best.items()
        if rates[name] in {choose(rates[one] for one in groups[size]) for choose in (min, max)}
    ]
    _print_table(
        f"steps to a training loss of {loss:.4f}",
        ["batch", "best run", "steps", "fitted", "examples"],
        (
            [str(size), name, f"{steps:.0f}", f"{fit.steps(size):.0f}", f"{steps * size:.0f}"]
            for size, (steps, name) in best.items()
        ),
    )
    print(
        f"critical batch: {fit.size:.3g} rows of {lengths.pop()} tokens; least steps "
        f"{fit.min_steps:.0f}, least examples {fit.min_examples:.0f} (1812.06162, equation 2.11)\n"
        f"largest error of the fitted steps: {worst:.0%}"
    )
    if at_edge:
        print(f"the best rate is the lowest or highest tried at batches of {at_edge}: try more")
    if not min(best) <= fit.size <= max(best):
        print("it is outside the batch sizes of the runs: an extrapolation, not a measurement")
        return 1
    return 0


def _print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
