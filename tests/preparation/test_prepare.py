"""From files to shards: the same bytes whatever happens on the way, and what is wrong is named."""

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxgen.codecs.bytes import ByteCodec
from jaxgen.codecs.special import SpecialTokens
from jaxgen.codecs.tokenizer import TokenizerCodec
from jaxgen.codecs.training import train_tokenizer
from jaxgen.data.features import PromptAnswer
from jaxgen.data.mixtures import Mixture
from jaxgen.data.prepared import PreparedCorpus
from jaxgen.data.preprocessors import Keep
from jaxgen.data.showing import show
from jaxgen.data.sources import InMemory
from jaxgen.data.statistics import ReadingPlan, describe
from jaxgen.data.tasks import Task
from jaxgen.data.text_files import Jsonl
from jaxgen.data.token_files import read_token_file
from jaxgen.errors import ConfigError, DataError
from jaxgen.preparation import bands
from jaxgen.preparation.config import Preparation
from jaxgen.preparation.decontamination import CutContamination, Decontaminate
from jaxgen.preparation.duplicates import NearDuplicates
from jaxgen.preparation.engines import map_items
from jaxgen.preparation.filters import Characters
from jaxgen.preparation.items import sole_use
from jaxgen.preparation.prepare import prepare
from jaxgen.preparation.scrubbing import Scrub

FILES, DOCUMENTS = 6, 40
SECRET = " ".join(f"secret{i}" for i in range(30))


def words(rng, count):
    return " ".join(f"w{rng.randrange(3000)}" for _ in range(count))


def write_corpus(folder: Path) -> None:
    """In every file a copy, a near copy, a short text, an address and an evaluation item."""
    rng = random.Random(0)
    first = [words(rng, 200) for _ in range(FILES)]
    for number in range(FILES):
        texts = [words(rng, 200) for _ in range(DOCUMENTS - 5)]
        texts += [first[number], f"{first[number - 1].upper()} ", f"{first[number]} more",
                  "short", f"{words(rng, 100)} {SECRET} {words(rng, 100)}"]  # fmt: skip
        texts[0] += " jo@example.org"
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{number}.jsonl").write_text(lines)


def settings(folder: Path, **changes) -> Preparation:
    values = {
        "sources": (Jsonl(str(folder)),),
        "filters": (Characters(20),),
        "scrub": Scrub(),
        "near_duplicates": NearDuplicates(),
        "decontaminate": Decontaminate(sources=(InMemory(({"text": SECRET},), 0.0),)),
        "heldout_fraction": 0.1,
        "item_bytes": 1,
    }
    return Preparation(**(values | changes))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


def digest(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture
def in_this_process(monkeypatch):
    """Small preparations are not worth processes of their own."""
    monkeypatch.setattr(
        "jaxgen.preparation.prepare.map_items",
        lambda function, jobs, *rest: enumerate(map(function, jobs)),
    )


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "corpus"
    return output, prepare(settings(corpus), output, workers=2)


def test_every_stage_counts_the_documents_it_left(prepared):
    output, result = prepared
    counts = {stage["stage"]: stage for stage in result.manifest["stages"]}
    every = FILES * DOCUMENTS
    assert (counts["read"]["in"], counts["filter"]["out"]) == (every, every - FILES)
    assert counts["filter"]["dropped"] == {"0:Characters": FILES}
    assert counts["scrub"]["replaced"] == {"email": FILES}
    # The upper-case copy equals another file's text; "more" makes a near copy of it.
    assert counts["exact duplicates"]["in"] - counts["exact duplicates"]["out"] == FILES
    assert counts["near duplicates"]["in"] - counts["near duplicates"]["out"] == FILES
    assert counts["decontaminate"]["in"] - counts["decontaminate"]["out"] == FILES
    assert counts["decontaminate"]["items_found"] == 1
    left = counts["decontaminate"]["out"]
    assert sum(result.manifest["documents"].values()) == left == every - 4 * FILES
    rows = [json.loads(line) for line in (output / "contaminated.jsonl").read_text().splitlines()]
    assert len(rows) == FILES and all(row["item"] == "source 0:0" for row in rows)
    assert not (output / "work").exists()


def test_contaminated_documents_may_be_cut(tmp_path, in_this_process):
    rng = random.Random(1)
    whole = [f"{words(rng, 150)} {SECRET} {words(rng, 150)}" for _ in range(3)]
    short = f"{words(rng, 20)} {SECRET} {words(rng, 20)}"
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in [*whole, short])
    )
    looked_for = Decontaminate(
        sources=(InMemory(({"text": SECRET},), 0.0),), cut=CutContamination()
    )
    made = Preparation((Jsonl(str(tmp_path / "a.jsonl")),), decontaminate=looked_for)
    manifest = prepare(made, tmp_path / "out").manifest
    stage = manifest["stages"][-1]
    assert (stage["in"], stage["out"], stage["documents_cut"], stage["pieces"]) == (4, 6, 3, 6)
    assert stage["documents_dropped"] == 1 and sum(manifest["documents"].values()) == 6
    assert stage["characters_cut"] == 3 * (len(SECRET) + 400)
    lines = (tmp_path / "out" / "contaminated.jsonl").read_text().splitlines()
    assert [json.loads(line)["pieces"] for line in lines] == [2, 2, 2, 0]
    found = read_token_file(tmp_path / "out", "train-00000")
    text = ByteCodec().decode(found.tokens[: found.offsets[1]])
    assert text in (one.split(SECRET)[0][:-200] for one in whole)


