"""The one error of this room: what a scientist's table or design lacks, and what to do about it."""

from __future__ import annotations


class EmergenceError(ValueError):
    """A table, a design or an option that no answer can be given for; the message says the fix."""
