"""The names of what corpora are prepared by."""

from __future__ import annotations

from jaxgen.configuration.table import Table


def registered_preparation() -> Table:
    """Returns the names of a preparation and of its stages."""
    from jaxgen.preparation.config import Preparation
    from jaxgen.preparation.decontamination import CutContamination, Decontaminate
    from jaxgen.preparation.duplicates import NearDuplicates
    from jaxgen.preparation.filters import (
        Characters,
        Language,
        Repetition,
        StopWords,
        Symbols,
        Without,
        Words,
    )
    from jaxgen.preparation.scrubbing import Scrub

    return {
        "preparation": Preparation,
        "characters": Characters,
        "words": Words,
        "symbols": Symbols,
        "stop_words": StopWords,
        "repetition": Repetition,
        "language": Language,
        "without": Without,
        "scrub": Scrub,
        "near_duplicates": NearDuplicates,
        "decontaminate": Decontaminate,
        "cut_contamination": CutContamination,
    }
