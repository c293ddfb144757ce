"""`ablate verify`: an archive is taken apart, and all that follows from something else in it is worked out anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from ablate.analysis.adopt import Asked
from ablate.bundle.beyond import beyond, here
from ablate.bundle.claims import borne_out
from ablate.bundle.compare import where
from ablate.bundle.contents import Contents, asked_of, read_contents
from ablate.bundle.derive import derive
from ablate.bundle.digests import of_a_run, of_the_plan
from ablate.bundle.files import CONTENTS, LOCK, is_record
from ablate.bundle.inside import inside
from ablate.bundle.looks import looks_again
from ablate.bundle.tables import problem_of
from ablate.bundle.unpack import Unpacked, unpack
from ablate.bundle.write import whole
from ablate.design.plan import Plan
from ablate.errors import AblateError, ConfigError
from ablate.record.rundir import RunDir, StudyDir, read_json

Status = Literal["fits", "does not fit", "not checked"]

_OWN_OUTCOME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """about: what was held against what. findings: everything that does not fit, or why it was not checked."""

    name: str
    about: str
    status: Status
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """sha256: of the archive itself. beyond: what no check of an archive can tell. here: how this machine differs, as far as it
    bears on the checks."""

    archive: str
    sha256: str
    bytes: int
    study: str
    plan: str
    complete: bool
    runs: int
    files: int
    checks: tuple[Check, ...]
    beyond: tuple[str, ...]
    here: tuple[str, ...]

    @property
    def verified(self) -> bool:
        return all(check.status == "fits" for check in self.checks)


def verify(path: Path, *, sha256: str = "", own_outcome: bool = False) -> Verification:
    """Check an archive that may come from anybody; nothing of it is run, and nothing is left on disk.

    sha256: the archive's own hash, as it was published; '' where nobody has told. own_outcome: whether the primary outcome may
    be a function of the working folder's, which the archive names and the report then calls.
    Raises RecordError for what is no archive of ours, ConfigError for a sha256 that is none.
    """
    published = sha256.strip().lower()
    if published and not re.fullmatch("[0-9a-f]{64}", published):
        problem = f"--sha256 {sha256!r} is no SHA-256: it has {len(published)} characters, and not 64 of 0-9 and a-f"
        raise ConfigError(problem, "the whole hash that `ablate bundle` printed")
    with TemporaryDirectory(prefix="ablate-verify-") as made:
        found = unpack(path, Path(made))
        return _verified(path, found, published, own_outcome)


def _verified(path: Path, found: Unpacked, published: str, own_outcome: bool) -> Verification:
    folder = found.places[CONTENTS].parent
    contents, broken = _contents(found)
    checks = [_check("list", f"{CONTENTS} is as it was written", broken)]
    if published:
        other = [] if published == found.sha256 else [f"{published} was published, and {path} has {found.sha256}"]
        checks.insert(0, _check("published", "the archive is the one whose SHA-256 was published", other))
    records = {name: place for name, place in found.places.items() if is_record(name)}
    runs = [run for run in StudyDir(folder).runs() if run.manifest.relative_to(folder).as_posix() in records]
    if contents is not None:
        checks.append(
            _check("files", f"SHA-256 of {len(contents.files)} files, and no other file", _files(contents, found))
        )
        checks.append(_check("archive", "no byte beside these files", _bytes(found)))
    tables = [
        f"{name}: {problem}" for name in records if name.endswith(".arrow") and (problem := problem_of(records[name]))
    ]
    report = {
        name: place for name, place in found.places.items() if name not in records and name not in (CONTENTS, LOCK)
    }
    kept = _aside(report, folder)
    plan, said = _plan(folder, contents)
    checks.append(_check("plan", "digest of the plan, its code and its runs", said))
    if tables:
        checks.append(_check("runs", "tables that can be read without harm", tables))
        checks.append(_unchecked("report", "nothing is computed from a table like that"))
    else:
        checks.append(_check("runs", _digests(runs, plan), (one for run in runs for one in of_a_run(run, plan))))
        inner = (one for run in runs for one in inside(run))
        checks.append(_check("records", "fingerprint and outcome of each run against its own tables", inner))
        checks.append(_check("controls", "fingerprints against what the controls claim", _claims(kept, runs)))
        if plan is not None and plan.looks and not _own(plan.metric, own_outcome):
            checks.append(_check("looks", "what each look found, made anew", looks_again(folder, plan)))
        asked = asked_of(contents) if contents is not None else Asked()
        checks.append(_report(folder, kept, plan, contents, asked, own_outcome))
    return Verification(
        archive=str(path), sha256=found.sha256, bytes=found.bytes, study=contents.study if contents else "",
        plan=contents.plan if contents else "", complete=contents.complete if contents else False, runs=len(runs),
        files=len(found.places), checks=tuple(checks), beyond=beyond(runs, plan, published=bool(published)),
        here=here(contents, found.places.get(LOCK), runs),
    )  # fmt: skip


def _contents(found: Unpacked) -> tuple[Contents | None, list[str]]:
    try:
        contents = read_contents(found.places[CONTENTS])
        other = f"{CONTENTS} says that the folder is {contents.folder!r}, and it is {found.top!r}"
        return contents, [] if contents.folder == found.top else [other]
    except (OSError, ValueError) as error:
        return None, [f"{CONTENTS}: {error}"[:300]]


def _files(contents: Contents, found: Unpacked) -> Iterator[str]:
    there = found.hashes.keys() - {CONTENTS}
    yield from (
        f"{name} is not in the archive, and {CONTENTS} lists it" for name in sorted(contents.files.keys() - there)
    )
    yield from (
        f"{name} is in the archive, and {CONTENTS} does not list it" for name in sorted(there - contents.files.keys())
    )
    for name in sorted(there & contents.files.keys()):
        if found.hashes[name] != contents.files[name]["sha256"]:
            yield f"{name} has SHA-256 {found.hashes[name][:12]}, and {CONTENTS} says {contents.files[name]['sha256'][:12]}"


def _bytes(found: Unpacked) -> list[str]:
    if found.as_written():
        return []
    return ["headers, order or what lies between and after the files are not as `ablate bundle` writes them"]


def _aside(report: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The archive's own report is laid beside the records, so that another can be made of them."""
    kept = {}
    for name, place in report.items():
        kept[name] = folder.parent / "as received" / name
        kept[name].parent.mkdir(parents=True, exist_ok=True)
        place.replace(kept[name])
    return kept


