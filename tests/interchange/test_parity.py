"""Every family computes what transformers computes, imported and exported."""

import functools
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from support.interchange_peers import load_peer, make_peer, run_peer, save_peer, shortened_peer
from support.interchange_tiny import CONFIGS

from jaxgen.batch import Batch, EncoderInput
from jaxgen.interchange.configs import differences, find_family, read_config, write_config
from jaxgen.interchange.exporting import export_model, tensors_of
from jaxgen.interchange.families import FAMILIES
from jaxgen.interchange.importing import load_model, open_checkpoint
from jaxgen.models.parameters import named_parameters

# Rows of the batch: three of one document, padded, and one of two documents.
ROWS = [[24], [17], [5], [11, 13]]
SOURCE_ROWS = [[20], [9], [14], [8, 12]]
TOLERANCE = 2e-5


def pack(rows, random, low=3, high=96):
    """(tokens, positions, segment_ids) [rows, longest], and the documents one by one."""
    documents = [[random.integers(low, high, n).astype(np.int32) for n in row] for row in rows]
    length = max(sum(row) for row in rows)
    packed = np.zeros((3, len(rows), length), np.int32)
    for number, row in enumerate(documents):
        end = sum(len(document) for document in row)
        packed[0, number, :end] = np.concatenate(row)
        packed[1, number, :end] = np.concatenate([np.arange(len(d)) for d in row])
        packed[2, number, :end] = np.repeat(1 + np.arange(len(row)), [len(d) for d in row])
    return packed, [document for row in documents for document in row]


def pad(documents):
    """Documents as rows [documents, longest], and which of their entries are there."""
    length = max(len(document) for document in documents)
    rows = np.stack([np.pad(document, (0, length - len(document))) for document in documents])
    return rows, np.stack([np.arange(length) < len(document) for document in documents])


def unpack(array, rows):
    """[rows, length, ...] to one array a document."""
    parts = []
    for row, lengths in zip(np.asarray(array), rows, strict=True):
        parts += np.split(row[: sum(lengths)], np.cumsum(lengths)[:-1])
    return parts


@functools.cache
def batches(name):
    """The same documents for us, packed, and for transformers, one a row."""
    random = np.random.default_rng(1)
    (tokens, positions, segments), documents = pack(ROWS, random)
    weights = np.ones(tokens.shape, np.float32)
    encoder, types = None, None
    rows, mask = pad(documents)
    theirs = {"input_ids": rows, "attention_mask": mask}
    if name.startswith("t5"):
        source, source_documents = pack(SOURCE_ROWS, random)
        encoder = EncoderInput(*source)
        source_rows, source_mask = pad(source_documents)
        theirs = {"input_ids": source_rows, "attention_mask": source_mask}
        theirs |= {"decoder_input_ids": rows, "decoder_attention_mask": mask}
    if name.startswith("bert"):
        (types, _, _), type_documents = pack(ROWS, random, low=0, high=2)
        theirs["token_type_ids"], _ = pad(type_documents)
    ours = Batch(
        tokens, tokens, weights, positions, segments, np.zeros_like(tokens),
        token_types=types, encoder=encoder,
    )  # fmt: skip
    return ours, theirs


@jax.jit
def forward(model, batch):
    output = model(batch)
    return {"logits": model.logits(output.hidden), "last_hidden_state": output.hidden}


def compared(name, model, peer):
    """Ours and theirs, document by document: logits, or hidden states where there are none."""
    batch, arrays = batches(name)
    output = run_peer(peer, **arrays)
    found = [output.get(key) for key in ("logits", "prediction_logits", "last_hidden_state")]
    values = next(value for value in found if value is not None)
    what = "logits" if values.shape[-1] == model.config.vocab_size else "last_hidden_state"
    ours = unpack(forward(model, batch)[what], ROWS)
    theirs = [row[: len(part)] for row, part in zip(values.numpy(), ours, strict=True)]
    return ours, theirs


def worst(ours, theirs):
    """The largest difference of each document, over the largest value of all."""
    largest = max(np.abs(part).max() for part in theirs)
    return [float(np.abs(a - b).max() / largest) for a, b in zip(ours, theirs, strict=True)]


@functools.cache
def imported(name):
    """(our model, theirs, the folder)."""
    peer = make_peer(name)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"jaxgen-{name}-"))
    save_peer(peer, folder)
    return load_model(open_checkpoint(folder)), peer, folder


def first_layer_that_differs(name):
    """Imports the model cut to its first layers, ever more of them, until the logits differ."""
    folder = imported(name)[2]
    depth = open_checkpoint(folder).config.num_layers
    for count in range(1, depth + 1):
        peer = shortened_peer(name, folder, count)
        with tempfile.TemporaryDirectory() as short:
            save_peer(peer, pathlib.Path(short))
            model = load_model(open_checkpoint(short))
        differences = worst(*compared(name, model, peer))
        if max(differences) > TOLERANCE:
            return f"layer {count - 1} of {depth} is the first that differs: {differences}"
    return "no layer differs by itself"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_import_computes_the_same(name, record_property):
    model, peer, _ = imported(name)
    differences = worst(*compared(name, model, peer))
    record_property("largest_difference", max(differences))
    print(f"{name}: {max(differences):.1e}")
    assert max(differences) < TOLERANCE, first_layer_that_differs(name)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_export_computes_the_same(name, tmp_path):
    model, _, folder = imported(name)
    family = open_checkpoint(folder).family
    export_model(model, tmp_path / "exported", family, max_shard_bytes=60_000)
    peer = load_peer(name, tmp_path / "exported")
    assert max(worst(*compared(name, model, peer))) < TOLERANCE


