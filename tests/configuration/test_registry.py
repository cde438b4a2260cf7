"""The table of names, and what importing the room costs."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

from jaxgen.configuration import load_text, registered, to_gin
from jaxgen.configuration.protocols import fitting
from jaxgen.configuration.table import parameters
from jaxgen.training.batch_sizes import BatchRamp
from jaxgen.training.optimizers.base import Optimizer
from jaxgen.training.schedules import Schedule


def test_names_are_short_and_classes_are_frozen():
    for name, factory in registered().items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        if isinstance(factory, type):
            assert dataclasses.is_dataclass(factory), name
            assert factory.__dataclass_params__.frozen, name  # pyright: ignore


def test_every_type_hint_can_be_resolved_and_no_class_is_named_twice():
    for factory in registered().values():
        parameters(factory)
    factories = list(registered().values())
    assert len({id(factory) for factory in factories}) == len(factories)


def test_what_has_only_defaults_round_trips():
    for name, factory in registered().items():
        known = parameters(factory)
        if isinstance(factory, type) and not any(known[field].required for field in known):
            config = factory()
            assert load_text(to_gin(config), root=name) == config


def test_importing_the_room_loads_neither_jax_nor_gin():
    program = (
        "import sys, jaxgen.configuration\n"
        "print(*sorted({'jax', 'flax', 'gin', 'numpy', 'typeguard'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "", result.stderr


def test_protocols_tell_the_parts_of_one_kind_from_the_others():
    table = registered()
    assert set(fitting(Optimizer, table)) == {"adamw", "adafactor", "lion", "muon", "narrow_state"}
    schedules = {"warmup_cosine", "warmup_stable_decay", "inverse_square_root", "rate_phases"}
    assert set(fitting(Schedule, table)) == schedules
    assert set(fitting(BatchRamp, table)) == {"linear_ramp", "stepped_ramp"}
