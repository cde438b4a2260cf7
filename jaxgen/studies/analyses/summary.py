"""What a study found, in a few lines on top of its report; and what it cannot tell, at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxgen.studies.analyses.ability_plots import TONES
from jaxgen.studies.analyses.base import KINDS, Analysis, Tree, is_mixed, ladder_name
from jaxgen.studies.formatting import between, number
from jaxgen.studies.plots import Block, Bullets, Cell, DataTable, Section, Sentence
from jaxgen.studies.study_runs import StudyRun


def _nothing(runs: Sequence[StudyRun]) -> None:
    """Returns None: all that is summarised is in the tree."""


def _present(tree: Tree) -> Sequence[Block]:
    return [*_verdicts(tree), *map(Sentence, (*_laws(tree), *_predictions(tree)))]


def _verdicts(tree: Tree) -> Sequence[Block]:
    rows: list[tuple[Cell, ...]] = []
    for ability in tree["abilities"]:
        found = ability.get("verdict", {})
        if "verdict" not in found:
            continue
        curve = ability["axes"].get("parameters", {}).get("curves", {}).get("exact_match", ())
        ends = [f"{point['mean']['value']:.0%}" for point in (curve[:1] + curve[-1:])]
        name = ability["task"] + (f", {ability['mixture']}" if is_mixed(tree) else "")
        verdict = found["verdict"], TONES[found["verdict"]]
        rows.append((name, KINDS[ability["kind"]], verdict, " to ".join(ends)))
    columns = ("ability", "models", "verdict", "exact match, smallest to largest")
    return [DataTable(columns, rows, text_columns=(0, 1, 2))] if rows else []


def _laws(tree: Tree) -> list[str]:
    mean = [law for law in tree["laws"] if law["task"] is None and "formula" in law]
    return [
        f"Mean held-out loss of {ladder_name(tree, law)}: {law['formula']}, with "
        + ", ".join(map(_parameter, law["parameters"]))
        + "."
        for law in mean
    ]


def _parameter(one: Tree) -> str:
    """Returns a law's parameter with its interval; of a floor that is none it says so."""
    value, interval = number(one["value"]), between(one["interval"])
    if one["name"] == "E" and interval == f"{value} to {value}":
        return "no floor E found"
    return f"{one['name']} = {value} (95%: {interval})".replace("= ≈", "≈")


def _predictions(tree: Tree) -> list[str]:
    found: Any = tree.get("prediction")
    losses = [rung["loss"] for rung in found["rungs"] if rung["loss"]] if found else []
    if not losses:
        return []
    inside = sum(loss["is_inside"] for loss in losses)
    return [f"Of {len(losses)} losses predicted before training, {inside} came in their intervals."]


def cannot_tell(sections: Sequence[Section]) -> list[Section]:
    """Returns sections with those that only say why there is nothing as one list at the end."""
    shown, reasons = [], []
    for section in sections:
        texts = [block for block in section.blocks if isinstance(block, Sentence)]
        if len(texts) == len(section.blocks) and all(one.tone == "soft" for one in texts):
            reasons += [f"{section.title}: {one.text}" for one in texts]
        else:
            shown.append(section)
    if reasons:
        shown.append(Section("nothing", "What these runs cannot tell", "Open", [Bullets(reasons)]))
    return shown


SUMMARY = Analysis("summary", "In short", "In short", _nothing, _present)
