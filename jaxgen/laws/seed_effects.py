"""What the runs of a seed share at every size: the order of the data, for one.

Where every size was trained with the same seeds, the losses of a seed tend to lie on one side of
their sizes' means. The mean over those seeds at another size is free of what they share: only what
each run adds counts, so that differences between sizes are tighter within seeds than between them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxgen.laws.errors import LawError
from jaxgen.laws.table import Table


def seed_effects(
    logs: np.ndarray, size: np.ndarray, seeds: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the names of seeds and what each adds to all its logarithms; they sum to 0.

    Args:
      logs: [runs] logarithms of losses.
      size: [runs] int from 0.
      seeds: [runs] names.

    Returns:
      None unless each of two or more sizes has one run of each of two or more seeds.
    """
    names, label = np.unique(np.asarray(seeds), return_inverse=True)
    label, sizes = label.ravel(), int(size.max()) + 1
    pairs = np.unique(np.stack([size, label]), axis=1)
    if pairs.shape[1] != len(logs) or len(logs) != len(names) * sizes or min(len(names), sizes) < 2:
        return None
    means = np.bincount(size, logs) / np.bincount(size)
    return names, np.bincount(label, logs - means[size]) / sizes


def without_seed_effects(table: Table) -> tuple[Table, int]:
    """Returns the table with what its seeds share taken out of the losses.

    Returns:
      It, and how many degrees of freedom that took.

    Raises:
      LawError: the sizes have not all the same seeds.
    """
    inputs = np.stack([table.parameters, table.tokens, table.flops])
    size = np.unique(inputs, axis=1, return_inverse=True)[1].ravel()
    found = None if table.seeds is None else seed_effects(np.log(table.loss), size, table.seeds)
    if found is None:
        raise LawError("seeds cannot be paired: not every size has one run of each seed.")
    names, effects = found
    own = table.loss / np.exp(effects[np.searchsorted(names, np.asarray(table.seeds))])
    return dataclasses.replace(table, loss=own), len(names) - 1