def test_untied_logits_of_t5_are_kept_apart(tmp_path):
    """transformers 5 ties T5's tables unless a file has both and they differ."""
    _, _, folder = imported("t5_v1_1")
    values = json.loads((folder / "config.json").read_text())
    values = values | {"tie_word_embeddings": False, "scale_decoder_outputs": False}
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.tie_embeddings and not checkpoint.config.scale_logits
    import safetensors.numpy

    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = -2 * tensors["shared.weight"]
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = load_model(open_checkpoint(tmp_path))
    assert not model.config.tie_embeddings
    export_model(model, tmp_path / "exported")
    for place in (tmp_path, tmp_path / "exported"):
        assert max(worst(*compared("t5_v1_1", model, load_peer("t5_v1_1", place)))) < TOLERANCE


def test_pooled_output_of_bert():
    model, peer, _ = imported("bert")
    batch, arrays = batches("bert")
    pooled = np.asarray(jax.jit(lambda model, batch: model.pooled(model(batch)))(model, batch))[
        :3, 0
    ]
    theirs = run_peer(peer, **arrays).pooler_output.numpy()[:3]
    assert np.abs(pooled - theirs).max() < TOLERANCE * np.abs(theirs).max()


def test_next_sentence_logits_of_bert():
    model, peer, _ = imported("bert_pretraining")
    batch, arrays = batches("bert_pretraining")
    logits = np.asarray(jax.jit(lambda model, b: model.pair_logits(model(b)))(model, batch))[:3, 0]
    theirs = run_peer(peer, **arrays).seq_relationship_logits.numpy()[:3]
    assert np.abs(logits - theirs).max() < TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("name", ["mistral_dynamic", "phi3_long"])
def test_rope_by_the_length_of_a_row(name, monkeypatch):
    """Some rows are longer than those first trained on, each is a document of its own."""
    original = {"mistral_dynamic": "max_position_embeddings"}.get(
        name, "original_max_position_embeddings"
    )
    monkeypatch.setitem(CONFIGS, name, CONFIGS[name] | {original: 12})
    imported.cache_clear()
    model, peer, _ = imported(name)
    imported.cache_clear()
    random = np.random.default_rng(1)
    for length in (5, 11, 13, 17, 24):  # transformers keeps the longest length that it saw.
        (tokens, positions, segments), _ = pack([[length]], random)
        weights = np.ones(tokens.shape, np.float32)
        batch = Batch(tokens, tokens, weights, positions, segments, np.zeros_like(tokens))
        theirs = run_peer(peer, input_ids=tokens).logits.numpy()
        ours = np.asarray(forward(model, batch)["logits"])
        assert np.abs(ours - theirs).max() < TOLERANCE * np.abs(theirs).max(), length


YARN = {"rope_type": "yarn", "factor": 6.0, "original_max_position_embeddings": 512}


@pytest.mark.parametrize("family", ["llama", "deepseek_v3"])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 3.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 64},
        YARN,
        YARN | {"beta_fast": 16, "beta_slow": 2},
        YARN | {"attention_factor": 1.3},
        YARN | {"mscale": 0.7, "mscale_all_dim": 1.1},
        YARN | {"mscale": 0.7},
        YARN | {"truncate": False},
    ],
)  # fmt: skip
def test_rotary_frequencies_agree(family, scaling):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    values = CONFIGS[family] | {"rope_theta": 5e5, "rope_scaling": scaling}
    table = find_family(FAMILIES, values)
    config = read_config(table, values)
    given = transformers.AutoConfig.for_model(**json.loads(json.dumps(values)))
    frequencies, size = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](given)
    rope = config.layers[0].rope
    assert rope is not None and rope.scaling is not None
    found = rope.scaling.frequencies(2 * len(frequencies), rope.base)
    np.testing.assert_allclose(found, frequencies.numpy(), rtol=1e-5)
    np.testing.assert_allclose(rope.scaling.magnification(), size, rtol=1e-6)
    assert differences(config, read_config(table, write_config(table, config))) == []


@pytest.mark.parametrize("name", ["llama_tied_biases", "gemma2", "chameleon", "chameleon_post"])
def test_gradients_agree(name):
    model, peer, folder = imported(name)
    batch, arrays = batches(name)
    targets = np.random.default_rng(2).integers(0, 96, batch.shape)

    def loss(model):
        log_probs = jax.nn.log_softmax(model.logits(model(batch).hidden))
        found = jnp.take_along_axis(log_probs, targets[..., None], -1)[..., 0]
        return -(found * (batch.segment_ids > 0)).sum()

    gradient = jax.jit(jax.grad(loss))(model)
    checkpoint = open_checkpoint(folder)
    arrays_of_gradient = {name: p[...] for name, p in named_parameters(gradient)}
    ours = dict(tensors_of(checkpoint.family, checkpoint.config, arrays_of_gradient))

    rows, mask = pad(unpack(targets, ROWS))
    peer.zero_grad()
    given = {key: torch.from_numpy(np.asarray(x)).long() for key, x in arrays.items()}
    log_probs = peer(**given, use_cache=False).logits.log_softmax(-1)
    found = log_probs.gather(-1, torch.from_numpy(rows)[..., None])[..., 0]
    (-(found * torch.from_numpy(mask)).sum()).backward()
    used = [pair for pair in peer.named_parameters() if pair[1].grad is not None]
    theirs = {path: p.grad.numpy() for path, p in used}
    assert set(ours) <= set(theirs)
    for path, found in ours.items():
        largest = np.abs(theirs[path]).max()
        assert np.abs(found - theirs[path]).max() < 1e-4 * largest, path
