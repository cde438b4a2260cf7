"""A whole step of TRL's DPO trainer on an imported model: the loss, and every gradient."""

import functools
import tempfile
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import datasets
import transformers
from support.interchange_peers import make_peer
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import DPOConfig, DPOTrainer

from jaxgen.group_batch import GroupBatch
from jaxgen.interchange.exporting import tensors_of
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters
from jaxgen.objectives.log_probabilities import group_log_probabilities
from jaxgen.objectives.preference import Preference

PAIRS = [("abc", "defg", "hi"), ("k", "l", "mmnno"), ("pq", "rst", "uuu")]
KINDS = {
    "sigmoid": Preference("dpo", beta=0.3),
    "sigmoid_norm": Preference("dpo", beta=0.3, per_token=True),
    "ipo": Preference("ipo", beta=0.3),
    "robust": Preference("robust", beta=0.3, label_smoothing=0.1),
}


@functools.cache
def trainer() -> Any:
    """(the trainer, the rows of a step, the folder of the policy, that of the reference)."""
    folders = [tempfile.mkdtemp(prefix="jaxgen-dpo-") for _ in range(3)]
    policy, reference = (make_peer("llama", seed) for seed in (0, 1))
    policy.save_pretrained(folders[0])
    reference.save_pretrained(folders[1])
    letters = {chr(ord("a") + place): place + 3 for place in range(26)}
    words = models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2} | letters, unk_token="<pad>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    rows = [dict(zip(("prompt", "chosen", "rejected"), pair, strict=True)) for pair in PAIRS]
    settings = DPOConfig(
        output_dir=folders[2], report_to=[], use_cpu=True, bf16=False, beta=0.3,
        per_device_train_batch_size=len(PAIRS), gradient_checkpointing=False,
        disable_dropout=False, label_smoothing=0.1,
    )  # fmt: skip
    made = DPOTrainer(
        model=policy, ref_model=reference, args=settings, processing_class=fast,
        train_dataset=datasets.Dataset.from_list(rows),
    )  # fmt: skip
    return made, next(iter(made.get_train_dataloader())), *folders[:2]


def batch_of(inputs: Any) -> GroupBatch:
    """The same rows: TRL lays the better completions of all pairs before the worse ones."""

    def groups(rows: Any) -> np.ndarray:
        return np.stack(np.split(rows.numpy(), 2), axis=1)

    tokens, mask = groups(inputs["input_ids"]), groups(inputs["completion_mask"])
    moved = [np.pad(x[..., 1:], [(0, 0), (0, 0), (0, 1)]) for x in (tokens, mask)]
    lengths = groups(inputs["attention_mask"]).sum(-1)
    scores = np.tile(np.array([1, 0], np.float32), (len(PAIRS), 1))
    return GroupBatch(
        tokens.astype(np.int32), moved[0].astype(np.int32), moved[1].astype(np.float32),
        lengths.astype(np.int32), scores,
    )  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_and_the_gradients_of_a_step_agree(name):
    made, inputs, policy_folder, reference_folder = trainer()
    made.loss_types = [name]
    made.model.zero_grad()
    theirs = made.compute_loss(made.model, inputs)
    theirs.backward()
    expected = {path: p.grad.numpy() for path, p in made.model.named_parameters()}

    checkpoint = open_checkpoint(policy_folder)
    model, batch = load_model(checkpoint), batch_of(inputs)
    known = group_log_probabilities(load_model(open_checkpoint(reference_folder)), batch)
    batch = GroupBatch(**vars(batch) | {"reference": np.asarray(known)})

    def mean(model: Any) -> jax.Array:
        loss = KINDS[name](model, batch)
        return loss.total / loss.weight

    loss, gradient = jax.jit(jax.value_and_grad(mean))(model)
    np.testing.assert_allclose(loss, theirs.item(), rtol=2e-5)
    arrays = {path: p[...] for path, p in named_parameters(gradient)}
    compared = dict(tensors_of(checkpoint.family, checkpoint.config, arrays))
    assert compared.keys() == expected.keys()
    for path, one in compared.items():
        largest = np.abs(expected[path]).max()
        assert np.abs(one - expected[path]).max() < 1e-4 * largest + 1e-7, path
