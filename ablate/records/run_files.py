"""Read a run directory, whatever its state; and open one by its folder, or from an archive that contains it at any depth."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

from ablate.errors import RecordError, StudyError, nearest
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import (
    Fingerprint,
    Manifest,
    Origin,
    RunStatus,
    damage,
    origin_of,
    read_fingerprint,
    read_manifest,
    read_status,
)
from ablate.records.reader import EvalCurve, Trace, read_evals, read_trace
from ablate.records.returned_values import read_returned


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """Everything that one run directory holds.

    status: that of the run's status file, or `running` (still going, or killed), `missing`, `unreadable`.
    sentence: the status in words.
    trace, curves: of a finished run; curves by metric, on the held-out split.
    returned: values of an external app; such a run may have neither trace nor curves.
    """

    arm: str
    seed: int
    folder: RunDir
    status: str
    sentence: str
    manifest: Manifest | None = None
    outcome: RunStatus | None = None
    fingerprint: Fingerprint | None = None
    trace: Trace | None = None
    curves: dict[str, EvalCurve] | None = None
    returned: dict[str, float] | None = None

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def origin(self) -> Origin | None:
        """Source of an imported run; None for one that was recorded."""
        return origin_of(self.manifest.origin) if self.manifest is not None else None

    @property
    def sparse(self) -> bool:
        """True for an imported run without a gradient norm for each of its steps."""
        if self.manifest is None or not self.manifest.origin:
            return False
        trace = self.trace
        return trace is None or not (len(trace) and trace.every_step and trace.recorded("grad_norm").all())

    @property
    def weights(self) -> str | None:
        """Hash of the final weights of a finished run."""
        return self.outcome.weights_sha256 if self.outcome and self.finished else None

    def recorded_trace(self) -> Trace | None:
        """Return the steps recorded so far, also of a run that did not finish; None where there are none to read."""
        if self.trace is not None:
            return self.trace
        try:
            return read_trace(self.folder.trace)
        except RecordError:
            return None


def read_run(folder: RunDir, *, arm: str, seed: int, accept: Callable[[Manifest], bool] | None = None) -> RunFiles:
    """Read a run directory; a directory that cannot be read becomes a status with its reason and raises nothing.

    arm, seed: of the run that is expected there. accept: of a manifest, False for another run than the expected one; such a
    run counts as missing.
    """
    run = RunFiles(arm=arm, seed=seed, folder=folder, status="missing", sentence="has not been started")
    try:
        if not folder.manifest.exists():
            return run
        if folder.leads_out():
            reason = f"{folder.path} or a file in it is a link that leads out of the study, and is not followed"
            return replace(run, status="unreadable", sentence=reason)
        manifest, outcome, fingerprint = read_manifest(folder), read_status(folder), read_fingerprint(folder)
        if accept is not None and not accept(manifest):
            return replace(run, sentence="the folder holds a run of other settings or other code than the plan's")
        run = replace(run, manifest=manifest, outcome=outcome, fingerprint=fingerprint)
        if outcome is None:
            trace = run.recorded_trace()
            steps = "no step recorded" if trace is None else f"{len(trace)} steps recorded"
            return replace(run, status="running", sentence=f"no outcome yet, {steps}: still going, or killed")
        if problem := damage(folder, outcome):
            again = "the study's command makes the run again"
            return replace(run, outcome=None, status="unreadable", sentence=f"{folder.path}: {problem}; {again}")
        run = replace(run, status=outcome.status, sentence=outcome.message)
        if not run.finished:
            return run
        run = replace(run, returned=read_returned(folder))
        if run.returned is not None and not folder.trace.exists():
            return run
        evals = read_evals(folder.evals)
        curves = {metric: evals.curve(metric) for metric in evals.metrics()}
        trace = read_trace(folder.trace)
        if not manifest.origin and len(trace) and trace["step"][-1] != outcome.step:
            raise RecordError(
                f"{folder.trace} ends at step {trace['step'][-1]:.0f}, and its run finished after {outcome.step}",
                "the study's command makes the run again",
            )
        return replace(run, trace=trace, curves=curves)
    except (OSError, RecordError, TypeError) as error:
        return replace(run, outcome=None, status="unreadable", sentence=str(error))


def read_single_run(folder: RunDir) -> RunFiles:
    """Read a run independently of its study. Raises RecordError where its manifest cannot be read."""
    if folder.leads_out():
        raise RecordError(
            f"{folder.path} or a file in it is a link that leads out, and is not followed", "copy the files"
        )
    manifest = read_manifest(folder)
    run = read_run(folder, arm=manifest.arm, seed=manifest.seed)
    return run if run.manifest is not None else replace(run, manifest=manifest)


NAMES = ("config.yaml", "manifest.json", "fingerprint.json", "status.json", "returned.json", "progress.json",
         "trace.arrow", "evals.arrow", "predictions.arrow")  # fmt: skip
"""Files that are extracted from an archive; a checkpoint is not needed to read a run."""

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip")
_MAX_BYTES = 2 * 2**30
_UNREADABLE = (
    OSError, EOFError, ValueError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


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
    except _UNREADABLE as error:
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

MAX_MEMBERS = 100_000
_MAX_HEADER_BYTES = 2**16
_MAX_EXPANSION, _FREE_BYTES = 100, 64 * 2**20
"""A compressed archive may expand to so many times its size, and to so many bytes more: a run's files shrink to a fifth."""


