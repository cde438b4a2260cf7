"""Which units of a stack's groups are run for some of its blocks."""

from __future__ import annotations

from jaxgen.errors import ConfigError
from jaxgen.models.stack_config import StackConfig

Spans = list[tuple[int, range]]
"""Groups by their numbers, and which of their units are run."""


def spans_of(config: StackConfig, num_layers: int | None, last: int | None) -> tuple[Spans, Spans]:
    """Returns which units run for some blocks: those before the last ones, and those.

    Args:
      config: the stack's.
      num_layers: the first blocks that are run; None: all.
      last: how many of these the last ones are; None: all, and none are before.

    Raises:
      ConfigError: if blocks end inside a unit.
    """
    whole = _repeats_of(config, num_layers)
    if last is None:
        return [], [(index, range(stop)) for index, stop in enumerate(whole)]
    total = config.num_layers if num_layers is None else num_layers
    first = _repeats_of(config, total - last)
    starts = first + [0] * (len(whole) - len(first))
    after = [(index, range(starts[index], stop)) for index, stop in enumerate(whole)]
    return [(index, range(stop)) for index, stop in enumerate(first)], [
        (index, run) for index, run in after if run
    ]


def _repeats_of(config: StackConfig, num_layers: int | None) -> list[int]:
    """Returns how often the first groups' units run for so many blocks.

    Raises:
      ConfigError: if they end inside a unit.
    """
    left, repeats = config.num_layers if num_layers is None else num_layers, []
    for group in config.groups:
        size = len(group.unit)
        repeats.append(min(group.repeats, left // size))
        left -= repeats[-1] * size
        if repeats[-1] < group.repeats:
            break
    if left:
        raise ConfigError(
            f"the first {num_layers} blocks of a stack end inside a unit of unlike ones; read "
            f"those of another number, such as {num_layers - left if num_layers else 0}."
        )
    return [count for count in repeats if count]
