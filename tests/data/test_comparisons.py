"""Comparisons of the usual layouts as groups of rows, by step, with what is left out counted."""

import dataclasses
import json
import logging
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.base import DataConfig
from jaxgen.data.chat import Chat
from jaxgen.data.comparison_fields import (
    LabelledCompletions,
    PreferencePairs,
    RankedCompletions,
    ScoredSteps,
)
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.protocols import Context
from jaxgen.data.sources import InMemory
from jaxgen.data.tables import Parquet
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.data.unpairing import Unpair
from jaxgen.errors import ConfigError, DataError
from jaxgen.training.loading import map_batch

CODEC = ByteCodec()
LAST = "<|end_of_turn|>"


def opened(records, layout: Any = PreferencePairs(), length=96, batch_size=None, **changes):
    task = Task("t", InMemory(tuple(records)))
    data = Comparisons((task,), layout, **changes)
    return data.open(batch_size=batch_size or len(records), length=length, seed=0)


def texts(batch, row=0):
    """(prompt, completion) of each completion of a row, by the weights of its targets."""
    found = []
    for tokens, targets, weights, length in zip(
        batch.tokens[row], batch.targets[row], batch.completion_weights[row], batch.lengths[row],
        strict=True,
    ):  # fmt: skip
        if length:
            of_completion = targets[weights > 0]
            assert of_completion[-1] == CODEC.end_id
            prompt = tokens[1 : length - len(of_completion)]
            shown = (CODEC.decode(ids, keep_special=True) for ids in (prompt, of_completion[:-1]))
            assert tokens[0] == CODEC.begin_id and tokens[length - 1] == CODEC.end_id
            assert (tokens[length:] == CODEC.pad_id).all() and weights[length - 1 :].sum() == 0
            np.testing.assert_array_equal(tokens[1:length], targets[: length - 1])
            found.append(tuple(shown))
    return found


HH = {
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: 2+2?\n\nAssistant: 4, I think.",
    "rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: 2+2?\n\nAssistant: 4 is wrong, 5.",
}
PROMPT = [{"role": "user", "content": "2+2?"}]
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("4", "5"))


def test_dialogues_of_hh_have_their_common_turns_for_a_prompt():
    """Not the common characters of the answers, which would be "4"."""
    (chosen, rejected) = texts(opened([HH]).batch(0))
    prompt = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: 2+2?\n\nAssistant:"
    assert chosen == (prompt, " 4, I think.")
    assert rejected == (prompt, " 4 is wrong, 5.")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": PROMPT, "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
        {"chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
        {"prompt": "2+2?", "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]},
        {"prompt": "2+2?", "chosen": [GOOD], "rejected": [BAD]},
    ],
)
def test_messages_are_written_by_the_template_with_or_without_a_prompt(record):
    (chosen, rejected) = texts(opened([record]).batch(0))
    prompt = f"<|user|>2+2?{LAST}<|assistant|>"
    assert chosen == (prompt, f"4{LAST}")
    assert rejected == (prompt, f"5{LAST}")


