"""Closed forms, limits and recovery of every law; and their gradients."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import least_squares

from jaxgen.laws import (
    BESIROGLU,
    CHINCHILLA,
    DATA_CONSTRAINED,
    GRANULARITY,
    HOFFMANN,
    LOG1P_LEAST_SQUARES,
    MUENNIGHOFF,
    OVERFITTING,
    SPARSITY,
    WIDTH_DEPTH,
    Fitting,
    HuberLoss,
    LawError,
    Table,
    fit_broken,
    fit_envelope,
    fit_kaplan,
    fit_law,
    fit_overfitting,
    fit_table,
    restrict,
)
from jaxgen.laws.broken import broken_law
from jaxgen.laws.kaplan import KAPLAN, KAPLAN_JOINT
from jaxgen.laws.overtraining import DOWNSTREAM_ERROR
from jaxgen.laws.two_step import TASK_ACCURACY

POINT = Fitting(bootstraps=0)
RNG = np.random.default_rng(0)
COLUMNS = {
    "parameters": np.exp(RNG.uniform(18, 23, 40)),
    "tokens": np.exp(RNG.uniform(21, 26, 40)),
    "unique_tokens": np.exp(RNG.uniform(20, 21, 40)),
    "flops": np.exp(RNG.uniform(40, 48, 40)),
    "granularity": 2.0 ** RNG.integers(0, 5, 40),
    "active_fraction": 2.0 ** -RNG.integers(0, 6, 40),
    "width": 2.0 ** RNG.integers(8, 13, 40),
    "depth": RNG.integers(4, 60, 40).astype(float),
    "loss": RNG.uniform(2, 4, 40),
}
KRAJEWSKI = {
    "g": 2.1, "a": 18.1, "b": 30.8, "c": 0.47, "gamma": 0.58, "alpha": 0.115, "beta": 0.147,
}  # fmt: skip
ABNAR = {
    "a": 16612.5, "b": 5455.67, "c": 0.4598, "d": 17.26, "e": 0.94, "alpha": 0.5962,
    "beta": 0.3954, "lambda": -0.1666, "delta": 0.1603, "gamma": 0.1595,
}  # fmt: skip
LAWS = [
    (CHINCHILLA, BESIROGLU),
    (KAPLAN["tokens"], {"scale": 5.4e13, "alpha": 0.095}),
    (
        KAPLAN_JOINT,
        {
            "parameter_scale": 6.4e13, "token_scale": 1.8e13, "alpha_parameters": 0.076,
            "alpha_tokens": 0.103,
        },
    ),
    (DATA_CONSTRAINED, MUENNIGHOFF | {"token_decay": 15.4, "parameter_decay": 5.3}),
    (GRANULARITY, KRAJEWSKI),
    (SPARSITY, ABNAR),
    (
        WIDTH_DEPTH,
        {"A": 9, "B": 1, "C": 400, "D": 2000, "E": 1.7, "a": 0.4, "b": 0.5, "c": 0.3, "e": 0.4},
    ),
    (
        broken_law(1, "flops"),
        {"a": 1.5, "b": 90, "c0": 0.1, "c1": 0.2, "d1": 1e19, "f1": 0.8},
    ),
    (DOWNSTREAM_ERROR, {"eps": 0.857, "k": 2.206, "gamma": 0.7146}),
    (OVERFITTING, BESIROGLU | {"P": 0.06, "kappa": 0.35, "lambda": 0.7}),
    (TASK_ACCURACY, {"ceiling": 0.95, "drop": 0.7, "k": 4.0, "L0": 3.0}),
]  # fmt: skip


@pytest.mark.parametrize(("law", "truth"), LAWS, ids=[law.name for law, _ in LAWS])
def test_gradients_are_those_of_differences(law, truth):
    vector = law.vector(truth)
    evaluate = law.bind(COLUMNS)
    directions = np.eye(len(vector))
    values, slopes = evaluate(vector[None], directions)
    jacobian = slopes.jacobian()[0]
    for place in range(len(vector)):
        step = 1e-6 * max(1.0, abs(vector[place]))
        moved = vector + step * directions[place], vector - step * directions[place]
        high, low = (evaluate(at[None], directions)[0][0] for at in moved)
        np.testing.assert_allclose(jacobian[:, place], (high - low) / (2 * step), atol=2e-6)
    weights = RNG.standard_normal(values.shape)
    np.testing.assert_allclose(slopes.vjp(weights)[0], weights[0] @ jacobian, rtol=1e-9)


@pytest.mark.parametrize(("law", "truth"), LAWS, ids=[law.name for law, _ in LAWS])
def test_names_and_vectors_agree(law, truth):
    found = law.natural(law.vector(truth))
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        assert found[name] == pytest.approx(value)
    with pytest.raises(LawError, match="missing"):
        law.vector({})


def test_chinchilla_is_its_formula():
    own = CHINCHILLA.values({"parameters": [7e10], "tokens": [1.4e12]}, CHINCHILLA.vector(HOFFMANN))
    assert own[0] == pytest.approx(1.69 + 406.4 / 7e10**0.34 + 410.7 / 1.4e12**0.28)


def test_kaplans_joint_law_is_each_alone_in_the_limit():
    named = dict(LAWS[2][1])
    vector = KAPLAN_JOINT.vector(named)
    endless = KAPLAN_JOINT.values(
        {"parameters": np.array([1e9]), "tokens": np.array([1e30])}, vector
    )
    assert endless[0] == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)
    wide = KAPLAN_JOINT.values({"parameters": np.array([1e35]), "tokens": np.array([1e9])}, vector)
    assert wide[0] == pytest.approx((1.8e13 / 1e9) ** 0.103, rel=1e-3)


def test_unique_data_is_the_base_law():
    best = {"parameters": np.array([1e8]), "tokens": np.array([1e11])}
    for decays in ((15.4, 5.3), (1.0, 1.0)):
        own = MUENNIGHOFF | {"token_decay": decays[0], "parameter_decay": decays[1]}
        found = DATA_CONSTRAINED.values(
            best | {"unique_tokens": best["tokens"]}, DATA_CONSTRAINED.vector(own)
        )
        base = CHINCHILLA.values(best, CHINCHILLA.vector(MUENNIGHOFF))
        assert found[0] == pytest.approx(base[0], rel=1e-12)


def test_repeated_data_is_worth_less_and_ever_less():
    own = DATA_CONSTRAINED.vector(MUENNIGHOFF | {"token_decay": 15.4, "parameter_decay": 5.3})
    tokens = 1e9 * np.array([1, 4, 40, 4000, 400000])
    columns = {"parameters": np.full(5, 1e8), "tokens": tokens, "unique_tokens": np.full(5, 1e9)}
    losses = DATA_CONSTRAINED.values(columns, own)
    unique = CHINCHILLA.values(columns, CHINCHILLA.vector(MUENNIGHOFF))
    assert np.all(np.diff(losses[:4]) < 0) and np.all(losses[1:] > unique[1:])
    assert losses[4] == pytest.approx(losses[3], rel=1e-9)


def test_overfitting_falls_then_rises_and_is_chinchillas_law_on_new_data():
    own = OVERFITTING.vector(BESIROGLU | {"P": 0.01, "kappa": 0.8, "lambda": 0.6})
    tokens = 1e9 * np.array([1, 2, 8, 40, 400, 4000])
    columns = {"parameters": np.full(6, 1e9), "tokens": tokens, "unique_tokens": np.full(6, 1e9)}
    losses = OVERFITTING.values(columns, own)
    least = int(np.argmin(losses))
    assert 0 < least < 5 and losses[-1] > losses[0]
    law, at = BESIROGLU, 8.0
    by_hand = law["E"] + law["A"] * 1e9 ** -law["alpha"] + law["B"] * (1e9 * at) ** -law["beta"]
    assert losses[2] == pytest.approx(by_hand + 0.01 * (at - 1) ** 0.8 * 1.0**0.6)
    new = columns | {"unique_tokens": tokens}
    base = CHINCHILLA.values(new, CHINCHILLA.vector(BESIROGLU))
    np.testing.assert_allclose(OVERFITTING.values(new, own), base)


@pytest.mark.slow
def test_overfitting_is_found_again():
    sizes, tokens, unique = (
        part.ravel()
        for part in np.meshgrid(
            np.geomspace(1e7, 1e9, 4), np.geomspace(1e8, 1e10, 4), [1e7, 1e8, 1e11]
        )
    )
    unique = np.minimum(unique, tokens)
    columns = {"parameters": sizes, "tokens": tokens, "unique_tokens": unique}
    truth = BESIROGLU | {"P": 0.05, "kappa": 0.4, "lambda": 0.3}
    loss = OVERFITTING.values(columns, OVERFITTING.vector(truth))
    loss = loss * np.exp(1e-4 * np.random.default_rng(0).standard_normal(48))
    fit = fit_overfitting(Table(sizes, tokens, loss, extra={"unique_tokens": unique}), POINT)
    for name in ("E", "alpha", "beta", "P", "kappa", "lambda"):
        assert fit.parameters[name] == pytest.approx(truth[name], rel=0.05), name
    assert fit.warnings == ()


@pytest.mark.parametrize("decay", [1e10, 1e16, 1e40])
def test_data_that_lose_no_worth_are_as_good_as_new(decay):
    """Nothing is lost to rounding, in which a fit without an end to R* would find its optimum."""
    own = DATA_CONSTRAINED.vector(MUENNIGHOFF | {"token_decay": decay, "parameter_decay": decay})
    tokens = 1e9 * np.array([1, 1.2, 4, 40])
    columns = {"parameters": np.full(4, 1e11), "tokens": tokens, "unique_tokens": np.full(4, 1e9)}
    found = DATA_CONSTRAINED.values(columns, own)
    np.testing.assert_allclose(
        found, CHINCHILLA.values(columns, CHINCHILLA.vector(MUENNIGHOFF)), rtol=1e-6
    )


def test_no_breaks_is_a_power_law():
    law = broken_law(0, "flops")
    vector = law.vector({"a": 1.5, "b": 90, "c0": 0.1})
    np.testing.assert_allclose(law.values(COLUMNS, vector), 1.5 + 90 * COLUMNS["flops"] ** -0.1)


def test_a_break_bends_from_one_power_to_another():
    x = np.geomspace(1e3, 1e15, 80)
    truth = {"a": 1e-9, "b": 90.0, "c0": 0.1, "c1": 0.2, "d1": 1e9, "f1": 0.5}
    law = broken_law(1, "flops")
    y = law.values({"flops": x}, law.vector(truth))
    np.testing.assert_allclose(y[:3], 90 * x[:3] ** -0.1, rtol=1e-3)
    fit = fit_broken(Table(x, x, y, x), POINT)
    assert fit.parameters["d1"] == pytest.approx(1e9, rel=1e-2)
    assert fit.parameters["c0"] + fit.parameters["c1"] == pytest.approx(0.3, abs=1e-3)
    # Far beyond the break (1 + (x / d)^(1 / f))^(-c f) is (x / d)^-c.
    np.testing.assert_allclose(y[-3:], 90 * (1e9) ** 0.2 * x[-3:] ** -0.3, rtol=1e-2)


@pytest.mark.parametrize("space", ["log", "log1p"])
def test_a_break_beyond_the_data_is_found_from_its_onset(space):
    """Caballero et al.'s law over x = 1..405, whose break begins to show at 405 and is at 613."""
    truth = {
        "a": 0.4138845, "b": 2.2772723, "c0": 0.0550773, "c1": 5.6629038, "d1": 612.58362,
        "f1": 0.0591930,
    }  # fmt: skip
    law = broken_law(1, "flops")
    x, far = np.arange(1.0, 406), np.array([500.0, 700, 1000])
    y = law.values({"flops": x}, law.vector(truth))
    by_hand = 1 + (x / 612.58362) ** (1 / 0.0591930)
    by_hand = 0.4138845 + 2.2772723 * x**-0.0550773 * by_hand ** (-5.6629038 * 0.0591930)
    np.testing.assert_allclose(y, by_hand)
    fit = fit_broken(Table(x, x, y, x), Fitting(HuberLoss(np.inf, space), bootstraps=0))
    assert fit.value <= 1e-15
    np.testing.assert_allclose(
        law.values({"flops": far}, fit.vector), law.values({"flops": far}, law.vector(truth)),
        rtol=1e-4,
    )  # fmt: skip


