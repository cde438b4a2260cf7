import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgen.codecs.bpe import BPECodec, train_bpe
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.errors import DataError

TEXT = ["the cat sat on the mat 2024", "naïve café 東京 🙂", "def f(x):\n    return x + 1\n"] * 20


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return train_bpe(TEXT, 320, tmp_path_factory.mktemp("bpe") / "tokenizer.json")


@given(st.text())
def test_bytes_come_back(text):
    codec = ByteCodec()
    ids = codec.encode(text)
    assert ids.tolist() == list(text.encode())
    assert codec.decode(ids) == text


@settings(max_examples=200)
@given(st.text() | st.sampled_from(["<|end|>", "a<|pad|>b", "<|begin|>"]))
def test_bpe_comes_back_and_never_makes_a_control_token_of_text(bpe, text):
    ids = bpe.encode(text)
    assert not {bpe.pad_id, bpe.begin_id, bpe.end_id} & set(ids.tolist())
    assert bpe.decode(ids) == text
    assert bpe.encode_batch([text])[0].tolist() == ids.tolist()


def test_bpe_merges_words_and_splits_digits(bpe):
    assert len(bpe.encode("the cat sat on the mat")) < 12
    assert len(bpe.encode("2024")) == 4
    assert 259 < bpe.vocab_size <= 320


def test_special_tokens_vanish_from_text(bpe):
    for codec in (ByteCodec(), bpe):
        ids = np.concatenate([[codec.begin_id], codec.encode("abc"), [codec.end_id, codec.pad_id]])
        assert codec.decode(ids) == "abc"


def test_training_twice_gives_the_same_file(bpe, tmp_path):
    assert train_bpe(TEXT, 320, tmp_path / "again.json").digest == bpe.digest


def test_another_tokenizer_is_refused(bpe, tmp_path):
    other = train_bpe(TEXT, 300, tmp_path / "other.json")
    with pytest.raises(DataError) as error:
        BPECodec(other.path, digest=bpe.digest)
    for word in (other.path, other.digest, bpe.digest):
        assert word in str(error.value)
    bpe.keep_in(tmp_path)
    bpe.keep_in(tmp_path)
    with pytest.raises(DataError, match=other.digest):
        other.keep_in(tmp_path)


def test_what_is_no_tokenizer_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.json"):
        BPECodec(str(tmp_path / "missing.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken\.json is not a tokenizer"):
        BPECodec(str(tmp_path / "broken.json")).encode("a")
    with pytest.raises(DataError, match="vocab_size=10"):
        train_bpe(TEXT, 10, tmp_path / "small.json")
