"""What a sweep may be, the status of its runs, its costs."""

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from support.tiny_sweep import EXECUTION, base, write_file

from jaxgen.cli import main
from jaxgen.configuration import to_gin
from jaxgen.errors import ConfigError, EarlyStoppingError
from jaxgen.files import append_rows
from jaxgen.runs.costs import cost_of
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.slurm import index_ranges
from jaxgen.sweeps import (
    Change,
    EarlyStopping,
    EnergyModel,
    Sweep,
    axis,
    grid,
    ladder,
    load_sweep,
    product,
    zipped,
)
from jaxgen.sweeps.early_stopping import EarlyStoppingTracker, comparable_runs
from jaxgen.sweeps.estimates import measure_speeds
from jaxgen.sweeps.leases import LeaseMonitor, acquire
from jaxgen.sweeps.progress import Progress, ProgressLines, ProgressTable, TrackedRun
from jaxgen.sweeps.status import refusal, status_of
from jaxgen.sweeps.worker import job_of

RUN = base()


def circle(*names):
    """Each begins with the parameters of the next, the last with those of the first."""
    parents = (*names[1:], names[0])
    return Sweep("s", "1", [
        dataclasses.replace(RUN, name=name, initialize_from=f"../{parent}")
        for name, parent in zip(names, parents, strict=True)
    ])  # fmt: skip


def test_grids_are_products_and_zips():
    seeds, lengths = axis("train.seed", [0, 1]), axis("train.length", {"short": 64, "long": 128})
    runs: list[Any] = grid(RUN, product([Change("a", {"model.mlp_dim": 9})], lengths, seeds))
    assert [run.name for run in runs] == [
        f"a-length_{length}-seed_{seed}" for length in ("short", "long") for seed in (0, 1)
    ]
    assert (runs[2].model.mlp_dim, runs[2].train.length, runs[2].train.seed) == (9, 128, 0)
    assert [change.label for change in zipped(seeds, lengths)] == [
        "seed_0-length_short", "seed_1-length_long",
    ]  # fmt: skip
    rungs = [Change("small", {}), Change("large", {"model.mlp_dim": 16})]
    runs = ladder(RUN, rungs, [3])
    assert [(run.train.seed, run.model.mlp_dim) for run in runs] == [(3, 8), (3, 16)]
    mixtures = axis("mixture", {"one": RUN.mixture}, name="")
    assert [run.name for run in grid(runs, mixtures)] == ["small-seed3-one", "large-seed3-one"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: grid(RUN, axis("train.sede", [1])), "'train.sede' is not a field"),
        (lambda: product(axis("train.seed", [1]), axis("train.seed", [2])), "more than one axis"),
        (lambda: zipped(axis("train.seed", [1]), axis("train.length", [2, 3])), r"\[1, 2\]"),
        (lambda: Sweep("s", "1", []), "'s' has no runs"),
        (lambda: Sweep("s", "1", [RUN, RUN]), "more than once: quickstart"),
        (lambda: Sweep("s", "latest", [RUN]), "not 'latest'"),
        (
            lambda: circle("a", "b"),
            "a for b for a, by initialize_from, init",
        ),
        (lambda: circle("a"), "a for a, by"),
        (lambda: Sweep("s", "1", [RUN], branches={"quickstart": "trunk"}), "trunk is not a run"),
        (lambda: Sweep("s", "1", [RUN], held_out="large"), "held_out=.'large'.*quickstart"),
        (lambda: Sweep("s/t", "1", [RUN]), "cannot be called 's/t'"),
        (lambda: Sweep("s", "1", [RUN]).index_of("quikstart"), "did you mean quickstart"),
        (lambda: Sweep("s", "1", [RUN]).index_of("1"), "no run '1'"),
    ],
)
def test_what_cannot_be_is_one_message(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("nothing_here.py", "x = 1", "must declare SWEEP"),
        ("wrong_kind.py", "SWEEP = 3", "a int"),
        ("with_error.py", "import no_such_module", "ModuleNotFoundError"),
        ("json.py", "", "name of another module"),
        ("a-b.py", "", "cannot be imported"),
        ("empty_one.py", "from jaxgen.sweeps import Sweep\nSWEEP = Sweep('e', '1', [])",
         "has no runs"),
    ],
)  # fmt: skip
def test_files_without_a_sweep_are_one_message(name, text, words, tmp_path, capsys):
    (tmp_path / name).write_text(text)
    assert main(["sweep", str(tmp_path / name)]) == 1
    assert str(tmp_path) not in sys.path, "its modules would hide the standard library's"
    message = capsys.readouterr().err
    assert message.startswith("error: ") and words in message
    with pytest.raises(ConfigError, match="is not a Python file"):
        load_sweep(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--address=auto"], "--engine=ray"),
        (["--dry-run"], "--engine=slurm"),
        (["--only=1"], "add --go"),
    ],
)
def test_flags_that_do_not_go_together_are_one_message(flags, words, tmp_path, capsys):
    assert main(["sweep", str(tmp_path / "any.py"), *flags]) == 1
    assert words in capsys.readouterr().err


