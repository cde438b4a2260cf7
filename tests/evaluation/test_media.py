"""Pictures that a model made are scored by what can be read off them."""

import base64
import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from support.media import CODEC, record

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.media import Media
from jaxgen.codecs.mu_law import MuLaw
from jaxgen.codecs.multimodal import MultimodalCodec
from jaxgen.codecs.palette import made_for, palette_vectors, train_palette
from jaxgen.codecs.palettes import ImagePalette
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Sprites, Tones
from jaxgen.data.interleaving import Interleave
from jaxgen.data.packing import RowShape
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation import media as scoring
from jaxgen.evaluation.likelihood import Scored
from jaxgen.evaluation.media import GeneratedMedia
from jaxgen.evaluation.summary import summarise
from jaxgen.generation.policies import ParallelDecoding, SamplingPolicy

SPRITES = Sprites(tags=("colors",))


class Reader:
    """A scorer whose model is not asked."""

    has_source, model, batch_size, length = False, None, 8, 256

    def score(self, name, segments, pad_id):
        """As a model that gives every target the probability 1/e."""
        found = []
        for segment in segments:
            targets = segment.targets[segment.weights > 0]
            found.append(Scored(-np.ones(len(targets)), targets, targets))
        return found


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("palette") / "sprites.npy")
    records = SPRITES.records_by_index("train").__getitems__(range(300))
    vectors = [palette_vectors(Media("image", one["image"]), (2, 2)) for one in records]
    train_palette(np.concatenate(vectors), 200, path, made_for("image", (1, 2, 2)))
    codec = MultimodalCodec(media=(ImagePalette(path, patch_height=2, patch_width=2),))
    step = Interleave(("description", "image"))
    return Task("drawn", SPRITES, PromptAnswer(), codec, metrics=(), preprocessors=(step,))


def rows_of(task, records, pictures, monkeypatch, **options):
    (palette,), (place,) = task.codec.media, task.codec.media_ranges
    answers = [palette.encode(one) + place.first_id for one in pictures]
    monkeypatch.setattr(scoring, "continue_prompts", lambda *a, **k: answers)
    return GeneratedMedia(text="description", **options).score(Reader(), task, records)  # pyright: ignore


def test_a_true_picture_is_right_in_all_and_another_only_in_what_they_share(task, monkeypatch):
    records = task.instances(12, 0)
    pictures = [one["image"] for one in records]
    rows = rows_of(task, records, pictures, monkeypatch)
    assert all(row["exact_match"] == 1 and row["colour"] == row["position"] == 1 for row in rows)
    others = rows_of(task, records, pictures[1:] + pictures[:1], monkeypatch, shown=3)
    for row, one, other in zip(others, records, [*records[1:], records[0]], strict=True):
        for name in ("colour", "shape", "position"):
            assert row[name] == (one[name] == other[name])
        assert row["exact_match"] == (one["description"] == other["description"])
    assert 0 < sum(row["colour"] for row in others) < 12
    assert [("made" in row) for row in others] == [True] * 3 + [False] * 9


