"""Prompts and completions are one text: what the whole is encoded to, divided and put together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tokenizers import byte_level, prefix_space, sentence_pieces
from tokenizers import Tokenizer

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.joint import decode_continued, encode_continued
from jaxgen.codecs.sentencepiece import SentencePieceCodec
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.data.chat import Chat
from jaxgen.data.features import PromptAnswer
from jaxgen.data.infilling import FillInTheMiddle
from jaxgen.data.parts import ANSWER, Part, encode_parts
from jaxgen.errors import DataError


@pytest.fixture(scope="module", params=["bytes", "prefix space", "byte level", "pieces"])
def codec(request, tmp_path_factory):
    if request.param == "bytes":
        return ByteCodec()
    if request.param == "pieces":
        folder = tmp_path_factory.mktemp("tokenizers")
        return SentencePieceCodec(sentence_pieces(folder / "tokenizer.model"))
    make = prefix_space if request.param == "prefix space" else byte_level
    path = make(tmp_path_factory.mktemp("tokenizers") / "tokenizer.json")
    return TokenizerCodec(path, pad="</s>", begin="<s>", end="</s>")


def is_answer(example):
    assert example.flags is not None
    return example.flags & ANSWER > 0


WORDS = st.text(st.sampled_from("Paris 12:\n é🙂</s>.,"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(prompt=WORDS, completion=WORDS)
def test_a_prompt_and_its_completion_are_the_whole_text(codec, prompt, completion):
    before, after = encode_continued(codec, prompt, completion)
    whole = codec.encode(prompt + completion)
    assert np.concatenate([before, after]).tolist() == whole.tolist()
    together = decode_continued(codec, before, after)
    assert codec.decode(before) + together == codec.decode(whole)


def test_a_character_of_several_tokens_belongs_to_its_piece_whole(codec):
    """Of a character that a tokenizer has no token for, no byte is the other piece's."""
    for prompt, answer in (("Answer:", "🙂é"), ("🙂", "🙂"), ("é ", "é")):
        before, after = encode_continued(codec, prompt, answer)
        assert (codec.decode(before).strip(), codec.decode(after)) == (prompt.strip(), answer)
        parts = [Part(prompt), Part(answer, is_answer=True, is_apart=True)]
        example = encode_parts(parts, codec)
        assert codec.decode(example.ids[is_answer(example)]) == answer


def test_a_space_belongs_to_the_word_after_it(codec):
    ids = encode_continued(codec, "Answer:", " Paris")[1]
    apart = encode_continued(codec, "Answer: ", "Paris")[1]
    assert codec.decode(ids).strip() == "Paris" == codec.decode(apart).strip()
    # The tokenizer's own encoding of the whole says what the model has seen in its training.
    assert ids.tolist() == codec.encode("Answer: Paris")[-len(ids) :].tolist()
    assert decode_continued(codec, codec.encode("Answer:"), ids) == " Paris"


@settings(max_examples=60, deadline=None)
@given(turns=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3))
def test_every_character_of_an_answer_is_a_target_and_no_later_prompt_is(codec, turns):
    if not any(prompt + answer for prompt, answer in turns):
        return
    parts = PromptAnswer().parts({"turns": turns})
    example = encode_parts(parts, codec)
    assert codec.decode(example.ids) == codec.decode(codec.encode("".join(map("".join, turns))))
    flags = is_answer(example)
    # A run of answer tokens is the answer, and at most the end of the prompt that it has joined.
    answers = [answer for _, answer in turns if answer]
    if codec.digest == "bytes":
        assert bytes(example.ids[flags].tolist()).decode() == "".join(answers)
    elif len(turns) == 1 and answers and "\n" not in answers[0]:
        assert codec.decode(example.ids[flags]).strip().endswith(answers[0].strip())


def test_an_answer_is_not_swallowed_by_the_next_prompt(tmp_path):
    codec = TokenizerCodec(byte_level(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    assert len(codec.encode("46")) < len(codec.encode("4")) + len(codec.encode("6"))
    example = PromptAnswer().encode([{"turns": [["1 =", "4"], ["6 + 1 =", "7"]]}], codec)[0]
    assert codec.decode(example.ids[is_answer(example)]) == "47"


def test_what_follows_an_answer_goes_on_without_a_space_of_its_own(tmp_path):
    codec = TokenizerCodec(prefix_space(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    # The tokenizer would join "a" and "r", so that the answer's end cannot be told.
    record = {"turns": [["", "a"], ["r", ""]]}
    example = PromptAnswer().encode([record], codec)[0]
    assert codec.decode(example.ids) == "ar"
    assert is_answer(example).tolist() == [True] * len(codec.encode("a")) + [False]


def test_the_middle_of_a_word_is_filled_in_without_a_space(codec):
    parts = FillInTheMiddle(rate=1.0, spm_rate=1.0).spm("The ans", "wer: Par", "is is")
    example = encode_parts(parts[-2:], codec)
    assert codec.decode(example.ids) == "The answer: Par"
    # None of its tokens is of both: the prefix is as it is by itself.
    before = codec.encode("The ans").tolist()
    assert example.ids[: len(before)].tolist() == before


def test_a_name_in_a_message_changes_no_other_piece(tmp_path):
    codec = TokenizerCodec(prefix_space(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    ids = codec.encode_pieces([("<|user|>The ans", True), ("wer: </s>", False), ("Par", True)])[0]
    assert codec.decode(ids, keep_special=True) == "<|user|> The answer: </s>Par"
    assert codec.end_id not in ids and ids[0] == codec.special_id("<|user|>")


def test_an_encoder_and_a_decoder_read_texts_of_their_own(tmp_path):
    codec = TokenizerCodec(prefix_space(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    record = {"prompt": "Answer:", "answer": "Paris"}
    one, two = (PromptAnswer().encode([record], codec, has)[0] for has in (False, True))
    assert two.ids.tolist() == [*codec.encode("Answer:"), *codec.encode("Paris")]
    assert one.ids.tolist() == codec.encode("Answer:Paris").tolist() != two.ids.tolist()


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %} {{ eos_token }}{% endif %}{% endfor %}"
)


def test_a_conversation_is_encoded_as_the_filled_template_and_ends_once(tmp_path):
    codec = TokenizerCodec(prefix_space(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    talk = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "Paris"}]
    chat = Chat(template=TEMPLATE, begin="<s>", end="</s>")
    example = chat.encode([{"messages": talk}], codec)[0]
    filled = "<s><|user|>hello there<|assistant|>Paris </s>"
    reference = Tokenizer.from_file(codec.path).encode(filled, add_special_tokens=False).ids
    # Rows begin and end with those two themselves.
    assert [codec.begin_id, *example.ids.tolist(), codec.end_id] == reference


def test_a_message_never_becomes_a_control_token(tmp_path):
    codec = TokenizerCodec(prefix_space(tmp_path / "t.json"), pad="</s>", begin="<s>", end="</s>")
    parts = [Part("<|user|>", is_control=True), Part("say </s> twice"), Part("yes", is_answer=True)]
    ids = encode_parts(parts, codec).ids.tolist()
    assert ids[0] == codec.special_id("<|user|>") and codec.end_id not in ids[1:]
    assert "</s>" in codec.decode(ids)


def test_half_of_a_surrogate_pair_is_named(codec):
    if codec.digest == "bytes":
        return  # Any characters have bytes.
    with pytest.raises(DataError, match=r"'\\ud83d', at character 2"):
        codec.encode("ab\ud83d")
    with pytest.raises(DataError, match="surrogate"):
        codec.encode_batch(["fine", "ab\ud83d"])
