"""Adapters in a folder as PEFT writes them, beside a checkpoint of Hugging Face.

`adapter_config.json` says how they are used; `peft_placing`, what lies where in the other file,
`adapter_model.safetensors`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np

from jaxgen.distributed import is_main, on_main
from jaxgen.errors import ConfigError, InterchangeError
from jaxgen.interchange.exporting import DTYPES, gathered
from jaxgen.interchange.files import TensorFiles, check_tensors, read_json
from jaxgen.interchange.importing import Checkpoint, load_array, load_model
from jaxgen.interchange.peft_placing import (
    PARTS,
    adapter_placements,
    bare_placements,
    modules_of,
    stems_of,
    targets_of,
)
from jaxgen.interchange.placing import Placement
from jaxgen.interchange.tables import Family, Values
from jaxgen.interchange.writing import Tensor, header
from jaxgen.json_values import check_shape
from jaxgen.models.adapters import AdaptedParameter, map_readable, readable_parameters
from jaxgen.models.base import abstract_model
from jaxgen.models.lora import Lora
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.parameters import named_parameters
from jaxgen.sharding.layout import Layout

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
RENAMES = (
    (r"\.lora_magnitude_vector\.weight$", ".lora_magnitude_vector"),
    (r"\.(lora_[AB])\.default\.", r".\1."),
)
READ = (
    "peft_type", "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "bias",
    "init_lora_weights",
)  # fmt: skip
INERT = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "target_modules", "task_type",
    "layers_pattern", "layers_to_transform", "exclude_modules",
)  # fmt: skip
"""Keys that change nothing of what is computed, or that the tensors' names say again."""
SHAPE = {
    "peft_type": str, "r": int, "lora_alpha": (int, float), "use_dora?": (bool, None),
    "lora_dropout?": (int, float, None), "use_rslora?": (bool, None), "bias?": (str, None),
    "init_lora_weights?": (bool, str, None),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A folder whose adapter_config.json was read, and the model that it makes of a checkpoint's.

    Attributes:
      folder: its path.
      config: the model's.
    """

    folder: pathlib.Path
    config: LoraConfig


def open_adapter(folder: str | os.PathLike, checkpoint: Checkpoint) -> Adapter:
    """Reads what adapters a folder holds for a checkpoint's model.

    Raises:
      InterchangeError: if it says something unsupported, or adapts what the model does not have.
    """
    folder = pathlib.Path(folder).expanduser()
    values = read_json(folder / CONFIG)
    try:
        check_shape(values, SHAPE)
    except ValueError as error:
        raise InterchangeError(f"{folder / CONFIG}: {error}.") from error
    _check_values(folder, values)
    with _open(folder) as files:
        stems = {name.removesuffix(PARTS["a"]) for name in files.shapes if "lora_A" in name}
    placements = bare_placements(checkpoint.family, checkpoint.config)
    found = [one for one in placements if any(stem in stems for stem in stems_of(one))]
    left = sorted(stems - {stem for one in found for stem in stems_of(one)})
    if left or not found:
        raise InterchangeError(
            f"{folder / WEIGHTS} adapts {left[0] if left else 'nothing'}, which is no matrix of "
            f"{checkpoint.folder}; give the adapter with the checkpoint that it was trained upon."
        )
    rank, alpha = values["r"], float(values["lora_alpha"])
    # Rank-stabilised: alpha / sqrt(rank) (2312.03732).
    alpha *= math.sqrt(rank) if values.get("use_rslora") else 1.0
    targets = targets_of(found, placements)
    dora, dropout = bool(values.get("use_dora")), float(values.get("lora_dropout") or 0.0)
    try:
        config = LoraConfig(checkpoint.config, rank, alpha, targets, dora, dropout)
    except ConfigError as error:
        raise InterchangeError(
            f"{folder / CONFIG}: lora_dropout={dropout} has no counterpart: {error} It changes "
            "training alone: set it to 0 in the file to go without."
        ) from error
    return Adapter(folder, config)


def load_adapted(checkpoint: Checkpoint, adapter: Adapter, layout: Layout = Layout()) -> Lora:
    """Returns a checkpoint's model with adapters, laid out on the mesh in force.

    Raises:
      InterchangeError: if files are damaged, or are not what their configurations say.
    """
    abstract = abstract_model(adapter.config, layout)
    nodes = _adapted(abstract.language_model)
    placements = adapter_placements(checkpoint.family, checkpoint.config, nodes)
    expected = {name: placed.tensor_shape for placed in placements for name, _ in placed.tensors()}
    shapes = {name: p.get_value() for name, p in named_parameters(abstract.language_model)}
    with _open(adapter.folder) as files:
        check_tensors(files, expected, (), CONFIG)
        arrays = {
            placed.names[0]: load_array(files, placed, 0, shapes[placed.names[0]])
            for placed in placements
        }
    base = dict(named_parameters(load_model(checkpoint, layout)))

    def fill(name: str, node: Any) -> Any:
        value = base[name][...]
        if not isinstance(node, AdaptedParameter):
            return node.replace(value)
        a, b = node.a.replace(arrays[f"{name}.a"]), node.b.replace(arrays[f"{name}.b"])
        magnitude = node.magnitude
        if magnitude is not None:
            magnitude = magnitude.replace(arrays[f"{name}.magnitude"])
        return node.with_parts(node.base.replace(value), a, b, magnitude)

    abstract.model = map_readable(fill, abstract.model)
    return abstract


def export_adapter(
    model: Lora,
    folder: str | os.PathLike,
    family: Family,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Writes a model's adapters as PEFT reads them, as a whole folder or not at all.

    Args:
      model: on any mesh; every process of it calls this.
      folder: the path, which must not exist.
      family: of the frozen model.
      dtype: that of the tensors.

    Raises:
      InterchangeError: if the folder exists or cannot be written, or if the family keeps an adapted
        matrix in a tensor that PEFT cannot adapt by it.
    """
    folder = pathlib.Path(folder).expanduser().absolute()
    if on_main(folder.exists):
        raise InterchangeError(f"{folder} exists; export to a folder that does not, or remove it.")
    config, nodes = model.config, _adapted(model.language_model)
    placements = adapter_placements(family, config.language_model, nodes)
    arrays = {
        f"{name}.{of}": part[...]
        for name, node in nodes.items()
        for of, part in (("a", node.a), ("b", node.b), ("magnitude", node.magnitude))
        if part is not None
    }
    tensors = [
        Tensor(name, placed.tensor_shape, DTYPES[dtype])
        for placed in placements
        for name, _ in placed.tensors()
    ]
    bare = bare_placements(family, config.language_model)
    text = json.dumps(_values(config, modules_of(nodes, bare)), indent=2, sort_keys=True) + "\n"
    if not is_main():
        for _ in _blocks(placements, arrays):
            pass  # Every process takes part in the gathering.
        return
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        with (temporary / WEIGHTS).open("wb") as file:
            file.write(header(tensors))
            for block in _blocks(placements, arrays):
                file.write(np.ascontiguousarray(block.astype(DTYPES[dtype])).tobytes())
        (temporary / CONFIG).write_text(text)
        os.rename(temporary, folder)
    except OSError as error:
        raise InterchangeError(f"cannot write {folder}: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _values(config: LoraConfig, modules: list[str]) -> dict[str, Any]:
    """Returns adapter_config.json."""
    alpha = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None,
        "inference_mode": True, "r": config.rank, "lora_alpha": alpha, "use_dora": config.dora,
        "use_rslora": False, "lora_dropout": config.dropout, "bias": "none",
        "fan_in_fan_out": False, "target_modules": modules, "rank_pattern": {}, "alpha_pattern": {},
        "modules_to_save": None, "init_lora_weights": True,
    }  # fmt: skip


def _check_values(folder: pathlib.Path, values: Values) -> None:
    start = values.get("init_lora_weights", True)
    supported = {
        "peft_type": values["peft_type"] == "LORA",
        "bias": values.get("bias") in (None, "none"),
        # Others, such as PiSSA, have changed the base's matrices too.
        "init_lora_weights": isinstance(start, bool | None) or start == "gaussian",
        "fan_in_fan_out": not values.get("fan_in_fan_out"),
    }
    unknown = [key for key in values if key not in (*READ, *INERT, *supported) and values[key]]
    for key in [*(key for key, is_right in supported.items() if not is_right), *unknown]:
        raise InterchangeError(
            f"{folder / CONFIG} says {key}={values[key]!r:.80}, which jaxgen has no adapters for; "
            "merge them into the checkpoint with PEFT's merge_and_unload, and import that."
        )


def _open(folder: pathlib.Path) -> TensorFiles:
    return TensorFiles(folder, RENAMES, WEIGHTS)


def _adapted(model: Any) -> dict[str, AdaptedParameter]:
    found = readable_parameters(model)
    return {name: node for name, node in found if isinstance(node, AdaptedParameter)}


def _blocks(placements: list[Placement], arrays: Mapping[str, jax.Array]) -> Iterator[np.ndarray]:
    """Yields the tensors' values in their order."""
    for placed in placements:
        (name,), held = placed.names, {}
        for _, at in placed.tensors():
            layer = at[0] if placed.layers else None
            if layer not in held:
                held = {layer: gathered(arrays[name], layer)}
            expert = at[-1] if placed.row.of_experts else ()
            yield placed.row.layout.write([held[layer][expert]])
