"""What the sources and steps here write is what comparisons read."""

import numpy as np

from jaxgen.data.comparison_fields import PreferencePairs, RankedCompletions
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.generated import GoldPreferences
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.posttraining.feedback import Judging, judge
from jaxgen.posttraining.principles import Revising, revise


def batch_of(task, layout, rows=8):
    data = Comparisons((task,), layout)
    return data.open(batch_size=rows, length=96, seed=0).batch(0)


def texts_of(batch, codec):
    """The rows' texts, without what fills them."""
    return [
        [codec.decode(ids[1 : length - 1]) for ids, length in zip(row, lengths, strict=True)]
        for row, lengths in zip(np.asarray(batch.tokens), np.asarray(batch.lengths), strict=True)
    ]


def test_gold_preferences_are_pairs_with_soft_labels_and_rankings():
    task = Task("gold", GoldPreferences(num_examples=64))
    batch = batch_of(task, PreferencePairs(preference="preference"))
    assert np.asarray(batch.tokens).shape == (8, 2, 96)
    by_text = {
        (record["prompt"] + record["chosen"], record["prompt"] + record["rejected"]): record
        for record in task.records_by_index("train").__getitems__(range(64))
    }
    found = texts_of(batch, task.codec)
    np.testing.assert_allclose(
        sorted(np.asarray(batch.preference)),
        sorted(by_text[first, second]["preference"] for first, second in found),
        rtol=1e-6,
    )
    ranked = Task("ranked", GoldPreferences(num_completions=4, num_examples=64))
    groups = batch_of(ranked, RankedCompletions(group=4))
    assert np.asarray(groups.tokens).shape == (8, 4, 96)
    assert all(sorted(scores) == [0, 1, 2, 3] for scores in np.asarray(groups.scores).tolist())


def test_revisions_and_feedback_are_pairs(tmp_path):
    records = [{"prompt": f"q{n}?\n", "key": str(n)} for n in range(40)]

    def write(prompts):
        return [f" words {len(prompt)}" for prompt in prompts]

    def weigh(prompts, choices):
        return np.array([[0.0, float(len(prompt) % 3)] for prompt in prompts])

    revise(records, write, Revising(("Be kind.",)), tmp_path / "revised.jsonl")
    pairs = [r | {"completions": [f" a{r['key']}", f" b{r['key']}"]} for r in records]
    judge(pairs, weigh, Judging(("Be kind.",), both_orders=False), tmp_path / "labels.jsonl")
    for name, layout in (
        ("revised", PreferencePairs()),
        ("labels", PreferencePairs(preference="preference")),
        ("labels", RankedCompletions(group=2)),
    ):
        source = Jsonl(str(tmp_path / f"{name}.jsonl"), heldout_fraction=0.2)
        batch = batch_of(Task(name, source), layout)
        assert np.asarray(batch.lengths).min() > 0
