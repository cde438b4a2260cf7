"""The one error of this room."""

from __future__ import annotations


class EmergenceError(ValueError):
    """A table, a design or an option without an answer; the message names it and the fix."""
