"""Files as a tar whose bytes say nothing but what is in them: no clock, no owner, sorted, not compressed."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

from ablate.analysis.infer_plan import Asked
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.archive.manifest import FORMAT, OF_A_RUN, Contents, hash_of, is_record, listed, lock, own_code, own_version
from ablate.archive.rebuild import derive
from ablate.errors import StudyError
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.redact import redact
from ablate.serialization import read_json, read_text, write_text

# Which files of a study are its evidence, and what an archive may hold at most.

CONTENTS, LOCK = "bundle.json", "lock.txt"
"""What only an archive has: the list of its files, and the versions that its report was made with."""


MOST_FILES, MOST_BYTES = 100_000, 16 * 2**30
MOST_TEXT, MOST_TABLE = 256 * 2**20, 4 * 2**30
"""Of an archive: its files and their bytes; of one file that is read whole, and of a table."""

_PART = re.compile(r"[A-Za-z0-9=,+_-][A-Za-z0-9=,+._-]{0,99}")


def is_safe(name: str) -> bool:
    """Whether a path leads to a file in the folder where it is laid, on any system, and is no hidden one."""
    parts = name.split("/")
    return 2 <= len(parts) <= 4 and all(_PART.fullmatch(part) for part in parts)


def most_of(name: str) -> int:
    """The largest that a file of this name may be."""
    return MOST_TABLE if name.endswith(".arrow") else MOST_TEXT


def record_files(folder: Path, runs: Sequence[RunDir]) -> Iterator[str]:
    """The evidence in a study folder, named from there, in name order. Raises StudyError for what is a link or no file."""
    study = StudyDir(folder)
    found = [study.plan, *folder.glob("look-*.json"), *(run.path / name for run in runs for name in OF_A_RUN)]
    for path in sorted(path for path in found if path.exists() or path.is_symlink()):
        name = path.relative_to(folder).as_posix()
        outside = not path.resolve().is_relative_to(folder.resolve())
        if path.is_symlink() or outside or not path.is_file():
            raise StudyError(f"{path} is a link or no file: what it shows is not the study's own", "copy it there")
        if is_record(name):
            yield name


def left_out(runs: Sequence[RunDir]) -> tuple[int, int]:
    """Number and bytes of the checkpoints that stay where they are."""
    places = [place for run in runs for place in (run.checkpoint, run.lent) if place.is_dir()]
    files = [file for place in places for file in place.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(any(place.iterdir()) for place in places), sum(file.stat().st_size for file in files)


class Hashed:
    """Where an archive goes: counts and hashes what is written, and passes it on where there is a file."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file, self._hash, self.bytes = file, sha256(), 0

    def write(self, block: bytes) -> int:
        self._hash.update(block)
        self.bytes += len(block)
        if self._file is not None:
            self._file.write(block)
        return len(block)

    def tell(self) -> int:
        return self.bytes

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_archive(into: Hashed, top: str, places: Mapping[str, Path]) -> None:
    """places: {name: where it lies}; the list of files comes first, the others in name order, all of them under `top`."""
    order = sorted(places, key=lambda name: (name != CONTENTS, name))
    with tarfile.open(fileobj=cast("Any", into), mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in order:
            with places[name].open("rb") as file:
                tar.addfile(header(f"{top}/{name}", places[name].stat().st_size), file)


def header(name: str, size: int) -> tarfile.TarInfo:
    """A file of nobody's, from no time."""
    found = tarfile.TarInfo(name)
    found.size, found.mode, found.mtime = size, 0o644, 0
    return found


# `ablate bundle`: a study folder becomes one archive, whole or not at all.


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
        f"the same study command goes on; or take it as it is: ablate bundle {folder} --allow-incomplete",
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
