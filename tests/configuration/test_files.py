"""Includes, the search path and what is said when a file is not there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

import jaxgen
from jaxgen.configuration import files as files_module
from jaxgen.configuration import load
from jaxgen.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Run:
    steps: int = 1
    width: int = 1


TABLE = {"run": Run}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a user's files, the current one, and a library's files beside it."""
    library, user = tmp_path / "library", tmp_path / "user"
    for path, text in {
        library / "runs/quick.gin": "include 'models/base.gin'\nrun.steps = 2\n",
        library / "models/base.gin": "run.width = 8\n",
        user / "models/base.gin": "run.width = 9\n",
        user / "mine.gin": "include 'parts/half.gin'\n",
        user / "parts/half.gin": "include 'models/base.gin'\ninclude 'near.gin'\n",
        user / "parts/near.gin": "run.steps = 3\n",
        user / "circle.gin": "include 'parts/circle.gin'\n",
        user / "parts/circle.gin": "include '../circle.gin'\n",
        user / "both.gin": "include 'models/base.gin'\nrun.width = 1\ninclude 'again.gin'\n",
        user / "again.gin": "include 'models/base.gin'\nrun.steps = 7\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(user)
    monkeypatch.setattr(files_module, "library_folders", lambda: (library,))
    return user


def build(name: str, *bindings: str) -> Run:
    return load([name], bindings, table=TABLE)


def test_library_files_are_found_from_anywhere_and_include_their_own(folder):
    assert build("runs/quick.gin") == Run(steps=2, width=8)
    assert build("gin/runs/quick.gin") == Run(steps=2, width=8)


def test_own_files_win_and_include_beside_themselves(folder):
    assert build("mine.gin") == Run(steps=3, width=9)
    assert build(str(folder / "mine.gin"), "run.steps=4") == Run(steps=4, width=9)


def test_a_file_counts_once(folder):
    assert build("both.gin") == Run(steps=7, width=1)
    files = ["models/base.gin", "again.gin", "models/base.gin"]
    assert load(files, ["run.width=2"], table=TABLE) == Run(steps=7, width=2)


def test_a_circle_is_refused(folder):
    expected = "circle: circle.gin > parts/circle.gin > circle.gin"
    with pytest.raises(ConfigError, match=expected):
        build("circle.gin")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("runs/quikc.gin", "`runs/quick.gin`"),
        ("quick.gin", "`runs/quick.gin`"),
        ("mien.gin", "`mine.gin`"),
        ("parts/haff.gin", "`parts/half.gin`"),
    ],
)
def test_a_missing_file_names_the_nearest(folder, name, nearest):
    with pytest.raises(ConfigError) as raised:
        build(name)
    assert str(raised.value).startswith(f"--gin_file: there is no file `{name}`; did you mean ")
    assert nearest in str(raised.value)


def test_a_missing_include_names_its_line(folder):
    (folder / "mine.gin").write_text("\ninclude 'parts/halve.gin'\n")
    with pytest.raises(ConfigError, match=r"mine.gin:2: .*did you mean `parts/half.gin`"):
        build("mine.gin")


def test_errors_name_the_included_file(folder):
    (folder / "parts/near.gin").write_text("# comment\n\nrun.stesp = 3\n")
    with pytest.raises(ConfigError, match=r"^parts/near.gin:3: .*did you mean `steps`"):
        build("mine.gin")


def test_a_file_that_is_not_text(folder):
    (folder / "mine.gin").write_bytes(b"run.steps = \xff\n")
    with pytest.raises(ConfigError, match=r"mine.gin is not UTF-8 text \(byte 12\)"):
        build("mine.gin")


def test_the_folders_of_a_checkout_and_of_an_installation(tmp_path, monkeypatch):
    package = tmp_path / "jaxgen"
    (package / "gin_files").mkdir(parents=True)
    monkeypatch.setattr(jaxgen, "__file__", str(package / "__init__.py"))
    (tmp_path / "gin").mkdir()
    assert files_module.library_folders() == (tmp_path / "gin", package / "gin_files")
    # In site-packages the folder of that name is the gin-config package.
    (tmp_path / "gin/__init__.py").touch()
    assert files_module.library_folders() == (package / "gin_files",)


def test_without_gin_config_the_error_says_what_to_install(tmp_path):
    (tmp_path / "gin").mkdir()
    program = (
        "import sys\n"
        f"sys.path[:] = [{str(tmp_path)!r}, {str(Path(jaxgen.__file__).parent.parent)!r}, "
        "*(p for p in sys.path if 'site-packages' not in p)]\n"
        "import gin; assert gin.__file__ is None\n"
        "from jaxgen.configuration import load_text\n"
        "try: load_text('a.b = 3', table={'a': dict}, root='a')\n"
        "except Exception as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert "pip install gin-config" in result.stdout, result.stderr