def _plan(folder: Path, contents: Contents | None) -> tuple[Plan | None, list[str]]:
    if not (folder / "plan.json").exists():
        return None, [] if contents is None or not contents.plan else [f"{CONTENTS} names a plan, and there is none"]
    try:
        value = read_json(folder / "plan.json")
        plan = Plan.from_json(value)
        said = list(of_the_plan(value, plan))
        if contents is not None and contents.plan != value.get("digest"):
            said.append(f"{CONTENTS} names the plan {contents.plan[:12] or 'none'}, and plan.json has another digest")
        return plan, said
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [f"plan.json cannot be read as a plan: {type(error).__name__}: {error}"[:300]]


def _digests(runs: list[RunDir], plan: Plan | None) -> str:
    what = "config, data, code and seed" if plan is not None else "request and code, where a run has them"
    return f"digests of {len(runs)} runs, from {what}"


def _claims(kept: dict[str, Path], runs: list[RunDir]) -> Iterator[str]:
    try:
        yield from borne_out(read_json(kept["analysis.json"]), runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"analysis.json has no controls that can be read: {type(error).__name__}: {error}"[:300]


def _report(
    folder: Path, kept: dict[str, Path], plan: Plan | None, contents: Contents | None, asked: Asked, own_outcome: bool
) -> Check:
    metric = plan.metric if plan is not None else asked.metric or ""
    if _own(metric, own_outcome):
        return _unchecked(
            "report",
            f"the outcome {metric} is a function of somebody's own, and would be run: --own-outcome, where it lies",
        )
    findings = _anew(folder, kept, contents, asked)
    return _check("report", "analysis, tables and page, made anew from the records, byte for byte", findings)


def _own(metric: str, allowed: bool) -> bool:
    """Whether reading the outcome would run a function of the reader's that the archive chose."""
    return not allowed and _OWN_OUTCOME.fullmatch(metric) is not None


def _anew(folder: Path, kept: dict[str, Path], contents: Contents | None, asked: Asked) -> Iterator[str]:
    try:
        analysis, made = derive(folder, asked)
    except AblateError as error:
        yield f"they cannot be made: {error.problem}"[:400]
        return
    except Exception as error:  # whatever was sent
        yield f"they cannot be made: {type(error).__name__}: {error}"[:400]
        return
    if contents is not None and (contents.study, contents.complete) != (analysis.study, whole(analysis)):
        said = _named(contents.study, contents.complete)
        yield f"{CONTENTS} says {said}, and it is {_named(analysis.study, whole(analysis))}"
    made = {name: path for name, path in made.items() if name not in (CONTENTS, LOCK)}
    yield from (
        f"{name} is made of the records, and is not in the archive" for name in sorted(made.keys() - kept.keys())
    )
    yield from (
        f"{name} is in the archive, and is not made of the records" for name in sorted(kept.keys() - made.keys())
    )
    for name in sorted(made.keys() & kept.keys()):
        if said := where(name, kept[name], made[name]):
            yield f"{name} differs {said}"


def _named(study: str, complete: bool) -> str:
    return f"{study!r}, {'at its end' if complete else 'not at its end'}"


def _check(name: str, about: str, findings: Iterable[str]) -> Check:
    found = tuple(findings)
    return Check(name=name, about=about, status="does not fit" if found else "fits", findings=found)


def _unchecked(name: str, why: str) -> Check:
    return Check(name=name, about="analysis, tables and page", status="not checked", findings=(why,))