def test_status_of_a_run(tmp_path):
    sweep = Sweep("s", "1", [RUN])
    monitor, directory = LeaseMonitor(), sweep.directories(tmp_path)[0]

    def state(of=sweep):
        return status_of(of, RUN, directory, monitor).state

    assert state() == "new"
    lease = acquire(directory, 0)
    assert lease is not None and state() == "running"
    lease.release("failed", "why")
    assert state() == "failed"
    lease = acquire(directory, 1)
    assert lease is not None
    lease.release("stopped", "too high")
    directory.write_record({"finished": False})
    # A run that was stopped by a rule which is no longer there continues.
    assert state() == "begun"
    assert state(dataclasses.replace(sweep, early_stopping=EarlyStopping())) == "stopped"
    directory.write_record({"finished": True})
    assert state() == "finished"
    # Its `after` was not called.
    assert state(dataclasses.replace(sweep, after=print)) == "begun"
    directory.config_file.write_text(to_gin(RUN))
    assert refusal(RUN, directory) is None
    other = dataclasses.replace(RUN, train=dataclasses.replace(RUN.train, seed=9))
    problem = refusal(other, directory)
    assert problem is not None and "train.seed: 0 -> 9" in problem


def test_a_rule_compares_runs_of_a_rung_at_the_same_tokens(tmp_path):
    rates = grid(RUN, axis("train.seed", [0, 1]))
    (other,) = comparable_runs([*rates, *grid(RUN, axis("model.mlp_dim", [16]))], rates[0])
    peer = RunDirectory(tmp_path / other.name)
    peer.path.mkdir()
    tracker = EarlyStoppingTracker(EarlyStopping(margin=0.5, after_tokens=10), [peer])
    tracker.log({"step": 1, "tokens": 20, "loss": 9.0})
    append_rows(peer.metrics_file, [{"step": s, "tokens": 10 * s, "loss": 5.0 - s} for s in (1, 2)])
    tracker.log({"step": 1, "tokens": 5, "loss": 9.0})
    tracker.log({"step": 1, "tokens": 10, "loss": 4.5})
    tracker.log({"step": 3, "tokens": 30, "loss": 9.0})
    with pytest.raises(
        EarlyStoppingError, match=r"3\.6000 after 20 tokens is more than 0\.5 above"
    ):
        tracker.log({"step": 2, "tokens": 20, "loss": 3.6})


def test_a_sweep_is_shown_with_its_costs(tmp_path, capsys):
    file = write_file(tmp_path, "shown_sweep", 2)
    folder = tmp_path / "runs"
    assert main(["sweep", str(file), f"--run_dir={folder}", "--no_measure"]) == 0
    page = capsys.readouterr().out
    assert "seed_1" in page and "2 runs, 2 to do" in page and "time and energy: unknown" in page
    for seed in (0, 1):
        lease = acquire(RunDirectory(folder / f"seed_{seed}"), 0)
        assert lease is not None
        lease._begun -= 360
        lease.release("finished")
        RunDirectory(folder / f"seed_{seed}").write_record({"finished": True})
    assert main(["sweep", str(file), f"--run_dir={folder}"]) == 0
    page = capsys.readouterr().out
    assert "0 to do" in page and "6:00" in page and "from 2 finished run(s)" in page
    assert EnergyModel(chip_watts=500, chips=4, overhead=1.5).kilowatt_hours(7200) == 6.0


@pytest.mark.slow
def test_speeds_are_measured_for_the_largest_and_the_smallest_run():
    small, large = grid(base("train.batch_size=8"), axis("model.embed_dim", [8, 16]))
    speeds = measure_speeds([small, large], EXECUTION)
    assert len(speeds.by_size) == 2 and "steps of 2 run(s)" in speeds.source
    seconds = [speeds.seconds(run) for run in (small, large)]
    flops = [cost_of(run).flops for run in (small, large)]
    slow, fast = sorted(speeds.by_size.values())
    for time, count in zip(seconds, flops, strict=True):
        assert time is not None and count / fast <= time * 1.001 and time <= count / slow * 1.001
    model: Any = RUN.model
    wide = dataclasses.replace(model, embed_dim=2**15, mlp_dim=2**15)
    none = measure_speeds([dataclasses.replace(RUN, model=wide)], EXECUTION)
    assert not none.by_size and "too large to be measured here" in none.source


