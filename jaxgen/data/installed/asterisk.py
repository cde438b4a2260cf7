"""Recorded speech with its text: the announcements of the telephone exchange Asterisk."""

from __future__ import annotations

import dataclasses
import functools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from jaxgen.data.installed.base import InstalledSource, Item, installed
from jaxgen.data.protocols import Record
from jaxgen.data.sound_files import decode_sound
from jaxgen.data.text_files import as_text, open_decompressed
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import DataError

SOUNDS = "/usr/share/asterisk/sounds/en_US_f_Allison"
TRANSCRIPTS = "/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
SOUNDS_CURE = (
    "apt-get install asterisk-core-sounds-en-wav (Debian), or set asterisk_sounds.folder to that "
    "of another language"
)
TRANSCRIPTS_CURE = (
    "apt-get install asterisk-core-sounds-en (Debian; where documentation is left out of "
    "installations, unpack the package with dpkg-deb -x), or set asterisk_sounds.transcripts"
)
MOST_BYTES = 2**24
ASIDE = re.compile(r"\[.*?\]|\(.*?\)|<.*?>")
"""What a transcript says of sounds that are no words: "[this is a simple beep tone]"."""


@dataclasses.dataclass(frozen=True)
class AsteriskSounds(InstalledSource):
    """Announcements spoken by one voice, with what is said: Debian's asterisk-core-sounds-*.

    What is no speech (tones, silence) is left out, and so are recordings without a transcript. The
    recordings are CC BY-SA 3.0.

    A record has sound (float32 [samples]), rate, transcript, name ("digits/5") and key.

    Attributes:
      folder: of the recordings, *.wav at any depth.
      transcripts: a file of lines such as "digits/5: five"; .gz is decompressed.
      rate: samples a second; the recordings have 8,000.
      heldout_fraction: share of the recordings that is held out, by their text.
    """

    folder: str = SOUNDS
    transcripts: str = TRANSCRIPTS
    rate: PositiveInt = 8000
    heldout_fraction: UnitFraction = 0.1

    DATA_FILES: ClassVar = ("folder", "transcripts")

    def used_files(self) -> list[Path]:
        """Returns the transcripts and the recordings that they belong to."""
        spoken = self._spoken()
        return [Path(self.transcripts), *(file for _, file, _ in spoken)]

    def items(self) -> Iterator[Item]:
        """Yields the recordings, by name."""
        for name, file, text in self._spoken():
            yield text.lower(), functools.partial(self._record, name, file, text)

    def _spoken(self) -> list[tuple[str, Path, str]]:
        """Returns name, file and text of each recording of speech."""
        folder = installed(self.folder, SOUNDS_CURE)
        file = str(installed(self.transcripts, TRANSCRIPTS_CURE))
        try:
            with open_decompressed(file) as stream:
                lines = as_text(stream.read(MOST_BYTES), file).splitlines()
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(
                f"{file} is cut off or damaged ({error}): {TRANSCRIPTS_CURE}."
            ) from error
        named = (line.partition(":") for line in lines if not line.startswith(";"))
        texts = {name.strip(): ASIDE.sub("", text).strip() for name, _, text in named}
        files = {path.relative_to(folder).with_suffix("").as_posix(): path
                 for path in sorted(folder.rglob("*.wav"))}  # fmt: skip
        return [(name, path, text) for name, path in files.items() if (text := texts.get(name))]

    def _record(self, name: str, file: Path, text: str) -> Record:
        sound = decode_sound(file.read_bytes(), self.rate, str(file))
        return {
            "sound": sound, "rate": self.rate, "transcript": text, "name": name,
            "key": f"asterisk/{name}",
        }  # fmt: skip
