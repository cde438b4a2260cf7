"""A reader for Wu and Lo's tables of public language models (2024, arXiv:2410.01692).

A file is one task: a row a model with its training FLOPs, accuracy, target-conditioned Brier score
(smaller is better), and one of the two for each group of questions, the hardest group first.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import numpy as np

from jaxgen.emergence.errors import EmergenceError
from jaxgen.emergence.runs import Runs

FLOPS = "FLOPs (1E21)"
GROUP = re.compile(r"(\d+)_\d+_(acc|brier)")


def read_public_models(
    path: str | os.PathLike, instances: int, chance: float = 0.0
) -> tuple[Runs, list[str]]:
    """A file -> its models as runs along FLOPs, one a rung, and their names in the same order.

    Metrics are "acc" and "brier" where the file has them, and "acc/0", "brier/0" and so on for the
    groups in the file's order. Models without FLOPs or without any of these numbers are left out.

    Args:
      path: of a `<task>_instance_brier_*.csv`.
      instances: questions of the task; the files do not say.
      chance: accuracy of guessing.

    Raises:
      EmergenceError: a file without FLOPs or metrics, or without a whole row.
    """
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    header = rows[0].keys() if rows else ()
    groups = sorted(
        (match[2], int(match[1]), name) for name in header if (match := GROUP.fullmatch(name))
    )
    columns = {name: name for name in ("acc", "brier") if name in header}
    for kind in ("acc", "brier"):
        of_kind = [name for of, _, name in groups if of == kind]
        columns |= {f"{kind}/{place}": name for place, name in enumerate(of_kind)}
    if FLOPS not in header or not columns:
        raise EmergenceError(
            f"{Path(path).name} has no column {FLOPS!r}, or none of acc and brier: give one of the "
            "tables of ExpEmergence."
        )
    table = np.array([[_number(row[name]) for name in (FLOPS, *columns.values())] for row in rows])
    kept = np.flatnonzero(np.isfinite(table).all(axis=1))
    if not len(kept):
        raise EmergenceError(f"{Path(path).name} has no model with all of {FLOPS} and metrics.")
    kept = kept[np.argsort(table[kept, 0], kind="stable")]
    names = [rows[place]["Model"] for place in kept]
    runs = Runs(
        task=Path(path).parent.name,
        chance=chance,
        scale=table[kept, 0] * 1e21,
        axis="flops",
        rung=np.arange(len(kept)),
        seed=np.full(len(kept), "0"),
        instances=np.full(len(kept), float(instances)),
        metrics={name: table[kept, 1 + place] for place, name in enumerate(columns)},
    )
    return runs, names


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