def test_what_was_made_is_kept_beside_what_was_described(task, monkeypatch):
    records = task.instances(2, 0)
    rows = rows_of(task, records, [one["image"] for one in records[::-1]], monkeypatch)
    for row, one, other in zip(rows, records, records[::-1], strict=True):
        assert row["prompt"] == one["description"]
        assert (pixels(row["reference"]) == one["image"]).all()
        assert (pixels(row["made"]) == other["image"]).all()
    # The codes of the picture, its begin and its end, and the end of the text.
    codes = 1 + (SPRITES.size // 2) ** 2 + 1 + 1
    for row in rows:
        assert (row["answer_tokens"], row["log_probability"]) == (codes, -codes)


def test_codes_that_are_made_at_once_have_no_likelihood_one_after_another(task, monkeypatch):
    records = task.instances(4, 0)
    policy = SamplingPolicy(parallel=ParallelDecoding())
    pictures = [one["image"] for one in records]
    rows = rows_of(task, records, pictures, monkeypatch, policy=policy)
    assert all(row["exact_match"] == 1 and "log_probability" not in row for row in rows)
    summary = summarise(rows, GeneratedMedia(policy).METRICS)
    assert summary["exact_match"] == 1 and "log_probability" not in summary


def test_a_prompt_that_is_padded_is_padded_where_it_is_left_out(task, monkeypatch):
    text = ByteCodec(SpecialTokens(text_pads=60))
    codec = dataclasses.replace(task.codec, text=text)
    padded = dataclasses.replace(task, codec=codec, features=PromptAnswer(padded_prompt=60))
    asked = {}
    monkeypatch.setattr(
        scoring, "continue_prompts", lambda *a, **k: asked.update(prompts=a[2], **k) or []
    )
    prompts = [one[:60] for one in (np.zeros(60, np.int32), np.ones(60, np.int32))]
    (medium,) = codec.media_ranges
    scoring.make_media(Reader(), padded, prompts, medium, SamplingPolicy(guidance=2.0))  # pyright: ignore
    pads = [codec.special_id(f"<|text_pad_{place}|>") for place in range(60)]
    assert [ids.tolist() for ids in asked["without"]] == [[*pads, medium.begin_id]] * 2
    assert all(len(ids) == 61 for ids in asked["prompts"])


def test_a_sound_is_kept_as_a_wav_file():
    wave = np.sin(np.arange(800) / 8).astype(np.float32) / 2
    uri = scoring.data_uri(Media("audio", wave, 8000))
    assert uri.startswith("data:audio/wav;base64,")
    rate, samples = wavfile.read(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert rate == 8000
    np.testing.assert_allclose(samples / 32_767, wave, atol=1e-4)


def pixels(uri):
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_what_cannot_be_made_or_verified_is_told_before_training(task):
    shape = RowShape(256)

    def check(task, shape=shape):
        examples = task.encode(task.instances(2, 0))
        GeneratedMedia().check(task, examples, shape)

    check(task)
    with pytest.raises(DataError, match="for models without an encoder"):
        check(task, RowShape(256, 64))
    with pytest.raises(DataError, match="does not fit a row of 64"):
        check(task, RowShape(64))
    with pytest.raises(DataError, match="put that field last"):
        check(dataclasses.replace(task, preprocessors=(Interleave(("image", "description")),)))


def test_answers_that_are_no_media_or_cannot_be_verified_are_refused(task):
    texts = dataclasses.replace(task, preprocessors=(Interleave(("image", "description")),))
    with pytest.raises(DataError, match="put that field last"):
        GeneratedMedia().score(Reader(), texts, texts.instances(2, 0))  # pyright: ignore
    source = InMemory((record("a", (0, 1, 2, 3, 0, 1)),), 0.0)
    plain = dataclasses.replace(
        task, source=source, codec=CODEC, preprocessors=(Interleave(("caption", "image")),)
    )
    with pytest.raises(DataError, match="InMemory has no method score_image"):
        GeneratedMedia().score(Reader(), plain, list(plain.records("train")))  # pyright: ignore


def test_a_sound_that_was_made_can_be_played(monkeypatch):
    source = Tones(length=2)
    codec = MultimodalCodec(media=(MuLaw(seconds=0.2, rate=8000),))
    step = Interleave(("transcript", "sound"))
    sounded = Task("sounded", source, PromptAnswer(), codec, metrics=(), preprocessors=(step,))
    records = sounded.instances(2, 0)
    answers = [codec.encode_media(Media("audio", one["sound"], 8000))[1:] for one in records]
    monkeypatch.setattr(scoring, "continue_prompts", lambda *a, **k: answers)
    rows = GeneratedMedia().score(Reader(), sounded, records)  # pyright: ignore
    for row, asked in zip(rows, records, strict=True):
        assert row["prompt"] == asked["transcript"] and row["exact_match"] == 1
        rate, _ = wavfile.read(io.BytesIO(base64.b64decode(row["made"].partition(",")[2])))
        assert rate == 8000 and row["reference"].startswith("data:audio/wav")
