"""`ablate bundle`: write the records and the rebuilt report of a study into one archive, completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.archive.manifest import (
    FORMAT,
    LOCK,
    MANIFEST,
    MAX_BYTES,
    MAX_TEXT_BYTES,
    BundleManifest,
    file_hashes,
    hash_of,
    lock,
    max_bytes,
    own_code,
    own_version,
    record_files,
    write_tar,
)
from ablate.archive.rebuild import rebuild_report
from ablate.errors import StudyError
from ablate.metrics.custom import NOT_RUN
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.redact import redact
from ablate.serialization import read_json, read_text, write_text

_UNFINISHED = ("running", "missing", "unreadable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Archive that was written."""

    path: Path
    sha256: str
    bytes: int
    files: int
    runs: int
    complete: bool
    fresh: bool
    """False if the identical archive already existed."""
    checkpoints: tuple[int, int]
    """Number of runs whose checkpoints were left out, and their bytes."""


def write_bundle(
    folder: Path, out: Path | None = None, *, options: PlanOptions | None = None, allow_incomplete: bool = False
) -> Bundle:
    """Write the evidence of a study into one archive.

    folder: study directory.
    out: archive to write; default `<name of folder>.tar` in the working directory.
    options: metric, smallest effect and accepted differences of a study without a plan, as for `build_report`.
    allow_incomplete: also bundle a study whose runs have not all ended.
    Raises StudyError for a folder without a study and for an unfinished study, RecordError for unreadable records.
    """
    options = options or PlanOptions()
    name = safe_name(folder.resolve().name, max_length=60)
    path = Path(f"{name}.tar") if out is None else out
    if path.is_dir() or not path.parent.is_dir():
        problem = f"got the directory {path}" if path.is_dir() else f"the directory {path.parent} does not exist"
        raise StudyError(f"--out: expected a file name, {problem}", f"--out {name}.tar")
    runs = _runs(folder, options)
    with TemporaryDirectory(prefix="ablate-bundle-") as temporary:
        copy = Path(temporary) / name
        copy.mkdir()
        files = _copy_records(folder, copy, runs)
        plan = str(read_json(copy / "plan.json").get("digest", "")) if "plan.json" in files else ""
        analysis, report = rebuild_report(copy, options)
        if not_run := [info.name for info in analysis.metrics if info.definition == NOT_RUN]:
            raise StudyError(
                f"{folder}: expected the values of {not_run[0]}, a function of the user, which was not run",
                f"ablate bundle {folder} --run-custom-metric, if it is yours",
            )
        if not allow_incomplete:
            _check_complete(folder, analysis)
        write_text(copy / LOCK, lock())
        files |= {**report, LOCK: copy / LOCK}
        manifest = BundleManifest(
            format=FORMAT, folder=name, study=analysis.study, plan=plan, complete=is_complete(analysis),
            options={**asdict(options), "accepts": list(options.accepts)}, files=file_hashes(files), ablate=own_version(),
            code=own_code(),
        )  # fmt: skip
        write_text(copy / MANIFEST, manifest.text())
        files[MANIFEST] = copy / MANIFEST
        sha256, fresh = _write(path, name, files)
    return Bundle(
        path=path, sha256=sha256, bytes=path.stat().st_size, files=len(files), runs=len(runs), complete=manifest.complete,
        fresh=fresh, checkpoints=_checkpoints(runs),
    )  # fmt: skip


def is_complete(analysis: Analysis) -> bool:
    """Return whether every run has ended and no interim analysis is pending."""
    return analysis.complete and (analysis.interim is None or analysis.interim.over)


def _runs(folder: Path, options: PlanOptions) -> list[RunDir]:
    """Return the planned runs; without a plan, all runs of the folder."""
    plan = read_plan(folder, options)
    study = StudyDir(folder)
    planned = {study.run(run.arm, run.seed).path for run in plan.runs}
    return [run for run in study.runs() if run.path in planned or not study.plan.exists()]


def _checkpoints(runs: Sequence[RunDir]) -> tuple[int, int]:
    folders = [run.checkpoint for run in runs if run.checkpoint.is_dir()]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(any(folder.iterdir()) for folder in folders), sum(file.stat().st_size for file in files)


def _copy_records(folder: Path, copy: Path, runs: Sequence[RunDir]) -> dict[str, Path]:
    """Copy every record first: a run in progress may write to its own files meanwhile."""
    files, total = dict[str, Path](), 0
    for name in record_files(folder, runs):
        file = copy / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, file)
        size = file.stat().st_size
        total += size
        if size > max_bytes(name) or total > MAX_BYTES:
            raise StudyError(
                f"{folder / name} exceeds what `ablate verify` reads: expected at most {max_bytes(name):,} bytes in this file "
                f"and {MAX_BYTES:,} in all, got {size:,} and {total:,}",
                "bundle a study with fewer runs; docs/how-to/archive_a_study.md",
            )
        if not name.endswith(".arrow"):
            _check_no_secret(folder / name, file)
        files[name] = file
    return files


def _check_no_secret(shown: Path, file: Path) -> None:
    """Search a record again, although it was redacted when it was written: an archive is published."""
    with suppress(OSError, ValueError):  # the analysis reports a file that is not text
        text = read_text(file, MAX_TEXT_BYTES)
        if (redacted := redact(text)) != text:
            pairs = zip(text.splitlines(), redacted.splitlines(), strict=False)
            line = next((number for number, (before, after) in enumerate(pairs, 1) if before != after), 1)
            raise StudyError(
                f"line {line} of {shown} contains the value of an environment variable that is named like a secret",
                "remove it from the file, or unset the variable if it is not a secret",
            )


def _check_complete(folder: Path, analysis: Analysis) -> None:
    if is_complete(analysis):
        return
    open_runs = [f"{run.arm}/seed={run.seed} ({run.status})" for run in analysis.runs if run.status in _UNFINISHED]
    what = ", ".join(open_runs[:3]) + (f" and {len(open_runs) - 3} more" if len(open_runs) > 3 else "")
    raise StudyError(
        f"expected a finished study, got {folder} with {what or 'an interim analysis still to come'}",
        f"run the study command again to finish it, or ablate bundle {folder} --allow-incomplete",
    )


def _write(path: Path, top: str, files: dict[str, Path]) -> tuple[str, bool]:
    """Write to a temporary file, then move it. Return its hash, and False if the identical archive already existed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            write_tar(file, top, files)
            file.flush()
            os.fsync(file.fileno())
        sha256 = hash_of(part)
        if path.exists() or path.is_symlink():
            if path.is_file() and hash_of(path) == sha256:
                return sha256, False
            raise StudyError(f"{path} exists and is a different file", f"--out another.tar, or remove {path}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return sha256, True
