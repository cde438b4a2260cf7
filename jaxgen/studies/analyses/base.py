"""The description of an analysis, and helpers that the figures of several analyses share.

    EXAMPLE = Analysis("seeds", "Seeds of each rung", "Seeds", analyse=count_seeds, present=show)

`analyse` turns runs into plain values, the entry "seeds" of the tree; `present` turns the tree into
what is shown. A new analysis is one such file and one line in the list of `analysis.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxgen.studies.plots import Axis, Block, Color, Fold, Mark, Section, Sentence
from jaxgen.studies.study_runs import StudyRun

Tree = Mapping[str, Any]
LABELS = {
    "parameters": "active parameters",
    "flops": "FLOPs",
    "tokens": "tokens",
    "loss": "held-out loss (nats/token)",
}
KINDS = {"dense": "dense models", "sparse": "mixtures of experts"}


@dataclasses.dataclass(frozen=True)
class Analysis:
    """An analysis of a study: values, and how a report shows them.

    Attributes:
      key: the name of its values in the tree.
      title: of its section.
      link: its short name in the page's navigation.
      analyse: (runs) -> values: dataclasses, mappings, sequences, arrays and numbers.
      present: (tree as plain values) -> blocks of the section; none leaves it out.
      method: how the values were computed, folded away at the end of the section.
    """

    key: str
    title: str
    link: str
    analyse: Callable[[Sequence[StudyRun]], Any]
    present: Callable[[Tree], Sequence[Block]]
    method: str = ""

    def section(self, tree: Tree) -> Section | None:
        """Returns the section of a report, or None where the study has nothing for it."""
        blocks = list(self.present(tree))
        if len(blocks) > 1 and self.method:
            blocks.append(Fold("How this was computed", [Sentence(self.method, "soft")]))
        return Section(self.key, self.title, self.link, blocks) if blocks else None


def scale_axis(name: str) -> Axis:
    """Returns the axis of a scale: "parameters", "flops", "tokens" or "loss"."""
    is_count = name in ("parameters", "tokens")
    return Axis(LABELS[name], "log", is_reversed=name == "loss", is_count=is_count)


def color_of(kind: str) -> Color:
    """Returns the color of dense models or of mixtures of experts."""
    return "sparse" if kind == "sparse" else "dense"


def mark_of(kind: str) -> Mark:
    """Returns the mark of dense models or of mixtures of experts."""
    return "square" if kind == "sparse" else "circle"


def shade_of(value: Any, values: Sequence[Any]) -> float:
    """Returns 0 for the first of some values to 1 for the last, or for the only one."""
    return values.index(value) / (len(values) - 1) if len(values) > 1 else 1.0


def warned_title(warnings: Sequence[str]) -> str:
    """Returns the title of a plot whose law is warned of: a figure may leave the page."""
    count = len(warnings)
    return f"The report lists {count} warning{'s' * (count > 1)} about this law" if count else ""


def is_mixed(tree: Tree) -> bool:
    """Returns whether a study's runs were trained on several mixtures."""
    return len({run["mixture"] for run in tree["runs"]}) > 1


def ladder_name(tree: Tree, of: Mapping[str, Any]) -> str:
    """Returns what tells a ladder from the study's others, such as "dense models on web"."""
    mixture = f" trained on {of['mixture']}" if is_mixed(tree) else ""
    return KINDS[of["kind"]] + mixture


def figure_name(tree: Tree, what: str, of: Mapping[str, Any]) -> str:
    """Returns the name of a figure's file: with the mixture where a study has several."""
    parts = [what, of["mixture"] if is_mixed(tree) else ""]
    parts += [of["task"] or "mean"] if "task" in of else []
    parts.append("sparse" if of.get("kind") == "sparse" else "")
    return "-".join(part for part in parts if part)
