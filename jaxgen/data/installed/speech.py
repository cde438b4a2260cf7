"""Speech that a synthesiser makes of digits and sentences, so that its text is exact."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from jaxgen.data.generated.base import draws_of
from jaxgen.data.generated.translation import ToyTranslation
from jaxgen.data.installed.base import InstalledSource, Item
from jaxgen.data.installed.digits import WORDS
from jaxgen.data.protocols import Record
from jaxgen.data.sound_files import decode_sound
from jaxgen.domains import PositiveInt, UnitFraction
from jaxgen.errors import ConfigError, DataError

VOICES = {"flite": ("slt", "kal16", "awb", "rms"), "espeak-ng": ("en-us", "en-gb")}
VOICE_NAME = re.compile(r"[A-Za-z0-9][\w+-]*")
SECONDS_AT_MOST = 60
SENTENCES = ToyTranslation()


@dataclasses.dataclass(frozen=True)
class SynthesisedSpeech(InstalledSource):
    """Digits or sentences as flite or espeak-ng says them.

    A record has sound (float32 [samples]), rate, transcript ("5037", or a sentence), spoken ("five
    zero three seven"), voice and key. Records of one transcript are in one split.

    Attributes:
      engine: the program; both are Debian packages of that name.
      content: "digits" are drawn uniformly, sentences as in `ToyTranslation`.
      length: digits to a record.
      voices: as the program calls them, drawn uniformly; () takes those of VOICES.
      rate: samples a second.
      num_examples: of both splits together.
      heldout_fraction: share of the transcripts that is held out.
    """

    engine: Literal["flite", "espeak-ng"] = "flite"
    content: Literal["digits", "sentences"] = "digits"
    length: PositiveInt = 4
    voices: tuple[str, ...] = ()
    rate: PositiveInt = 8000
    num_examples: PositiveInt = 1000
    heldout_fraction: UnitFraction = 0.1

    def __post_init__(self):
        super().__post_init__()
        if self.engine not in VOICES:
            raise ConfigError(
                f"synthesised_speech.engine={self.engine!r}: use one of {(*VOICES,)}."
            )
        for voice in self.voices:
            if not VOICE_NAME.fullmatch(voice):  # It becomes an argument of the program.
                raise ConfigError(
                    f"synthesised_speech.voices has {voice!r}, which is no voice's name; "
                    f"{self.engine} has {VOICES[self.engine]} and others."
                )

    def used_files(self) -> list[Path]:
        """Returns the program."""
        return [self._program()]

    def items(self) -> Iterator[Item]:
        """Yields the transcripts with what says them."""
        program, voices = self._program(), self.voices or VOICES[self.engine]
        self._check_voices(program, voices)
        for number in range(self.num_examples):
            draws = draws_of("SynthesisedSpeech", "train", np.array([number]), self.length + 8)[0]
            voice = voices[int(draws[0]) % len(voices)]
            if self.content == "digits":
                digits = [int(draw % np.uint64(10)) for draw in draws[1 : 1 + self.length]]
                transcript, spoken = "".join(map(str, digits)), " ".join(WORDS[d] for d in digits)
            else:
                transcript = spoken = SENTENCES.record(draws[1:8])["key"]
            make = functools.partial(self._record, program, number, voice, transcript, spoken)
            yield f"speech {transcript}", make

    def _program(self) -> Path:
        found = shutil.which(self.engine)
        if found is None:
            raise DataError(
                f"the program {self.engine} is not installed: apt-get install {self.engine} "
                "(Debian), or set synthesised_speech.engine to the other one."
            )
        return Path(found)

    def _check_voices(self, program: Path, voices: tuple[str, ...]) -> None:
        """Refuses voices that flite does not have; it would take another one without a word."""
        if self.engine == "flite":
            listed = _run(program, ["-lv"]).stdout.decode(errors="replace")
            there = listed.partition(":")[2].split()
            if missing := sorted(set(voices) - set(there)):
                raise DataError(f"{program} has no voice {missing}; it has {there}.")

    def _record(
        self, program: Path, number: int, voice: str, transcript: str, spoken: str
    ) -> Record:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "said.wav"
            arguments = {
                "flite": ["-voice", voice, "-t", spoken, "-o", str(file)],
                "espeak-ng": ["-v", voice, "-w", str(file), "--", spoken],
            }[self.engine]
            done = _run(program, arguments)
            if done.returncode or not file.exists():
                raise DataError(
                    f"{program} does not say {spoken!r} with the voice {voice!r}: "
                    f"{done.stderr.decode(errors='replace').strip() or 'it wrote no file'}."
                )
            sound = decode_sound(file.read_bytes(), self.rate, f"what {self.engine} says")
        return {
            "sound": sound, "rate": self.rate, "transcript": transcript, "spoken": spoken,
            "voice": voice, "key": f"{self.engine}/{voice}/{number}/{transcript}",
        }  # fmt: skip


def _run(program: Path, arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [str(program), *arguments], capture_output=True, timeout=SECONDS_AT_MOST
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{program} does not speak: {error}.") from error
