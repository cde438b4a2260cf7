"""`jaxgen models`: lists the published models with their counts, and shows their parameters."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from jaxgen.commands.table import table_lines
from jaxgen.configuration import load, registered_models
from jaxgen.configuration.files import library_folders
from jaxgen.configuration.protocols import fitting
from jaxgen.configuration.reading import read_files
from jaxgen.configuration.suggesting import did_you_mean, nearest
from jaxgen.errors import ConfigError
from jaxgen.models.base import ModelConfig, ParameterCount
from jaxgen.models.config import ModelCard, TransformerConfig

FLOPS_LENGTH = 2048
_FAMILY = "family"


def listing(arguments: argparse.Namespace) -> int:
    """Prints a line for each model: counts, FLOPs, the published figure and the difference.

    Args:
      arguments: `filter`, a part of the names to print, or None.
    """
    names = [name for name in model_names() if (arguments.filter or "") in name]
    if not names:
        raise ConfigError(f"no model's name has {arguments.filter!r} in it; see `jaxgen models`.")
    header = ("name", "total", "embedding", "active", "FLOPs/token", "published", "difference")
    loaded = [(name, _load(name)) for name in names]
    counted = [(name, config, config.count()) for name, config in loaded]
    counted.sort(key=lambda row: (row[0].split("/")[0], row[2].total))
    rows = [header, *(_row(*row) for row in counted)]
    print("\n".join(table_lines(rows)))
    print(
        f"FLOPs of training, forward and backward, in rows of {FLOPS_LENGTH} tokens; of a pair, in "
        "captions as long as it reads, their images included."
    )
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Prints a model's card, counts and tree, without allocating it.

    Args:
      arguments: `name`, such as "palm/540b".
    """
    config = load_model(arguments.name)
    # The rest of jaxgen is not loaded for a mistyped name.
    from jaxgen.models.base import abstract_model
    from jaxgen.models.parameters import named_parameters

    count = config.count()
    for line in _card_lines(config, count):
        print(line)
    print()
    rows = [
        (name, "x".join(map(str, parameter.shape)), " ".join(map(str, parameter.logical_axes)))
        for name, parameter in named_parameters(abstract_model(config))
    ]
    name_width, shape_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, shape, axes in rows:
        print(f"{name:<{name_width}}  {shape:>{shape_width}}  {axes}")
    return 0


def model_names() -> list[str]:
    """Returns the names of the models that come with jaxgen, `family/size`."""
    found = {
        file.relative_to(folder / "models").with_suffix("").as_posix()
        for folder in library_folders()
        for file in (folder / "models").glob("*/*.gin")
        if file.stem != _FAMILY
    }
    return sorted(found)


def load_model(name: str) -> Any:
    """Returns the configuration of a model that comes with jaxgen.

    Raises:
      ConfigError: if there is none of that name, with the nearest.
    """
    names = model_names()
    if name not in names:
        close = [known for known in names if name in known][:3] or nearest(name, names)
        raise ConfigError(
            f"there is no model {name!r}{did_you_mean(close) or '.'} `jaxgen models` lists them."
        )
    return _load(name)


def _load(name: str) -> Any:
    """Returns a model, which is the whole of what its files bind, as a pair of two towers is."""
    # The other names' rooms take a second to import.
    table = registered_models()
    files = [f"models/{name}.gin"]
    bound = {binding.name for binding in read_files(files).bindings}
    wholes = [one for one in fitting(ModelConfig, table) if one in bound and one != "model"]
    root = wholes[0] if wholes else "model"
    return load(files, root=root, table=table, beside=("next_token_loss",))


def _flops_length(config: Any) -> int:
    """Returns the length of the rows that FLOPs are told for: of a pair, its longest caption."""
    if isinstance(config, TransformerConfig):
        return FLOPS_LENGTH
    return getattr(config, "max_length", None) or FLOPS_LENGTH


def _row(name: str, config: Any, count: ParameterCount) -> tuple[str, ...]:
    flops = config.flops(_flops_length(config))
    published, difference = _compared(config.card, count)
    if difference == "exact" and config.card is not None and not config.card.counts_head:
        difference = f"exact, without {count.head:,} in the head" if count.head else difference
    numbers = (count.total, count.embedding, count.active)
    return (name, *(f"{n:,}" for n in numbers), f"{flops:.3e}", published, difference)


def _compared(card: ModelCard | None, count: ParameterCount) -> tuple[str, str]:
    """Returns the published number and how far off the count is."""
    if card is None or card.parameters is None:
        return "", ""
    total = count.total if card.counts_head else count.total - count.head
    if total == card.parameters:
        return f"{card.parameters:,}", "exact"
    return f"{card.parameters:,}", f"{100 * (total / card.parameters - 1):+.2f} %"


def _card_lines(config: Any, count: ParameterCount) -> Iterator[str]:
    card = config.card
    if card is not None:
        yield card.name
        yield f"source      {card.source}"
    yield f"total       {count.total:,}" + (f" ({count.head:,} in the head)" if count.head else "")
    if count.multi_token:
        yield f"            {count.multi_token:,} in modules that predict further tokens"
    yield f"embedding   {count.embedding:,}"
    yield f"active      {count.active:,}"
    if card is not None and card.parameters is not None:
        published, difference = _compared(card, count)
        yield f"published   {published} ({difference})"
        if card.active_parameters is not None:
            yield f"            {card.active_parameters:,} active"
    if card is not None and card.note:
        yield f"note        {card.note}"
    length = _flops_length(config)
    flops = config.flops(length)
    yield f"FLOPs       {flops:.4e} a token of training, in rows of {length}"
