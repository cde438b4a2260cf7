"""Sweeps: many runs declared in a Python file, done once each, here or on a cluster."""

from jaxgen.sweeps.grid import Change, axis, chain, grid, product, sizes, zipped
from jaxgen.sweeps.stopping import StopRule
from jaxgen.sweeps.sweep import Power, Resources, Sweep, load_sweep

__all__ = [
    "Change", "Power", "Resources", "StopRule", "Sweep", "axis", "chain", "grid", "load_sweep",
    "product", "sizes", "zipped",
]  # fmt: skip
