"""The one error of this room."""

from __future__ import annotations


class LawError(ValueError):
    """A table or a setting that a law cannot be fitted with; names it, its value and the fix."""
