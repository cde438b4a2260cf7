"""The mirror of a run: what is lost here comes back from there, and a store's faults hurt nothing.

Against real servers of S3 and of Google Cloud Storage in this process, and a proxy before one.
"""

import dataclasses
import json
import os
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path

import jax
import pytest
from diagnostics.test_cooldown import BASE
from support.accidents import StopAfter
from support.outcomes import newest_digests, rows_without_times
from support.processes import together
from support.stores import standing_before

from jaxgen.cli import main
from jaxgen.configuration import fingerprint, to_gin
from jaxgen.data.storage import digest_of
from jaxgen.errors import ConfigError, EarlyStoppingError, JaxgenWarning, StoreError
from jaxgen.files import read_rows
from jaxgen.runs.history import read_rewinds, read_starts
from jaxgen.runs.mirror.fetching import fetch_from_mirror
from jaxgen.runs.mirror.store import Mirror
from jaxgen.runs.mirror.uploading import Uploads
from jaxgen.runs.run import run
from jaxgen.runs.run_directory import RunDirectory
from jaxgen.training.divergence import Divergence
from jaxgen.training.execution import ExecutionConfig

CONFIG = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, steps=10))
EXECUTION = ExecutionConfig(checkpoint_every=2, keep_checkpoints=2, log_every=1, trackers=())
SHORT = 60  # Seconds that no test needs.


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("JAXGEN_READ_PAUSE", "0.01")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("jaxgen.runs.mirror.uploading.POLL_SECONDS", 0.05)
    monkeypatch.setattr("jaxgen.runs.mirror.uploading.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("jaxgen.runs.mirror.uploading.LONGEST_PAUSE", 0.2)


def stop_after(step):
    return StopAfter(step, EarlyStoppingError("it is enough"))


def train(run_dir, mirror=None, stop_at=None, config=CONFIG, **execution):
    stops = [] if stop_at is None else [stop_after(stop_at)]
    settings = dataclasses.replace(EXECUTION, mirror=mirror, **execution)
    return run(config, run_dir, settings, jax.devices()[:1], False, more_trackers=stops)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(folder)
    return folder


def assert_same_run(one, other):
    assert rows_without_times(one) == rows_without_times(other)
    assert newest_digests(one) == newest_digests(other)
    for name in ("config.gin", "evals/00000010.jsonl"):
        assert (one / name).read_text() == (other / name).read_text()


def events_of(run_dir):
    rows = read_rows(Path(run_dir) / "history.jsonl")
    return [row["why"] for row in rows if row.get("event") == "mirror"]


@pytest.mark.slow
@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
def test_a_run_whose_directory_is_lost_comes_to_the_same_bits(store, undisturbed, tmp_path):
    mirror, run_dir = f"{store}://corpus/runs/{tmp_path.name}", tmp_path / "run"
    with pytest.raises(EarlyStoppingError):
        train(run_dir, mirror, stop_at=7)
    assert Mirror(mirror).whole_steps() == [4, 6]
    shutil.rmtree(run_dir)
    with pytest.warns(JaxgenWarning, match=f"step 6 was fetched from {mirror}"):
        train(run_dir, mirror)
    assert_same_run(run_dir, undisturbed)
    starts = [row["step"] for row in read_starts(run_dir / "history.jsonl")]
    assert starts == [0, 6]
    assert Mirror(mirror).whole_steps() == [8, 10]
    # A finished run is only read, also where it has to be fetched.
    shutil.rmtree(run_dir)
    with pytest.warns(JaxgenWarning, match="step 10 was fetched"):
        assert train(run_dir, mirror).record["finished"]
    assert_same_run(run_dir, undisturbed)


def largest(folder):
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "is_copy_whole"),
    [
        (lambda folder: flip(largest(folder)), True),
        # The folder's own time changes too, so that it looks like another checkpoint.
        (lambda folder: os.remove(folder / "_CHECKPOINT_METADATA") or flip(largest(folder)), True),
        (lambda folder: flip(largest(folder)), False),
    ],
    ids=["flipped", "a file gone too", "the copy too"],
)
def test_a_damaged_checkpoint_is_fetched_again_before_an_older_one_is_taken(
    damage, is_copy_whole, undisturbed, tmp_path
):
    mirror, run_dir = str(tmp_path / "mirror"), tmp_path / "run"
    with pytest.raises(EarlyStoppingError):
        train(run_dir, mirror, stop_at=7)
    damage(run_dir / "checkpoints" / "6")
    if not is_copy_whole:
        flip(largest(tmp_path / "mirror" / "checkpoints" / "6"))
    told = "was fetched again" if is_copy_whole else "no copy of step 6 .* does not have the digest"
    with pytest.warns(JaxgenWarning, match=told):
        train(run_dir, mirror)
    starts = [row["step"] for row in read_starts(run_dir / "history.jsonl")]
    assert len(starts) == 2
    history = read_rows(run_dir / "history.jsonl")
    assert [row["step"] for row in history if row.get("event") == "set aside"] == [6]
    assert (run_dir / "checkpoints" / "damaged-6").is_dir()
    first_again = [row["step"] for row in read_rows(run_dir / "metrics.jsonl")][7]
    assert first_again == (7 if is_copy_whole else 5)
    assert_same_run(run_dir, undisturbed)
    assert Mirror(mirror).whole_steps() == [8, 10]


