"""Scores of one forward pass against the sampler and against a direct computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import MESHES, build, one_device_mesh, tiny_dense

from jaxgen.batch import Batch
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.data.features import PromptAnswer
from jaxgen.data.generated import Addition, AssociativeRecall
from jaxgen.data.hashing import hash64
from jaxgen.data.mixtures import Mixture
from jaxgen.data.sources import InMemory
from jaxgen.data.tasks import Task
from jaxgen.errors import DataError
from jaxgen.evaluation.answers import Answers
from jaxgen.evaluation.config import EvaluationConfig
from jaxgen.evaluation.evaluate import evaluate
from jaxgen.evaluation.generations import Generation
from jaxgen.evaluation.likelihood import Scorer
from jaxgen.evaluation.summary import summarise
from jaxgen.files import read_rows
from jaxgen.generation.policies import SamplingPolicy
from jaxgen.generation.sampling import pad_prompts, sample
from jaxgen.objectives.next_token import NextToken
from jaxgen.ops.initializers import Initialization
from jaxgen.sharding.mesh import make_mesh

CODEC = ByteCodec()


@pytest.fixture(scope="module")
def model():
    with jax.set_mesh(one_device_mesh()):
        return build(
            tiny_dense(vocab_size=320, initialization=Initialization(embedding_stddev=0.5))
        )


def greedy(model, prompts, count):
    encoded = [np.concatenate([[CODEC.begin_id], CODEC.encode(prompt)]) for prompt in prompts]
    tokens, lengths = pad_prompts(encoded, CODEC.pad_id)
    with jax.set_mesh(one_device_mesh()):
        return sample(
            model, tokens, lengths, jax.random.key(0), policy=SamplingPolicy(temperature=0),
            max_tokens=count, stop_ids=(CODEC.end_id,),
        )  # fmt: skip


@pytest.mark.slow
def test_an_exact_match_is_what_greedy_decoding_gives(model):
    prompts = [f"{i}{i}=" for i in range(12)]
    sampled = np.asarray(greedy(model, prompts, 3).tokens)
    # Half of the answers are what the model says, the others differ in one character.
    records = []
    for index, (prompt, tokens) in enumerate(zip(prompts, sampled, strict=True)):
        answer = bytes(int(t) % 128 for t in tokens[:3]).decode()
        if index % 2:
            answer = answer[:1] + chr((ord(answer[1]) + 1) % 128) + answer[2:]
        records.append({"prompt": prompt, "answer": answer})
    task = Task("t", InMemory(tuple(records)), PromptAnswer())
    with jax.set_mesh(one_device_mesh()):
        rows = Answers().score(Scorer(model, batch_size=5, length=32), task, records)
    decoded = np.asarray(greedy(model, prompts, 4).tokens)
    for row, record, tokens in zip(rows, records, decoded, strict=True):
        answer = [*CODEC.encode(record["answer"]), CODEC.end_id]
        assert row["exact_match"] == int(tokens.tolist() == answer)
        assert row["answer_tokens"] == 4
    # The end token is hardly ever right in a random model, all others of the even rows are.
    assert all(row["token_accuracy"] >= 0.75 for row in rows[::2] if row["answer_tokens"] == 4) or (
        max(max(tokens) for tokens in sampled) >= 128
    )


def test_log_probabilities_are_those_of_the_softmax(model):
    records = (
        AssociativeRecall(num_pairs=3, num_queries=2)
        .records_by_index("heldout")
        .__getitems__(range(5))
    )
    task = Task(
        "recall", AssociativeRecall(num_pairs=3, num_queries=2), PromptAnswer(loss_on_prompt=True)
    )
    with jax.set_mesh(one_device_mesh()):
        rows = Answers().score(Scorer(model, batch_size=8, length=32), task, records)
        for row, record in zip(rows, records, strict=True):
            text = "".join(prompt + answer for prompt, answer in record["turns"])
            inputs = jnp.array([[CODEC.begin_id, *text.encode()]], jnp.int32)
            ones = jnp.ones_like(inputs)
            batch = Batch(inputs, inputs, ones * 1.0, jnp.arange(inputs.shape[1])[None], ones, ones)
            log_p = jax.nn.log_softmax(model.logits(model(batch).hidden))[0]
            answers = [i for i, letter in enumerate(text) if letter.isupper() and i > 6]
            expected = sum(float(log_p[i, ord(text[i])]) for i in answers)
            expected += float(log_p[len(text), CODEC.end_id])
            assert np.isclose(row["log_probability"], expected, rtol=1e-4)
            assert row["answer_tokens"] == 3 and row["instance"] == record["key"]


@pytest.mark.slow
def test_scores_do_not_depend_on_how_the_mesh_splits_rows():
    """Over length, rows, heads and vocabulary at once, as a run's own evaluation is scored."""
    records = tuple({"prompt": f"{i}+{i}=", "answer": str(2 * i)} for i in range(12))
    task = Task("t", InMemory(records), PromptAnswer())
    found = []
    for mesh in (one_device_mesh(), make_mesh(MESHES["sequence"])):
        with jax.set_mesh(mesh):
            scorer = Scorer(build(tiny_dense(vocab_size=320)), batch_size=8, length=32)
            found.append([row["log_probability"] for row in Answers().score(scorer, task, records)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_the_summary_is_the_mean_of_the_rows():
    rows = [{"exact_match": m, "log_probability": -1.0 * m} for m in (0, 1, 1, 0)]
    summary = summarise(rows, ("exact_match", "brier"))
    assert summary == {
        "exact_match": 0.5,
        # Wilson's interval of 2 of 4 (Agresti and Coull, 1998).
        "exact_match_interval": pytest.approx([0.15, 0.85], abs=1e-3),
        "num_examples": 4,
    }
    assert summarise(rows, ("log_probability",), chance=0.25)["chance"] == 0.25


def test_an_instance_that_does_not_fit_is_named(model):
    task = Task("long", InMemory(()), PromptAnswer())
    with pytest.raises(DataError, match=r"long.*42 tokens.*32"):
        Answers().score(Scorer(model, 2, 32), task, [{"prompt": "x" * 40, "answer": "y"}])


def test_an_untrained_model_is_near_chance_on_every_task(tmp_path):
    tasks = (
        Task("addition", Addition(2), PromptAnswer()),
        Task("text", InMemory(tuple({"text": f"abc {i}" * 9} for i in range(99)), 0.5)),
    )
    settings = EvaluationConfig(num_examples=16, num_batches=2, batch_size=8)
    with jax.set_mesh(one_device_mesh()):
        near_uniform = build(tiny_dense(vocab_size=320))
        path = tmp_path / "rows.jsonl"
        summary = evaluate(near_uniform, NextToken(), Mixture("m", tasks), settings, 64, path)
    for task in ("addition", "text"):
        assert abs(summary[task]["loss"] - np.log(320)) < 0.1
    assert "exact_match" not in summary["text"]
    assert summary["addition"]["num_examples"] == len(read_rows(path)) == 16


@pytest.mark.slow
def test_a_stop_that_names_a_control_token_ends_an_answer(model):
    """Decoded text has no control tokens, so that their names are never found in it."""
    special = SpecialTokens()
    codec = ByteCodec(special=special)
    records = [{"prompt": f"{i}=", "answer": "x", "key": str(i)} for i in range(4)]
    task = Task("t", InMemory(tuple(records)), PromptAnswer(), codec=codec)
    policy = SamplingPolicy(temperature=1.0)
    with jax.set_mesh(one_device_mesh()):
        encoded = [np.append(codec.begin_id, codec.encode(record["prompt"])) for record in records]
        tokens, lengths = pad_prompts(encoded, codec.pad_id)
        key = jax.random.key(hash64(task.identity) % 2**32)
        tokens = np.pad(tokens, [(0, 0), (0, -tokens.shape[1] % 32)], constant_values=codec.pad_id)
        drawn = sample(
            model, tokens, lengths, jax.random.fold_in(key, 0), policy=policy, max_tokens=48,
            stop_ids=(codec.end_id,),
        )  # fmt: skip
        # The first control token that each answer happens to have.
        ids = [
            row[:end].tolist()
            for row, end in zip(*map(np.asarray, (drawn.tokens, drawn.lengths)), strict=True)
        ]
        names = {codec.special_id(name): name for name in special.names}
        stops = [next(i for i in row if i in names) for row in ids if set(row) & set(names)]
        scoring = Generation(stop=(names[stops[0]],), max_tokens=48, policy=policy)
        rows = scoring.score(Scorer(model, 4, 96), task, records)
    expected = [row[: row.index(stops[0])] if stops[0] in row else row for row in ids]
    said = [codec.decode([i for i in row if i != codec.end_id]) for row in expected]
    assert [row["said"] for row in rows] == said
