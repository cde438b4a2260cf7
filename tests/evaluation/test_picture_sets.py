"""Distances between sets of pictures: against closed forms, and of a known set of pictures."""

import numpy as np
import pytest
import scipy.linalg

from jaxgen.codecs.media import Media
from jaxgen.data.generated import Sprites
from jaxgen.errors import ConfigError, DataError
from jaxgen.evaluation import picture_sets
from jaxgen.evaluation.distances import frechet_distance, gaussian_distance, kernel_distance
from jaxgen.evaluation.picture_sets import PictureSets, PixelFeatures


def normals(mean, deviations, count, seed):
    drawn = np.random.default_rng(seed).normal(size=(count, len(deviations)))
    return np.asarray(mean) + drawn * np.asarray(deviations)


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    # Of diagonal covariances: |difference|^2 + sum (s - t)^2 (Dowson and Landau, 1982).
    one = normals([0, 0, 1], [1, 2, 3], 200_000, 0)
    other = normals([1, 0, 1], [2, 2, 1], 200_000, 1)
    assert frechet_distance(one, other) == pytest.approx(1 + 1 + 0 + 4, rel=0.02)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_is_that_of_a_matrix_square_root():
    random = np.random.default_rng(2)
    one, mixed = random.normal(size=(60, 5)), random.normal(size=(5, 5))
    other = random.normal(size=(80, 5)) @ mixed
    spreads = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = scipy.linalg.sqrtm(spreads[0] @ spreads[1])
    expected = np.square(one.mean(0) - other.mean(0)).sum()
    expected += np.trace(spreads[0] + spreads[1] - 2 * np.real(root))
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_the_kernel_distance_is_the_sum_over_pairs_and_unbiased():
    random = np.random.default_rng(3)
    one, other = random.normal(size=(4, 3)), random.normal(size=(5, 3))

    def kernel(x, y):
        return (x @ y / 3 + 1) ** 3

    within = [kernel(one[i], one[j]) for i in range(4) for j in range(4) if i != j]
    among = [kernel(other[i], other[j]) for i in range(5) for j in range(5) if i != j]
    between = [kernel(x, y) for x in one for y in other]
    expected = np.mean(within) + np.mean(among) - 2 * np.mean(between)
    assert kernel_distance(one, other) == pytest.approx(expected)
    same = [kernel_distance(*random.normal(size=(2, 20, 3))) for _ in range(400)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 20
    assert np.mean(np.array(same) < 0) > 0.3


def test_the_gaussian_distance_of_gaussians_is_the_closed_form():
    # E exp(-(x - y)^2 / (2 s^2)) of normal x and y is s / sqrt(v) exp(-d^2 / (2 v)), v = s^2 + the
    # sum of their variances.
    def expected(difference, first, second, sigma):
        def mean(d, a, b):
            v = sigma**2 + a**2 + b**2
            return sigma / np.sqrt(v) * np.exp(-(d**2) / (2 * v))

        return mean(0, first, first) + mean(0, second, second) - 2 * mean(difference, first, second)

    one, other = normals([0], [1], 3000, 4), normals([2], [0.5], 3000, 5)
    assert gaussian_distance(one, other, sigma=1.5, scale=1) == pytest.approx(
        expected(2, 1, 0.5, 1.5), rel=0.05
    )
    assert gaussian_distance(one, one) == pytest.approx(0, abs=1e-9)


class Reader:
    """A scorer whose model is not asked."""

    has_source = False


class Drawn:
    """A codec whose ids are numbers of pictures."""

    def __init__(self, pictures):
        self.pictures = pictures

    def decode_media(self, ids):
        return [Media("image", self.pictures[int(ids[0])])]


@pytest.fixture
def measured(monkeypatch):
    """Returns rows for made pictures, where true ones are sprites."""
    records = Sprites().records_by_index("train").__getitems__(range(64))
    true = [record["image"] for record in records]

    class Task:
        name, codec = "drawn", Drawn(true)

        def encode(self, records, has_source):
            return records

    def rows(change, **options):
        monkeypatch.setattr(picture_sets, "last_answer", lambda place: (np.array([place]),) * 2)
        medium = type("Medium", (), {"modality": "image"})
        monkeypatch.setattr(picture_sets, "medium_of", lambda task, answers: medium)
        monkeypatch.setattr(
            picture_sets,
            "make_media",
            lambda scorer, task, prompts, *_: [
                Media("image", change(true[int(ids[0])])) for ids in prompts
            ],
        )
        return PictureSets(**options).score(Reader(), Task(), list(range(64)))  # pyright: ignore

    return rows


def test_true_pictures_are_at_the_floor_and_others_are_above(measured):
    for row in measured(lambda picture: picture, subset_size=32):
        for name in ("frechet_distance", "kernel_distance", "gaussian_distance"):
            assert row[name] == pytest.approx(row[f"{name}_floor"])
    negative = measured(lambda picture: 255 - picture, subset_size=32)
    assert [row["instance"] for row in negative] == ["subset 0", "subset 1"]
    for row in negative:
        for name in ("frechet_distance", "kernel_distance", "gaussian_distance"):
            assert row[name] > 3 * abs(row[f"{name}_floor"])


def test_subsets_that_cannot_be_made_are_refused(measured):
    with pytest.raises(ConfigError, match="use an even number"):
        PictureSets(subset_size=5)
    with pytest.raises(DataError, match="64 instances do not make two or more"):
        measured(lambda picture: picture, subset_size=64)


def test_pixel_features_are_mean_colours():
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :, 0] = 255
    (found,) = PixelFeatures(2)(picture[None])
    np.testing.assert_allclose(found.reshape(2, 2, 3)[0, :, 0], 1, atol=0.15)
    np.testing.assert_allclose(found.reshape(2, 2, 3)[1], 0, atol=0.15)
