"""This room raises one error."""

from __future__ import annotations


class LawError(ValueError):
    """A law cannot be fitted; the message names the cause, its value and the fix."""