class SmallHeader(tarfile.TarInfo):
    """A member's header, read from an untrusted archive. Extended headers (long names, pax) are read into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        large = header.type not in tarfile.REGULAR_TYPES and header.size > _MAX_HEADER_BYTES
        if large or header.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError(f"expected plain files in it, got an extended header of {header.size:,} bytes")
        return header


def plain_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of an archive that was opened with `SmallHeader`. Raises ValueError for more than `MAX_MEMBERS`."""
    for number, member in enumerate(tar):
        if number >= MAX_MEMBERS:
            raise ValueError(f"expected at most {MAX_MEMBERS:,} files in it, got more")
        yield member


class _Limited:
    """A decompressed file that must not become longer than `limit`: a small archive may expand without end."""

    def __init__(self, file: Any, limit: int) -> None:
        self._file, self._limit = file, limit

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._check(self._file.tell())
        return bytes(data)

    def seek(self, position: int, whence: int = 0) -> int:
        self._check(position)
        return int(self._file.seek(position, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise ValueError(f"expected at most {self._limit:,} bytes when it is decompressed, got more")


_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Members, Callable[[str], IO[bytes] | None]]]:
    """Yield the plain files, without links, devices and names that lead out of the archive, and a function that opens one."""
    with ExitStack() as stack:
        if archive.suffix == ".zip":
            _check_zip(archive)
            zipped = stack.enter_context(zipfile.ZipFile(archive))
            sizes = {info.filename: info.file_size for info in zipped.infolist() if not info.is_dir()}
            read: Callable[[str], IO[bytes] | None] = zipped.open
        else:
            limit = min(_MAX_BYTES, _FREE_BYTES + _MAX_EXPANSION * archive.stat().st_size)
            opener = _OPENERS.get(archive.suffix)
            source: Any = stack.enter_context(opener(archive) if opener is not None else archive.open("rb"))
            fileobj: Any = _Limited(source, limit) if opener is not None else source
            tar = stack.enter_context(tarfile.open(fileobj=fileobj, mode="r:", tarinfo=SmallHeader))
            sizes = {info.name: info.size for info in plain_members(tar) if info.isreg() and not info.issparse()}
            read = tar.extractfile
        members = {PurePosixPath(name): (name, size) for name, size in sizes.items()}
        yield (
            {path: member for path, member in members.items() if not path.is_absolute() and ".." not in path.parts},
            read,
        )


def _check_zip(archive: Path) -> None:
    """Raise ValueError for more files than `MAX_MEMBERS`, before the list of them is read into memory."""
    with archive.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16 - 22))
        tail = file.read()
    start = tail.rfind(b"PK\x05\x06")
    count = int.from_bytes(tail[start + 10 : start + 12], "little") if start >= 0 else 0
    listed = int.from_bytes(tail[start + 12 : start + 16], "little") if start >= 0 else 0
    if count == 2**16 - 1 or listed > 200 * MAX_MEMBERS:
        raise ValueError("expected at most 65,534 files in it, got more")
