"""A bar on a terminal while pictures are sampled; nothing in pipes and logs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jaxgen import distributed
from jaxgen.runs.cascades import Stage
from jaxgen.runs.written_vectors import VectorWriter


def steps_of(
    stages: Sequence[Stage | VectorWriter], pictures: int, at_a_time: int, strength: float
) -> list[int]:
    """Returns how many steps each stage takes for so many pictures, as `run_stages` does.

    Args:
      stages: in order.
      pictures: that are made.
      at_a_time: of them.
      strength: the share of the first stage's steps, where it begins with a picture.
    """
    batches = -(-pictures // at_a_time)
    counts = [stage.num_steps for stage in stages]
    counts[0] = max(1, round(strength * counts[0])) if counts[0] else 0
    return [batches * count for count in counts]


@contextlib.contextmanager
def sampling_progress(
    stages: Sequence[Stage | VectorWriter], pictures: int, at_a_time: int, strength: float
) -> Iterator[Callable[[Any], None] | None]:
    """Opens a bar of the steps of all stages and yields what moves it by one; see `steps_of`.

    It yields None where no one looks: in pipes, and where several processes run one program, in
    which one alone cannot call back.
    """
    if not sys.stdout.isatty() or distributed.process_count() > 1:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    total = sum(steps_of(stages, pictures, at_a_time, strength))
    with Progress(
        "{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda _: bar.advance(task)
        jax.effects_barrier()
