"""Families that no other library has, against their papers' equations, one token at a time.

Each reference is plain numpy in float64 on one sequence: no batch, no packing, no mask arrays.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.helpers import build, layer_parameters, one_row, spread, tiny_model
from support.tiers import slow_but

LENGTH = 24


def rms_norm(x, p):
    return x / np.sqrt(np.mean(x**2) + 1e-6) * p["scale"]


def layer_norm(x, p, epsilon=1e-5):
    centred = x - x.mean()
    return centred / np.sqrt(np.mean(centred**2) + epsilon) * p["scale"] + p.get("bias", 0.0)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def swish(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - np.max(x))
    return e / e.sum()


def rotate(vector, position):
    """RoFormer (2104.09864), eq. 34, with the two halves of a vector as its pairs."""
    half = len(vector) // 2
    out = np.empty_like(vector)
    for i in range(half):
        angle = position * 10_000 ** (-2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def t5_bucket(distance, buckets=32, max_distance=128):
    """Of a key `distance` positions back: half of the buckets exact, half logarithmic."""
    exact = buckets // 2
    if distance < exact:
        return distance
    growth = math.log(distance / exact) / math.log(max_distance / exact) * (buckets - exact)
    return min(exact + int(growth), buckets - 1)


def attention(p, inputs, query_at, keys_at, turn=lambda v, position: v, bias=lambda n, i, j: 0.0):
    """One query's mix: every head, one key at a time (the first key head serves its group)."""
    heads, width = p["query"].shape[1:]
    group = heads // p["key"].shape[1]
    out = np.zeros(p["out"].shape[-1])
    for n in range(heads):
        query = inputs[query_at] @ p["query"][:, n] + p.get("query_bias", np.zeros((heads, 1)))[n]
        query = turn(query, query_at)
        logits, values = [], []
        for j in keys_at:
            m = n // group
            key = inputs[j] @ p["key"][:, m] + p.get("key_bias", np.zeros((heads, 1)))[m]
            logits.append(query @ turn(key, j) / math.sqrt(width) + bias(n, query_at, j))
            values.append(inputs[j] @ p["value"][:, m])
            values[-1] = values[-1] + p.get("value_bias", np.zeros((heads, 1)))[m]
        out += softmax(np.array(logits)) @ np.array(values) @ p["out"][n]
    return out + p.get("out_bias", 0.0)


def palm(layers, x):
    """PaLM (2204.02311), 2: y = x + MLP(LayerNorm(x)) + Attention(LayerNorm(x))."""
    for p in layers:
        normed = [layer_norm(v, p["attention_norm"], 1e-6) for v in x]
        f = p["feed_forward"]
        x = [
            v
            + (swish(normed[i] @ f["gate"]) * (normed[i] @ f["up"])) @ f["down"]
            + attention(p["attention"], normed, i, range(i + 1), rotate)
            for i, v in enumerate(x)
        ]
    return x


def lamda(layers, x):
    """LaMDA (2201.08239), 3: relative attention as in T5, gated GELU, norms before."""
    for p in layers:
        table = p["attention"]["relative"]
        normed = [rms_norm(v, p["attention_norm"]) for v in x]

        def bias(n, i, j, table=table):
            return table[t5_bucket(i - j), n]

        x = [
            v + attention(p["attention"], normed, i, range(i + 1), bias=bias)
            for i, v in enumerate(x)
        ]
        x = glam_experts(p, x) if "router" in p["feed_forward"] else geglu(p, x)
    return x


def geglu(p, x):
    f, normed = p["feed_forward"], [rms_norm(v, p["feed_forward_norm"]) for v in x]
    return [
        v + (gelu(h @ f["gate"]) * (h @ f["up"])) @ f["down"]
        for v, h in zip(x, normed, strict=True)
    ]


def glam_experts(p, x):
    """GShard's top-2 gating (2006.16668, algorithm 1) with experts of two matrices.

    First choices fill the experts in order, then second choices; what finds no room adds nothing.
    """
    f, normed = p["feed_forward"], [rms_norm(v, p["feed_forward_norm"]) for v in x]
    num_experts = f["router"].shape[1]
    room = [math.ceil(2 * len(x) / num_experts)] * num_experts
    gates = [softmax(h @ f["router"]) for h in normed]
    out = [v.copy() for v in x]
    for choice in range(2):
        for i, h in enumerate(normed):
            best = np.argsort(-gates[i])[:2]
            expert = best[choice]
            if room[expert] > 0:
                room[expert] -= 1
                weight = gates[i][expert] / gates[i][best].sum()
                out[i] += weight * (gelu(h @ f["up"][expert]) @ f["down"][expert])
    return out


def gpt(band, layers, x):
    """GPT-2's block; GPT-3 (2005.14165, 2.1): every second layer sees a local band only."""
    for number, p in enumerate(layers):
        normed = [layer_norm(v, p["attention_norm"]) for v in x]
        reach = band if band and number % 2 else len(x)
        x = [
            v + attention(p["attention"], normed, i, range(max(0, i + 1 - reach), i + 1))
            for i, v in enumerate(x)
        ]
        f, normed = p["feed_forward"], [layer_norm(v, p["feed_forward_norm"]) for v in x]
        x = [
            v + gelu(h @ f["up"] + f["up_bias"]) @ f["down"] + f["down_bias"]
            for v, h in zip(x, normed, strict=True)
        ]
    return x


def band_of(model):
    """The window of every second layer, which must be shorter than the test's sequence."""
    (band,) = [p.size for p in model.config.layers[1].mask if hasattr(p, "size")]
    assert band < LENGTH
    return band


REFERENCES = {
    "palm": lambda model, layers, x: palm(layers, x),
    "lamda": lambda model, layers, x: lamda(layers, x),
    "glam": lambda model, layers, x: lamda(layers, x),
    "gpt3": lambda model, layers, x: gpt(band_of(model), layers, x),
    "mt_nlg": lambda model, layers, x: gpt(None, layers, x),
}


@pytest.mark.parametrize("family", slow_but(["glam", "lamda", "mt_nlg"], REFERENCES))
def test_logits_are_those_of_the_papers_equations(family):
    config = tiny_model(family)
    model = spread(build(config))
    batch = one_row(LENGTH, config.vocab_size)
    # A training pass: in the model as it is used no expert drops a token.
    output = model(batch, key=jax.random.key(0))
    got = np.asarray(model.logits(output.hidden))[0]
    whole = layer_parameters(model)
    embedding = whole["embedding"]
    x = [embedding["table"][token] for token in np.asarray(batch.tokens)[0]]
    if "positions" in embedding:
        x = [v + embedding["positions"][i] for i, v in enumerate(x)]
    x = REFERENCES[family](model, whole["layers"], x)
    norm = rms_norm if config.norm == "rms" else layer_norm
    epsilon = () if config.norm == "rms" else (config.norm_epsilon,)
    hidden = np.array([norm(v, whole["final_norm"], *epsilon) for v in x])
    scale = config.embed_dim**-0.5 if config.scale_logits else 1.0
    expected = scale * hidden @ embedding["table"].T
    np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())
    assert jnp.isfinite(got).all()
