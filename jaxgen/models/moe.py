"""placeholder until helper API"""

import dataclasses
from typing import Any

import jax
from flax import nnx


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RouterStatistics:
    load: Any
    load_balance_loss: Any
    z_loss: Any


class MoE(nnx.Module):
    pass
