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
    "config", "data", "hashing.py", "metric_direction.py", "models", "records", "runner/worker.py",
    "serialization.py", "tasks", "training", "units.py",
)  # fmt: skip
"""Code that can change the numbers of a run: the loop, tasks, tables, intervals, the optimizer that the worker builds, the
start of a run. Planning, launching, reading and reporting are left out: they do not run during training."""


def code_files(targets: Iterable[str | None] = ()) -> dict[str, str]:
    """Return {name: sha256} of ablate's files that count, and of the user's files that `targets` import, at any depth.

    targets: values of `task.entry_point`. Imports are read in the source, so no code of the user runs here; imports by
    name in a string are not detected. Installed packages do not count, except the one that contains a target.
    """
    return {**_own_files(), **{name: sha for target in targets if target for name, sha in _walk(target)}}


def hashed_again(names: Iterable[str]) -> dict[str, str]:
    """Return the present hashes of the same files; that of a removed file is ''."""
    own = _own_files()
    return {name: own.get(name, "") if name.startswith("ablate/") else _hash(_located(name)) for name in names}


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return every file that differs, in words: `my_task.py changed`, `... is gone`, `... is new`."""
    changes = []
    for name in sorted(before.keys() | now.keys()):
        left, right = before.get(name, ""), now.get(name, "")
        if left != right:
            changes.append(f"{name} {'changed' if left and right else 'is gone' if left else 'is new'}")
    return changes


def code_digest(files: Mapping[str, str] | None = None) -> str:
    """Return the digest of source files; None takes ablate's own.

    A user's file counts by name and content, ablate's own files by content alone: a module that moves is the same code.
    """
    files = _own_files() if files is None else files
    own = sorted(sha for name, sha in files.items() if name.startswith("ablate/"))
    users = {name: sha for name, sha in files.items() if not name.startswith("ablate/")}
    return digest_of({"ablate": own, "user": users})


def imported_files() -> dict[str, str]:
    """Return {name: sha256} of the user's files that this process has imported."""
    files = {}
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and (file := _file_of(spec)) is not None and _is_users(file):
            files[_named(spec, file)] = _hash(file)
    return files


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
    waiting, visited = [first], set[str]()
    while waiting:
        module = waiting.pop()
        if module in visited:
            continue
        visited.add(module)
        spec = find_module(module)
        file = _file_of(spec) if spec else None
        if spec is None or file is None:
            continue
        if _is_users(file) or module.partition(".")[0] == first.partition(".")[0]:
            yield _named(spec, file), _hash(file)
            waiting += _imports(file, module, is_package=spec.submodule_search_locations is not None)


def find_module(name: str) -> ModuleSpec | None:
    """Return the spec of a module, without importing it: where an import finds it, and last in the working directory."""
    top, *rest = name.split(".")
    spec = PathFinder.find_spec(top, [*(path for path in sys.path if path), str(Path.cwd())])
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
        return  # importing it raises the error
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
    file = file.resolve()
    if {"site-packages", "dist-packages"} & set(file.parts):
        return False
    return not any(file.is_relative_to(folder) for folder in _not_users())


def _named(spec: ModuleSpec, file: Path) -> str:
    """The file under the folder where the import of its top package found it."""
    depth = spec.name.count(".") + (spec.submodule_search_locations is not None)
    return "/".join(file.parts[-depth - 1 :])


def _located(name: str) -> Path:
    """The file of that name as an import would find it now."""
    top = Path(name).parts[0]
    spec = find_module(top.removesuffix(".py"))
    folders = [*map(Path, filter(None, sys.path)), Path.cwd()]
    if spec is not None and spec.submodule_search_locations:
        folders = [Path(path).parent for path in spec.submodule_search_locations] + folders
    return next((folder / name for folder in folders if (folder / name).is_file()), Path.cwd() / name)


def _hash(file: Path) -> str:
    try:
        return sha256(file.read_bytes()).hexdigest() if file.is_file() else ""  # a device would be read for ever
    except OSError:
        return ""
