"""Reads a checkpoint whose optimizer kept its moments in another precision than the run does.

Which one belongs to what a run is, as losses depend on it. A run that goes on from another's
checkpoint at another precision (`diagnostics.extending`) says in run.json what that one was saved
in; it is read as that, and converted on the run's own mesh.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jaxgen.training.optimizers.narrow_state import convert_state, state_dtype, with_state_dtype
from jaxgen.training.program import Program, build_program
from jaxgen.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class OtherPrecision:
    """How checkpoints up to a step are read.

    Attributes:
      last_step: of those that were saved in another dtype.
      dtype: which.
      program: of the run that reads them.
    """

    last_step: int
    dtype: str
    program: Program

    def abstract_state(self, like: TrainState) -> TrainState:
        """Returns the shapes to read: those of `like`, but for the optimizer's."""
        program = self.program
        optimizer = with_state_dtype(program.train.optimizer, self.dtype)
        # What is converted has to be on the devices, wherever it is kept afterwards.
        execution = dataclasses.replace(program.execution, offload_optimizer=False)
        saved = build_program(
            program.model,
            dataclasses.replace(program.train, optimizer=optimizer),
            program.mesh,
            execution,
            program.objective,
            trains=False,
        )
        moments = saved.abstract_state().optimizer_state
        return dataclasses.replace(like, optimizer_state=moments)

    def convert(self, state: TrainState, like: TrainState) -> TrainState:
        """Returns a state that was read with the optimizer's arrays as in `like`."""
        after = state_dtype(self.program.train.optimizer)

        @jax.jit
        def converted(moments: Any, step: Any) -> Any:
            return convert_state(moments, self.dtype, after, step)

        with jax.set_mesh(self.program.mesh):
            moments = converted(state.optimizer_state, state.step)
        place = jax.tree.map(lambda leaf: leaf.sharding, like.optimizer_state)
        return dataclasses.replace(state, optimizer_state=jax.device_put(moments, place))


def saved_otherwise(record: dict[str, Any], program: Program) -> OtherPrecision | None:
    """Returns how a run's first checkpoint is read, by its run.json; None: as all others are."""
    origin = record.get("extended_from") or {}
    dtype = origin.get("state_dtype")
    if dtype in (None, state_dtype(program.train.optimizer)):
        return None
    return OtherPrecision(origin["step"], dtype, program)
