"""Open a run that is named by its folder, or by an archive that contains it at any depth."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
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
        members = _members(archive)
        every = sorted({PurePosixPath(name).parent for name in members if PurePosixPath(name).name == "manifest.json"})
        wanted = PurePosixPath(inner).parts if inner else ()
        runs = [run for run in every if not wanted or run.parts[-len(wanted) :] == wanted]
        if len(runs) != 1:
            raise _ambiguous(archive, inner, runs or every)
        parts = runs[0].parts[-2:] if len(runs[0].parts) > 1 else ("run", runs[0].name or "seed")
        folder = target.joinpath("archive", *parts)
        folder.mkdir(parents=True)
        left = _MAX_BYTES
        for name in NAMES:
            if (member := (runs[0] / name).as_posix()) in members or (member := f"./{member}") in members:
                left -= _extract(archive, member, folder / name, left)
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


def _members(archive: Path) -> dict[str, int]:
    """{name: size} of the plain files, without links and devices, and without names that lead out of the archive."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            sizes = {info.filename: info.file_size for info in zipped.infolist() if not info.is_dir()}
    else:
        with tarfile.open(archive) as tar:
            sizes = {info.name: info.size for info in tar if info.isreg()}
    return {name: size for name, size in sizes.items() if _stays_inside(PurePosixPath(name))}


def _stays_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts


def _extract(archive: Path, member: str, target: Path, limit: int) -> int:
    """Return the number of extracted bytes. Raises ValueError above `limit`: a small archive may hold more than a disk."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped, zipped.open(member) as source:
            return _copy(source, target, limit)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        assert file is not None
        with file:
            return _copy(file, target, limit)


def _copy(source: IO[bytes], target: Path, limit: int) -> int:
    written = 0
    with target.open("xb") as file:
        while block := source.read(2**20):
            written += len(block)
            if written > limit:
                raise ValueError(f"a run in it has more than {_MAX_BYTES // 2**30} GiB")
            file.write(block)
    return written