def test_answers_in_the_prompt_and_turns_of_others_are_not_completions():
    before = [*PROMPT, BAD, {"role": "user", "content": "Sure?"}]
    more = [GOOD, {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Bye"}]
    batch = opened([{"prompt": before, "chosen": more, "rejected": [BAD]}], length=200).batch(0)
    targets, weights = batch.targets[0, 0], batch.completion_weights[0, 0]
    assert CODEC.decode(targets[weights > 0][:-1], keep_special=True) == f"4{LAST}Bye{LAST}"
    first = [GOOD, *PROMPT, GOOD]
    same = opened([{"chosen": first, "rejected": [GOOD, *PROMPT, BAD]}]).batch(0)
    assert [completion for _, completion in texts(same)] == [f"4{LAST}", f"5{LAST}"]


def test_texts_keep_the_characters_of_their_boundary():
    record = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}
    assert texts(opened([record]).batch(0)) == [("2+2=", "4"), ("2+2=", "5")]


def test_a_pair_has_its_preference_and_margin():
    record = {"prompt": "a", "chosen": "b", "rejected": "c", "agreed": 0.7, "by": "slightly"}
    layout = PreferencePairs(
        preference="agreed", margin="by", margins={"slightly": 1 / 3, "negligibly": 0.0}
    )
    batch = opened([record, record | {"by": "negligibly"}], layout).batch(0)
    np.testing.assert_allclose(batch.preference, [0.7, 0.7])
    np.testing.assert_allclose(sorted(batch.scores[:, 0]), [0, 1 / 3])
    plain = opened([record]).batch(0)
    np.testing.assert_array_equal(plain.preference, [1.0])
    np.testing.assert_array_equal(plain.scores, [[1.0, 0.0]])


ULTRA = {
    "instruction": "Name a fruit.",
    "completions": [
        {"response": "stone", "overall_score": 1.0},
        {"response": "apple", "overall_score": 9.5},
        {"response": "tomato", "overall_score": 7.0},
    ],
}


def test_scored_completions_are_a_group_and_what_lacks_is_not_there():
    layout = RankedCompletions("instruction", scores="overall_score")
    batch = opened([ULTRA], layout).batch(0)
    assert batch.shape == (1, 4, 96) and batch.preference is None
    assert [text for _, text in texts(batch)] == ["stone", "apple", "tomato"]
    np.testing.assert_array_equal(batch.scores[0, :3], [1.0, 9.5, 7.0])
    assert batch.lengths[0, 3] == 0 and not batch.completion_weights[0, 3].any()


def test_two_of_several_are_the_best_and_a_worse_one():
    for take, allowed in (("best_and_worst", {"stone"}), ("best_and_other", {"stone", "tomato"})):
        chosen: Any = take
        layout = RankedCompletions("instruction", scores="overall_score", group=2, take=chosen)
        records = [ULTRA | {"key": n} for n in range(12)]
        found = opened(records, layout).batch(0)
        pairs = [[text for _, text in texts(found, row)] for row in range(12)]
        assert {better for better, _ in pairs} == {"apple"}
        assert {worse for _, worse in pairs} == allowed
    assert (found.scores[:, 0] > found.scores[:, 1]).all()


def test_ranks_are_scores_turned_round():
    record = {"prompt": "a", "completions": ["x", "y"], "ranks": [2, 1]}
    batch = opened([record], RankedCompletions(scores="ranks", are_ranks=True, group=2)).batch(0)
    assert batch.scores[0, 1] > batch.scores[0, 0]


def test_labelled_completions_are_alone_or_beside_another_of_their_batch():
    records = [{"prompt": f"p{n}", "completion": f"c{n}", "label": n % 2 == 0} for n in range(4)]
    alone = opened(records, LabelledCompletions()).batch(0)
    assert alone.shape == (4, 1, 96)
    beside = opened(records, LabelledCompletions(), others=True).batch(0)
    np.testing.assert_array_equal(beside.tokens[:, 0], alone.tokens[:, 0])
    for row in range(4):
        (own, other), (following, _) = texts(beside, row), texts(beside, (row + 1) % 4)
        assert own[0] == other[0] and other[1] == following[1]
        assert beside.scores[row, 0] == (int(own[1][1]) % 2 == 0)


def test_pairs_of_any_layout_become_labelled_completions():
    task = Task("t", InMemory((HH,)), preprocessors=(Unpair(),))
    data = Comparisons((task,), LabelledCompletions())
    batch = data.open(batch_size=2, length=96, seed=0).batch(0)
    labels = {texts(batch, row)[0][1]: float(batch.scores[row, 0]) for row in range(2)}
    assert labels == {" 4, I think.": 1.0, " 4 is wrong, 5.": 0.0}
    soft = Unpair(PreferencePairs(preference="agreed"))
    record = {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD], "agreed": 0.75}
    found = list(soft.apply(iter([record]), Context(lambda: iter(()))))
    assert [one["label"] for one in found] == [0.75, 0.25]
    assert len({one["key"] for one in found}) == 2
    several = RankedCompletions(
        "instruction", scores="overall_score", group=2, take="best_and_worst"
    )
    one, other = Unpair(several).apply(iter([ULTRA]), Context(lambda: iter(())))
    assert (one["completion"], other["completion"]) == ("apple", "stone")


def test_steps_end_where_they_are_scored():
    record = {"prompt": "2+2*3\n", "completions": ["2*3=6", "2+6=9"], "labels": [True, False]}
    batch = opened([record], ScoredSteps()).batch(0)
    places = np.flatnonzero(batch.step_scores[0, 0] >= 0)
    np.testing.assert_array_equal(batch.step_scores[0, 0, places], [1.0, 0.0])
    for place, text in zip(places, ("2*3=6\n", "2*3=6\n2+6=9\n"), strict=True):
        assert CODEC.decode(batch.tokens[0, 0, : place + 1]) == f"2+2*3\n{text}"
    assert texts(batch) == [("2+2*3\n", "2*3=6\n2+6=9\n")]


GOOD_PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "asks for 'rejected'"),
        (GOOD_PAIR | {"rejected": "b"}, "are equal"),
        (GOOD_PAIR | {"rejected": "  "}, "is empty"),
        ({"prompt": PROMPT, "chosen": [GOOD], "rejected": PROMPT}, "needs a turn of the assistant"),
        ({"chosen": [GOOD], "rejected": [GOOD]}, "are equal"),
        ({"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD | {"content": ""}]}, "is empty"),
        ({"chosen": "Human: a", "rejected": "Human: b"}, "no common beginning"),
        (GOOD_PAIR | {"chosen": 3}, "two texts or two lists"),
        (GOOD_PAIR | {"prompt": 3}, "a prompt is a text"),
        ({"prompt": PROMPT, "chosen": [{"role": "x"}], "rejected": [BAD]}, "must be a list of"),
        (GOOD_PAIR | {"prompt": "a" * 120}, "train.length=96"),
    ],
)
def test_what_compares_nothing_is_counted_or_refused(record, message, caplog):
    with caplog.at_level(logging.WARNING):
        data = opened([GOOD_PAIR, record], batch_size=1)
    assert data.num_records == 1 and message in caplog.text
    (reason,) = data.left_out["t"]
    assert data.seen(1)["left_out"] == {"t": {reason: 1}}
    with pytest.raises(DataError, match=message):
        opened([GOOD_PAIR, record], too_long="error", unusable="error")
    with pytest.raises(DataError, match=r"task t: t has no record .*1\}? left out"):
        opened([record])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "much", None])
