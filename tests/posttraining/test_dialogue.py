"""LaMDA's loop with a scripted model, whose answers are known, and with a real one."""

import jax
import numpy as np
import pytest
from support.helpers import build, one_device_mesh, tiny_dense

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.chat import Chat
from jaxgen.data.generated.town import Town
from jaxgen.errors import DataError
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.posttraining.dialogue import (
    Ranking,
    rater,
    reply,
    routed,
    sample_and_rank,
)
from jaxgen.posttraining.tools import Calculator, Retriever, Toolset, Translator
from jaxgen.posttraining.writing import ModelWeigher, ModelWriter

TOWN = Town()
TOOLS = Toolset((Calculator(), Translator(), Retriever(TOWN.knowledge())))
QUESTION = [{"role": "user", "content": "What do 3 lanterns cost in Velm?"}]


class Scripted:
    """Says its lines one after another, and keeps what it has read."""

    def __init__(self, *lines):
        self.lines, self.read = list(lines), []

    def __call__(self, conversations):
        self.read += conversations
        said, self.lines = self.lines[: len(conversations)], self.lines[len(conversations) :]
        return said


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("TS, 2+2", ("TS", "2+2")), ("User: hello", ("User", "hello")),
        (" User, a, b", ("User", "a, b")),
        ("TS", ("TS", "")), ("Users say", ("", "Users say")), ("hello TS, x", ("", "hello TS, x")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_the_first_word_routes(written, expected):
    assert routed(written) == expected


def test_a_reply_looks_up_and_computes():
    price = TOWN.price("lantern", "Velm")
    answer = f"3 lanterns cost {3 * price} coins in Velm."
    model = Scripted("TS, lantern Velm", f"TS, 3 * {price}", f"User, {answer}")
    found = reply(QUESTION, model, TOOLS)
    assert (found.response, found.end) == (answer, "user")
    assert [call.found for call in found.calls] == [
        TOWN.price_fact("lantern", "Velm"), str(3 * price)
    ]  # fmt: skip
    # It read the tools' answers as turns of their own.
    assert [message["role"] for message in model.read[-1]] == [
        "user", "assistant", "tool", "assistant", "tool"
    ]  # fmt: skip


def test_a_query_again_gets_the_next_snippet():
    retriever = Retriever(("lanterns are old", "lanterns are lamps, lanterns shine"))
    model = Scripted("TS, lanterns", "TS, lanterns", "TS, lanterns", "User, done")
    found = reply(QUESTION, model, Toolset((retriever,)))
    first, second, third = (call.found for call in found.calls)
    assert {first, second} == set(retriever.documents) and third == ""


def test_four_queries_at_most():
    alone = Ranking(1, least_safe=0, weights={})
    draft = sample_and_rank(QUESTION, Scripted("a draft"), rate, alone)
    found = reply(QUESTION, Scripted(*["TS, 1+1"] * 9), TOOLS, draft=draft)
    assert (found.end, found.response, len(found.calls)) == ("exhausted", "a draft", 4)
    assert reply(QUESTION, Scripted(*["TS, 1+1"] * 9), TOOLS, max_queries=1).response == ""
    unrouted = reply(QUESTION, Scripted("It depends."), TOOLS)
    assert (unrouted.end, unrouted.response) == ("unrouted", "It depends.")


RATINGS = {  # SAFE, SENSIBLE, SPECIFIC, INTERESTING
    "unsafe but brilliant": (0.4, 1.0, 1.0, 1.0),
    "sensible": (0.9, 0.9, 0.1, 0.1),
    "specific and interesting": (0.9, 0.5, 0.9, 0.4),
}


def rate(contexts, responses, attribute):
    assert set(contexts) == {QUESTION[-1]["content"]}
    place = ("SAFE", "SENSIBLE", "SPECIFIC", "INTERESTING").index(attribute)
    return np.array([RATINGS[response][place] for response in responses])


def test_the_safe_are_ranked_three_to_one_to_one():
    found = sample_and_rank(QUESTION, Scripted(*RATINGS), rate, Ranking(3))
    # 3 x 0.9 + 0.1 + 0.1 = 2.9 is more than 3 x 0.5 + 0.9 + 0.4 = 2.8.
    assert found.response == "sensible" and found.num_dropped == 1
    np.testing.assert_allclose(found.scores, [5.0, 2.9, 2.8])
    bold = Ranking(3, least_safe=0.3)
    assert sample_and_rank(QUESTION, Scripted(*RATINGS), rate, bold).response == next(iter(RATINGS))
    even = Ranking(3, weights={"SENSIBLE": 1.0, "SPECIFIC": 1.0, "INTERESTING": 1.0})
    found = sample_and_rank(QUESTION, Scripted(*RATINGS), rate, even)
    assert found.response == "specific and interesting"


def test_where_nothing_is_safe_there_is_a_refusal():
    strict = Ranking(3, least_safe=0.95)
    found = sample_and_rank(QUESTION, Scripted(*RATINGS), rate, strict)
    assert found.response == strict.refusal and found.num_dropped == 3


def test_ratings_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match="ratings of SAFE are"):
        sample_and_rank(QUESTION, Scripted(*RATINGS), lambda c, r, a: np.ones(2), Ranking(3))
    with pytest.raises(DataError, match="must be one probability"):
        sample_and_rank(QUESTION, Scripted(*RATINGS), lambda c, r, a: 2 * np.ones(3), Ranking(3))


def test_ratings_are_the_share_of_one_against_zero():
    def weigh(prompts, choices):
        assert prompts == ["Q? RESPONSE A. SAFE"] and choices == (" 0", " 1")
        return np.log([[0.1, 0.3]])

    np.testing.assert_allclose(rater(weigh)(["Q?"], ["A."], "SAFE"), [0.75])


@pytest.mark.slow
def test_with_a_real_model():
    """An untrained model writes nonsense; that it is routed, rated and ranked is what is shown."""
    codec = ByteCodec()
    with jax.set_mesh(one_device_mesh()):
        model = build(tiny_dense(vocab_size=320))
        writer = ModelWriter(model, codec, SamplingPolicy(), max_tokens=8)
        chat = Chat()
        weigh = ModelWeigher(model, codec, length=128)
        draft = sample_and_rank(
            QUESTION,
            lambda some: writer.answer(some, chat),
            rater(weigh),
            Ranking(4, least_safe=0.1),
        )
        found = reply(QUESTION, lambda some: writer.answer(some, chat), TOOLS, draft=draft)
        assert writer(["one", "two"]) == writer(["one", "two"])
        logs = weigh(["Is it?"], (" yes", " no"))
    assert len(draft.candidates) == 4 and len(set(draft.candidates)) > 1
    assert np.all((draft.safe > 0) & (draft.safe < 1))
    assert found.turns[-1]["role"] == "assistant" and found.end in ("unrouted", "user", "exhausted")
    assert logs.shape == (1, 2) and np.all(logs < 0)
