"""Parts of one's own: the frozen dataclasses of modules that jaxgen does not come with.

A configuration never imports code. The command line does (`--import=my_parts.py`), or the Python
program that uses jaxgen. A line `import my_parts` in a gin text only says which module must have
been loaded by then. Each public frozen dataclass of such a module is a name in gin: `MySource` is
`my_source`.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxgen.configuration.bindings import Import
from jaxgen.configuration.table import Table, dataclasses_in
from jaxgen.errors import ConfigError

_GIVEN: contextvars.ContextVar[tuple[ModuleType, ...]] = contextvars.ContextVar("given", default=())


@contextlib.contextmanager
def imported(names: Sequence[str]) -> Iterator[None]:
    """Imports modules, whose parts configurations may use by name inside the block.

    Args:
      names: each a module on the path, or a Python file.

    Raises:
      ConfigError: if one cannot be imported.
    """
    token = _GIVEN.set(tuple(import_module(name) for name in names))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def import_module(name: str) -> ModuleType:
    """Imports a module by its name, or a Python file under its own name.

    The folder of a file joins `sys.path`, so that other processes find its classes again.

    Raises:
      ConfigError: if there is no such module, it fails, or another one has the file's name.
    """
    is_file = name.endswith(".py") or "/" in name
    path = Path(name).expanduser().resolve()
    if is_file and (path.suffix != ".py" or not path.is_file()):
        raise ConfigError(f"{name} is not a Python file.")
    if is_file and not path.stem.isidentifier():
        raise ConfigError(f"{name} cannot be imported: name it with letters, digits and _.")
    module_name = path.stem if is_file else name
    before = list(sys.path)
    if is_file and str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    elif not is_file and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(module_name)
        if is_file and Path(getattr(module, "__file__", None) or "").resolve() != path:
            raise ConfigError(
                f"{path} has the name of another module "
                f"({getattr(module, '__file__', None)}); rename the file."
            )
        return module
    except BaseException as error:
        # A folder whose file cannot be loaded must not hide modules of the standard library.
        sys.path[:] = before
        if isinstance(error, ConfigError) or not isinstance(error, Exception):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{name} cannot be imported: {reason}.") from error


def available(
    own: Table, imports: Iterable[Import], files: Mapping[str, str] | None = None
) -> Table:
    """Returns the names of a table, of the modules of `--import`, and of a text's import lines.

    Args:
      own: the names that are there without any import.
      imports: the import lines; none of them loads a module.
      files: where each module was when the text was recorded, for the error.

    Raises:
      ConfigError: for a module that is not loaded or has no parts, and for a name that two of the
        modules of `--import`, or one of them and `own`, both have.
    """
    given = _GIVEN.get()
    _refuse_clashes(own, given)
    required = [_required(line, files or {}) for line in imports]
    return with_parts(own, dict.fromkeys([*given, *required]))


def with_parts(own: Table, modules: Iterable[ModuleType]) -> Table:
    """Returns the table with the parts of modules; a name that clashes becomes MODULE.CLASS."""
    parts = [part for module in modules for part in parts_of(module)]
    names = [snake_case(part.__name__) for part in parts]
    return dict(own) | {
        name
        if name not in own and names.count(name) == 1
        else f"{part.__module__}.{part.__name__}": part
        for name, part in zip(names, parts, strict=True)
    }


def parts_of(module: ModuleType) -> list[type]:
    """Returns the public frozen dataclasses that a module, or a module inside it, defines."""
    name = module.__name__
    return [
        value
        for attribute, value in vars(module).items()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
        and attribute == value.__qualname__
        and not attribute.startswith("_")
        and f"{value.__module__}.".startswith(f"{name}.")
    ]


def snake_case(name: str) -> str:
    """Returns `my_source` for `MySource`, and `http_source` for `HTTPSource`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def modules_used(config: Any, own: Table) -> list[ModuleType]:
    """Returns the modules, sorted by name, whose parts a tree has and `own` does not."""
    known = {id(factory) for factory in own.values()}
    kinds = {type(part) for part in dataclasses_in(config)}
    loaded = {kind: sys.modules.get(kind.__module__) for kind in kinds if id(kind) not in known}
    modules = {
        module.__name__: module
        for kind, module in loaded.items()
        if module is not None and kind in parts_of(module)
    }
    return [modules[name] for name in sorted(modules)]


def describe_modules(modules: Iterable[ModuleType]) -> list[dict[str, str]]:
    """Returns for each module its name, its file and the digest of that file, for the record."""
    return [
        {
            "module": module.__name__,
            "file": str(module.__file__),
            "digest": hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:12],
        }
        for module in modules
        if getattr(module, "__file__", None)
    ]


def _required(line: Import, files: Mapping[str, str]) -> ModuleType:
    name = line.module
    module = sys.modules.get(name)
    if module is not None and parts_of(module):
        return module
    start = f"{line.location}: `import {name}`: gin files are data here and import nothing"
    if module is not None:
        raise ConfigError(f"{start}, and {name} has no frozen dataclass to use; delete the line")
    raise ConfigError(
        f"{start}; the configuration uses parts of {name}: add --import={files.get(name, name)} to "
        f"the command, or import {name} in your program"
    )


def _refuse_clashes(own: Table, modules: Sequence[ModuleType]) -> None:
    seen = {name: getattr(factory, "__module__", "jaxgen") for name, factory in own.items()}
    for module in dict.fromkeys(modules):
        parts = parts_of(module)
        if not parts:
            raise ConfigError(
                f"--import={module.__name__} has no part: a part is a public class under "
                "@dataclasses.dataclass(frozen=True)."
            )
        for part in parts:
            name = snake_case(part.__name__)
            if seen.setdefault(name, part.__module__) != part.__module__ or name in own:
                raise ConfigError(
                    f"--import={module.__name__}: its class {part.__name__} would be called "
                    f"`{name}`, which is a name of {seen[name]} already; rename the class."
                )
