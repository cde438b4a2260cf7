"""Pictures, clips and sounds that a study's models made: of each rung one run, beside the true one.

They come from the rows of `evaluation.media.GeneratedMedia`, so what is shown was scored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxgen.studies.analyses.base import Analysis, Tree, is_mixed
from jaxgen.studies.formatting import percent
from jaxgen.studies.plots import Block, Fold, MediaGrid, Sentence, Tone, menu_of
from jaxgen.studies.scored_answers import read_answers
from jaxgen.studies.study_runs import StudyRun

SHOWN, FOLDED = 8, 24
"""Instances of a task in sight, and those behind a fold."""
MEDIUM = re.compile(r"data:(image/png|audio/wav);base64,[A-Za-z0-9+/]+={0,2}")
METHOD = (
    "Of each rung the run with the lowest seed is shown, and of each task its first instances, "
    "which are the same for all runs. A frame is green where everything that was asked for is "
    "there, red where something is not; the share under a rung's name is of all its instances. A "
    "clip is shown as its frames from left to right."
)


def collect(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns the media of every task, with those of each rung.

    Returns:
      For each mixture and task: "task", "mixture", "prompts", "references" (data URIs, [instances])
      and "rungs", smallest first: "rung", "run", "exact_match" (of all instances), "made" and
      "correct" ([instances]).
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in sorted(runs, key=lambda run: (run.record["flops"], run.rung, run.seed)):
        by_task: dict[str, list[Mapping[str, Any]]] = {}
        for _, row in read_answers(run):
            by_task.setdefault(row["task"], []).append(row)
        for task, rows in by_task.items():
            shown = [row for row in rows if _is_medium(row.get("made"))][:FOLDED]
            if not shown:
                continue
            entry = found.setdefault(
                (run.mixture, task),
                {
                    "task": task,
                    "mixture": run.mixture,
                    "prompts": [str(row.get("prompt", row["instance"])) for row in shown],
                    "references": [_medium(row.get("reference")) for row in shown],
                    "rungs": [],
                },
            )
            if run.rung in (one["rung"] for one in entry["rungs"]):
                continue
            known = len(entry["prompts"])
            entry["rungs"].append(
                {
                    "rung": run.rung,
                    "run": run.name,
                    "exact_match": _mean([row.get("exact_match") for row in rows]),
                    "made": [row["made"] for row in shown[:known]],
                    "correct": [_is_correct(row.get("exact_match")) for row in shown[:known]],
                }
            )
    return list(found.values())


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def _is_correct(score: float | None) -> bool | None:
    return None if score is None else score == 1


def _is_medium(value: Any) -> bool:
    return isinstance(value, str) and MEDIUM.fullmatch(value) is not None


def _medium(value: Any) -> str:
    return value if _is_medium(value) else ""


def _present(tree: Tree) -> Sequence[Block]:
    if not tree["made_media"]:
        return []
    grids: dict[str, list[Block]] = {}
    for entry in tree["made_media"]:
        name = entry["task"] + (f", {entry['mixture']}" if is_mixed(tree) else "")
        has_pictures = entry["rungs"][0]["made"][0].startswith("data:image")
        grids[name] = [_grid(entry, 0, SHOWN, f"made-{name}" if has_pictures else "")]
        if len(entry["prompts"]) > SHOWN:
            grids[name].append(Fold("More of them", [_grid(entry, SHOWN, FOLDED)]))
    text = Sentence(
        "What models of growing size made of held-out prompts, beside what the prompts describe."
    )
    return [text, *menu_of("Task", grids)]


def _grid(entry: Mapping[str, Any], first: int, end: int, name: str = "") -> MediaGrid:
    rungs, places = entry["rungs"], range(first, min(end, len(entry["prompts"])))

    def at(values: Sequence[Any], place: int) -> Any:
        return values[place] if place < len(values) else None

    tones: dict[bool | None, Tone] = {True: "good", False: "bad", None: ""}
    return MediaGrid(
        columns=[*(f"{one['rung']}\n{percent(one['exact_match'])}" for one in rungs), "described"],
        rows=[entry["prompts"][place] for place in places],
        media=[
            [*(at(one["made"], place) or "" for one in rungs), entry["references"][place]]
            for place in places
        ],
        tones=[[*(tones[at(one["correct"], place)] for one in rungs), ""] for place in places],
        name=name,
    )


MADE_MEDIA = Analysis(
    "made_media", "What models of each size make", "Made", collect, _present, METHOD
)