def test_shards_hold_the_documents_and_are_read_by_a_task(prepared, corpus):
    output, result = prepared
    codec, texts = ByteCodec(), []
    for split, files in result.manifest["splits"].items():
        assert len(files) == FILES
        for file in files:
            found = read_token_file(output, file["name"])
            texts += [
                codec.decode(found.tokens[start:stop])
                for start, stop in zip(found.offsets, found.offsets[1:], strict=False)
            ]
        assert result.manifest["documents"][split] > 0
    assert len(texts) == len(set(texts)) and sum("<email>" in text for text in texts) == FILES
    assert not any("secret5" in text or "@" in text for text in texts)
    task = Task("corpus", PreparedCorpus(str(output)))
    data = Mixture("m", (task,)).open(batch_size=4, length=128, seed=0)
    batch = data.batch(3)
    assert (batch.segment_ids > 0).all()
    read = codec.decode(batch.targets[0][batch.segment_ids[0] == 1])
    assert any(read.rstrip() in text for text in texts)
    (shown,) = show(task, 1, 0, longest=40, has_source=False)
    assert shown.record["text"] in texts
    (numbers,) = describe(Mixture("m", (task,)), ReadingPlan(4, 128, None, 40), num_shown=1)
    assert (numbers.documents, numbers.duplicates) == (result.manifest["documents"]["train"], 0)
    heldout = Mixture("m", (task,)).open(batch_size=4, length=128, seed=0, split="heldout")
    assert heldout.rows_per_epoch["corpus"] < data.rows_per_epoch["corpus"]


def test_one_worker_or_two_make_the_same_bytes(prepared, corpus, tmp_path):
    prepare(settings(corpus), tmp_path / "one", workers=1)
    assert digest(tmp_path / "one") == digest(prepared[0])
    again = prepare(settings(corpus), tmp_path / "one")
    assert again.manifest == prepared[1].manifest and again.times == []


