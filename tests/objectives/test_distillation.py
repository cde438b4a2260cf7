"""Distillation against divergences of small distributions by numpy, and on every mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import log_softmax, rel_entr, softmax
from support.helpers import one_device_mesh, random_batch, tiny_dense

from jaxgen.errors import ConfigError
from jaxgen.models.distilled_config import DistilledConfig
from jaxgen.models.lora_config import LoraConfig
from jaxgen.models.parameters import Frozen, named_parameters, number_of_parameters
from jaxgen.models.policy_config import PolicyConfig
from jaxgen.objectives.distillation import Distillation, divergence
from jaxgen.objectives.next_token import NextToken
from jaxgen.sharding.layout import Layout
from jaxgen.sharding.mesh import MeshConfig, make_mesh
from jaxgen.training.loading import put_batch
from jaxgen.training.state import trained, with_trained

LARGE = tiny_dense(embed_dim=48, num_layers=1, logit_soft_cap=5.0)
PAIR = DistilledConfig(tiny_dense(), LARGE)
KINDS = ("forward_kl", "reverse_kl", "jsd")


def built(config, seed=0) -> Any:
    return jax.jit(lambda: config.build(nnx.Rngs(params=seed), Layout()))()


def of_numpy(p_logits, q_logits, kind, beta):
    p, q = softmax(p_logits, axis=-1), softmax(q_logits, axis=-1)
    m = beta * p + (1 - beta) * q
    found = {
        "forward_kl": rel_entr(p, q),
        "reverse_kl": rel_entr(q, p),
        "jsd": beta * rel_entr(p, m) + (1 - beta) * rel_entr(q, m),
    }
    return found[kind].sum(-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_divergences_are_numpys_and_their_gradients_are_finite_differences(kind, beta):
    random = np.random.default_rng(0)
    p, q = 2 * random.standard_normal((2, 6, 5))
    found = divergence(jnp.asarray(p), jnp.asarray(q), kind, beta)
    np.testing.assert_allclose(found, of_numpy(p, q, kind, beta), rtol=2e-5)
    np.testing.assert_allclose(divergence(jnp.asarray(p), jnp.asarray(p), kind, beta), 0, atol=1e-6)
    gradient = jax.grad(lambda q: divergence(jnp.asarray(p), q, kind, beta).sum())(jnp.asarray(q))
    step = 1e-5
    for column in range(5):
        moved = np.eye(5)[column] * step
        slope = of_numpy(p, q + moved, kind, beta) - of_numpy(p, q - moved, kind, beta)
        np.testing.assert_allclose(gradient[:, column], slope / (2 * step), atol=2e-5)
    if kind == "forward_kl":
        np.testing.assert_allclose(gradient, softmax(q, axis=-1) - softmax(p, axis=-1), atol=1e-6)


def test_a_small_share_of_one_side_is_the_kl_of_the_other():
    """JSD / beta goes to KL(p || q) as beta goes to 0, and JSD / (1 - beta) to KL(q || p)."""
    p, q = np.random.default_rng(1).standard_normal((2, 7)).astype(np.float32)
    cases: Any = ((1e-3, "forward_kl", 1e-3), (1 - 1e-3, "reverse_kl", 1e-3))
    for beta, kind, share in cases:
        jsd = divergence(p, q, "jsd", beta)
        assert float(jsd / share) == pytest.approx(float(divergence(p, q, kind)), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_whole_logits(kind):
    """Value and gradient, with a teacher of another size, a temperature and some cross-entropy."""
    model, batch = built(PAIR), random_batch()
    objective = Distillation(kind, 0.3, 2.0, 0.25)
    loss = jax.jit(lambda model: objective(model, batch))(model)
    q = np.asarray(model.model.logits(model.model(batch).hidden), np.float64)
    p = np.asarray(model.teacher.logits(model.teacher(batch).hidden), np.float64)
    weights = np.asarray(batch.loss_weights)
    nll = -np.take_along_axis(log_softmax(q, axis=-1), batch.targets[..., None], -1)[..., 0]
    far = of_numpy(p / 2, q / 2, kind, 0.3)
    expected = np.sum(weights * (0.75 * 4 * far + 0.25 * nll))
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)
    assert float(loss.weight) == weights.sum()
    for name, values in (("loss", nll), ("divergence", far)):
        for task in range(2):
            found = float(loss.metrics[name].total[task] / loss.metrics[name].weight[task])
            mask = weights * (batch.task_ids == task)
            assert found == pytest.approx(np.sum(mask * values) / mask.sum(), rel=1e-5, abs=1e-6)
    assert loss.metrics.keys() >= {"accuracy", "token_share", "teacher_loss"}

    def whole(parameters):
        student = with_trained(model, parameters).model
        q = jax.nn.log_softmax(student.logits(student(batch).hidden))
        nll = -jnp.take_along_axis(q, jnp.asarray(batch.targets)[..., None], -1)[..., 0]
        q = jax.nn.log_softmax(q / 2)
        p_now = jax.nn.log_softmax(jnp.asarray(p, jnp.float32) / 2)
        m = jnp.log(0.3 * jnp.exp(p_now) + 0.7 * jnp.exp(q))
        kl = {
            "forward_kl": jnp.exp(p_now) * (p_now - q),
            "reverse_kl": jnp.exp(q) * (q - p_now),
            "jsd": 0.3 * jnp.exp(p_now) * (p_now - m) + 0.7 * jnp.exp(q) * (q - m),
        }[kind].sum(-1)
        return jnp.sum(weights * (3 * kl + 0.25 * nll))

    def total(parameters):
        return objective(with_trained(model, parameters), batch).total

    found, expected = (jax.jit(jax.grad(one))(trained(model)) for one in (total, whole))
    for (name, one), (_, other) in zip(
        named_parameters(found), named_parameters(expected), strict=True
    ):
        scale = np.abs(other[...]).max() + 1e-3
        np.testing.assert_allclose(one[...], other[...], atol=3e-4 * scale, err_msg=name)


@pytest.mark.slow
def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    for config in (
        PolicyConfig(tiny_dense(), reference=True),
        PolicyConfig(LoraConfig(tiny_dense(), 2), reference=True),
    ):
        model, batch = built(config), random_batch()

        def total(parameters, model=model, batch=batch):
            return Distillation()(with_trained(model, parameters), batch).total

        value, gradient = jax.value_and_grad(total)(trained(model))
        assert abs(float(value)) < 1e-3
        assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-3
        plain = NextToken()(model, batch)
        found = Distillation()(model, batch).metrics["teacher_loss"]
        np.testing.assert_allclose(found.total, plain.metrics["loss"].total, rtol=1e-5)


@pytest.mark.slow
def test_a_mesh_changes_nothing_and_the_teacher_is_frozen():
    assert built(PAIR).config.count().total == number_of_parameters(built(PAIR))
    assert all(
        isinstance(p, Frozen) == name.startswith("teacher.")
        for name, p in named_parameters(built(PAIR))
    )
    objective, found = Distillation("jsd", cross_entropy=0.5), []
    meshes = (MeshConfig(data=1, fsdp=2, tensor=2), MeshConfig(data=2, sequence=2))
    for mesh in (one_device_mesh(), *(make_mesh(one, jax.devices()[:4]) for one in meshes)):
        with jax.set_mesh(mesh):
            model = built(PAIR)
            batch = put_batch(random_batch(), mesh, model.layout.rules)

            def total(parameters, model=model, batch=batch):
                return objective(with_trained(model, parameters), batch).total

            value, gradient = jax.jit(jax.value_and_grad(total))(trained(model))
            norm = np.sqrt(sum(np.square(np.asarray(x)).sum() for x in jax.tree.leaves(gradient)))
            found.append((float(value), norm))
    np.testing.assert_allclose(found, [found[0]] * 3, rtol=2e-5)


def test_another_vocabulary_and_no_teacher_are_refused():
    with pytest.raises(ConfigError, match=r"vocabulary of 128 and distilled.model one of 64"):
        DistilledConfig(tiny_dense(), tiny_dense(vocab_size=128))
    with pytest.raises(ConfigError, match=r"needs a teacher, and the model is a Transformer"):
        Distillation()(built(tiny_dense()), random_batch())
    with pytest.raises(ConfigError, match=r"policy.reference"):
        Distillation()(built(PolicyConfig(tiny_dense())), random_batch())


@pytest.mark.slow
def test_no_logits_of_all_positions_are_there():
    """Twice the positions cost the program far less than their logits."""
    config = DistilledConfig(tiny_dense(vocab_size=8192), tiny_dense(vocab_size=8192))

    def temporary(rows):
        model = jax.eval_shape(lambda: config.build(nnx.Rngs(0), Layout(remat="full")))
        batch = random_batch(length=64, batch_size=rows)

        def total(parameters, model):
            return Distillation()(with_trained(model, parameters), batch).total

        compiled: Any = jax.jit(jax.grad(total)).lower(trained(model), model).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(128) - temporary(64) < 0.4 * 64 * 64 * 8192 * 4
