"""Real pictures, sounds, videos and ratings that ordinary packages install; see `base`."""

from __future__ import annotations

from jaxgen.data.installed.asterisk import AsteriskSounds
from jaxgen.data.installed.digits import HandwrittenDigits
from jaxgen.data.installed.emoji import Emoji
from jaxgen.data.installed.films import FilmClips
from jaxgen.data.installed.rated_words import RatedWords
from jaxgen.data.installed.speech import SynthesisedSpeech

__all__ = [
    "AsteriskSounds",
    "Emoji",
    "FilmClips",
    "HandwrittenDigits",
    "RatedWords",
    "SynthesisedSpeech",
]
