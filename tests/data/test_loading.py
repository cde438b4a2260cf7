"""What comes does not depend on hosts, workers, restarts or deaths: with real processes."""

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.data_host import BATCH, digests, mixture

SCRIPT = Path(__file__).parents[1] / "support" / "data_host.py"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


def start(first, steps, host=0, hosts=1, workers=0, kill_at=-1):
    words = [str(word) for word in (first, steps, host, hosts, workers, kill_at)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return [json.loads(line) for line in out.splitlines() if line.startswith("[")], error


@functools.cache
def expected(steps):
    data = mixture().open(batch_size=BATCH, length=64, seed=0)
    return [digests(data.batch(step)) for step in range(steps)]


@pytest.mark.slow
def test_hosts_may_grow_from_one_to_two_to_four():
    """Steps 0 to 3 on one host, 4 to 7 on two, 8 to 11 on four: each its own process."""
    found = []
    for stage, hosts in enumerate((1, 2, 4)):
        running = [start(4 * stage, 4, host, hosts) for host in range(hosts)]
        parts = [finish(process)[0] for process in running]
        for step in zip(*parts, strict=True):
            found.append(list(itertools.chain(*zip(*step, strict=True))))
    assert found == expected(12)


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_nothing():
    found, log = finish(start(0, 80, workers=2, kill_at=3))
    assert "a data worker died" in log
    assert found == expected(80)


def test_neither_workers_nor_a_start_in_the_middle_change_anything():
    assert finish(start(5, 6, workers=2))[0] == expected(12)[5:11]
    assert finish(start(5, 6))[0] == expected(12)[5:11]
