"""Files with faults in them end in an error of jaxgen's own, whoever wrote them.

The slow search takes JAXGEN_FUZZ_SECONDS seconds in all, 600 by default, and is another one every
time.
"""

import os
import random
import time
import warnings

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from support.fuzzed_readers import READERS, Reader

from jaxgen.emergence import EmergenceError
from jaxgen.errors import JaxgenError
from jaxgen.laws import LawError

OURS = (JaxgenError, EmergenceError, LawError)
SECONDS = float(os.environ.get("JAXGEN_FUZZ_SECONDS", "600"))
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def search(reader: Reader, folder, examples: int, of: int | None = None) -> None:
    """Reads so many damaged files; another sequence of them for each number `of`."""
    reader.prepare(folder)
    path = folder / reader.file
    valid = path.read_bytes()
    reader.read(folder)  # What is valid is read.

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=of is None,
        suppress_health_check=CHECKS, phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(reader.draw(valid))
    def read(data):
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reader.read(folder)
            except OURS as error:
                assert str(error)

    (read if of is None else seed(of)(read))()


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_an_error_of_ours(name, tmp_path):
    search(READERS[name], tmp_path, READERS[name].examples)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_long_search_finds_nothing_else(name, tmp_path):
    until, rounds = time.monotonic() + SECONDS / len(READERS), 0
    while rounds == 0 or time.monotonic() < until:
        folder = tmp_path / f"{rounds}"
        folder.mkdir()
        of = random.randrange(2**31)
        print(f"seed {of}")
        search(READERS[name], folder, 100, of)
        rounds += 1
