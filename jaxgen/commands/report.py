"""`jaxgen report`: a study's finished runs as one page, and its figures as files."""

from __future__ import annotations

import argparse
from pathlib import Path

from jaxgen.studies.analysis import analyse_runs, sections_of
from jaxgen.studies.report import read_heading, write_report
from jaxgen.studies.study_runs import read_runs


def report(arguments: argparse.Namespace) -> int:
    """Writes the page and prints its path.

    Args:
      arguments: `study`, the folder of runs; `output`, the page, or None for report.html in it;
        `figures`, a folder for PDF and PNG files, or None; `title` and `lead`, or None for those
        of the sweep.
    """
    folder = Path(arguments.study)
    runs = read_runs(folder)
    analysis = analyse_runs(runs)
    output = Path(arguments.output) if arguments.output else folder / "report.html"
    rungs = len({run.rung for run in runs})
    heading = read_heading(folder)
    default = (
        f"{len(runs)} finished runs at {rungs} sizes: scaling laws of their loss, predictions for "
        "the largest size and their outcomes, and the abilities that appear with scale."
    )
    lead = arguments.lead or heading.get("lead") or default
    title = arguments.title or heading.get("title") or f"Study {folder.absolute().name}"
    directories = [run.directory for run in runs]
    print(write_report(directories, output, title, lead, analysis).absolute())
    if arguments.figures:
        from jaxgen.studies.figures import write_figures

        for path in write_figures(sections_of(analysis), Path(arguments.figures)):
            print(path)
    return 0