@pytest.mark.slow
def test_duplicates_are_searched_by_workers_where_the_corpus_is_large(
    prepared, corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(bands, "DOCUMENTS_AT_ONCE", 100)
    told = set()
    prepare(settings(corpus), tmp_path / "parts", workers=2, tell=lambda *one: told.add(one))
    assert ("find_equal", 3, 3) in told and ("find_near", 48, 48) in told
    assert digest(tmp_path / "parts") == digest(prepared[0])


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_prepare import prepare, settings
if __name__ == "__main__":
    prepare(settings(Path(sys.argv[2])), sys.argv[3], workers=2)
"""


@pytest.mark.slow
def test_killed_anywhere_and_run_again_it_makes_the_same_bytes(prepared, corpus, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(Path(__file__).parent), str(corpus)]
    rng = random.Random(0)
    output, kills = tmp_path / "killed", 0
    while not (output / "manifest.json").exists():
        process = subprocess.Popen(
            [*command, str(output)], start_new_session=True, stderr=subprocess.DEVNULL
        )
        if kills < 2:
            # When some results more are there, or the process has ended by itself.
            enough = len(list(output.glob("work/*.*"))) + rng.randrange(1, 15)
            begun = time.monotonic()
            while process.poll() is None and time.monotonic() - begun < 60:
                if len(list(output.glob("work/*.*"))) >= enough:
                    break
                time.sleep(0.005)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait(timeout=120)
    assert kills and digest(output) == digest(prepared[0])


@pytest.mark.slow
def test_a_cluster_makes_the_same_bytes_though_a_machine_dies(prepared, corpus, tmp_path):
    """Ray's own local cluster: a head and a node, which is killed while it works."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    told = []

    def tell(stage, done, of):
        told.append((stage, done, of))
        if len(told) == 2:
            cluster.remove_node(node, allow_graceful=False)

    try:
        prepare(
            settings(corpus), tmp_path / "ray", engine="ray", address=cluster.address, tell=tell
        )
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert told[-1] == ("tokenise", FILES, FILES)
    assert digest(tmp_path / "ray") == digest(prepared[0])


def kill_once(item):
    path, number = item
    if number == 1 and not Path(path).exists():
        Path(path).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def kill_always(item):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_one_that_always_dies_is_named(tmp_path):
    items = [(str(tmp_path / "mark"), number) for number in range(5)]
    assert dict(map_items(kill_once, items, workers=2)) == {n: n * n for n in range(5)}
    with pytest.raises(DataError, match=r"died 3 times.*\[0\] of 1 items.*go on"):
        list(map_items(kill_always, items[:1]))


def kill_each_once(item):
    path, number = item
    mark = Path(f"{path}{number}")
    if number % 2 and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.slow
def test_many_deaths_of_different_items_are_no_reason_to_stop(tmp_path):
    items = [(str(tmp_path / "mark"), number) for number in range(10)]
    assert dict(map_items(kill_each_once, items, workers=1)) == {n: n for n in range(10)}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"workers": 0}, "workers=0"), ({"engine": "ray", "workers": 2, "address": "auto"}, "auto")],
)
def test_workers_that_cannot_be_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        list(map_items(kill_once, [("x", 0)], **options))


@pytest.mark.slow
def test_unreadable_files_are_named_and_finished_items_kept(corpus, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    write_corpus(bad)
    (bad / "3.jsonl").write_text('{"text": "a"}\n{"title": "b"}\n')
    with pytest.raises(DataError, match=r"3\.jsonl: .*'text' is missing.*title"):
        prepare(settings(bad), tmp_path / "out", workers=1)
    whole = gzip.compress((corpus / "3.jsonl").read_bytes())
    (bad / "3.jsonl").unlink()
    (bad / "3.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"the file .*3.jsonl: .* -> None"):
        prepare(settings(bad), tmp_path / "out", workers=1)
    with pytest.raises(DataError, match=r"3.jsonl.gz is cut off"):
        prepare(settings(bad), tmp_path / "other", workers=1)
    skipping = settings(bad, sources=(Jsonl(str(bad), on_error="skip"),))
    stages = prepare(skipping, tmp_path / "skipped", workers=1).manifest["stages"]
    (reason,) = stages[0]["skipped"]
    assert "3.jsonl.gz" in reason and stages[0]["skipped"][reason] == 1
    assert stages[0]["in"] == stages[0]["out"] + 1


def test_a_folder_of_other_settings_is_refused_with_the_difference(prepared, corpus):
    with pytest.raises(DataError, match=r"heldout_fraction: 0\.1 -> 0\.2"):
        prepare(settings(corpus, heldout_fraction=0.2), prepared[0])


def test_files_that_settings_name_are_part_of_them(corpus, tmp_path, in_this_process):
    """A tokenizer or an evaluation set that changed under its name is another preparation."""
    train_tokenizer([SECRET], 270, tmp_path / "tokenizer.json")
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"text": SECRET}) + "\n")
    looked_for = Decontaminate(sources=(Jsonl(str(tmp_path / "evaluation.jsonl"), None, 0.0),))

    def given():
        codec = TokenizerCodec(str(tmp_path / "tokenizer.json"))
        return settings(corpus, codec=codec, decontaminate=looked_for)

    prepare(given(), tmp_path / "out", workers=1)
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"text": SECRET + " more"}) + "\n")
    with pytest.raises(DataError, match="the digest of what is looked for: "):
        prepare(given(), tmp_path / "out", workers=1)
    train_tokenizer([words(random.Random(5), 100)], 270, tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=r"codec: .*digest="):
        prepare(given(), tmp_path / "out", workers=1)


