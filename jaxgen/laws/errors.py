"""What goes wrong when a law is fitted."""

from __future__ import annotations


class LawError(ValueError):
    """A table or a setting that no law can be fitted with; says what, its value and the fix."""
