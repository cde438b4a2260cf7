"""The batch of a student and a teacher that read the same tokens in different rows."""

from __future__ import annotations

import dataclasses

import jax

from jaxgen.batch import Batch, TokenArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TaughtBatch:
    """Rows of a student, and those in which a teacher reads the same tokens after a prompt.

    Attributes:
      student: [batch, length].
      teacher: [batch, teacher length].
      places: [batch, length] int32, where each of the student's tokens is in the teacher's row.
    """

    student: Batch
    teacher: Batch
    places: TokenArray
