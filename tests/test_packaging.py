"""What is shipped and pinned: the locks, the import of jaxgen, the files of the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {"cpu": [], "dev": ["dev"], "tpu": ["tpu"], "cuda": ["cuda"]}  # file -> its extras
MACHINES = [
    {"python_version": python, "python_full_version": f"{python}.1", **machine}
    for python in ("3.11", "3.12", "3.13", "3.14")
    for machine in (
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "aarch64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    )
]

# Written in pieces, so that this file does not hold what it looks for.
INDEX_ADDRESS = re.compile(
    r"://[^\s\"'`]+/" + r"simple\b"
    r"|files\.python" + r"hosted\.org"
    r"|pytorch\.org/" + r"whl"
    r"|file:" + r"///"
    r"|/opt/" + r"(wheels|pypi)"
)


def read_lock(name: str) -> list[Requirement]:
    """The pins of a lock; checks that each line is a pin with hashes and nothing else."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    logical_lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    pins = []
    for line in logical_lines:
        if line.startswith("#") or not line.strip():
            continue
        pin, *hashes = line.split(" --hash=")
        assert hashes, f"requirements/{name}.txt: no hash: {line}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes)
        requirement = Requirement(pin.strip())
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), line
        assert requirement.url is None
        pins.append(requirement)
    return pins


def versions_on(pins: list[Requirement], machine: dict[str, str]) -> dict[str, Version]:
    chosen = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(machine)]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in chosen}
    assert len(versions) == len(chosen), f"two pins for one package on {machine}"
    return {name: Version(version) for name, version in versions.items()}


def applies(marker: Marker | None, machine: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(machine)


@pytest.mark.parametrize("name", LOCKS)
def test_lock_satisfies_every_declared_dependency(name):
    declared = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    for extra in LOCKS[name]:
        declared += map(Requirement, PROJECT["project"]["optional-dependencies"][extra])
    declared += map(Requirement, PROJECT["dependency-groups"]["build"])
    pins = read_lock(name)
    for machine in MACHINES:
        versions = versions_on(pins, machine)
        for requirement in declared:
            if applies(requirement.marker, machine):
                version = versions.get(canonicalize_name(requirement.name))
                message = f"{requirement} on {machine}: run tools/lock"
                assert version is not None, message
                assert requirement.specifier.contains(version), message


@pytest.mark.parametrize("name", ["dev", "tpu", "cuda"])
def test_every_lock_contains_the_runtime_lock(name):
    """tools/setup relies on this: an environment made from any lock can run the demo."""
    for machine in MACHINES:
        runtime = versions_on(read_lock("cpu"), machine)
        assert runtime.items() <= versions_on(read_lock(name), machine).items()


def test_lower_bounds_are_declared():
    for text in PROJECT["project"]["dependencies"]:
        operators = {specifier.operator for specifier in Requirement(text).specifier}
        assert operators & {">=", "=="}, f"{text} has no lower bound"


def test_no_file_names_a_package_index():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    offending = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        text = path.read_text(errors="ignore") if path.is_file() else ""
        offending += [f"{name}: {match[0]}" for match in INDEX_ADDRESS.finditer(text)]
    assert not offending
    assert not (ROOT / "uv.lock").exists(), "uv.lock holds index addresses; see tools/lock"


def test_importing_jaxgen_loads_nothing_heavy():
    code = "import sys, jaxgen; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"jax", "jaxlib", "flax", "numpy", "scipy", "optax", "orbax", "grain", "gin", "pyarrow"}
    assert not heavy & set(loaded.stdout.split())


def test_gin_folder_is_data():
    assert not list((ROOT / "gin").rglob("*.py")), "gin/ must not become the package of that name"


def test_wheel_holds_the_package_the_gin_files_and_the_command(tmp_path):
    build = f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "jaxgen = jaxgen.cli:main" in archive.read(entry_points).decode()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "jaxgen").rglob("*.py")}
    gin_files = {
        f"jaxgen/gin_files/{path.relative_to(ROOT / 'gin').as_posix()}"
        for path in (ROOT / "gin").rglob("*.gin")
    }
    assert sources | gin_files <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"jaxgen"}
