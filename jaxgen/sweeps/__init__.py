"""Sweeps are many runs declared in a Python file, each done once, here or on a cluster."""

from jaxgen.sweeps.early_stopping import EarlyStopping
from jaxgen.sweeps.grid import Change, axis, grid, ladder, product, zipped
from jaxgen.sweeps.sweep import EnergyModel, Resources, Sweep, load_sweep

__all__ = [
    "Change", "EarlyStopping", "EnergyModel", "Resources", "Sweep", "axis", "grid",
    "ladder", "load_sweep", "product", "zipped",
]  # fmt: skip
