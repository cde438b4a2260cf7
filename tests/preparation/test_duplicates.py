"""Duplicates found on disk, part by part, against the same search in memory."""

import random
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxgen.data.hashing import mix64
from jaxgen.preparation import bands
from jaxgen.preparation.bands import Hashed, mark_duplicates, write_hashes
from jaxgen.preparation.duplicates import NearDuplicates, signatures


def in_this_process(function, jobs):
    return [function(job) for job in jobs]


def write_items(folder, matrix, settings, keys=None, items=1):
    """Leaves what the items of a preparation leave."""
    keys = mix64(np.arange(len(matrix))) if keys is None else keys
    parts = np.array_split(np.arange(len(matrix)), items)
    hashed = Hashed(folder, tuple(map(len, parts)), settings)
    for item, part in enumerate(parts):
        hashed.path(item, "signatures").write_bytes(matrix[part].astype("<u4").tobytes())
        write_hashes(hashed, item, keys[part])
    for old in folder.glob("found-*"):
        old.unlink()
    return hashed


def copies(folder, matrix, settings, keys=None, items=1):
    """The first document of each one's cluster."""
    hashed = write_items(folder, matrix, settings, keys, items)
    mark_duplicates(hashed, True, in_this_process)
    return np.arange(len(matrix)) - np.fromfile(folder / "clusters", "<i8")


def copies_in_memory(matrix, settings, is_out):
    """The same by sorting whole bands and by scipy's connected components."""
    count, places = len(matrix), np.flatnonzero(~is_out)
    pairs = set()
    for band in range(settings.bands):
        buckets = {}
        for place in places.tolist():
            key = matrix[place, band * settings.rows : (band + 1) * settings.rows].tobytes()
            bucket = buckets.setdefault(key, [])
            pairs |= {(other, place) for other in (*bucket[:1], *bucket[-1:])}
            bucket.append(place)
    edges = [
        pair for pair in pairs if (matrix[pair[0]] == matrix[pair[1]]).mean() >= settings.threshold
    ]
    first, second = np.array(edges or np.zeros((0, 2), int)).T
    graph = coo_array((np.ones(len(first), bool), (first, second)), (count, count))
    _, cluster = connected_components(graph, directed=False)
    _, first_of = np.unique(cluster, return_index=True)
    return first_of[cluster]


def words_of(rng, count):
    return [f"w{rng.randrange(20_000)}" for _ in range(count)]


