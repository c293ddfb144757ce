"""A run as somebody names it: its folder, or an archive in which it lies, as deep as one likes."""

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
"""What is taken out of an archive; a checkpoint is not needed to read a run."""

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_MOST_BYTES = 2 * 2**30


@contextmanager
def laid_open(typed: str) -> Iterator[RunDir]:
    """The run that is meant by `runs/x/baseline/seed=0`, `bundle.tar` or `bundle.tar/baseline/seed=0`.

    Of an archive, its files are laid into a folder that is gone afterwards. Raises StudyError for what names no run or several,
    RecordError for an archive that cannot be read.
    """
    path = Path(typed)
    if path.is_dir():
        yield RunDir(_folder(path, typed).path.absolute())
        return
    archive = next((one for one in (path, *path.parents) if one.is_file()), None)
    if archive is None:
        raise StudyError(f"{typed!r}: there is no such run folder and no such archive", _beside(path))
    if not archive.name.endswith(ARCHIVES):
        raise StudyError(
            f"{typed!r} is no run folder, and {archive.name} is no archive ({', '.join(ARCHIVES)})",
            "runs/x/baseline/seed=0",
        )
    inner = path.relative_to(archive).as_posix().strip(".")
    with TemporaryDirectory() as into:
        yield _unpacked(archive, inner, Path(into))


def _folder(path: Path, typed: str) -> RunDir:
    run = RunDir(path)
    if run.manifest.exists():
        return run
    inside = [one.path for one in StudyDir(path).runs()] or [one.parent for one in path.glob("seed=*/manifest.json")]
    if len(inside) == 1:
        return RunDir(inside[0])
    if inside:
        raise StudyError(f"{typed!r} holds {len(inside)} runs, expected one", str(sorted(inside)[0]))
    raise StudyError(f"{typed!r} is no run folder: it has no manifest.json", _beside(path / "seed=0"))


def _beside(path: Path) -> str:
    """Runs that lie near what was typed."""
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        found = [one.path.as_posix() for one in StudyDir(folder).runs()]
        found += [one.parent.as_posix() for one in folder.glob("*/*/seed=*/manifest.json")]
        if found:
            return nearest(path.as_posix(), found[:40]) if len(found) <= 40 else found[0]
    return "runs/<study>/<arm>/seed=0"


def _unpacked(archive: Path, inner: str, into: Path) -> RunDir:
    try:
        members = _members(archive)
        manifests = [PurePosixPath(name) for name in members if PurePosixPath(name).name == "manifest.json"]
        runs = sorted({name.parent for name in manifests if _is(name.parent, inner)})
        if len(runs) != 1:
            raise _which(archive, inner, runs or sorted({name.parent for name in manifests}))
        parts = runs[0].parts[-2:] if len(runs[0].parts) > 1 else ("run", runs[0].name or "seed")
        folder = into.joinpath("archive", *parts)
        folder.mkdir(parents=True)
        left = _MOST_BYTES
        for name in NAMES:
            if (member := (runs[0] / name).as_posix()) in members or (member := f"./{member}") in members:
                left -= _copy(archive, member, folder / name, left)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, ValueError) as error:
        raise RecordError(
            f"{archive} cannot be read as an archive: {error or type(error).__name__}", "make it anew"
        ) from None
    return RunDir(folder)


def _is(run: PurePosixPath, inner: str) -> bool:
    wanted = PurePosixPath(inner).parts if inner else ()
    return not wanted or run.parts[-len(wanted) :] == wanted


def _which(archive: Path, inner: str, runs: list[PurePosixPath]) -> StudyError:
    if not runs:
        return StudyError(f"{archive} holds no run: there is no manifest.json in it", "an archive of runs/<study>")
    named = [f"{archive}/{'/'.join(run.parts[-2:])}" for run in runs]
    what = f"no run {inner!r} alone" if inner else f"{len(runs)} runs"
    return StudyError(
        f"{archive} holds {what}, expected one", nearest(f"{archive}/{inner}", named) if inner else named[0]
    )


def _members(archive: Path) -> dict[str, int]:
    """{name: size} of the plain files; links and devices are none, and a name that leads out is not followed."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            found = {one.filename: one.file_size for one in zipped.infolist() if not one.is_dir()}
    else:
        with tarfile.open(archive) as tar:
            found = {one.name: one.size for one in tar if one.isreg()}
    return {name: size for name, size in found.items() if _stays_inside(PurePosixPath(name))}


def _stays_inside(name: PurePosixPath) -> bool:
    return not name.is_absolute() and ".." not in name.parts


def _copy(archive: Path, member: str, target: Path, most: int) -> int:
    """Bytes that were laid out. Raises ValueError above `most`: a small archive may hold more than a disk does."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as zipped, zipped.open(member) as source:
            return _poured(source, target, most)
    with tarfile.open(archive) as tar:
        found = tar.extractfile(member)
        assert found is not None
        with found:
            return _poured(found, target, most)


def _poured(source: IO[bytes], target: Path, most: int) -> int:
    written = 0
    with target.open("xb") as file:
        while block := source.read(2**20):
            written += len(block)
            if written > most:
                raise ValueError(f"a run in it has more than {_MOST_BYTES // 2**30} GiB")
            file.write(block)
    return written
