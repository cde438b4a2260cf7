"""Which cases of a test are in the fast tier: those that differ most from one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

UNLIKE_FAMILIES = ("bert", "bloom", "glam", "gpt2", "mixtral", "palm")
"""Families whose tiny members have, together, nearly every axis of a model."""


def slow_but(fast: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Returns the cases for `parametrize`, all but the fast ones marked slow."""
    chosen = list(fast)
    return [
        case if case in chosen else pytest.param(*_values(case), marks=pytest.mark.slow)
        for case in cases
    ]


def _values(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)
