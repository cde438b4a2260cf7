"""A study's analysis as one tree of plain values, and the sections of the report that show it.

    tree = analyse("runs/study")
    json.dumps(tree)
    write_figures(sections_of(tree), Path("figures"))

Every value of a run carries the run's name, and every instance the line of the answers file that it
rests on. Where the runs cannot tell something, a "why_not" holds one sentence in its place.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.studies.analyses.abilities import ABILITIES
from jaxgen.studies.analyses.alignment import ALIGNMENT
from jaxgen.studies.analyses.allocation import ALLOCATION
from jaxgen.studies.analyses.base import Tree
from jaxgen.studies.analyses.expert_use import EXPERT_USE
from jaxgen.studies.analyses.experts import EXPERTS
from jaxgen.studies.analyses.finetuning import FINETUNING
from jaxgen.studies.analyses.laws import LAWS
from jaxgen.studies.analyses.made_media import MADE_MEDIA
from jaxgen.studies.analyses.prediction import PREDICTION
from jaxgen.studies.analyses.runs import RUNS
from jaxgen.studies.analyses.samples import SAMPLES
from jaxgen.studies.analyses.summary import SUMMARY, cannot_tell
from jaxgen.studies.analyses.training import TRAINING
from jaxgen.studies.analyses.transfer import TRANSFER
from jaxgen.studies.plots import Section
from jaxgen.studies.study_runs import StudyRun, read_runs

ANALYSES = (
    SUMMARY,
    TRAINING,
    LAWS,
    ALLOCATION,
    EXPERTS,
    EXPERT_USE,
    PREDICTION,
    ABILITIES,
    FINETUNING,
    TRANSFER,
    ALIGNMENT,
    MADE_MEDIA,
    SAMPLES,
    RUNS,
)
"""In the order of the report."""


def analyse(study_folder: str | os.PathLike) -> dict[str, Any]:
    """Analyses the finished runs of a folder.

    Returns:
      The values of every analysis by its key, each described by its `analyse` function.

    Raises:
      StudyError: the runs make no study, or a pre-registered prediction was changed.
    """
    return analyse_runs(read_runs(study_folder))


def analyse_runs(runs: Sequence[StudyRun]) -> dict[str, Any]:
    """Analyses runs that were read already; see `analyse`."""
    return {one.key: plain(one.analyse(runs)) for one in ANALYSES}


def sections_of(tree: Tree) -> list[Section]:
    """Returns the sections of a report; those for which a study has nothing are left out."""
    sections = (one.section(tree) for one in ANALYSES)
    return cannot_tell([section for section in sections if section is not None])


def plain(value: Any) -> Any:
    """Returns dataclasses, arrays and numpy numbers as JSON has them; None for nan and inf."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
