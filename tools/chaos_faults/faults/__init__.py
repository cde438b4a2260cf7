"""All kinds of faults, each a small function."""

from chaos_faults.faults import damage, signals, surroundings
from chaos_faults.faults.kind import Kind, NotPossibleError, Since

KINDS: tuple[Kind, ...] = (*signals.KINDS, *damage.KINDS, *surroundings.KINDS)
NOT_TRIED = {
    "an object store answering 500, slow, or cut": "see tests/runs/test_mirror.py",
}
"""Kinds that the table names though they are not tried, and why."""

__all__ = ["KINDS", "NOT_TRIED", "Kind", "NotPossibleError", "Since"]
