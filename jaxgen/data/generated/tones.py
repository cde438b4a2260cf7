"""Telephone digits and melodies: sounds whose every tone can be verified."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import numpy as np

from jaxgen.data.generated.base import GeneratedSource, choose, fold, stream
from jaxgen.data.protocols import Record
from jaxgen.domains import Domain, InnerFraction, NonNegativeFloat, PositiveFloat, PositiveInt
from jaxgen.errors import ConfigError

DTMF_ROWS, DTMF_COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
DTMF = {
    key: (DTMF_ROWS[place // 4], DTMF_COLUMNS[place % 4])
    for place, key in enumerate("123A456B789C*0#D")
}
"""The two frequencies of each key in Hz, as in ITU-T Q.23."""
DIGITS = tuple("0123456789")
NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NOTES = {
    f"{name}{octave}": 440.0 * 2 ** ((12 * (octave - 4) + place - 9) / 12)
    for octave in (4, 5)
    for place, name in enumerate(NOTE_NAMES)
}
"""The frequency of each note in Hz: equal temperament, A4 = 440."""
UNKNOWN = "?"
RAMP_SECONDS = 0.004
LEAST_SHARE = 0.5
"""Of a slot's energy that its tones must explain, for it to be read."""


@dataclasses.dataclass(frozen=True)
class Tones(GeneratedSource):
    """A sound of several tones one after another, with its transcript.

    "dtmf" has digits as a telephone dials them, two sines each, written "5037"; "melody" has notes,
    one sine each, written "C4 E4 G4". Phases and loudness are drawn. The key is the transcript.

    A record has sound (float32 [samples], in [-1, 1]), rate, transcript, question, prompt ("Which
    digits are dialled?" or "Which notes are played?", a line break and "A:"), answer (" 5037") and
    key.

    Attributes:
      kind: of tones.
      length: tones in a sound.
      notes: of a melody, two or more of NOTES.
      rate: samples a second.
      tone_seconds: how long a tone sounds; telephones ask for 0.04.
      gap_seconds: silence after each.
      noise: standard deviation of white noise over all.
      num_examples: how many instances an epoch has.
      heldout_fraction: share of the transcripts that is held out.
    """

    kind: Literal["dtmf", "melody"] = "dtmf"
    length: PositiveInt = 4
    notes: tuple[str, ...] = ("C4", "D4", "E4", "F4", "G4", "A4", "B4", "C5")
    rate: Annotated[int, Domain(4000, 192_000)] = 8000
    tone_seconds: PositiveFloat = 0.06
    gap_seconds: NonNegativeFloat = 0.02
    noise: NonNegativeFloat = 0.0
    num_examples: PositiveInt = 1_000_000
    heldout_fraction: InnerFraction = 0.05

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.notes)) < max(2, len(self.notes)) or set(self.notes) - set(NOTES):
            raise ConfigError(f"Tones.notes={self.notes!r}: use two or more of {(*NOTES,)}.")
        needed = self._least_seconds
        if self.tone_seconds < needed:
            raise ConfigError(
                f"Tones.tone_seconds={self.tone_seconds}: tones are told apart from "
                f"{needed:.3f} on, as the nearest differ by little; use that or more."
            )

    @property
    def _least_seconds(self) -> float:
        """Returns how long two sines must last to differ by most of a period."""
        if self.kind == "dtmf":
            return 0.04
        heights = sorted(NOTES[note] for note in self.notes)
        return 0.75 / float(np.diff(heights).min())

    @property
    def symbols(self) -> tuple[str, ...]:
        """Returns what a transcript is made of."""
        return DIGITS if self.kind == "dtmf" else self.notes

    @property
    def chance(self) -> float:
        """Returns the accuracy of any fixed transcript: tones are uniform and independent."""
        return float(len(self.symbols)) ** -self.length

    @property
    def num_draws(self) -> int:
        """Returns the number of draws: one for each tone, and a seed of phases and noise."""
        return self.length + 1

    def keys(self, draws: np.ndarray) -> np.ndarray:
        """Returns a hash of the tones."""
        return fold(draws[:, :-1] % np.uint64(len(self.symbols)))

    def record(self, draws: np.ndarray) -> Record:
        """Returns a sound and its transcript."""
        symbols = [choose(draw, self.symbols) for draw in draws[:-1]]
        text = ("" if self.kind == "dtmf" else " ").join(symbols)
        question = {"dtmf": "Which digits are dialled?", "melody": "Which notes are played?"}
        asked = question[self.kind]
        return {
            "sound": self.play(symbols, draws[-1]), "rate": self.rate, "transcript": text,
            "question": asked, "prompt": f"{asked}\nA:", "answer": f" {text}", "key": text,
        }  # fmt: skip

    def play(self, symbols: list[str], draw: int | np.uint64 = 0) -> np.ndarray:
        """Returns the sound of digits or notes: [samples] float32; phases depend on the draw."""
        tone, slot = self._samples
        sound = np.zeros(slot * len(symbols))
        uniform = (stream(np.uint64(draw), 1 + 2 * len(symbols)) >> np.uint64(11)) * 2.0**-53
        ramp = np.minimum(1, (np.arange(tone) + 1) / max(1, round(RAMP_SECONDS * self.rate)))
        loudness = (0.4 + 0.5 * uniform[0]) * np.minimum(ramp, ramp[::-1])
        time = np.arange(tone) / self.rate
        for place, symbol in enumerate(symbols):
            heights = frequencies(symbol)
            phases = 2 * np.pi * uniform[1 + 2 * place :][: len(heights)]
            waves = np.sin(2 * np.pi * np.outer(heights, time) + phases[:, None])
            sound[place * slot : place * slot + tone] = loudness * waves.mean(0)
        if self.noise:
            # Two uniform numbers make a normal one (Box and Muller, 1958).
            bits = stream(np.uint64(draw) ^ np.uint64(0x5A5A), 2 * len(sound)).reshape(
                2, -1
            ) >> np.uint64(11)
            radius, angle = (bits.astype(float) + 1) * 2.0**-53
            sound += self.noise * np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
        return np.clip(sound, -1, 1).astype(np.float32)

    def read_tones(self, sound: np.ndarray) -> str:
        """Returns the transcript of a sound of this timing; "?" for a tone that is none of them.

        Args:
          sound: [samples]; what is missing at the end is silence.
        """
        tone, slot = self._samples
        sound = np.nan_to_num(np.asarray(sound, float).ravel(), posinf=0.0, neginf=0.0)
        number = -(-max(len(sound) - (slot - tone), 0) // slot)
        padded = np.zeros(number * slot)
        padded[: min(len(sound), len(padded))] = sound[: len(padded)]
        slots = padded.reshape(number, slot)[:, :tone]
        groups = (
            (DTMF_ROWS, DTMF_COLUMNS) if self.kind == "dtmf" else ([NOTES[n] for n in self.notes],)
        )
        found, explained = [], np.zeros(number)
        for group in groups:
            powers = power_at(slots, np.asarray(group, float), self.rate)
            found.append(powers.argmax(1))
            explained += powers.max(1)
        # A sine of amplitude a in n samples has n a^2 / 2 of energy, and n^2 a^2 / 4 of power.
        energy = np.square(slots).sum(1) * tone / 2
        is_clear = (explained >= LEAST_SHARE * energy) & (energy > 1e-6 * tone**2)
        names = [self._name(places) for places in zip(*found, strict=True)]
        joined = "" if self.kind == "dtmf" else " "
        return joined.join(
            name if clear else UNKNOWN for name, clear in zip(names, is_clear, strict=True)
        )

    def score_sound(self, record: Record, sound: np.ndarray) -> dict[str, float]:
        """Returns the share of tones that are right as "tone", and whether all are as "all"."""
        expected, found = (
            list(text) if self.kind == "dtmf" else text.split()
            for text in (record["transcript"], self.read_tones(sound))
        )
        same = sum(a == b for a, b in zip(expected, found, strict=False))
        return {"tone": same / max(len(expected), len(found)), "all": float(expected == found)}

    @property
    def _samples(self) -> tuple[int, int]:
        """Returns the samples of a tone, and those from its begin to the next one's."""
        return (
            round(self.tone_seconds * self.rate),
            round((self.tone_seconds + self.gap_seconds) * self.rate),
        )

    def _name(self, places: tuple[np.intp, ...]) -> str:
        if self.kind == "melody":
            return self.notes[int(places[0])]
        return "123A456B789C*0#D"[4 * int(places[0]) + int(places[1])]


def frequencies(symbol: str) -> tuple[float, ...]:
    """Returns the frequencies of a key of the telephone, or of a note, in Hz."""
    return DTMF[symbol] if symbol in DTMF else (NOTES[symbol],)


def power_at(sound: np.ndarray, heights: np.ndarray, rate: int) -> np.ndarray:
    """Returns the power of [slots, samples] at [heights] frequencies, as Goertzel's filter does."""
    time = np.arange(sound.shape[1]) / rate
    return np.abs(sound @ np.exp(-2j * np.pi * np.outer(time, heights))) ** 2
