"""Which source files a run's result depends on: ours, and those of the user that a task of their own imports.

A file of the user is named as it was imported: by its path under the folder where the import found it, which for a module
in the working folder is its path there. Names carry no path of the machine, so two machines agree on them.
"""

from __future__ import annotations

import ast
import importlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from ablate.hashing import digest_of

_PACKAGE = Path(__file__).resolve().parents[1]
_COUNTS = (
    "config", "data", "hashing.py", "models", "planning/shared_prefix.py", "records", "runner/worker.py", "serialization.py", "tasks",
    "training", "units.py",
)  # fmt: skip
"""What can change what a run computes or records: the loop, the tasks, the tables, how intervals are read, the optimizer that
the worker builds, where a run starts. Not what plans, launches, reads and reports: none of it is there while a run trains."""


def code_files(targets: Iterable[str | None] = ()) -> dict[str, str]:
    """{name: sha256} of ablate's files that count, and of the user's that the modules of `targets` import, at any depth.

    targets: values of `task.entry_point`. Imports are read in the source, so no code of the user runs here; one that is spelled
    in a string is not seen. Installed packages do not count, except the one that a target itself lies in.
    """
    return {**_own_files(), **{name: sha for target in targets if target for name, sha in _walk(target)}}


def hashed_again(names: Iterable[str]) -> dict[str, str]:
    """The same files as they are now; one that is gone has the hash ''."""
    own = _own_files()
    return {name: own.get(name, "") if name.startswith("ablate/") else _hash(_located(name)) for name in names}


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Every file that is not the same in both, in words: `my_task.py changed`, `... is gone`, `... is new`."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        left, right = before.get(name, ""), now.get(name, "")
        if left != right:
            found.append(f"{name} {'changed' if left and right else 'is gone' if left else 'is new'}")
    return found


def code_digest(files: Mapping[str, str] | None = None) -> str:
    """sha256 over source files; None takes ablate's own.

    A user's file counts by name and content. Of ablate's own files only the contents count: a module that moves is the same code.
    """
    files = _own_files() if files is None else files
    own = sorted(sha for name, sha in files.items() if name.startswith("ablate/"))
    users = {name: sha for name, sha in files.items() if not name.startswith("ablate/")}
    return digest_of({"ablate": own, "user": users})


def imported_files() -> dict[str, str]:
    """{name: sha256} of the user's files that this process has imported."""
    found = {}
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and (place := _file_of(spec)) is not None and _is_users(place):
            found[_named(spec, place)] = _hash(place)
    return found


@cache
def _own_files() -> dict[str, str]:
    """Once per process: what is imported is what was there when it began."""
    parts = [_PACKAGE / part for part in _COUNTS]
    files = sorted(file for part in parts for file in ([part] if part.is_file() else part.rglob("*.py")))
    return {f"ablate/{file.relative_to(_PACKAGE).as_posix()}": _hash(file) for file in files}


def _walk(target: str) -> Iterator[tuple[str, str]]:
    """(name, sha256) of the target's module and of every local module that is imported from there."""
    importlib.invalidate_caches()
    first = target.partition(":")[0]
    waiting, seen = [first], set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        spec = find_module(module)
        place = _file_of(spec) if spec else None
        if spec is None or place is None:
            continue
        if _is_users(place) or module.partition(".")[0] == first.partition(".")[0]:
            yield _named(spec, place), _hash(place)
            waiting += _imports(place, module, is_package=spec.submodule_search_locations is not None)


def find_module(name: str) -> ModuleSpec | None:
    """Where an import would find a module, the working folder first; nothing is imported."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [str(Path.cwd()), *(place for place in sys.path if place)])
    if spec is None:
        try:
            spec = find_spec(top)
        except ValueError:  # a module without a spec, such as __main__
            return None
    for end in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: end + 1]]), list(spec.submodule_search_locations))
    return spec


def _imports(file: Path, module: str, *, is_package: bool) -> Iterator[str]:
    """Every module that an import statement in the file may load, the packages on the way to it included."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # importing it says so, in the words of Python
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level else []
            start = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            names = [start, *(f"{start}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            pieces = name.strip(".").split(".")
            yield from (".".join(pieces[: end + 1]) for end in range(len(pieces)) if pieces[0])


def _file_of(spec: ModuleSpec) -> Path | None:
    """The module's own source; None for a built-in, an extension or a folder without `__init__.py`."""
    if not spec.has_location or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


@cache
def _not_users() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    ours = (_PACKAGE, _PACKAGE.parent / "hydra_plugins")
    return (*ours, *(Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")))


@lru_cache(maxsize=4096)
def _is_users(file: Path) -> bool:
    place = file.resolve()
    if {"site-packages", "dist-packages"} & set(place.parts):
        return False
    return not any(place.is_relative_to(folder) for folder in _not_users())


def _named(spec: ModuleSpec, file: Path) -> str:
    """The file under the folder where the import of its top package found it."""
    depth = spec.name.count(".") + (spec.submodule_search_locations is not None)
    return "/".join(file.parts[-depth - 1 :])


def _located(name: str) -> Path:
    """The file of that name as an import would find it now."""
    top = Path(name).parts[0]
    spec = find_module(top.removesuffix(".py"))
    places = [Path.cwd(), *map(Path, filter(None, sys.path))]
    if spec is not None and spec.submodule_search_locations:
        places = [Path(place).parent for place in spec.submodule_search_locations] + places
    return next((place / name for place in places if (place / name).is_file()), Path.cwd() / name)


def _hash(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
