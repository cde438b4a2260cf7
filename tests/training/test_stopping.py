"""Signals that ask a run to stop: the first is noted, the second ends the process at once."""

import signal
import subprocess
import sys

import pytest

from jaxgen.errors import RESTART_STATUS
from jaxgen.training.stopping import StopSignal

WAITING = """
import ctypes, sys
from jaxgen.training.stopping import StopSignal
with StopSignal():
    print("waits", flush=True)
    # As in a compilation: the main thread runs no Python, and a signal does not wake it.
    lock = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    lock.pthread_mutex_lock(mutex)
    lock.pthread_mutex_lock(mutex)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_second_signal_ends_a_process_that_runs_no_python(number):
    child = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "waits\n"
    child.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == RESTART_STATUS


def test_a_first_signal_is_noted_and_later_ones_act_as_before():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(signal.SIGTERM)
        while stop.received is None:
            pass
    assert stop.received == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before
