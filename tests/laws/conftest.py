"""Public data sets, where there are any, and synthetic runs of a known law."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from jaxgen.laws import BESIROGLU, CHINCHILLA, Table

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def reference():
    """Reads a file of the reference folder as a list of rows."""
    folder = Path(
        os.environ.get("JAXGEN_REFERENCE", REPOSITORY.parent / "shared" / "reference" / "scaling")
    )
    if not folder.is_dir():
        pytest.skip(f"no public data sets in {folder}; set JAXGEN_REFERENCE to their folder")

    def read(name):
        path = folder / name
        if not path.is_file():
            pytest.skip(f"{path} is not there")
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read


def numbers(rows, name):
    return np.array([float(row[name]) for row in rows])


@pytest.fixture(scope="session")
def epoch(reference):
    """All 245 points of Hoffmann et al.'s figure, as Epoch read them."""
    rows = reference("epoch_chinchilla/svg_extracted_data.csv")
    sizes, flops = numbers(rows, "Model Size"), numbers(rows, "Training FLOP")
    return Table(sizes, flops / 6 / sizes, numbers(rows, "loss"), flops)


@pytest.fixture(scope="session")
def epoch240(epoch):
    """Without the five of the largest loss, as Besiroglu et al. fit them."""
    return epoch.select(epoch.loss < np.sort(epoch.loss)[-5])


@pytest.fixture(scope="session")
def make_runs():
    """A grid of sizes by tokens with losses of Chinchilla's law and noise of their logarithm."""

    def make(noise=0.003, seed=0, sizes=7, ratios=6, law=BESIROGLU):
        size = np.repeat(np.geomspace(5e7, 5e9, sizes), ratios)
        tokens = size * np.tile(np.geomspace(2, 200, ratios), sizes)
        columns = {"parameters": size, "tokens": tokens}
        loss = CHINCHILLA.values(columns, CHINCHILLA.vector(law))
        rng = np.random.default_rng(seed)
        return Table(size, tokens, loss * np.exp(noise * rng.standard_normal(len(loss))))

    return make