def test_a_broken_law_takes_starts_and_the_loss_of_the_paper():
    x = np.geomspace(1, 1e4, 60)
    law = broken_law(1, "flops")
    truth = law.vector({"a": 0.2, "b": 2.0, "c0": 0.1, "c1": 0.4, "d1": 300.0, "f1": 0.4})
    y = law.values({"flops": x}, truth) * np.exp(0.01 * np.cos(np.arange(60)))
    fitting = Fitting(LOG1P_LEAST_SQUARES, bootstraps=0)
    fit = fit_broken(Table(x, x, y, x), fitting, truth)
    assert fit.search.starts == 1
    errors = np.log1p(law.values({"flops": x}, fit.vector)) - np.log1p(y)
    assert fit.value == pytest.approx(np.sum(errors**2) / 2)
    # No better optimum is found by another library from the same place.
    found = least_squares(
        lambda v: np.log1p(law.values({"flops": x}, v)) - np.log1p(y), truth, xtol=1e-14, ftol=1e-14
    )
    assert fit.value <= found.cost * (1 + 1e-6)


def of_law(law, truth, names=()):
    loss = law.values(COLUMNS, law.vector(truth))
    more = {name: COLUMNS[name] for name in names}
    return Table(COLUMNS["parameters"], COLUMNS["tokens"], loss, COLUMNS["flops"], extra=more)


