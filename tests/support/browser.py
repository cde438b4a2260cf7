"""A headless Chromium that opens a page, opens all that is folded in it, and measures it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jaxgen.studies.plots import Section, figures_in

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REQUIRED = "JAXGEN_REQUIRE_BROWSER"
# The page is in a frame, as a window of Chromium has a least width.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>"""
MEASURE = """<script>
addEventListener("error", (event) => console.error(event.message));
// Frames paint what is seen, and no timer says when one was made.
const rest = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
const boxOf = (item) => item.getBoundingClientRect();
const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
  && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
async function measure() {
  // Without any timer virtual time leaps to its end, whatever frames are still to come.
  const ticking = setInterval(() => {}, 5);
  const found = {width: innerWidth, overflow: 0, figures: 0, empty: [], cut: [], overlapping: [],
    paper: getComputedStyle(document.body).backgroundColor, tips: 0, texts: 0,
    isDark: matchMedia("(prefers-color-scheme: dark)").matches, sections: [], hidden: []};
  const look = async () => {
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    do await rest();
    while ([...document.querySelectorAll("figure .plot")].some((plot) => !plot.children.length));
    found.overflow = Math.max(found.overflow, document.documentElement.scrollWidth - innerWidth);
    for (const table of document.querySelectorAll(".scroll"))
      if (table.scrollWidth > table.clientWidth + 1)
        found.hidden.push(`${table.scrollWidth}px: ${table.textContent.slice(0, 99)}`);
    for (const svg of document.querySelectorAll("figure .plot > svg")) {
      found.figures += 1;
      const name = svg.getAttribute("aria-label"), frame = boxOf(svg);
      const marks = [...svg.querySelectorAll(".mark")];
      // A heat map in which nothing is solved is an empty frame.
      const shown = [...marks, ...svg.querySelectorAll(".frame")];
      if (!shown.some((mark) => boxOf(mark).width + boxOf(mark).height > 0)) found.empty.push(name);
      const texts = [...svg.querySelectorAll("text")];
      found.texts += texts.length;
      for (const text of texts) {
        const box = boxOf(text);
        const isWide = box.left < frame.left - 1 || box.right > frame.right + 1;
        if (isWide || box.bottom > frame.bottom + 1)
          found.cut.push(`${name}: ${text.textContent}`);
      }
      texts.forEach((text, i) => texts.slice(i + 1).forEach((other) => {
        if (overlap(boxOf(text), boxOf(other)))
          found.overlapping.push(`${name}: ${text.textContent} | ${other.textContent}`);
      }));
      const solid = marks.filter((mark) => mark.tagName !== "path");
      const at = solid.map(boxOf).find((box) => box.width);
      if (at) {
        const clientX = (at.left + at.right) / 2, clientY = (at.top + at.bottom) / 2;
        svg.dispatchEvent(new PointerEvent("pointermove", {clientX, clientY, bubbles: true}));
        const tip = document.querySelector(".tip");
        if (tip.style.display === "block" && tip.textContent) found.tips += 1;
        svg.dispatchEvent(new PointerEvent("pointerleave"));
      }
    }
  };
  await look();
  for (const select of document.querySelectorAll("select")) {
    for (const option of [...select.options].slice(1)) {
      select.value = option.value;
      select.dispatchEvent(new Event("change"));
      await look();
    }
    select.selectedIndex = 0;
    select.dispatchEvent(new Event("change"));
  }
  for (const fold of document.querySelectorAll("details")) fold.open = false;
  found.sections = [...document.querySelectorAll("section")].map((section) => section.id);
  clearInterval(ticking);
  console.info("MEASURED " + encodeURIComponent(JSON.stringify(found)));
}
addEventListener("load", measure);
</script>"""


@dataclasses.dataclass(frozen=True)
class Visit:
    """What a browser tells of a page.

    Attributes:
      measured: by the script above.
      errors: of the console.
    """

    measured: dict[str, Any]
    errors: list[str]


def find_browser() -> str:
    """Returns the path of a Chromium; skips the test where there is none and none is required."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    reason = "no Chromium on the path: `apt-get install chromium` (.ci/run does it) brings one"
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason}, and {REQUIRED} is set")
    pytest.skip(reason)


def assert_paints(page: str, sections: Sequence[Section], folder: Path) -> None:
    """Asserts that a narrow dark and a wide light browser show every figure of a page whole.

    Args:
      page: its HTML.
      sections: that it shows.
      folder: for the page and the screenshots.
    """
    file = folder / "report.html"
    file.write_text(page)
    panels = [panel for one in sections for fig in figures_in(one.blocks) for panel in fig.panels]
    for width, dark in ((400, True), (1200, False)):
        found = visit(file, folder / f"{width}", width, dark)
        measured = found.measured
        assert found.errors == []
        assert measured["sections"] == [section.key for section in sections]
        assert (measured["width"], measured["isDark"]) == (width, dark)
        red = int(measured["paper"].split("(")[1].split(",")[0])
        assert red < 60 if dark else red > 220
        assert measured["overflow"] <= 0
        for trouble in ("empty", "cut", "overlapping"):
            assert measured[trouble] == [], f"{trouble} at {width}px"
        assert dark or measured["hidden"] == [], f"columns of a table are hidden at {width}px"
        assert measured["figures"] >= len(panels) > 0
        assert measured["tips"] > 0


def visit(page: Path, folder: Path, width: int, dark: bool, tries: int = 8) -> Visit:
    """Opens a page in a window of some width, light or dark; keeps a screenshot in the folder."""
    height = 2000
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "page.html"
    copy.write_text(page.read_text().replace("<main>", MEASURE + "<main>", 1))
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(page=copy.name, width=width, height=height))
    done = subprocess.run(
        [
            find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}",
            f"--window-size={max(width, 500)},{height}", "--virtual-time-budget=6000000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--enable-logging=stderr", f"--screenshot={folder / 'page.png'}",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )  # fmt: skip
    # [pid:...:INFO:CONSOLE:12] "text", source: file://...
    lines = re.findall(r"(\w+):CONSOLE[^\]]*\] \"(.*)\", source:", done.stderr)
    told = [text for _, text in lines if text.startswith("MEASURED ")]
    if not told and tries > 1:  # A busy machine may take the screenshot before all is measured.
        return visit(page, folder, width, dark, tries - 1)
    if len(told) != 1:
        raise AssertionError(f"the page was not measured; the browser says:\n{done.stderr[-3000:]}")
    measured = json.loads(urllib.parse.unquote(told[0].removeprefix("MEASURED ")))
    return Visit(measured, [text for _, text in lines if not text.startswith("MEASURED ")])