# What follows needs no training: a directory like a run's, and a folder as its mirror.


def write_checkpoint(directory, step, content=b"weights"):
    folder = directory.checkpoints / str(step)
    for name in ("state/d/array", "record/metadata", "_CHECKPOINT_METADATA"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content + f" of {name} at {step}".encode() * 40)


def write_row(directory, step):
    with open(directory.metrics_file, "a") as file:
        file.write(json.dumps({"step": step}) + "\n")


@pytest.fixture
def directory(tmp_path):
    """A run of which steps 4 and 6 are kept, interrupted after step 7."""
    found = RunDirectory(tmp_path / "run")
    found.prepare()
    found.config_file.write_text(to_gin(CONFIG))
    found.write_record({"name": "test", "fingerprint": fingerprint(CONFIG), "steps": 10})
    found.history_file.write_text('{"step": 0}\n')
    for step in (4, 6):
        write_checkpoint(found, step)
        (found.evaluations / f"{step:08}.jsonl").touch()  # Without content.
    for step in range(1, 8):
        write_row(found, step)
    return found


@pytest.fixture
def mirror(tmp_path):
    return Mirror(str(tmp_path / "mirror"))


def copy(mirror, directory, keep_every=0, seconds=SHORT):
    uploads = Uploads(mirror, directory, keep_every, poll=0.01)
    uploads.finish(seconds)
    uploads.abandon()


def fetch(mirror, directory, config=CONFIG):
    events = fetch_from_mirror(mirror.url, directory, config, 2)
    return [event["why"] for event in events]


def contents(directory):
    return {
        file.relative_to(directory.path).as_posix(): file.read_bytes()
        for file in directory.path.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    }


def test_all_that_a_restart_needs_comes_back(directory, mirror):
    (directory.path / "tokenizer.json").write_text("{}")
    (directory.path / "imported").mkdir()
    (directory.path / "imported" / "config.json").write_text("{}")
    with open(directory.metrics_file, "a") as file:
        file.write('{"step": 8, "lo')  # A crash cut this row short.
    before = contents(directory)
    copy(mirror, directory)
    shutil.rmtree(directory.path)
    directory.prepare()
    assert fetch(mirror, directory) == [f"the checkpoint of step 6 was fetched from {mirror.url}."]
    after = contents(directory)
    older = {name for name in before if name.startswith("checkpoints/4/")}
    assert after.keys() == before.keys() - older
    for name in after.keys() - {"metrics.jsonl", "run.json"}:
        assert after[name] == before[name]
    assert [row["step"] for row in read_rows(directory.metrics_file)] == [*range(1, 8)]
    assert fetch(mirror, directory) == []
    assert not (directory.path / ".from-mirror").exists()


def test_a_run_that_may_go_back_gets_what_it_may_go_back_to(directory, mirror):
    train = dataclasses.replace(CONFIG.train, divergence=Divergence())
    config = dataclasses.replace(CONFIG, train=train)
    directory.write_record({"name": "test", "fingerprint": fingerprint(config), "steps": 10})
    copy(mirror, directory)
    shutil.rmtree(directory.path)
    directory.prepare()
    assert "step 6 (and those of 4) was fetched" in fetch(mirror, directory, config)[0]
    assert directory.saved_steps() == [4, 6]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def lead_outside(path):
    text = path.read_text().replace("checkpoints/6/state/d/array", "checkpoints/6/../../../x")
    path.write_text(text)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("checkpoints/6/state/d/array", flip, "does not have the digest"),
        ("checkpoints/6/state/d/array", lambda path: os.truncate(path, 9), "has 9 bytes of"),
        ("checkpoints/6/record/metadata", Path.unlink, "is missing"),
        ("mirror/6/metrics.jsonl", flip, "does not have the digest"),
        ("mirror/6/manifest.json", flip, "cannot be read"),
        ("mirror/6/manifest.json", lead_outside, "cannot be read"),
    ],
)
def test_a_damaged_copy_is_passed_over_and_replaced_later(name, damage, told, directory, mirror):
    copy(mirror, directory)
    damage(Path(mirror.url, name))
    shutil.rmtree(directory.path)
    directory.prepare()
    passed_over, fetched = fetch(mirror, directory)
    assert "step 6" in passed_over and "passed over" in passed_over and told in passed_over
    assert "step 4 was fetched" in fetched
    assert directory.saved_steps() == [4]
    write_checkpoint(directory, 6)  # Trained anew.
    copy(mirror, directory)
    shutil.rmtree(directory.path)
    directory.prepare()
    assert "step 6 was fetched" in fetch(mirror, directory)[0]


