"""The small files of an imported checkpoint, which its run keeps and an export gives back."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

from jaxgen.interchange.files import CONFIG, PREPROCESSOR, TOKENIZER, read_json

FOLDER = "imported"
GENERATION = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
FILES = (
    GENERATION, TOKENIZER_CONFIG, SPECIAL, "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "vocab.txt",
    "tokenizer.model", "spiece.model", PREPROCESSOR,
)  # fmt: skip
"""Files beside config.json and tokenizer.json that say how text and tokens are handled."""


def keep_originals(folder: pathlib.Path, run_dir: pathlib.Path) -> None:
    """Copies a checkpoint's config.json and token files into a run's directory."""
    target = run_dir / FOLDER
    target.mkdir()
    for name in (CONFIG, TOKENIZER, *FILES):
        if (folder / name).exists():
            shutil.copyfile(folder / name, target / name)


def hand_on_originals(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies what a run's directory has of them to that of a run which goes on from it."""
    if (source / FOLDER).exists():
        shutil.copytree(source / FOLDER, target / FOLDER, dirs_exist_ok=True)


def original_config(run_dir: pathlib.Path) -> dict[str, Any] | None:
    """Returns the config.json that a run was imported with; None if it was not imported."""
    path = run_dir / FOLDER / CONFIG
    return read_json(path) if path.exists() else None


def original_files(run_dir: pathlib.Path) -> dict[str, bytes] | None:
    """Returns the token files that a run was imported with by name; None without a tokenizer."""
    folder = run_dir / FOLDER
    if not (folder / TOKENIZER).exists():
        return None
    found = (folder / name for name in (TOKENIZER, *FILES))
    return {path.name: path.read_bytes() for path in found if path.exists()}