def test_scores_that_are_no_numbers_are_refused(score):
    record = {"prompt": "a", "completions": ["x", "y"], "scores": [1.0, score]}
    with pytest.raises(DataError, match="must be a finite number"):
        opened([record], RankedCompletions(group=2), unusable="error")


def test_a_template_that_writes_no_answers_is_told_of():
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    record = {"prompt": PROMPT, "chosen": [GOOD], "rejected": [BAD]}
    with pytest.raises(DataError, match="writes no answer"):
        opened([record], chat=Chat(template=template), unusable="error")


def test_a_long_completion_is_cut_and_one_without_room_left_out():
    long, none = GOOD_PAIR | {"chosen": "b" * 30}, GOOD_PAIR | {"prompt": "a" * 19}
    data = opened([long, none], length=16, too_long="cut", batch_size=1)
    assert data.left_out == {"t": {"too long": 1}}
    batch = data.batch(0)
    assert batch.lengths[0].tolist() == [16, 4]
    assert batch.completion_weights[0, 0].sum() == 14
    assert batch.targets[0, 0, 15] == CODEC.pad_id and batch.completion_weights[0, 0, 15] == 0


def numbered(count, name="t"):
    records = ({"prompt": f"{name}{n}:", "chosen": "b", "rejected": "c"} for n in range(count))
    return Task(name, InMemory(tuple(records)))


def prompts(batch):
    return [CODEC.decode(row[0, 1 : row[0].tolist().index(ord(":") + CODEC.encode("\0")[0])])
            for row in batch.tokens]  # fmt: skip


def test_a_batch_is_a_function_of_the_step():
    data = Comparisons((numbered(10), numbered(5, "u")))
    whole = [data.open(batch_size=6, length=16, seed=3).batch(step) for step in range(5)]
    seen = [name for batch in whole for name in prompts(batch)]
    assert sorted(seen[:15]) == sorted(seen[15:]) and len(set(seen)) == 15
    assert [batch.task_names for batch in whole] == [("t", "u")] * 5
    assert all(batch.task_ids.sum() == 2 for batch in whole)
    later = data.open(batch_size=6, length=16, seed=3)
    np.testing.assert_array_equal(later.batch(3).tokens, whole[3].tokens)
    ahead = next(later.iterate(4))
    np.testing.assert_array_equal(ahead.tokens, whole[4].tokens)
    part = later.batch(2, rows=lambda size: range(size // 2, size))
    np.testing.assert_array_equal(part.tokens, whole[2].tokens[3:])
    other = data.open(batch_size=6, length=16, seed=4).batch(0)
    assert not np.array_equal(other.tokens, whole[0].tokens)
    weighted = dataclasses.replace(data, weights={"t": 1.0, "u": 1.0})
    assert weighted.open(batch_size=6, length=16, seed=3).batch(0).task_ids.sum() == 3
    assert later.seen(30)["epochs"] == {"t": 2.0, "u": 2.0}


def test_a_batch_is_what_its_specification_says():
    data = Comparisons((numbered(4),))
    assert isinstance(data, DataConfig)
    batch = data.open(batch_size=2, length=16, seed=0).batch(0)
    spec = data.batch_spec(batch_size=2, length=16)
    assert jax.tree.map(np.shape, batch) == jax.tree.map(lambda x: x.shape, spec)
    kinds = jax.tree.map(lambda x: np.dtype(x.dtype), batch)
    assert kinds == jax.tree.map(lambda x: np.dtype(x.dtype), spec)
    map_batch(lambda axes, array: array, batch)


def test_files_of_json_lines_and_parquet_are_read_as_they_are(tmp_path):
    import pyarrow
    from pyarrow import parquet

    records = [{"prompt": PROMPT, "chosen": [*PROMPT, GOOD], "rejected": [*PROMPT, BAD]}] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "a.parquet")
    for source in (
        Jsonl(str(tmp_path / "a.jsonl"), heldout_fraction=0.0),
        Parquet(str(tmp_path / "a.parquet"), heldout_fraction=0.0),
    ):
        data = Comparisons((Task("t", source),)).open(batch_size=1, length=64, seed=0)
        assert texts(data.batch(0))[0][1] == f"4{LAST}"


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="each by its own"):
        Comparisons((numbered(2), numbered(2)))
    with pytest.raises(ConfigError, match=r"comparisons\.weights has \['v'\]"):
        Comparisons((numbered(2),), weights={"v": 1.0})
    with pytest.raises(ConfigError, match="others is for completions by themselves"):
        Comparisons((numbered(2),), others=True)
    with pytest.raises(ConfigError, match="2 are taken"):
        RankedCompletions(take="best_and_worst")
    with pytest.raises(DataError, match="without an encoder"):
        Comparisons((numbered(2),)).open(batch_size=1, length=8, seed=0, source_length=8)
