"""The names of how a run is trained and executed."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_training() -> Table:
    """Returns the names of optimizers, schedules, meshes and what else a run is executed by."""
    from jaxgen.sharding.mesh import MeshConfig
    from jaxgen.sharding.pipeline import PipelineConfig
    from jaxgen.sharding.rules import Rules
    from jaxgen.training.batch_sizes import LinearRamp, SteppedRamp
    from jaxgen.training.config import TrainConfig
    from jaxgen.training.divergence import Divergence, Skip
    from jaxgen.training.execution import ExecutionConfig
    from jaxgen.training.optimizers.adafactor import Adafactor
    from jaxgen.training.optimizers.adamw import AdamW
    from jaxgen.training.optimizers.lion import Lion
    from jaxgen.training.optimizers.muon import Muon
    from jaxgen.training.optimizers.narrow_state import NarrowState
    from jaxgen.training.schedules import (
        InverseSquareRoot,
        RatePhase,
        RatePhases,
        WarmupCosine,
        WarmupStableDecay,
    )
    from jaxgen.training.tracking import TensorBoard

    return {
        "mesh": MeshConfig,
        "pipeline": PipelineConfig,
        "rules": Rules,
        "train": TrainConfig,
        "execution": ExecutionConfig,
        "tensorboard": TensorBoard,
        "divergence": Divergence,
        "skip": Skip,
        "adamw": AdamW,
        "adafactor": Adafactor,
        "lion": Lion,
        "muon": Muon,
        "narrow_state": NarrowState,
        "linear_ramp": LinearRamp,
        "stepped_ramp": SteppedRamp,
        "warmup_cosine": WarmupCosine,
        "warmup_stable_decay": WarmupStableDecay,
        "inverse_square_root": InverseSquareRoot,
        "rate_phases": RatePhases,
        "rate_phase": RatePhase,
    }