@pytest.mark.parametrize(
    ("fit", "law", "truth", "names"),
    [
        (partial(fit_table, GRANULARITY), *LAWS[4], ["granularity"]),
        (partial(fit_table, SPARSITY), *LAWS[5], ["active_fraction"]),
        (partial(fit_table, WIDTH_DEPTH), *LAWS[6], ["width", "depth"]),
        (partial(fit_kaplan, of="both"), *LAWS[2], []),
        (partial(fit_kaplan, of="tokens"), *LAWS[1], []),
    ],
)
def test_laws_go_through_points_of_their_own(fit, law, truth, names):
    """Losses are met to 1e-3; parameters that the points cannot tell apart need not be."""
    np.testing.assert_allclose(
        fit(of_law(law, truth, names), fitting=POINT).residuals, 0, atol=1e-3
    )


def test_published_constants_of_sparse_models_give_plausible_losses():
    """Both were fitted to models near a billion parameters and a hundred billion tokens."""
    at = {"parameters": [1e9], "tokens": [1e11], "granularity": [8.0], "active_fraction": [0.125]}
    for law, truth in ((GRANULARITY, KRAJEWSKI), (SPARSITY, ABNAR)):
        (loss,) = law.values(at, law.vector(truth))
        assert 1.8 < loss < 3.5
    finer = GRANULARITY.values(at | {"granularity": [16.0]}, GRANULARITY.vector(KRAJEWSKI))
    assert finer < GRANULARITY.values(at, GRANULARITY.vector(KRAJEWSKI))


