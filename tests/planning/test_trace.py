"""Traced steps: which are recorded, and what their time was spent on."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from jaxgen.cli import main
from jaxgen.errors import CheckpointError, ConfigError
from jaxgen.planning.trace import read_profile
from jaxgen.training.profiling import StepTrace

TRIPS = 5


@jax.jit
def step(x, w):
    def body(carry, _):
        carry = jnp.tanh(carry @ w)
        return carry, jnp.sort(carry, axis=-1)[0]

    return jax.lax.scan(body, x, None, length=TRIPS)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trace = StepTrace((2, 3), folder, total_steps=4)
    result = x = w = jnp.ones((64, 64))
    for number in range(1, 5):
        with trace.step(number, result):
            result = step(x, w)
        trace.end(number, result, lambda: step.lower(x, w).compile().as_text())
    return folder


def test_every_operation_of_the_steps_is_counted_and_no_other(run_dir):
    profile = read_profile(run_dir)
    assert profile.steps == (2, 3)
    counts = {one.name: one.count for one in profile.kinds}
    assert counts["matrix products"] == TRIPS and counts["sorting"] % TRIPS == 0
    assert sum(one.share for one in profile.kinds) == pytest.approx(1)
    assert {one.count for one in profile.longest if "dot_general" in one.operation} == {TRIPS}


def test_the_trace_opens_in_perfetto(run_dir):
    (file,) = run_dir.glob("profile/00000002-00000003/plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("train") == 2  # The annotations by which xprof knows a step.


def test_the_command_prints_it(run_dir, capsys):
    assert main(["profile", str(run_dir), "--longest=3"]) == 0
    printed = capsys.readouterr().out
    assert "steps 2 to 3" in printed and "matrix products" in printed
    assert len(printed.split("longest instructions")[1].strip().splitlines()) == 1 + 3 + 2


@pytest.mark.parametrize("steps", [(3, 2), (4, 9)])
def test_steps_that_are_not_there_are_refused(tmp_path, steps):
    with pytest.raises(ConfigError, match="profile_steps"):
        StepTrace(steps, tmp_path, total_steps=8)


def test_a_run_without_a_trace_is_told_how(tmp_path):
    with pytest.raises(CheckpointError, match="profile_steps"):
        read_profile(tmp_path)
