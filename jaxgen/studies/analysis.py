"""A study's analysis as one tree of plain values: all that the report says, and where it is from.

    analysis = analyse("runs/study")
    json.dumps(analysis)

Every figure of a run carries the run's name, and every instance the line of the answers file that
it stands on. What cannot be told from the runs is a "why_not": one sentence in its place.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.studies.analyses.abilities import analyse_abilities
from jaxgen.studies.analyses.allocation import analyse_allocations
from jaxgen.studies.analyses.experts import analyse_experts
from jaxgen.studies.analyses.finetuning import analyse_finetuning
from jaxgen.studies.analyses.laws import analyse_laws
from jaxgen.studies.preregistration import outcomes
from jaxgen.studies.study_runs import StudyRun, read_runs


def analyse(study_folder: str | os.PathLike) -> dict[str, Any]:
    """Analyses the finished runs of a folder.

    Returns:
      "runs": name, rung, mixture, seed, counts, tokens, FLOPs, loss and parent of each; "laws", see
      `analyse_laws`; "allocations", see `analyse_allocations`; "comparisons", see
      `analyse_experts`; "abilities", see `analyse_abilities`; "finetuning", see
      `analyse_finetuning`; "prediction", see `preregistration.outcomes`, None where nothing was
      registered.

    Raises:
      StudyError: runs that make no study, or a registered prediction that was changed.
    """
    return analyse_runs(read_runs(study_folder), outcomes(study_folder))


def analyse_runs(
    runs: Sequence[StudyRun], prediction: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The same of runs at hand; see `analyse`."""
    return plain(
        {
            "runs": [describe_run(run) for run in runs],
            "laws": analyse_laws(runs),
            "allocations": analyse_allocations(runs),
            "comparisons": analyse_experts(runs),
            "abilities": analyse_abilities(runs),
            "finetuning": analyse_finetuning(runs),
            "prediction": prediction,
        }
    )


def describe_run(run: StudyRun) -> dict[str, Any]:
    """Where a run is and what it cost."""
    return {
        "name": run.name,
        "rung": run.rung,
        "mixture": run.mixture,
        "seed": run.seed,
        "is_sparse": run.is_sparse,
        "parameters": run.parameters,
        "tokens": run.record["tokens"],
        "flops": run.record["flops"],
        "loss": run.loss(),
        "parent": run.parent[0] if run.parent else None,
        "answers_file": os.path.join(run.directory.path.name, "evals", run.answers_file.name),
    }


def plain(value: Any) -> Any:
    """Dataclasses, arrays and numbers of numpy as JSON has them; None for what is no number."""
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
