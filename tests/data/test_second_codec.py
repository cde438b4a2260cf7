"""Captions by a second codec: batches, prompts, files in a run, and what is refused."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.helpers import one_device_mesh
from tokenizers import Tokenizer, models, pre_tokenizers

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.tokenizer import SecondTokenizer, TokenizerCodec
from jaxgen.configuration import load_recorded, to_gin
from jaxgen.data.base import keep_codecs
from jaxgen.data.generated import Sprites
from jaxgen.data.pairs import ImageTextPairs
from jaxgen.data.tasks import Task
from jaxgen.errors import ConfigError, DataError
from jaxgen.models.diffusion.prompts import prompts_of
from jaxgen.pair_batch import PairBatch
from jaxgen.sharding.rules import Rules
from jaxgen.training.loading import put_batch

WORDS = ["<pad>", "</s>", "a", "cat", "dog", "green"]


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Squares with captions of words."""

    def read(self, split):
        for place, caption in enumerate(("a cat", "a green dog")):
            yield {"image": np.full((4, 4, 3), place, np.uint8), "caption": caption, "key": place}

    def content_digest(self):
        return "two"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A tokenizer of words, which puts nothing before a text, as T5's does."""
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens(WORDS[:2])
    file = tmp_path_factory.mktemp("words") / "words.json"
    tokenizer.save(str(file))
    return str(file)


def named(kind, path, **changes) -> Any:
    return kind(path, pad="<pad>", begin="<pad>", end="</s>", adds_begin=False, **changes)


def pairs(second, **changes) -> ImageTextPairs:
    task = Task("squares", Captioned(), codec=ByteCodec())
    return ImageTextPairs(task, 4, distinct=False, second_codec=second, **changes)


def test_batches_have_captions_by_both(path):
    data = pairs(named(SecondTokenizer, path))
    options: dict[str, Any] = {"batch_size": 2, "length": 10, "source_length": 5}
    batch = data.open(**options, seed=0).batch(0)
    order = np.argsort(batch.images[:, 0, 0, 0])
    np.testing.assert_array_equal(batch.second.tokens[order], [[2, 3, 1, 0, 0], [2, 5, 4, 1, 0]])
    np.testing.assert_array_equal(batch.second.lengths[order], [3, 4])
    np.testing.assert_array_equal(batch.second.empty_tokens, [[1, 0, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(batch.second.empty_lengths, [1, 1])
    spec: Any = data.batch_spec(**options)
    for one in dataclasses.fields(batch.second):
        expected = getattr(spec.second, one.name)
        assert getattr(batch.second, one.name).shape == expected.shape, one.name
    placed = put_batch(batch, one_device_mesh(), Rules())
    prompts: Any = prompts_of(placed)
    assert prompts.second is placed.second
    assert isinstance(placed, PairBatch) and prompts.second.tokens.shape == (2, 5)


def test_long_captions_keep_their_end(path):
    told = pairs(named(SecondTokenizer, path)).told(["a green dog"], 10, 3)["second"]
    np.testing.assert_array_equal(told.tokens, [[2, 5, 1]])
    bytes_too = pairs(ByteCodec()).told(["ab", "a"], 10, 6)["second"]
    codec = ByteCodec()
    np.testing.assert_array_equal(
        bytes_too.tokens[1], [codec.begin_id, 97, codec.end_id] + [codec.pad_id] * 3
    )
    np.testing.assert_array_equal(bytes_too.empty_tokens[0, :2], [codec.begin_id, codec.end_id])


def test_without_a_second_codec_nothing_is_there():
    batch = pairs(None).open(batch_size=2, length=10, seed=0).batch(0)
    assert batch.second is None


def test_a_run_keeps_the_files_of_both(path, tmp_path):
    """Moved, its configuration finds the copies."""
    other = tmp_path / "other.json"
    tokenizer = Tokenizer.from_file(path)
    tokenizer.add_tokens(["blue"])
    tokenizer.save(str(other))
    data = pairs(named(SecondTokenizer, path)).with_codec(named(TokenizerCodec, str(other)))
    data = dataclasses.replace(data, task=dataclasses.replace(data.task, source=Sprites()))
    (tmp_path / "run").mkdir()
    keep_codecs(data, tmp_path / "run")
    assert data.second_codec is not None and data.codec.digest != data.second_codec.digest
    file = tmp_path / "run" / "config.gin"
    file.write_text(to_gin(data))
    other.unlink()
    again = load_recorded(file, root="image_text_pairs")
    assert again == data
    assert again.codec.path == str(tmp_path / "run" / "tokenizer.json")
    assert again.second_codec.path == str(tmp_path / "run" / "second_tokenizer.json")


def test_what_cannot_be_is_refused(path):
    data = pairs(named(SecondTokenizer, path))
    with pytest.raises(DataError, match="no room"):
        data.open(batch_size=2, length=10, seed=0)
    with pytest.raises(DataError, match="have none"):
        pairs(None).open(batch_size=2, length=10, seed=0, source_length=4)
    with pytest.raises(ConfigError, match="second_tokenizer"):
        pairs(named(TokenizerCodec, path)).with_codec(named(TokenizerCodec, path))
    with pytest.raises(ConfigError, match="second_codec is of captions"):
        pairs(ByteCodec(), classes=("a",))
