"""A study's report: one self-contained report.html that opens offline, anywhere."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jaxgen.errors import StudyError
from jaxgen.files import write_atomically
from jaxgen.json_values import read_json
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.studies.analyses.base import Tree
from jaxgen.studies.analysis import analyse_runs, sections_of
from jaxgen.studies.page_json import to_json
from jaxgen.studies.plots import Section
from jaxgen.studies.study_runs import check_runs

HEADING = "study.json"


def write_heading(folder: Path, title: str, lead: str) -> None:
    """Keeps the title and the lead of a study's report in the study's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "lead": lead}
    write_atomically(folder / HEADING, json.dumps(content, indent=1) + "\n")


def read_heading(folder: Path) -> dict[str, str]:
    """Returns the "title" and the "lead" that a folder keeps, or nothing."""
    path = folder / HEADING
    try:
        return read_json(path, {"title?": str, "lead?": str}, "mend or remove it", StudyError)
    except FileNotFoundError:
        return {}


def write_report(
    directories: Sequence[RunDirectory],
    path: str | os.PathLike,
    title: str,
    lead: str,
    analysis: Tree | None = None,
) -> Path:
    """Writes the report of finished runs.

    Args:
      directories: of the runs, each finished.
      path: of the HTML file, written whole or not at all.
      title: of the page.
      lead: a paragraph on the question that the study asks, as text.
      analysis: of the runs, see `analysis.analyse`; computed here by default.

    Raises:
      CheckpointError: the file cannot be written.
      StudyError: a run is not finished or the runs make no study, see `study_runs`.
    """
    if analysis is None:
        analysis = analyse_runs(check_runs(directories))
    write_atomically(Path(path), page_of(title, lead, sections_of(analysis), analysis))
    return Path(path)


def page_of(title: str, lead: str, sections: Sequence[Section], analysis: Tree) -> str:
    """Returns the HTML of a report: its sections, and the tree of values that they show."""
    data = {"analysis": analysis, "sections": to_json(sections)}
    page = _asset("report.html")
    for mark, text in {
        "{{title}}": html.escape(title),
        "{{lead}}": html.escape(lead),
        "{{css}}": _asset("report.css"),
        "{{js}}": _asset("report.js"),
        # "</" would end the script element that holds the data.
        "{{data}}": json.dumps(data, allow_nan=False).replace("</", "<\\/"),
    }.items():
        page = page.replace(mark, text)
    return page


def _asset(name: str) -> str:
    return resources.files("jaxgen.studies").joinpath("assets", name).read_text(encoding="utf-8")
