"""This room raises one error."""

from __future__ import annotations


class EmergenceError(ValueError):
    """A table, a design or an option has no answer; the message names it and the fix."""