def test_a_copy_that_was_interrupted_is_never_taken(directory, mirror, monkeypatch):
    copy(mirror, directory)
    count = 0
    plain = Mirror.put

    def put(self, file, name, tick):
        nonlocal count
        if count == allowed:
            raise KeyError("the process is killed here")
        count += 1
        return plain(self, file, name, tick)

    monkeypatch.setattr(Mirror, "put", put)
    for allowed in range(30):
        write_checkpoint(directory, 8)
        count = 0
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            copy(mirror, directory)
        if not told:
            break
        assert 8 not in mirror.whole_steps()
        shutil.rmtree(directory.path / "checkpoints" / "8")
        if allowed > 8:
            other = RunDirectory(directory.path.with_name(f"other{allowed}"))
            other.prepare()
            assert "step 6 was fetched" in fetch(mirror, other)[0]
    assert 10 <= allowed < 29 and 8 in mirror.whole_steps()


def test_what_is_kept_here_is_kept_there_and_some_for_good(directory, mirror):
    copy(mirror, directory, keep_every=4)
    for step in (8, 10, 12, 14):
        shutil.rmtree(directory.checkpoints / str(directory.saved_steps()[0]))
        write_checkpoint(directory, step)
        copy(mirror, directory, keep_every=4)
    assert mirror.whole_steps() == [4, 8, 12, 14]
    assert sorted(os.listdir(Path(mirror.url, "checkpoints"))) == ["12", "14", "4", "8"]


def test_a_run_that_went_back_is_not_taken_up_where_it_diverged(directory, mirror):
    copy(mirror, directory)
    shutil.move(directory.checkpoints / "6", directory.checkpoints / "rewound-6")
    with open(directory.history_file, "a") as file:
        file.write('{"event": "rewind", "steps": [7, 7], "skip": [4, 4]}\n')
    assert fetch(mirror, directory) == []  # What is there is older, though its step is greater.
    write_checkpoint(directory, 5)
    copy(mirror, directory)
    assert mirror.whole_steps() == [4, 5]
    # The same step, on its new way.
    write_checkpoint(directory, 6, b"others")
    copy(mirror, directory)
    shutil.rmtree(directory.path)
    directory.prepare()
    fetch(mirror, directory)
    assert (directory.checkpoints / "6" / "state/d/array").read_bytes().startswith(b"others")
    assert len(read_rewinds(directory.history_file)) == 1


def test_a_directory_that_is_behind_catches_up(directory, mirror):
    copy(mirror, directory)
    shutil.rmtree(directory.checkpoints / "6")
    directory.metrics_file.write_text('{"step": 1}\n')
    assert "step 6 was fetched" in fetch(mirror, directory)[0]
    assert directory.saved_steps() == [4, 6]
    assert len(read_rows(directory.metrics_file)) == 7


def test_a_checkpoint_that_goes_while_it_is_copied_is_told_once(directory, mirror, monkeypatch):
    plain = Mirror.put

    def put(self, file, name, tick):
        if name.startswith("checkpoints/6/"):
            shutil.rmtree(directory.checkpoints / "6")
        return plain(self, file, name, tick)

    monkeypatch.setattr(Mirror, "put", put)
    with pytest.warns(JaxgenWarning, match=r"step 6 was removed here before.*checkpoint_every"):
        copy(mirror, directory)
    assert mirror.whole_steps() == [4] and not Path(mirror.url, "checkpoints", "6").exists()
    assert len(events_of(directory.path)) == 1


