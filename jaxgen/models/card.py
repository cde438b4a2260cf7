"""Published facts of a model, to compare its counts with."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A published model.

    Attributes:
      name: as its authors call it.
      source: the paper or public configuration that the shapes come from.
      parameters: the published number; None where none was.
      active_parameters: the published number of parameters that compute a token.
      is_exact: whether `parameters` is exact, not rounded by its authors.
      counts_head: whether `parameters` counts what stands between the last block and the logits.
      note: what is undisclosed or cannot be reproduced.
    """

    name: str
    source: str
    parameters: int | None = None
    active_parameters: int | None = None
    is_exact: bool = False
    counts_head: bool = True
    note: str = ""
