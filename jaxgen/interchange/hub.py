"""Checkpoints by the name that the Hugging Face hub has them under, fetched into its cache."""

from __future__ import annotations

import pathlib
import re

from jaxgen.errors import InterchangeError

PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "pytorch_model*.bin")


def local_checkpoint(name: str, revision: str | None = None) -> tuple[pathlib.Path, str | None]:
    """Returns the local folder of a checkpoint, downloaded now if it is named ORG/MODEL.

    With it comes the revision to look for in the folder; None where it was downloaded.

    Args:
      name: a folder, or a name on the hub.
      revision: of the hub, such as a branch; of a folder it is looked for later.

    Raises:
      InterchangeError: saying how to get a folder, if there is none and nothing can be fetched.
    """
    folder = pathlib.Path(name).expanduser()
    if folder.exists():
        return folder, revision
    get = f"`hf download {name if '/' in name else 'ORG/' + name} --local-dir {folder.name}`"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise InterchangeError(
            f"there is no folder {name}: --from takes a local folder with a config.json, which "
            f"{get} makes, or a name of the Hugging Face hub such as Qwen/Qwen3-0.6B."
        )
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, revision=revision, allow_patterns=list(PATTERNS))
        return pathlib.Path(found), None
    except Exception as error:  # Whatever the network, the hub or its cache raise.
        reason = str(error).strip().splitlines()
        raise InterchangeError(
            f"{name} is no folder here, and cannot be fetched from the Hugging Face hub "
            f"({reason[0] if reason else type(error).__name__}). Where there is a network, {get} "
            "makes a folder to name with --from."
        ) from error
