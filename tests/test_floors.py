"""The floors of the house: a file imports from lower floors, its own room and nothing above."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxgen"

# A room is a folder or file directly under jaxgen/. Lowest floor first; rooms of one floor do not
# know each other, but for the pairs below.
FLOORS = (
    {"errors", "laws", "emergence", "redaction"},
    {"chips", "cluster_tools", "clusters", "domains"},
    {"distributed"},
    {"process"},
    {"json_values"},
    {
        "files",
        "batch",
        "group_batch",
        "media_batch",
        "pair_batch",
        "sharding",
        "slurm",
        "taught_batch",
    },
    {"ops"},
    {"codecs", "data", "models"},
    {"objectives", "preparation"},
    {"training", "generation", "interchange"},
    {"evaluation"},
    {"posttraining"},
    {"configuration"},
    {"runs"},
    {"diagnostics", "studies", "planning", "launch"},
    {"sweeps"},
    {"commands"},
    {"parsing"},
    {"cli"},
    {"train", "__main__"},
)
NEIGHBOURS = {
    ("sharding", "batch"),  # lays a batch out over the mesh
    ("taught_batch", "batch"),  # a student's rows and a teacher's
    ("group_batch", "batch"),  # groups are rows to a model
    ("data", "codecs"),  # a task names the codec of its text
    ("interchange", "generation"),  # the scheduler of a pipeline is a sampler
    ("configuration", "runs"),  # the table of names, of which `run` is one, when it is first read
}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FREE_OF_JAXGEN = ("laws", "emergence")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import in a file, those inside functions too."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = ".".join(parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            module = importlib.util.resolve_name(name, package) if node.level else name
            yield node.lineno, module
            # `from jaxgen import x` may name a room.
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    for line, module in imported_modules(path):
        root, *rest = module.split(".")
        if root == "jaxgen" and rest and not rest[0].startswith("__version"):
            yield line, rest[0]


def may_import(own: str, room: str) -> bool:
    return FLOOR_OF[room] < FLOOR_OF[own] or (own, room) in NEIGHBOURS


def complaints(path: Path) -> list[str]:
    own = room_of(path)
    return [
        f"{path.relative_to(ROOT)}:{line}: {own} may not import {room}"
        for line, room in dict.fromkeys(imported_rooms(path))
        if room != own and not may_import(own, room)
    ]


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_has_a_floor():
    rooms = {room_of(path) for path in SOURCES} - {"__init__"}
    assert rooms <= FLOOR_OF.keys(), "give the new room a floor in this file and the architecture"


def test_package_root_imports_nothing_of_the_house():
    assert not list(imported_rooms(PACKAGE / "__init__.py"))


def test_imports_go_down():
    files = [path for path in SOURCES if path.parent != PACKAGE or path.stem != "__init__"]
    assert not [complaint for path in files for complaint in complaints(path)]


def test_only_configuration_imports_gin():
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        for _, module in imported_modules(path)
        if module.split(".")[0] == "gin"
    }
    assert {name for name in importers if not name.startswith("configuration")} == set()


@pytest.mark.parametrize("folder", FREE_OF_JAXGEN)
def test_laws_serve_any_table_of_runs(folder):
    """Files of these folders import each other and nothing else of jaxgen."""
    own = "jaxgen." + folder.replace("/", ".")
    others = [
        f"{path.relative_to(ROOT)}:{line}: {module}"
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for line, module in imported_modules(path)
        if module.split(".")[0] == "jaxgen" and module != own and not module.startswith(f"{own}.")
    ]
    assert not others


@pytest.mark.parametrize(
    ("room", "source", "expected"),
    [
        ("data", "def f():\n    from jaxgen.models import config", ["models"]),
        ("data", "from ..codecs import bytes", []),
        ("models", "from jaxgen import data", ["data"]),
        ("models", "import jaxgen.errors, jaxgen.sharding.mesh", []),
        ("objectives", "from jaxgen.training.step import train_step", ["training"]),
    ],
)
def test_checker_sees_upward_imports(tmp_path, monkeypatch, room, source, expected):
    path = tmp_path / "jaxgen" / room / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "jaxgen")
    assert [complaint.split()[-1] for complaint in complaints(path)] == expected