def test_fixed_and_tied_parameters():
    law = restrict(restrict(CHINCHILLA, tied={"beta": "alpha"}), fixed={"log_E": np.log(1.7)})
    assert law.parameters == ("log_A", "log_B", "alpha")
    own = law.natural(np.array([1.0, 2.0, 0.3]))
    assert own["E"] == pytest.approx(1.7) and own["beta"] == own["alpha"] == 0.3
    assert own["A"] == pytest.approx(np.e)
    with pytest.raises(LawError, match="no parameter 'gamma'"):
        restrict(CHINCHILLA, fixed={"gamma": 1.0})


def test_predictions_say_where_they_extrapolate():
    table = of_law(CHINCHILLA, BESIROGLU)
    table = Table(table.parameters, table.tokens, table.loss)
    fit = fit_law(CHINCHILLA, table.columns, table.loss, POINT)
    most = float(table.flops.max())
    far = fit.predict(parameters=1e9, tokens=np.array([9.0, 11.0]) * most / 6e9)
    assert far.is_extrapolated.tolist() == [False, True]
    assert np.isnan(far.lower).all()
    with pytest.raises(LawError, match="'tokens' is missing"):
        fit.predict(parameters=1e9)
    with pytest.raises(LawError, match="no columns"):
        fit.predict()


EPOCH = {"A": 482.01, "B": 2085.43, "E": 1.8172, "alpha": 0.3478, "beta": 0.3658}
ORIGINAL = {"A": 406.4, "B": 410.7, "E": 1.6934, "alpha": 0.3392, "beta": 0.2849}


class TestReconciliation:
    """Pearce and Song: their script's 20 sizes, tokens and budgets, on our envelope."""

    def envelope(self, law):
        places, tokens = np.logspace(12.95, 20.7, 100), np.logspace(6, 25, 1000)
        size = np.repeat(np.logspace(2.9, 9.2, 20), 100)
        flops = np.tile(places, 20)
        # Their losses are those at the nearest of their numbers of tokens.
        nearest = tokens[np.abs(6 * size[:, None] * tokens - flops[:, None]).argmin(axis=1)]
        total = size + 32e3 * np.cbrt(size * 39.2 / 12)
        loss = law["E"] + law["A"] * total ** -law["alpha"] + law["B"] * nearest ** -law["beta"]
        runs = Table(size, flops / 6 / size, loss, flops, runs=np.repeat(np.arange(20), 100))
        return fit_envelope(runs, places, bootstraps=0, is_inner=False).frontier.exponent

    @pytest.mark.parametrize(("law", "expected"), [(EPOCH, 0.7805), (ORIGINAL, 0.7388)])
    def test_local_slope(self, law, expected):
        assert self.envelope(law) == pytest.approx(expected, abs=1e-4)
