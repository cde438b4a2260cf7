"""Writes a model as a checkpoint of Hugging Face, config.json and one tensor after another."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import ml_dtypes
import numpy as np

from jaxgen.distributed import fetch, is_main, on_main
from jaxgen.errors import InterchangeError, listed
from jaxgen.interchange.configs import (
    differences,
    express,
    find_family,
    read_config,
    write_config,
)
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.files import CONFIG, DIFFUSERS_STEM, PREPROCESSOR
from jaxgen.interchange.harmless import is_harmless, unknown_keys
from jaxgen.interchange.parts import text_part
from jaxgen.interchange.placing import Placement, place
from jaxgen.interchange.tables import Family
from jaxgen.interchange.writing import ShardWriter, Tensor
from jaxgen.models.adapters import readable_parameters

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def choose_family(
    config: Any, name: str | None = None, original: Mapping[str, Any] | None = None
) -> Family:
    """Returns the family that can express a model.

    Args:
      config: the model's.
      name: a family's; None: that of the original if it can, or the first that can.
      original: the config.json that the model was imported with.

    Raises:
      InterchangeError: if none can, saying what the nearest cannot express.
    """
    if name is None and original is not None:
        with contextlib.suppress(InterchangeError):
            own = find_family(FAMILIES, text_part(original, _is_text(config))[0])
            if own.describes(config) and not express(own, config)[1]:
                return own
    of_kind = [family for family in FAMILIES if family.describes(config)]
    named = [family for family in of_kind if name in (None, family.name)]
    if not named:
        kind = type(config).__name__
        if not of_kind:
            raise InterchangeError(f"jaxgen has no family of Hugging Face for a {kind}.")
        known = ", ".join(family.name for family in of_kind)
        raise InterchangeError(
            f"there is no family {name!r} of a {kind}; jaxgen exports one to {known}."
        )
    losses = {}
    for family in named:
        values, lost = express(family, config)
        if not lost:
            return family
        losses[family.name] = (not values, len(lost), lost)
    nearest = min(losses, key=lambda name: losses[name][:2])
    found = "no family can express this model. The nearest: " if name is None else ""
    raise InterchangeError(f"{found}{nearest} cannot express\n{listed(losses[nearest][2])}")


def export_model(
    model: Any,
    folder: str | os.PathLike,
    family: Family | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    max_shard_bytes: int = 5 * 10**9,
    files: Mapping[str, bytes] | None = None,
    more: Mapping[str, Any] | None = None,
    original: Mapping[str, Any] | None = None,
) -> Family:
    """Writes a model's checkpoint, as a whole folder or not at all.

    Args:
      model: on any mesh; every process of it calls this. Adapters are merged.
      folder: the path, which must not exist.
      family: the family to write; None: the first that can express the model.
      dtype: that of the tensors.
      max_shard_bytes: the most of one file, unless one tensor alone is larger.
      files: contents of other files by name, such as tokenizer.json.
      more: further keys of config.json, such as eos_token_id.
      original: the config.json that the model was imported with, whose every key is given back, but
        for those that say what has changed.

    Returns:
      The family written.

    Raises:
      InterchangeError: if the folder exists or cannot be written, or if the family cannot express
        the model; then nothing is written.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    if on_main(folder.exists):  # The main process may be done before another begins.
        raise InterchangeError(f"{folder} exists; export to a folder that does not, or remove it.")
    family = choose_family(model.config) if family is None else family
    values = write_config(family, model.config)
    part = values[family.token_section] if family.token_section else values
    part |= dict(more or {})
    if family.library == "transformers":
        values |= {"dtype": dtype, "torch_dtype": dtype}
    if original is not None:
        values = _given_back(family, model.config, original, values)
    parameters = {name: p[...] for name, p in readable_parameters(model)}
    shapes = {name: tuple(array.shape) for name, array in parameters.items()}
    placements = place(family, model.config, shapes)
    copies, computed = copied(family, model.config, placements), family.computed_for(model.config)
    tensors = _tensors(placements, DTYPES[dtype], copies, computed)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    if not is_main():
        for _ in named_values(placements, parameters):
            pass  # Every process takes part in the gathering.
        return family
    try:
        temporary.mkdir(parents=True)
        stem = DIFFUSERS_STEM if family.library == "diffusers" else "model"
        with ShardWriter(temporary, tensors, max_shard_bytes, stem) as writer:
            for name, value in named_values(placements, parameters):
                for _ in (name, *copies.get(name, ())):
                    writer.write(value.astype(DTYPES[dtype]))
            for value in computed.values():
                writer.write(value.astype(DTYPES[dtype]))
        files = dict(files or {})
        if family.images is not None and PREPROCESSOR not in files:
            pixels = json.dumps(family.images.write(model.config), indent=2) + "\n"
            files[PREPROCESSOR] = pixels.encode()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (temporary / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
        os.rename(temporary, folder)
    except OSError as error:
        raise InterchangeError(f"cannot write {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return family


def _given_back(
    family: Family, config: Any, original: Mapping[str, Any], ours: dict[str, Any]
) -> dict[str, Any]:
    """Returns the config.json of a model that was imported with another."""
    original, part_of = text_part(original, _is_text(config))
    if part_of is not None:
        original["architectures"] = ours["architectures"]
    original.pop("quantization_config", None)
    try:
        if find_family(FAMILIES, original) is not family:
            return ours
        ignored = tuple(unknown_keys(family, original))
        changed = bool(differences(config, read_config(family, original, ignored)))
    except InterchangeError:
        return ours  # It is exported as another family.
    if not changed:
        types = {name: ours[name] for name in ("dtype", "torch_dtype") if name in original}
        told = {"dtype": ours["dtype"]} if family.library == "transformers" else {}
        return {**original, **(types or told)}
    inert = {*family.inert, *(key for key in original if is_harmless(key, original[key]))}
    kept = {key: value for key, value in original.items() if key in inert}
    return ours | kept | {key: ours[key] for key in ours if key not in TOKENS}


def _is_text(config: Any) -> bool:
    """Returns whether a model reads no media, whatever it was imported with."""
    return not getattr(config, "media", ())


def copied(
    family: Family, config: Any, placements: tuple[Placement, ...]
) -> dict[str, tuple[str, ...]]:
    """Returns the tensors that repeat others, by the names of these."""
    names = (name for placed in placements for name, _ in placed.tensors())
    found = {name: family.copies_of(config, name) for name in names}
    return {name: copies for name, copies in found.items() if copies}


def _tensors(
    placements: tuple[Placement, ...],
    dtype: np.dtype,
    copies: Mapping[str, tuple[str, ...]],
    computed: Mapping[str, np.ndarray],
) -> list[Tensor]:
    """Returns the headers of all tensors, in the order they are written."""
    own = [
        Tensor(one, placed.tensor_shape, dtype)
        for placed in placements
        for name, _ in placed.tensors()
        for one in (name, *copies.get(name, ()))
    ]
    return own + [Tensor(name, value.shape, dtype) for name, value in computed.items()]


def named_values(
    placements: tuple[Placement, ...], parameters: Mapping[str, jax.Array]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the tensors' names and values; keeps one layer of a placement in memory."""
    for placed in placements:
        held_layer, arrays = None, []
        for tensor, at in placed.tensors():
            layer = at[0] if placed.layers else 0
            if layer != held_layer:
                arrays = [
                    gathered(parameters[name], layer if placed.layers else None)
                    for name in placed.names
                ]
                held_layer = layer
            expert = at[-1] if placed.row.of_experts else ()
            yield tensor, placed.row.layout.write([array[expert] for array in arrays])


def tensors_of(
    family: Family, config: Any, parameters: Mapping[str, jax.Array]
) -> Iterator[tuple[str, np.ndarray]]:
    """Returns arrays shaped like parameters, such as gradients, as a family's named tensors."""
    shapes = {name: tuple(array.shape) for name, array in parameters.items()}
    return named_values(place(family, config, shapes), parameters)


def gathered(array: jax.Array, layer: int | None) -> np.ndarray:
    """Returns an array, or one layer of it, whole on this host; devices keep to their shards."""
    if layer is not None:
        sharding = array.sharding
        if isinstance(sharding, jax.NamedSharding) and sharding.spec[:1] not in ((), (None,)):
            array = jax.reshard(array, jax.P(None, *sharding.spec[1:]))  # Layers over stages.
        array = array[layer]
    return fetch(array)
