import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.lossless import lost
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.codecs.training import train_tokenizer
from jaxgen.errors import DataError

TEXT = ["the cat sat on the mat 2024", "naïve café 東京 🙂", "def f(x):\n    return x + 1\n"] * 20


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return train_tokenizer(TEXT, 320, tmp_path_factory.mktemp("bpe") / "tokenizer.json")


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
    assert train_tokenizer(TEXT, 320, tmp_path / "again.json").digest == bpe.digest


def test_another_tokenizer_is_refused(bpe, tmp_path):
    other = train_tokenizer(TEXT, 300, tmp_path / "other.json")
    with pytest.raises(DataError) as error:
        TokenizerCodec(other.path, digest=bpe.digest)
    for word in (other.path, other.digest, bpe.digest):
        assert word in str(error.value)
    bpe.keep_in(tmp_path)
    bpe.keep_in(tmp_path)
    with pytest.raises(DataError, match=other.digest):
        other.keep_in(tmp_path)


def test_files_that_are_not_tokenizers_are_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.json"):
        TokenizerCodec(str(tmp_path / "missing.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken\.json is not a tokenizer"):
        TokenizerCodec(str(tmp_path / "broken.json")).encode("a")
    with pytest.raises(DataError, match="vocab_size=10"):
        train_tokenizer(TEXT, 10, tmp_path / "small.json")


CODE = "".join(f"def f{i}(x):\n        return x + {i}\n\n\n" for i in range(300))
SPECIAL = SpecialTokens(sentinels=5, reserved=2)


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def trained(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "tokenizer.json"
    return train_tokenizer([*TEXT, CODE, " " * 8 + "deep"] * 5, 400, path, request.param, SPECIAL)


ANY = st.text() | st.sampled_from(
    ["<|sentinel_0|>", "a<|user|>b", "   \n\n\t  x", "\r\n\r\n", "e\u0301\u200d\ufe0f", " " * 50,
     "<|end_of_turn|>" * 3, "\x00\x01\x7f"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(text=ANY)
def test_every_text_comes_back_and_no_control_token_comes_of_it(trained, text):
    ids = trained.encode(text)
    assert trained.decode(ids) == text
    assert set(ids.tolist()) <= set(trained.plain_ids.tolist())
    assert trained.encode_batch([text])[0].tolist() == ids.tolist()
    codec = ByteCodec(SPECIAL)
    assert codec.decode(codec.encode(text)) == text and codec.encode(text).max(initial=0) < 256


def test_trained_tokenizers_split_digits_and_keep_indentation_together(trained):
    assert trained.pieces(trained.encode("a 2024")).count("2") == 2
    assert any("␣␣␣" in piece for piece in trained.pieces(trained.encode("        return")))
    assert not lost(trained)
    names = [trained.special_id(name) for name in SPECIAL.names]
    assert len(set(names)) == len(SPECIAL.names) and not set(names) & set(trained.plain_ids)
    parsed = trained.encode("<|user|>hi<|end_of_turn|>", parse_special=True)
    assert parsed[0] == trained.special_id("<|user|>")
    assert parsed[-1] == trained.special_id("<|end_of_turn|>")
    assert trained.decode(parsed, keep_special=True) == "<|user|>hi<|end_of_turn|>"
    assert trained.decode(parsed) == "hi"


def test_control_tokens_of_bytes_have_ids_of_their_own():
    plain, codec = ByteCodec(), ByteCodec(SPECIAL)
    assert plain.vocab_size == 259 and plain.digest == "bytes" != codec.digest
    with pytest.raises(DataError, match=r"no control token '<\|mask\|>': give it"):
        plain.special_id("<|mask|>")
    ids = [codec.special_id(name) for name in SPECIAL.names]
    assert ids == list(range(259, 259 + len(ids))) and codec.vocab_size == ids[-1] + 1
    with pytest.raises(DataError, match="it has 5 sentinels; give it more"):
        codec.special_id("<|sentinel_5|>")
    assert codec.pieces([97, 32, 10, 200, 257, ids[0]]) == [
        "a", "␣", "⏎", "\\xc8", "<|begin|>", "<|mask|>",
    ]  # fmt: skip


def test_a_tokenizer_with_one_control_token_serves_where_it_is_named(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "a": 1, "b": 2}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "t.json"))
    with pytest.raises(DataError, match=r"lacks the control tokens.*tokenizer_codec\.pad"):
        TokenizerCodec(str(tmp_path / "t.json")).encode("a")
    names = dict.fromkeys(("pad", "begin", "end"), "<|endoftext|>")
    codec = TokenizerCodec(str(tmp_path / "t.json"), **names)
    assert codec.encode("a b").tolist() == [1, 2] == tokenizer.encode("a b").ids
    assert codec.end_id == 0 and lost(codec)


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "text.txt").write_text("\n".join(TEXT * 3))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "m"), vocab_size=150,
        byte_fallback=False, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return str(folder / "m.model")


def test_sentencepiece_is_the_librarys(sentencepiece_model, tmp_path):
    from sentencepiece import SentencePieceProcessor

    plain = SentencePieceProcessor(model_file=sentencepiece_model)
    codec = SentencePieceCodec(sentencepiece_model, special=SPECIAL)
    for text in ("the cat sat", "on the mat"):
        assert codec.encode(text).tolist() == plain.encode(text)
        assert codec.decode(codec.encode(text)) == text
    assert codec.encode_batch(["the", "cat"])[1].tolist() == plain.encode("cat")
    assert (codec.begin_id, codec.end_id) == (plain.bos_id(), plain.eos_id())
    ids = [codec.pad_id, *(codec.special_id(name) for name in SPECIAL.names)]
    assert ids == list(range(plain.get_piece_size(), codec.vocab_size))
    both = [*codec.encode("the cat"), codec.special_id("<|mask|>"), *codec.encode("sat")]
    assert codec.decode(both, keep_special=True) == "the cat<|mask|>sat"
    assert lost(codec)  # It normalises; `jaxgen tokenizer show` says so.
    pieces = [("the", False), (" cat", False), ("<|mask|>sa", True), ("t", False)]
    assert codec.encode_pieces(pieces)[0].tolist() == both
    assert codec.encode("the cat<|mask|>sat", parse_special=True).tolist() == both
    copy = pickle.loads(pickle.dumps(codec))
    assert copy == codec and copy.encode("the").tolist() == codec.encode("the").tolist()
    codec.keep_in(tmp_path)
    codec.keep_in(tmp_path)
    with pytest.raises(DataError, match="has digest"):
        SentencePieceCodec(sentencepiece_model, digest="0")


def test_codecs_go_to_other_processes(trained):
    copy = pickle.loads(pickle.dumps(trained))
    assert copy == trained and copy.encode("abc").tolist() == trained.encode("abc").tolist()
