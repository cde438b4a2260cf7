"""Pictures of many prompts, so many at a time, as arrays on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgen.distributed import fetch
from jaxgen.generation.diffusion.sampling import Given, PictureSampling, sample_pictures
from jaxgen.ops.diffusion.corruption import Corruption
from jaxgen.training.loading import put_batch


def make_arrays(
    model: Any,
    corruption: Corruption,
    settings: PictureSampling,
    prompts: Any,
    numbers: Sequence[int],
    seed: int,
    batch_size: int,
    given: Given = Given(),
    **options: Any,
) -> np.ndarray:
    """Returns what a model makes, [n, ...] float32: pictures from -1 to 1, or a prior's vectors.

    What is made depends on the seed, a picture's own number and its prompt, not on how many are
    made at a time. Call under `jax.set_mesh`.

    Args:
      model: a `DiffusionModel`, or `Transfusion`.
      corruption: the one that it was trained with.
      settings: how.
      prompts: arrays of n rows on the host, as `model.condition` reads them; None for a model
        without a conditioner.
      numbers: of the pictures, n.
      seed: of the noise.
      batch_size: at a time.
      given: arrays of n rows on the host.
      options: `strength`, `low_noise` and `on_step` of `sample_pictures`.
    """
    keys = np.asarray(numbers, np.uint32)
    mesh, rules = jax.sharding.get_mesh(), model.layout.rules
    count, found = len(keys), []
    for first in range(0, count, batch_size):
        missing = batch_size - len(keys[first : first + batch_size])

        def part(array: Any, first: int = first, missing: int = missing) -> np.ndarray:
            rows = np.asarray(array)[first : first + batch_size]
            return np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])

        own_keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), part(keys))
        told, beside = put_batch(jax.tree.map(part, (prompts, given)), mesh, rules)
        made = sample_pictures(model, corruption, settings, told, own_keys, beside, **options)
        found.append(fetch(made)[: batch_size - missing])
    return np.concatenate(found)
