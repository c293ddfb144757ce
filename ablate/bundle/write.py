"""`ablate bundle`: a study folder becomes one archive, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from ablate.analysis.adopt import Asked
from ablate.analysis.readings import read_plan
from ablate.analysis.values import Analysis
from ablate.bundle.archive import Hashed, write_archive
from ablate.bundle.contents import FORMAT, Contents, hash_of, listed, own_code, own_version
from ablate.bundle.derive import derive
from ablate.bundle.files import CONTENTS, LOCK, MOST_BYTES, left_out, most_of, record_files
from ablate.bundle.lock import lock
from ablate.errors import StudyError
from ablate.record.redact import redact
from ablate.record.rundir import RunDir, StudyDir, read_json, read_text, safe_name, write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What was written. fresh: whether the very same archive was not there already. checkpoints: (how many, bytes) left out."""

    path: Path
    sha256: str
    bytes: int
    files: int
    runs: int
    complete: bool
    fresh: bool
    checkpoints: tuple[int, int]


def write_bundle(
    folder: Path, out: Path | None = None, *, asked: Asked | None = None, incomplete: bool = False
) -> Bundle:
    """Write the evidence of a study into one archive.

    out: where; `<folder's name>.tar` in the working folder. asked: of a folder without a plan, as for `build_report`.
    incomplete: also of a study with runs that have no end yet; they are taken as they are now.
    Raises StudyError for a folder that holds no study, or one that is not at its end; RecordError for what cannot be read.
    """
    asked = asked or Asked()
    name = safe_name(folder.resolve().name, longest=60)
    path = Path(f"{name}.tar") if out is None else out
    if not path.parent.is_dir() or path.is_dir():
        raise StudyError(f"--out {path}: there is no folder for it" if not path.is_dir() else f"--out {path} is a folder",
                         f"--out {name}.tar")  # fmt: skip
    runs = _runs(folder, asked)
    with TemporaryDirectory(prefix="ablate-bundle-") as made:
        stage = Path(made) / name
        stage.mkdir()
        records = _staged(folder, stage, runs)
        analysis, report = derive(stage, asked)
        if not incomplete:
            _check_whole(folder, analysis)
        write_text(stage / LOCK, lock())
        places = {**records, **report, LOCK: stage / LOCK}
        contents = Contents(
            format=FORMAT, folder=name, study=analysis.study, plan=_digest(stage) if "plan.json" in records else "",
            complete=whole(analysis), asked={**asdict(asked), "accepts": list(asked.accepts)}, files=listed(places),
            ablate=own_version(), code=own_code(),
        )  # fmt: skip
        write_text(stage / CONTENTS, contents.text())
        places[CONTENTS] = stage / CONTENTS
        sha, size, fresh = _archived(path, name, places)
    return Bundle(
        path=path, sha256=sha, bytes=size, files=len(places), runs=len(runs), complete=contents.complete, fresh=fresh,
        checkpoints=left_out(runs),
    )  # fmt: skip


def whole(analysis: Analysis) -> bool:
    """Whether every run has come to an end, and no look is to come."""
    return analysis.complete and (analysis.looks is None or analysis.looks.over)


def _digest(stage: Path) -> str:
    """As it was frozen, whichever version worked it out."""
    return str(read_json(stage / "plan.json").get("digest", ""))


def _runs(folder: Path, asked: Asked) -> list[RunDir]:
    """Those of the plan; where there is none, all that lie there."""
    plan = read_plan(folder, asked)
    study = StudyDir(folder)
    there = list(study.runs())
    planned = {study.run(run.arm, run.seed).path for run in plan.runs}
    return [run for run in there if run.path in planned or not study.plan.exists()]


def _staged(folder: Path, stage: Path, runs: Sequence[RunDir]) -> dict[str, Path]:
    """A copy of every record: a run that is going on may write to its own while the archive is made."""
    found, size = dict[str, Path](), 0
    for name in record_files(folder, runs):
        place = stage / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, place)
        size += place.stat().st_size
        if place.stat().st_size > most_of(name) or size > MOST_BYTES:
            raise StudyError(
                f"{folder / name} makes the archive larger than `ablate verify` reads: {most_of(name):,} bytes of a file like "
                f"that, {MOST_BYTES:,} in all",
                "a study of fewer runs; docs/how-to/share_the_evidence.md",
            )
        if not name.endswith(".arrow"):
            _check_no_secret(folder / name, place)
        found[name] = place
    return found


def _check_no_secret(said: Path, place: Path) -> None:
    """A record was redacted where it was made; an archive is given away, so it is looked through once more."""
    with suppress(OSError, ValueError):  # what is no text is told by the analysis
        text = read_text(place)
        if (hidden := redact(text)) != text:
            pairs = zip(text.splitlines(), hidden.splitlines(), strict=False)
            line = next((number for number, (one, other) in enumerate(pairs, 1) if one != other), 1)
            raise StudyError(
                f"line {line} of {said} holds the value of an environment variable that is named like a secret",
                "take it out of the file, or unset the variable if it is none",
            )


def _check_whole(folder: Path, analysis: Analysis) -> None:
    if whole(analysis):
        return
    going = [f"{run.arm}/seed={run.seed} ({run.status})" for run in analysis.runs if run.status in _NO_END]
    what = ", ".join(going[:3]) + (f" and {len(going) - 3} more" if len(going) > 3 else "")
    raise StudyError(
        f"{folder} is not at its end: {what or 'a look is still to come'}",
        f"the same study command goes on; or take it as it is: ablate bundle {folder} --incomplete",
    )


_NO_END = ("running", "missing", "unreadable")


def _archived(path: Path, top: str, places: dict[str, Path]) -> tuple[str, int, bool]:
    """Written beside its place and moved there when it is whole. Raises StudyError where another file lies there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            into = Hashed(file)
            write_archive(into, top, places)
            file.flush()
            os.fsync(file.fileno())
        if path.exists() or path.is_symlink():
            if path.is_file() and hash_of(path) == into.sha256:
                return into.sha256, into.bytes, False
            raise StudyError(
                f"{path} is there already, and is not this archive", f"--out another.tar, or remove {path}"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return into.sha256, into.bytes, True