def planted(count, settings, seed=0):
    """Random signatures; a third resemble others, in chains, stars and just below the threshold."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 2**32, (count, settings.permutations), np.uint32)
    for place in range(count // 3, count, 3):
        other = rng.integers(0, place)
        if place % 2:
            other = place - 3
        share = rng.choice([0.02, 0.1, 0.19, 0.22, 0.3])
        changed = rng.random(settings.permutations) < share
        matrix[place] = np.where(changed, matrix[place], matrix[other])
    keys = rng.integers(0, 2**64, count, np.uint64)
    for place in range(7, count, 11):
        other = rng.integers(0, place)
        keys[place], matrix[place] = keys[other], matrix[other]
    return matrix, keys


@pytest.mark.parametrize(("at_once", "items"), [(10**6, 1), (150, 7), (60, 20)])
def test_parts_and_items_find_what_is_found_in_memory(at_once, items, tmp_path, monkeypatch):
    settings = NearDuplicates(permutations=32, bands=8, threshold=0.8)
    matrix, keys = planted(600, settings)
    monkeypatch.setattr(bands, "DOCUMENTS_AT_ONCE", at_once)
    monkeypatch.setattr(bands, "PAIRS_AT_ONCE", 13)
    hashed = write_items(tmp_path, matrix, settings, keys, items)
    found = mark_duplicates(hashed, True, in_this_process)
    _, place = np.unique(keys, return_index=True)
    is_equal = np.ones(600, bool)
    is_equal[place] = False
    expected = copies_in_memory(matrix, settings, is_equal)
    assert (
        np.arange(600) - np.fromfile(tmp_path / "clusters", "<i8")
    ).tolist() == expected.tolist()
    is_near = expected != np.arange(600)
    assert found[:2] == (is_equal.sum(), is_near.sum()) and found.near > 60
    out = np.concatenate([np.load(hashed.path(item, "out.npy")) for item in range(items)])
    assert (out == is_equal | is_near).all()
    kept = mark_duplicates(write_items(tmp_path, matrix, None, keys, items), False, in_this_process)
    assert kept[:2] == (0, 0)


COUNTED = r"""
import sys, tracemalloc
from pathlib import Path
from jaxgen.preparation import bands
from jaxgen.preparation.duplicates import NearDuplicates
bands.DOCUMENTS_AT_ONCE //= 200
bands.PAIRS_AT_ONCE //= 200
hashed = bands.Hashed(Path(sys.argv[1]), (2000,) * 10, NearDuplicates())
search = lambda: bands.mark_duplicates(hashed, True, lambda do, jobs: [do(job) for job in jobs])
search()  # What is imported at first is no part of a search.
tracemalloc.start()
found = search()
print(found.near, tracemalloc.get_traced_memory()[1])
"""


def test_the_search_holds_a_tenth_of_the_signatures_at_most(tmp_path):
    """10 MB of signatures; the slow test below has two hundred times as many.

    It is counted in a process of its own: threads that other tests left allocate too.
    """
    matrix = np.random.default_rng(0).integers(0, 2**32, (20_000, 128), np.uint32)
    matrix[10_000:10_400] = matrix[:400]
    write_items(tmp_path, matrix, NearDuplicates(), items=10)
    command = [sys.executable, "-c", COUNTED, str(tmp_path)]
    near, peak = map(int, subprocess.check_output(command, text=True).split())
    assert near == 400 and len(list(tmp_path.glob("found-000-*"))) > 2
    assert peak < 1e6


def jaccard(first, second, size):
    grams = [{tuple(w[i : i + size]) for i in range(len(w) - size + 1)} for w in (first, second)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def test_near_duplicates_are_found_at_the_rate_of_their_threshold(tmp_path):
    """Planted copies of known similarity: far above the threshold all, far below none."""
    rng = random.Random(0)
    settings = NearDuplicates(threshold=0.8)
    documents, similar = [], []
    for number in range(300):
        words = words_of(rng, 400)
        copy = list(words)
        for place in rng.sample(range(400), [1, 3, 6, 12, 40, 200][number % 6]):
            copy[place] = f"x{rng.randrange(10**9)}"
        documents += [words, copy]
        similar.append(jaccard(words, copy, settings.ngram))
    texts = [" ".join(words) for words in documents]
    first = copies(tmp_path, signatures(texts, settings), settings)
    assert (first[::2] == np.arange(0, 600, 2)).all()
    found = first[1::2] == np.arange(0, 600, 2)
    assert (found | (first[1::2] == np.arange(1, 600, 2))).all()
    similar = np.array(similar)
    high, low = similar > 0.9, similar < 0.7
    assert high.sum() > 50 and low.sum() > 50
    assert found[high].mean() > 0.97 and found[low].mean() < 0.03


def test_candidates_come_at_the_rate_of_the_formula():
    settings = NearDuplicates(permutations=64, bands=16)
    rng = np.random.default_rng(0)
    for similarity in (0.4, 0.6, 0.8):
        agree = rng.random((20_000, 64)) < similarity
        banded = agree.reshape(-1, settings.bands, settings.rows).min(axis=2).max(axis=1)
        assert settings.candidate_rate(similarity) == pytest.approx(banded.mean(), abs=0.02)


def test_clusters_keep_their_first_and_ignore_removed_documents(tmp_path):
    rng = random.Random(1)
    words = words_of(rng, 300)
    texts = [" ".join(words), " ".join(words_of(rng, 300)), " ".join([*words, "one"]),
             " ".join([*words, "one", "two"])]  # fmt: skip
    settings = NearDuplicates()
    matrix = signatures(texts, settings)
    assert copies(tmp_path, matrix, settings).tolist() == [0, 1, 0, 0]
    keys = np.array([7, 7, 8, 9], np.uint64)  # The second equals the first as a text.
    equal_first = matrix[[1, 0, 2, 3]]
    assert copies(tmp_path, equal_first, settings, keys).tolist() == [0, 1, 2, 2]


def test_texts_without_words_are_like_no_other(tmp_path):
    settings = NearDuplicates()
    texts = ["!!!", "???", "...\n---"]
    assert copies(tmp_path, signatures(texts, settings), settings).tolist() == [0, 1, 2]


def test_characters_are_words_where_there_are_no_spaces(tmp_path):
    chinese = "河水在夜里涨了起来到了早晨房子下面的草地成了湖"
    other = chinese[:10] + "，于是大家都没有说什么只是看着窗外的天空"
    settings = NearDuplicates()
    matrix = signatures([chinese, chinese[:-1], other], settings)
    assert copies(tmp_path, matrix, settings).tolist() == [0, 0, 2]


SEARCH = r"""
import re, sys
from pathlib import Path
from jaxgen.preparation.bands import Hashed, mark_duplicates
from jaxgen.preparation.duplicates import NearDuplicates
hashed = Hashed(Path(sys.argv[1]), (2**15,) * 128, NearDuplicates())
found = mark_duplicates(hashed, True, lambda function, jobs: [function(job) for job in jobs])
print(found.near, *re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()))
"""


@pytest.mark.slow
def test_two_gigabytes_of_signatures_are_searched_in_200_megabytes(tmp_path):
    """All jobs and the clusters in one process, whose memory is measured, libraries and all."""
    rng, settings = np.random.default_rng(0), NearDuplicates()
    hashed = Hashed(tmp_path, (2**15,) * 128, settings)
    first = None
    for item in range(128):
        matrix = rng.integers(0, 2**32, (2**15, 128), np.uint32)
        # A tenth are near copies of documents of the item before.
        changed = rng.random((3000, 128)) < 0.05
        if first is not None:
            matrix[:3000] = np.where(changed, matrix[:3000], first[3000:6000])
        first = matrix
        hashed.path(item, "signatures").write_bytes(matrix.tobytes())
        write_hashes(hashed, item, rng.integers(0, 2**64, 2**15, np.uint64))
    command = [sys.executable, "-c", SEARCH, str(tmp_path)]
    near, kilobytes = map(int, subprocess.check_output(command, text=True).split())
    print(f"{near} near copies, {kilobytes / 1000:.0f} MB")
    assert near == pytest.approx(127 * 3000, rel=1e-3)
    assert kilobytes * 1024 < 200e6
