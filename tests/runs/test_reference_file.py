"""A reference's log-probabilities, written once: as good as a reference in the policy."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from support.groups import build_policy
from support.helpers import one_device_mesh, tiny_dense

from jaxgen import cli
from jaxgen.codecs.bytes import ByteCodec
from jaxgen.data.comparison_fields import LabelledCompletions, PreferencePairs, RankedCompletions
from jaxgen.data.comparisons import Comparisons
from jaxgen.data.generated.preferences import GoldPreferences
from jaxgen.data.reference_file import ReferenceFile, write_reference
from jaxgen.data.tasks import Task, sources_of
from jaxgen.data.text_files import Jsonl
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation.references import reference_log_probabilities
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.preference import Preference
from jaxgen.runs.data_record import check_data
from jaxgen.training.loading import put_batch

CONFIG = PolicyConfig(tiny_dense(vocab_size=ByteCodec().vocab_size), reference=True)


class OtherBytes(ByteCodec):
    """A codec of another digest."""

    @property
    def digest(self) -> str:
        return "other"


@pytest.fixture
def stored(tmp_path):
    """Eleven pairs in a file, two of which share a completion and its prompt."""
    random = np.random.default_rng(0)
    words = ["apple", "stone", "red", "wave", "sail", "rose"]
    rows = [
        {"prompt": f"{n}:", "chosen": " ".join(random.choice(words, 3)), "rejected": "no"}
        for n in range(10)
    ]
    rows.append({"prompt": "3:", "chosen": "yes", "rejected": "no"})
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Jsonl(str(file), heldout_fraction=0.2)
    return Comparisons((Task("pairs", source),), PreferencePairs())


def policy_of(seed=0) -> Any:
    """A policy that has left its reference."""
    policy: Any = build_policy(CONFIG, seed)
    random = np.random.default_rng(1)
    policy.model = jax.tree.map(
        lambda x: x + 0.02 * random.normal(size=x.shape).astype(np.float32), policy.model
    )
    return policy


def written(data, folder, policy, length=32):
    path = folder / "reference.safetensors"
    with jax.set_mesh(one_device_mesh()):
        found = reference_log_probabilities(policy.reference_model, data, length, 4)
        write_reference(path, found, data.codec, "imitated step 3")
    return dataclasses.replace(data, reference=str(path))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_loss_is_that_of_a_reference_in_the_policy(stored, tmp_path, split):
    policy = policy_of()
    with_file = written(stored, tmp_path, policy)
    bare: Any = build_policy(dataclasses.replace(CONFIG, reference=False))
    bare.model = policy.model
    losses = []
    with jax.set_mesh(one_device_mesh()):
        for data, model in ((stored, policy), (with_file, bare)):
            # Other batches than those that the file was made in: lengths and neighbours differ.
            opened = data.open(batch_size=2, length=32, seed=5, split=split)
            batch = put_batch(opened.batch(0), jax.sharding.get_mesh(), model.layout.rules)
            loss = jax.jit(Preference("dpo", beta=0.5))(model, batch)
            losses.append([loss.total, *(sum(one.total) for one in loss.metrics.values())])
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-5, atol=2e-5)
    assert ReferenceFile(str(with_file.reference)).model == "imitated step 3"


def test_a_completion_is_written_once_and_its_file_recorded(stored, tmp_path):
    data = written(stored, tmp_path, policy_of())
    arrays = safetensors.numpy.load_file(data.reference)
    assert len(arrays["keys"]) == 10 + 10 + 1 and (np.diff(arrays["keys"]) > 0).all()
    check_data(tmp_path / "data.json", sources_of(data), True, False)
    (tmp_path / "other").mkdir()
    other = written(stored, tmp_path / "other", policy_of(seed=4))
    (tmp_path / "reference.safetensors").write_bytes(
        (tmp_path / "other" / "reference.safetensors").read_bytes()
    )
    with pytest.raises(DataError, match=r"comparisons\.reference: .* differs"):
        check_data(tmp_path / "data.json", sources_of(data), False, False)
    assert other.reference != data.reference


def test_a_file_of_other_data_or_another_vocabulary_is_refused(stored, tmp_path):
    data = written(stored, tmp_path, policy_of())

    def opened(length=32, **changes):
        return dataclasses.replace(data, **changes).open(batch_size=2, length=length, seed=0)

    opened()
    with pytest.raises(DataError, match="lacks a completion of the data"):
        opened(length=12, too_long="cut")  # Rows end elsewhere.
    with pytest.raises(DataError, match="a model with another vocabulary"):
        data.with_codec(OtherBytes()).open(batch_size=2, length=32, seed=0)
    with pytest.raises(DataError, match="lacks a completion"):
        swapped = PreferencePairs(chosen="rejected", rejected="prompt")
        opened(layout=swapped)
    (tmp_path / "reference.safetensors").write_bytes(b"0" * 64)
    with pytest.raises(DataError, match="cannot be read as log-probabilities"):
        opened()


def test_what_cannot_be_written_once_is_refused(tmp_path):
    gold = Task("gold", GoldPreferences())
    with pytest.raises(ConfigError, match=r"\['gold'\] are made or drawn anew"):
        Comparisons((gold,), reference="x.safetensors")
    stored = Task("pairs", Jsonl(str(tmp_path / "*.jsonl")))
    with pytest.raises(ConfigError, match=r"comparisons\.others asks for them after others"):
        Comparisons((stored,), LabelledCompletions(), others=True, reference="x.safetensors")
    row = Comparisons((stored,), RankedCompletions())
    assert row.reference is None
    with pytest.raises(DataError, match="not finite"):
        write_reference(tmp_path / "x", _diverged(), ByteCodec(), "m")
    assert not (tmp_path / "x").exists()


def _diverged():
    from jaxgen.data.comparison_rows import CompletionRow

    row = CompletionRow(np.arange(4, dtype=np.int32), np.array([False, True, True, True]))
    yield row, np.array([0.0, np.nan, 0.0], np.float32)


@pytest.mark.slow
def test_the_command_writes_what_a_run_reads(stored, tmp_path, capsys):
    small = [
        "--gin.model.num_layers=1", "--gin.model.embed_dim=16", "--gin.model.mlp_dim=32",
        "--gin.train.steps=2", "--gin.train.batch_size=8", "--gin.evaluation.num_examples=2",
        "--gin.evaluation.num_batches=1", "--gin.evaluation.batch_size=8", "--gin.mesh.data=8",
    ]  # fmt: skip
    run, output = tmp_path / "imitated", tmp_path / "reference.safetensors"
    base = ["--gin_file=runs/gold_imitated.gin", *small]
    assert cli.main(["train", f"--run_dir={run}", *base]) == 0
    data = [
        "--gin_file=runs/gold_imitated.gin", "--gin_file=mixtures/gold_pairs.gin",
        "--gin_file=objectives/dpo.gin", *small, "--gin.gold_pairs/task.source=@jsonl()",
        f"--gin.jsonl.pattern={str(tmp_path / 'pairs.jsonl')!r}",
        "--gin.jsonl.heldout_fraction=0.2", "--gin.warmup_stable_decay.warmup=1",
        "--gin.evaluation.evaluators=()", "--gin.train.length=32",
    ]  # fmt: skip
    assert cli.main(["reference", f"--run_dir={run}", f"--output={output}", *data]) == 0
    assert "completions by gold_imitated" in capsys.readouterr().out
    bindings = [
        f"--gin.comparisons.reference={str(output)!r}", "--gin.policy.reference=False",
        f"--gin.run.initialize_from={str(run)!r}",
    ]  # fmt: skip
    assert cli.main(["train", f"--run_dir={tmp_path / 'dpo'}", *data, *bindings]) == 0
    rows = [json.loads(line) for line in (tmp_path / "dpo" / "metrics.jsonl").open()]
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-4)
