"""All kinds of faults, each a small function."""

from chaos_faults.faults import damage, signals, stores, surroundings
from chaos_faults.faults.kind import Kind, NotPossibleError, Since

KINDS: tuple[Kind, ...] = (*signals.KINDS, *damage.KINDS, *surroundings.KINDS, *stores.KINDS)

__all__ = ["KINDS", "Kind", "NotPossibleError", "Since"]