def test_a_slurm_array_is_rendered_and_submitted(tmp_path, capsys, monkeypatch):
    file = write_file(tmp_path, "slurm_sweep", 4)
    folder = tmp_path / "runs"
    lease = acquire(RunDirectory(folder / "seed_1"), 0)
    assert lease is not None
    lease.release("finished")
    RunDirectory(folder / "seed_1").write_record({"finished": True})
    flags = ["sweep", str(file), f"--run_dir={folder}", "--engine=slurm", "--jobs=2"]
    assert main([*flags, "--dry-run", "--sbatch=--partition=long"]) == 0
    script = capsys.readouterr().out
    for line in ("--array=0,2-3%2", "--partition=long", '--only="$SLURM_ARRAY_TASK_ID"'):
        assert line in script
    (tmp_path / "script").write_text(script)
    assert subprocess.run(["bash", "-n", str(tmp_path / "script")]).returncode == 0
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main([*flags, "--go"]) == 1
    assert "sbatch, which is not on PATH" in capsys.readouterr().err
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho Submitted batch job 7\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    assert main([*flags, "--go"]) == 0
    assert "Submitted batch job 7" in capsys.readouterr().out
    assert "--array=0,2-3%2" in (folder / "sweep.sbatch").read_text()
    assert index_ranges([5, 0, 1, 2]) == "0-2,5"


DEPENDENT = """
import dataclasses
from jaxgen.sweeps import Sweep
from support.tiny_sweep import base
FIRST = dataclasses.replace(base(), name="first")
CHILD = dataclasses.replace(FIRST, name="child", initialize_from="../first")
SWEEP = Sweep("dependent", "1", [CHILD, FIRST])
"""


def test_a_slurm_array_leaves_for_later_what_begins_with_a_run_of_it(tmp_path, capsys):
    file, folder = tmp_path / "dependent_sweep.py", tmp_path / "runs"
    file.write_text(DEPENDENT)
    flags = ["sweep", str(file), f"--run_dir={folder}", "--engine=slurm", "--dry-run"]
    assert main(flags) == 0
    assert "#SBATCH --array=1\n" in capsys.readouterr().out
    lease = acquire(RunDirectory(folder / "first"), 0)
    assert lease is not None
    lease.release("finished")
    RunDirectory(folder / "first").write_record({"finished": True})
    assert main(flags) == 0
    assert "#SBATCH --array=0\n" in capsys.readouterr().out


def test_a_run_is_refused_in_a_folder_of_another(tmp_path, capsys):
    file = write_file(tmp_path, "refused_sweep", 1)
    directory = RunDirectory(tmp_path / "runs" / "seed_0")
    directory.path.mkdir(parents=True)
    directory.config_file.write_text(to_gin(dataclasses.replace(RUN, name="seed_0", version="2")))
    run = ["sweep", str(file), f"--run_dir={tmp_path / 'runs'}", "--go"]
    assert main(run) == 1
    assert "refused: seed_0" in capsys.readouterr().err
    assert main([*run, "--only=0"]) == 1
    assert json.dumps("version: '2' -> '1'")[1:-1] in capsys.readouterr().err


def test_live_lines_and_table_show_which_run_stopped_early(tmp_path, capsys):
    from rich.console import Console
    from rich.live import Live

    directory = RunDirectory(tmp_path)
    append_rows(directory.metrics_file, [{"step": 2, "loss": 3.0}])
    progress = Progress([TrackedRun("mine", directory, 4, 100)])
    lines = ProgressLines(progress)
    lines.show(running={directory.path}, failed=set())
    lines.show(running=set(), failed=set(), stopped={directory.path})
    output = capsys.readouterr().out
    assert "mine  50 %  loss 3.000" in output and "stopped" in output
    console = Console(record=True, width=100)
    with Live(console=console) as live:
        ProgressTable(progress, live).show(running=set(), failed=set(), stopped={directory.path})
    assert "stopped" in console.export_text()


def test_the_time_left_is_that_of_the_speeds_of_like_sizes(tmp_path):
    """A large run at 100 FLOP/s and a small one at 10: FLOPs alone would say five times less."""
    large, small, waiting = (RunDirectory(tmp_path / name) for name in ("large", "small", "next"))
    for directory, speed in ((large, 100.0), (small, 10.0)):
        directory.path.mkdir()
        row = {"step": 2, "loss": 3.0, "tokens_per_second": 1.0, "model_flops_per_second": speed}
        append_rows(directory.metrics_file, [row])
    runs = [
        TrackedRun("large", large, 4, 12000),
        TrackedRun("small", small, 4, 1200),
        TrackedRun("next", waiting, 4, 1200),
    ]
    progress = Progress(runs)
    # 6000 / 100 + 600 / 10 + 1200 / 10 seconds, two at a time.
    assert "2:00 left" in progress.summary(progress.read(), 2)
    assert "left" not in progress.summary(progress.read(), 0)


def test_each_run_has_a_folder_in_the_mirror_of_a_sweep(tmp_path):
    execution = dataclasses.replace(EXECUTION, mirror="s3://bucket/sweep/")
    sweep = Sweep("s", "1", grid(RUN, axis("train.seed", [0, 1])), execution=execution)
    mirrors = [job_of(sweep, run, tmp_path).execution.mirror for run in sweep.runs]
    assert mirrors == [f"s3://bucket/sweep/{run.name}" for run in sweep.runs]
    assert len(set(mirrors)) == 2
