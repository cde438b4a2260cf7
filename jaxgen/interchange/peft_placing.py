"""Where the adapters of a model lie in PEFT's file, by the table of the model's family.

`adapter_model.safetensors` holds of every adapted matrix `lora_A.weight` [rank, inputs] and
`lora_B.weight` [outputs, rank], and of DoRA `lora_magnitude_vector` [outputs]. A family's table
says the matrix's name and how its sides are laid out in a file, so a family whose files hold each
matrix by itself, outputs first, needs nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxgen.errors import InterchangeError
from jaxgen.interchange.layouts import FileLayout
from jaxgen.interchange.placing import Placement, place
from jaxgen.interchange.tables import Family, TensorRow
from jaxgen.models.adapters import AdaptedParameter, split_axes
from jaxgen.models.base import abstract_model
from jaxgen.models.parameters import named_parameters

PREFIX, SUFFIX, RANK = "base_model.model.", ".weight", ("lora_rank",)
PARTS = {"a": ".lora_A.weight", "b": ".lora_B.weight", "magnitude": ".lora_magnitude_vector"}


def bare_placements(family: Family, config: Any) -> tuple[Placement, ...]:
    """Returns where the parameters of a model without adapters lie."""
    shapes = {name: p.shape for name, p in named_parameters(abstract_model(config))}
    return place(family, config, shapes)


def adapter_placements(
    family: Family, config: Any, nodes: Mapping[str, AdaptedParameter]
) -> list[Placement]:
    """Returns where the adapters of matrices lie in PEFT's file.

    Raises:
      InterchangeError: naming a matrix that has no place.
    """
    found, left = [], set(nodes)
    for placed in bare_placements(family, config):
        if placed.names[0] in left and len(placed.names) == 1:
            left -= {placed.names[0]}
            found += _of_adapter(family, placed, nodes[placed.names[0]])
    for name in sorted(left):
        raise InterchangeError(_no_place(family, name))
    return found


def _of_adapter(family: Family, placed: Placement, node: AdaptedParameter) -> Iterator[Placement]:
    (name,), row = placed.names, placed.row
    axes, file = row.layout.axes, row.layout.file
    _, inputs, _ = split_axes(node.logical_axes)
    ins, outs = axes[:inputs], axes[inputs:]
    flat = tuple(tuple(axis for group in side for axis in group) for side in (outs, ins))
    if file != flat or not row.theirs.endswith(SUFFIX):
        raise InterchangeError(_no_place(family, name))
    layouts = {
        "a": FileLayout((*ins, RANK), (RANK, flat[1])),
        "b": FileLayout((RANK, *outs), (flat[0], RANK)),
        "magnitude": FileLayout(outs, (flat[0],)),
    }
    for part, layout in layouts.items():
        parameter = getattr(node, part)
        if parameter is not None:
            theirs = row.theirs.removesuffix(SUFFIX) + PARTS[part]
            of_part = TensorRow((f"{row.ours[0]}.{part}",), theirs, layout)
            names, shapes = (f"{name}.{part}",), (parameter.shape,)
            yield Placement(names, shapes, of_part, PREFIX + placed.prefix, placed.layers)


def _no_place(family: Family, name: str) -> str:
    return (
        f"{family.name} keeps {name} in no tensor [outputs, inputs] of its own, which PEFT's "
        "adapters are of; leave it out of lora.targets, or export the merged model."
    )


def stems_of(placed: Placement) -> list[str]:
    """Returns how the names of a matrix's adapters begin, in each layer and expert."""
    if len(placed.names) > 1 or not placed.row.theirs.endswith(SUFFIX):
        return []
    return [PREFIX + name.removesuffix(SUFFIX) for name, _ in placed.tensors()]


def targets_of(found: list[Placement], placements: tuple[Placement, ...]) -> tuple[str, ...]:
    """Returns patterns of the adapted matrices, short ones where they are no others'."""
    names = {placed.names[0] for placed in found}
    short = {f"*.{placed.row.ours[0]}": placed.row.ours[0] for placed in found}
    targets = []
    for pattern, ours in short.items():
        like = [p.names[0] for p in placements if p.names[0].endswith(f".{ours}")]
        targets += [pattern] if names.issuperset(like) else sorted(names.intersection(like))
    return tuple(targets)


def modules_of(
    nodes: Mapping[str, AdaptedParameter], placements: tuple[Placement, ...]
) -> list[str]:
    """Returns PEFT's names of the adapted modules, short ones where they are no others'."""
    by_row: dict[str, list[Placement]] = {}
    for placed in placements:
        by_row.setdefault(placed.row.theirs, []).append(placed)
    modules: list[str] = []
    for theirs, all_placed in by_row.items():
        adapted = [placed for placed in all_placed if placed.names[0] in nodes]
        if adapted and len(adapted) == len(all_placed) and "{" not in theirs:
            modules.append(theirs.removesuffix(SUFFIX))
        else:
            whole = (stem for placed in adapted for stem in stems_of(placed))
            modules += [stem.removeprefix(PREFIX) for stem in whole]
    return modules