def test_two_at_a_time_is_one_too_many(prepared, corpus, tmp_path, in_this_process):
    (tmp_path / "out" / "work").mkdir(parents=True)
    with (
        sole_use(tmp_path / "out" / "work"),
        pytest.raises(DataError, match=r"another process.*out; wait"),
    ):
        prepare(settings(corpus), tmp_path / "out", workers=1)
    prepare(settings(corpus), tmp_path / "out", workers=1)
    # Killed after the manifest, before its working folder was gone.
    (tmp_path / "out" / "work").mkdir()
    prepare(settings(corpus), tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "work").exists()
    assert digest(tmp_path / "out") == digest(prepared[0])


def test_a_corpus_is_the_same_wherever_it_was_made_from(corpus, tmp_path, in_this_process):
    shutil.copytree(corpus, tmp_path / "copy")
    for folder, output in ((corpus, "one"), (tmp_path / "copy", "two")):
        prepare(settings(folder), tmp_path / output, workers=1)
    one, two = (PreparedCorpus(str(tmp_path / name)) for name in ("one", "two"))
    assert one.manifest != two.manifest and one.content_digest() == two.content_digest()


def test_a_damaged_or_foreign_corpus_is_refused(prepared, corpus, tmp_path, in_this_process):
    output = tmp_path / "corpus"
    prepare(settings(corpus), output, workers=1)
    corpus_task = Task("corpus", PreparedCorpus(str(output)))

    def opening(task):
        with pytest.raises(DataError) as error:
            Mixture("m", (task,)).open(batch_size=4, length=128, seed=0)
        return str(error.value)

    other = Task("corpus", PreparedCorpus(str(output)), codec=ByteCodec(SpecialTokens()))
    assert "was tokenised by bytes, and the task's codec is bytes+" in opening(other)
    answers = Task("corpus", PreparedCorpus(str(output)), PromptAnswer())
    assert "holds tokens of documents" in opening(answers)
    steps = (Keep(pattern="<email>"),)  # Preprocessors work on the tokens' text.
    kept = list(Task("corpus", PreparedCorpus(str(output)), preprocessors=steps).records("train"))
    assert kept and all("<email>" in record["text"] for record in kept)
    assert PreparedCorpus(str(output)).check_digests() == 2 * FILES
    tokens = output / "train-00002.tokens"
    whole = tokens.read_bytes()
    flipped = np.frombuffer(whole, np.uint8).copy()
    flipped[10] ^= 1
    tokens.write_bytes(flipped.tobytes())
    with pytest.raises(DataError, match=r"train-00002.tokens or .offsets is damaged"):
        PreparedCorpus(str(output)).check_digests()
    tokens.write_bytes(whole)
    offsets = output / "train-00002.offsets"
    moved = np.fromfile(offsets, "<i8")
    moved[1] += 1
    moved.tofile(offsets)
    with pytest.raises(DataError, match=r"train-00002.tokens or .offsets is damaged"):
        PreparedCorpus(str(output)).check_digests()
    tokens.write_bytes(whole[:-2])
    assert "train-00002.tokens has" in opening(corpus_task)
    tokens.unlink()
    assert "train-00002.tokens cannot be read" in opening(corpus_task)
    (output / "manifest.json").unlink()
    assert "is not a prepared corpus" in opening(Task("c", PreparedCorpus(str(output))))
    (output / "work").mkdir()
    assert "was not finished" in opening(Task("c", PreparedCorpus(str(output))))