def test_a_store_that_hangs_does_not_hold_up_the_end(directory, mirror, monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(Mirror, "put", lambda *arguments: released.wait(SHORT))
    begin = time.monotonic()
    uploads = Uploads(mirror, directory, 0, poll=0.01, idle_seconds=0.2)
    with pytest.warns(JaxgenWarning, match="has not answered") as told:
        while not told:
            assert time.monotonic() < begin + SHORT
            uploads.log({"step": 1})
            time.sleep(0.05)
    with pytest.warns(JaxgenWarning, match=r"missing there: 4, 6 \(there was no time\)"):
        uploads.finish(SHORT)
    assert time.monotonic() - begin < SHORT / 2
    uploads.abandon()
    released.set()


def test_a_store_that_keeps_a_part_is_found_out(directory, mirror, monkeypatch):
    plain, cut = Mirror.put, []

    def put(self, file, name, tick):
        entry = plain(self, file, name, tick)
        if name == "checkpoints/6/state/d/array" and len(cut) < 3:
            cut.append(name)
            os.truncate(Path(mirror.url, name), 7)
        return entry

    monkeypatch.setattr(Mirror, "put", put)
    uploads = Uploads(mirror, directory, 0, poll=0.01)
    uploads.log({"step": 1})
    deadline = time.monotonic() + SHORT
    while 6 not in mirror.whole_steps():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.warns(JaxgenWarning) as told:
        uploads.finish(SHORT)
    assert "7 bytes of" in str(told[0].message)
    assert "has all again, after 3 failures" in str(told[1].message) and len(told) == 2
    shutil.rmtree(directory.path)
    directory.prepare()
    assert "step 6 was fetched" in fetch(mirror, directory)[0]


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_what_is_copied_is_read_once(place, tmp_path, request):
    """A pipe gives its content once: a second reading would wait for ever."""
    if place == "s3":
        request.getfixturevalue("s3")
    mirror = Mirror("s3://corpus/once" if place == "s3" else str(tmp_path / "mirror"))
    pipe, content = tmp_path / "pipe", os.urandom(3 * 2**20)
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    writer.start()
    entry = mirror.put(pipe, "checkpoints/1/array", lambda *size, **more: None)
    writer.join(SHORT)
    (tmp_path / "same").write_bytes(content)
    assert entry == (len(content), digest_of([str(tmp_path / "same")]))
    assert mirror.get("checkpoints/1/array", tmp_path / "back") == entry
    assert (tmp_path / "back").read_bytes() == content


def test_large_objects_are_sent_in_parts_with_the_same_digest(s3, tmp_path, monkeypatch):
    mirror, file = Mirror("s3://corpus/large"), tmp_path / "file"
    file.write_bytes(os.urandom(2**20))
    name, seen = "checkpoints/1/array", []
    for most in (2**21, 2**19):
        monkeypatch.setattr("jaxgen.runs.mirror.store.AT_ONCE", most)
        seen.append(mirror.put(file, name, lambda *size, **more: None))
        assert mirror.get(name, tmp_path / "back") == seen[0]
    assert seen[0] == seen[1]


# A proxy before the server of S3.


@pytest.fixture
def proxy(s3, monkeypatch):
    import s3fs

    with standing_before(*s3.get_host_and_port()) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield found
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("fault", ["500", "cut", "slow"])
def test_a_store_with_faults_has_all_in_the_end(fault, proxy, directory, tmp_path):
    mirror = Mirror(f"s3://corpus/faults/{tmp_path.name}")
    proxy.fault, proxy.faults_left = fault, 8 if fault == "slow" else 10**9
    uploads = Uploads(mirror, directory, 0, poll=0.01)
    deadline = time.monotonic() + SHORT
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        while fault != "slow" and len(told) < 2:
            assert time.monotonic() < deadline
            uploads.log({"step": 1})
            proxy.fault = None if told else fault
            time.sleep(0.05)
        uploads.finish(SHORT)
    messages = [str(one.message) for one in told]
    if fault == "slow":
        assert proxy.faults == 8 and not messages
    else:  # One line when it fails, and one when it works again.
        assert "cannot be written" in messages[0] and "has all again" in messages[1]
        assert len(messages) == 2
    assert mirror.whole_steps() == [4, 6]
    before = contents(directory)
    shutil.rmtree(directory.path)
    directory.prepare()
    proxy.cuts_left, proxy.cut_after = 3, 200
    fetch(mirror, directory)
    after = contents(directory)
    for name in after.keys() - {"history.jsonl", "run.json"}:
        assert after[name] == before[name]
    assert directory.saved_steps() == [6]


@pytest.mark.slow
def test_a_dead_store_ends_nothing_and_the_same_command_completes_the_mirror(
    proxy, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setenv("JAXGEN_READ_ATTEMPTS", "1")
    mirror, run_dir = f"s3://corpus/dead/{tmp_path.name}", tmp_path / "run"
    proxy.fault = "500"
    with pytest.raises(StoreError, match=r"not known: .*execution\.mirror=None"):
        train(run_dir, mirror)
    proxy.fault = None

    class Die:
        def log(self, row):
            proxy.fault = "500"

        def close(self):
            pass

    settings = dataclasses.replace(EXECUTION, mirror=mirror)
    with pytest.warns(JaxgenWarning) as told:
        run(CONFIG, run_dir, settings, jax.devices()[:1], False, more_trackers=[Die()])
    assert_same_run(run_dir, undisturbed)
    messages = [str(one.message) for one in told if mirror in str(one.message)]
    assert sum("cannot be written" in message for message in messages) == 1
    assert "missing there: 8, 10" in messages[-1] and "same command" in messages[-1]
    proxy.fault = None
    train(run_dir, mirror)
    assert Mirror(mirror).whole_steps() == [8, 10]
    shutil.rmtree(run_dir)
    with pytest.warns(JaxgenWarning, match="step 10 was fetched"):
        train(run_dir, mirror)
    assert_same_run(run_dir, undisturbed)


# What is refused, and what is shown.


def test_the_mirror_of_another_run_is_refused(directory, mirror, tmp_path):
    copy(mirror, directory)
    other = dataclasses.replace(
        CONFIG, name="another", train=dataclasses.replace(CONFIG.train, steps=12)
    )
    with pytest.raises(ConfigError) as error:
        train(tmp_path / "other", mirror.url, config=other)
    for words in (
        "'test'",
        "'another'",
        "train.steps: 10 -> 12",
        f"{mirror.url}-{fingerprint(other)}",
    ):
        assert words in str(error.value)
    assert not (tmp_path / "other" / "config.gin").exists()


def test_mirrors_that_cannot_be_are_refused_at_once(tmp_path, monkeypatch):
    for wrong in ("", "s3://key:secret@bucket/a"):
        with pytest.raises(ConfigError, match=r"execution\.mirror.*AWS_ACCESS_KEY_ID") as error:
            dataclasses.replace(EXECUTION, mirror=wrong)
        assert "secret@" not in str(error.value)
    with pytest.raises(ConfigError, match="lie in one another"):
        train(tmp_path / "run", str(tmp_path / "run" / "mirror"))
    with pytest.raises(ConfigError, match="nosuch"):
        train(tmp_path / "run", "nosuch://bucket/a")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for name in ("gs", "gcs"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, name, raising=False)
    with pytest.raises(ConfigError, match=r'execution\.mirror: gs://.*pip install "jaxgen\[gcs\]"'):
        train(tmp_path / "run", "gs://bucket/a")


def test_the_command_shows_what_the_mirror_has(directory, mirror, capsys):
    copy(mirror, directory)
    line = {"step": 0, "execution": {"mirror": mirror.url, "keep_checkpoints": 2}}
    directory.history_file.write_text(json.dumps(line) + "\n")
    assert main(["checkpoints", str(directory.path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"{mirror.url} has whole copies of steps 4, 6"


@pytest.mark.slow
def test_several_processes_come_back_too(tmp_path):
    script = f"""
    import dataclasses, shutil, warnings
    from runs.test_mirror import CONFIG, EXECUTION, stop_after
    from jaxgen import distributed
    from jaxgen.errors import EarlyStoppingError
    from jaxgen.runs.run import run
    from jaxgen.sharding.mesh import MeshConfig
    warnings.simplefilter("ignore")
    settings = dataclasses.replace(
        EXECUTION, mirror={str(tmp_path / "mirror")!r}, mesh=MeshConfig(data=2)
    )
    folder = {str(tmp_path / "run")!r}
    try:
        run(CONFIG, folder, settings, None, False, more_trackers=[stop_after(7)])
    except EarlyStoppingError:
        pass
    distributed.on_main(shutil.rmtree, folder)
    found = run(CONFIG, folder, settings, None, False).record["finished"]
    run(CONFIG, folder + "2", dataclasses.replace(settings, mirror=None), None, False)
    """
    assert together(tmp_path, script, 2, 1)
    assert_same_run(tmp_path / "run", tmp_path / "run2")
    assert Mirror(str(tmp_path / "mirror")).whole_steps() == [8, 10]
