"""The layout of a model and its compilation: one object, owned by the root of the model.

The root enters its layout while it is traced (`@under_layout`), and its layers ask for it
(`current_layout()`, `spec(...)`), so that none stores it or passes it on. The layout is a static
part of the root's pytree and so of every key of `jax.jit`: no cached program is of another layout.
What is traced after the root's method has returned (the backward pass of a `custom_vjp`) must be
handed what it needs.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

from jax.sharding import PartitionSpec

from jaxgen.errors import ShardingError
from jaxgen.sharding.checks import axis_names
from jaxgen.sharding.pipeline import STAGE, PipelineConfig, num_stages
from jaxgen.sharding.rules import Rules, num_parts

AttentionChoice = Literal["auto", "dense", "blockwise", "splash", "cudnn", "ring"]
"""How attention is computed; see `jaxgen.ops.attention.attend`."""

ExpertExchange = Literal["auto", "gather", "all_to_all"]
"""How tokens reach experts on other devices; see `jaxgen.ops.expert_exchange`."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout holds what execution decides of a model's program; it changes rounding alone.

    Attributes:
      rules: which logical axis is split over which mesh axis.
      remat: what the backward pass recomputes: "none", "dots" (all but matrix products) or "full".
      remat_saved: values that it keeps nevertheless, of `ops.rematerialisation.NAMES`.
      remat_offloaded: values that it keeps in the memory of the host, likewise.
      scan_unroll: how many repeating units one iteration of the scan over layers holds; more
        compiles longer and can run faster.
      attention: the implementation that computes it; "auto": the first that suits a call and the
        platform that the program is compiled for; "ring": keys and values go round the devices that
        split the length, and are never gathered (where each device has them all, as "auto").
      expert_exchange: how tokens reach experts on other devices; "auto": what sends fewer rows.
      pipeline: how a batch goes through the stages of a mesh that has them.
    """

    rules: Rules = Rules()
    remat: Literal["none", "dots", "full"] = "none"
    remat_saved: tuple[str, ...] = ()
    remat_offloaded: tuple[str, ...] = ()
    scan_unroll: int = 1
    attention: AttentionChoice = "auto"
    expert_exchange: ExpertExchange = "auto"
    pipeline: PipelineConfig = PipelineConfig()

    def __post_init__(self):
        if self.scan_unroll < 1:
            raise ShardingError(f"scan_unroll={self.scan_unroll} must be 1 or more.")

    def within_stage(self) -> Layout:
        """Returns the layout inside a stage, whose devices share the rows of a microbatch."""
        batch = tuple(axis for axis in axis_names(self.rules.batch) if axis != STAGE)
        rules = dataclasses.replace(self.rules, batch=batch or None, layers=None)
        return dataclasses.replace(self, rules=rules)

    def of_whole_rows(self, are: str) -> Layout:
        """Returns the layout of a model whose rows are not split.

        Args:
          are: what is whole, such as "pictures are".

        Raises:
          ShardingError: if the mesh splits the length of rows.
        """
        if (parts := num_parts(axis_names(self.rules.length))) > 1:
            raise ShardingError(
                f"the mesh splits the length of rows into {parts} (mesh.sequence), and {are} "
                "whole; set mesh.sequence=1 and give the devices to mesh.data or mesh.fsdp."
            )
        return self.with_whole_length()

    def with_whole_length(self) -> Layout:
        """Returns the layout in which no mesh axis splits the length, as of single tokens."""
        return dataclasses.replace(self, rules=dataclasses.replace(self.rules, length=None))


_CURRENT: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def using(layout: Layout) -> Iterator[None]:
    """Makes `layout` the current one until the context closes."""
    token = _CURRENT.set(layout)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def under_layout(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a method of a root model: it runs under the model's own `layout`."""

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        with using(self.layout):
            return method(self, *args, **kwargs)

    return run


def current_layout() -> Layout:
    """Returns the layout of the model that is being traced.

    Raises:
      ShardingError: outside a model.
    """
    layout = _CURRENT.get()
    if layout is None:
        raise ShardingError(
            "no layout is in force: a layer is built and called inside its root model, or under "
            "`with jaxgen.sharding.layout.using(Layout()):`."
        )
    return layout


def spec(*logical_axes: str | None) -> PartitionSpec:
    """Returns how an activation with these logical axes is split under the current layout."""
    return current_layout().rules.activation(*logical_axes)


def length_is_whole() -> bool:
    """Returns whether no device holds only a part of the length of an activation."""
    return num_parts(axis_names(current_layout().rules.length)) == 1


def keys_length() -> str | None:
    """Returns the logical axis of the length of a row's keys: None where devices gather them."""
    return "length" if current_layout().attention == "ring" and not length_is_whole() else None


def is_split_over_stages() -> bool:
    """Returns whether the layers of a stack are split over pipeline stages."""
    return current_layout().rules.layers is not None and num_stages() > 1
