"""Principles and the templates that ask about them: text files, of jaxgen's or of one's own."""

from __future__ import annotations

from pathlib import Path

from jaxgen.errors import ConfigError

ASSETS = Path(__file__).with_name("assets") / "principles"


def read_principles(path: str | Path | None = None) -> tuple[str, ...]:
    """Returns the principles of a text file, one a paragraph; those of jaxgen without a path.

    Raises:
      ConfigError: if it cannot be read, or has none.
    """
    file = ASSETS / "principles.txt" if path is None else Path(path).expanduser()
    lines = (line for line in read_text(file).splitlines() if not line.startswith("#"))
    paragraphs = "\n".join(line.strip() for line in lines).split("\n\n")
    principles = tuple(" ".join(one.split()) for one in paragraphs if one.strip())
    if not principles:
        raise ConfigError(f"{file} has no principle; write one a paragraph.")
    return principles


def asset(name: str) -> str:
    """Returns a template that comes with jaxgen."""
    return read_text(ASSETS / name)


def read_text(path: Path) -> str:
    """Returns a file's text without the line breaks at its end; raises ConfigError naming it."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}.") from error
