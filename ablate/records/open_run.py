"""Open a run that is named by its folder, or by an archive that contains it at any depth."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from ablate.errors import RecordError, StudyError, nearest
from ablate.records.layout import RunDir, StudyDir

NAMES = ("config.yaml", "manifest.json", "fingerprint.json", "status.json", "returned.json", "progress.json",
         "trace.arrow", "evals.arrow", "predictions.arrow")  # fmt: skip
"""Files that are extracted from an archive; a checkpoint is not needed to read a run."""

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_MAX_BYTES = 2 * 2**30


@contextmanager
def open_run(name: str) -> Iterator[RunDir]:
    """Open `runs/x/baseline/seed=0`, `bundle.tar` or `bundle.tar/baseline/seed=0`.

    The files of an archive are extracted into a temporary folder. Raises StudyError for the name of no run or of several,
    RecordError for an archive that cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        yield RunDir(_folder(path, name).path.absolute())
        return
    archive = next((parent for parent in (path, *path.parents) if parent.is_file()), None)
    if archive is None:
        raise StudyError(f"{name!r}: there is no such run folder and no such archive", _nearby(path))
    if not archive.name.endswith(ARCHIVES):
        raise StudyError(
            f"{name!r}: {archive.name} is neither a run folder nor an archive ({', '.join(ARCHIVES)})",
            "runs/x/baseline/seed=0",
        )
    inner = path.relative_to(archive).as_posix().strip(".")
    with TemporaryDirectory() as folder:
        yield _extracted(archive, inner, Path(folder))


def _folder(path: Path, name: str) -> RunDir:
    run = RunDir(path)
    if run.manifest.exists():
        return run
    inside = [run.path for run in StudyDir(path).runs()] or [file.parent for file in path.glob("seed=*/manifest.json")]
    if len(inside) == 1:
        return RunDir(inside[0])
    if inside:
        raise StudyError(f"{name!r} holds {len(inside)} runs, expected one", str(sorted(inside)[0]))
    raise StudyError(f"{name!r} is not a run folder: it has no manifest.json", _nearby(path / "seed=0"))


def _nearby(path: Path) -> str:
    """Runs near a missing path."""
    for folder in list(path.parents)[:3]:
        runs = [run.path.as_posix() for run in StudyDir(folder).runs()]
        runs += [file.parent.as_posix() for file in folder.glob("*/*/seed=*/manifest.json")]
        if runs:
            return nearest(path.as_posix(), runs[:40]) if len(runs) <= 40 else runs[0]
    return "runs/<study>/<arm>/seed=0"


def _extracted(archive: Path, inner: str, target: Path) -> RunDir:
    try:
        with _opened(archive) as (members, read):
            every = sorted({name.parent for name in members if name.name == "manifest.json"})
            wanted = PurePosixPath(inner).parts if inner else ()
            runs = [run for run in every if not wanted or run.parts[-len(wanted) :] == wanted]
            if len(runs) != 1:
                raise _ambiguous(archive, inner, runs or every)
            parts = runs[0].parts[-2:] if len(runs[0].parts) > 1 else ("run", runs[0].name or "seed")
            folder = target.joinpath("archive", *parts)
            folder.mkdir(parents=True)
            files = [name for name in NAMES if runs[0] / name in members]
            if (
                sum(members[runs[0] / name][1] for name in files) > _MAX_BYTES
            ):  # a small archive may hold more than a disk
                raise ValueError(f"a run in it has more than {_MAX_BYTES // 2**30} GiB")
            for name in files:
                source = read(members[runs[0] / name][0])
                assert source is not None
                with source, (folder / name).open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        raise RecordError(
            f"{archive} cannot be read as an archive: {error or type(error).__name__}", "make it again"
        ) from None
    return RunDir(folder)


def _ambiguous(archive: Path, inner: str, runs: list[PurePosixPath]) -> StudyError:
    if not runs:
        return StudyError(f"{archive} holds no run: there is no manifest.json in it", "an archive of runs/<study>")
    names = [f"{archive}/{'/'.join(run.parts[-2:])}" for run in runs]
    what = f"no single run {inner!r}" if inner else f"{len(runs)} runs"
    return StudyError(
        f"{archive} holds {what}, expected one", nearest(f"{archive}/{inner}", names) if inner else names[0]
    )


Members = dict[PurePosixPath, tuple[str, int]]
"""{path: (name in the archive, bytes)}."""


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Members, Callable[[str], IO[bytes] | None]]]:
    """Yield the plain files, without links, devices and names that lead out of the archive, and a function that opens one."""
    with zipfile.ZipFile(archive) if archive.suffix == ".zip" else tarfile.open(archive) as opened:
        if isinstance(opened, zipfile.ZipFile):
            sizes = {info.filename: info.file_size for info in opened.infolist() if not info.is_dir()}
            read: Callable[[str], IO[bytes] | None] = opened.open
        else:
            sizes, read = {info.name: info.size for info in opened if info.isreg()}, opened.extractfile
        members = {PurePosixPath(name): (name, size) for name, size in sizes.items()}
        yield (
            {path: member for path, member in members.items() if not path.is_absolute() and ".." not in path.parts},
            read,
        )
