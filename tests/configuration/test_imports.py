"""Parts of one's own: bound by name, written down with their module, never imported unasked."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import pytest

from jaxgen.configuration import describe_imports, imported, load, load_recorded, load_text, to_gin
from jaxgen.configuration.imports import snake_case
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Run:
    part: Any = None
    other: Any = None


@dataclasses.dataclass(frozen=True)
class Lamp:
    watts: int = 5


TABLE = {"run": Run, "lamp": Lamp}
PARTS = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class MyPart:
    size: int = 3

@dataclasses.dataclass(frozen=True)
class _Hidden:
    pass

@dataclasses.dataclass
class Mutable:
    pass
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module; the import system forgets it after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str = PARTS) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        return str(path)

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("parts_"):
            del sys.modules[name]


def build(text: str, *bindings: str) -> Any:
    return load_text(text, bindings, table=TABLE, source="a.gin")


@pytest.mark.parametrize("by_name", [True, False])
def test_parts_are_bound_by_name_and_only_where_they_were_imported(write, by_name):
    path = write("parts_a")
    text = "run.part = @my_part()\nmy_part.size = 4\n"
    with imported(["parts_a" if by_name else path]):
        built = build(text)
        assert type(built.part).__name__ == "MyPart" and built.part.size == 4
        with pytest.raises(ConfigError, match=r"a.gin:2: .*`sise`; did you mean `size`"):
            load_text("run.part = @my_part()\nmy_part.sise = 4", table=TABLE, source="a.gin")
        for name in ("mutable", "_hidden", "hidden"):
            with pytest.raises(ConfigError, match="unknown name"):
                build(f"run.part = @{name}()")
    with pytest.raises(ConfigError, match="unknown name `my_part`"):
        build(text)


def test_a_recorded_text_says_whose_parts_it_has_and_imports_nothing(write, tmp_path):
    path = write("parts_b")
    with imported([path]):
        config = build("run.part = @my_part()\nrun.other = @lamp()")
        text = to_gin(config, TABLE)
    assert text.startswith("import parts_b\n\nrun.part = @my_part()\n")
    # A program that has loaded the module needs no flag.
    assert load_text(text, table=TABLE) == config
    (described,) = describe_imports(config.part)
    assert (described["module"], described["file"]) == ("parts_b", path)
    assert len(described["digest"]) == 12
    del sys.modules["parts_b"]
    with pytest.raises(ConfigError, match=r"^text:1: .*add --import=parts_b to the command"):
        load_text(text, table=TABLE)
    assert "parts_b" not in sys.modules
    (tmp_path / "config.gin").write_text(text)
    (tmp_path / "run.json").write_text(
        f'{{"imports": [{{"module": "parts_b", "file": "{path}"}}]}}'
    )
    with pytest.raises(ConfigError, match=f"add --import={path} to the command"):
        load_recorded(tmp_path / "config.gin", table=TABLE)
    with imported([path]):
        again = load_recorded(tmp_path / "config.gin", bindings=["my_part.size=9"], table=TABLE)
    assert again.part.size == 9 and again.other == Lamp()


def test_what_is_written_does_not_depend_on_the_flag(write):
    with imported([write("parts_c")]):
        config = build("run.part = @my_part()")
        with_flag = to_gin(config, TABLE)
    assert to_gin(config, TABLE) == with_flag
    # Two modules with one name, or a name of jaxgen's: MODULE.CLASS tells them apart.
    write("parts_d")
    with imported(["parts_d"]):
        other = build("run.part = @my_part()").part
    both = Run(config.part, other)
    text = to_gin(both, TABLE)
    assert "import parts_c\nimport parts_d\n" in text and "@parts_d.MyPart()" in text
    assert load_text(text, table=TABLE) == both


def test_clashes_are_one_error(write):
    first, second = write("parts_e"), write("parts_f")
    with imported([first, second]), pytest.raises(ConfigError, match=r"`my_part`.*parts_e already"):
        build("")
    lamp = write("parts_g", PARTS.replace("MyPart", "Lamp"))
    with imported([lamp]), pytest.raises(ConfigError, match=r"--import=parts_g: .*`lamp`.*rename"):
        build("")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nothing.py", None, "nothing.py is not a Python file"),
        ("parts_nowhere", None, "parts_nowhere cannot be imported: ModuleNotFoundError"),
        ("parts_bad.py", "1 / 0", "parts_bad.py cannot be imported: ZeroDivisionError"),
        ("json.py", PARTS, "has the name of another module"),
        ("a-b.py", PARTS, "letters, digits and _"),
        ("parts_none.py", "x = 3", "--import=parts_none has no part"),
    ],
)
def test_what_cannot_be_imported(write, tmp_path, name, text, message):
    if text is not None:
        write(name.removesuffix(".py"), text)
    path = list(sys.path)
    with pytest.raises(ConfigError, match=message), imported([name]):
        build("")
    assert sys.path == path or name == "parts_none.py"


@pytest.mark.parametrize(
    "line", ["import os", "import parts_h", "from os import path", "import a as b"]
)
def test_gin_files_import_nothing(write, line):
    write("parts_h", "raise SystemExit('imported')")
    with pytest.raises(ConfigError, match=f"a.gin:1: `{line}`: gin files are data here"):
        build(line)


def test_a_gin_file_may_say_whose_parts_it_uses(write, tmp_path):
    path = write("parts_i")
    (tmp_path / "mine.gin").write_text("import parts_i\nrun.part = @my_part()\n")
    with pytest.raises(ConfigError, match=r"^mine.gin:1: .*add --import=parts_i"):
        load(["mine.gin"], table=TABLE)
    with imported([path]):
        assert load(["mine.gin"], table=TABLE).part.size == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MySource", "my_source"),
        ("HTTPSource", "http_source"),
        ("SGD", "sgd"),
        ("T5Small", "t5_small"),
    ],
)
def test_names_in_gin(name, expected):
    assert snake_case(name) == expected
