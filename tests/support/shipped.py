"""The files that gin files which come with jaxgen ask for: palettes and codecs, untrained."""

import re
from pathlib import Path

import numpy as np

from jaxgen.codecs.mel import MelFrames
from jaxgen.codecs.palette import made_for, train_palette
from jaxgen.commands.models import load_model
from jaxgen.configuration import load
from jaxgen.errors import ConfigError
from support.autoencoders import write_codec

TELEPHONE, SPEECH = MelFrames(8000, 256, 160, 64), MelFrames(8000, 256, 160, 40)
CODECS = {"IMAGE_CODEC": "codecs/fsq_images", "SOUND_CODEC": "codecs/fsq_sound"}
TEXT = "Some text of several words. " * 200


class NotHere(Exception):
    """A gin file asks for what these tests do not have."""


def bindings_of(name: str, folder: Path, root: str = "run") -> list[str]:
    """Returns a binding for each file that the gin file asks for, made in the folder.

    Raises:
      NotHere: it asks for files of another package.
    """
    try:
        load([name], root=root)
    except ConfigError as error:
        asked = re.findall(r"`(\w+)` is required", str(error))
    else:
        return []
    mel = SPEECH if "speech" in name else TELEPHONE
    palettes = {
        "IMAGE_PALETTE": (made_for("image", (1, 1, 1)), 3),
        "VIDEO_PALETTE": (made_for("video", (1, 4, 4)), 48),
        "SOUND_PALETTE": (made_for("audio", mel=mel), mel.bands),
    }
    bound = []
    for macro in asked:
        if macro in palettes:
            path, (purpose, length) = folder / f"{macro}.safetensors", palettes[macro]
            train_palette(np.eye(3, length, dtype=np.float32), 3, str(path), purpose)
        elif macro in CODECS:
            path = write_codec(folder / f"{macro}.safetensors", load_model(CODECS[macro]))
        elif macro == "TEXT":
            path = folder
            (folder / "a.txt").write_text(TEXT)
        else:
            raise NotHere(macro)
        bound.append(f"{macro}='{path}'")
    return bound
