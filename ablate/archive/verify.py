"""Whether fingerprints bear out what the controls in an archive's analysis.json claim of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from ablate.analysis.analyse import look_at
from ablate.analysis.infer_plan import Asked
from ablate.archive.bundle import CONTENTS, LOCK, whole
from ablate.archive.extract import Unpacked, problem_of, unpack
from ablate.archive.limitations import beyond, here
from ablate.archive.manifest import Contents, asked_of, is_record, read_contents
from ablate.archive.rebuild import derive
from ablate.controls.control import Control
from ablate.controls.fingerprint_diff import differences
from ablate.design.plan import BASELINE, Plan, Run, config_digest, counted_of, digest_by, request_digest, run_digest
from ablate.errors import AblateError, ConfigError, RecordError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Fingerprint, Manifest, Outcome, read_fingerprint, read_manifest, read_outcome
from ablate.records.reader import Evals, Trace, read_evals, read_predictions, read_trace
from ablate.records.source_code import code_digest
from ablate.serialization import built, read_json, read_yaml, write_json

_Run = tuple[Fingerprint | None, Outcome]


def borne_out(analysis: Mapping[str, Any], places: Sequence[RunDir]) -> Iterator[str]:
    """What does not fit. Raises ValueError, TypeError or KeyError for an analysis.json of another form."""
    claims = [built(Control, one) for one in analysis["controls"]]
    runs = _finished(places)
    base = runs.get(BASELINE, {})
    for claim in claims:
        mine = runs.get(claim.arm, {})
        both = [(seed, base[seed], mine[seed]) for seed in sorted(base.keys() & mine.keys())]
        if claim.arm == BASELINE or not both:
            continue
        if claim.name == "matched":
            yield from _held(claim, both)
        if claim.status == "proven" and claim.name in ("took_effect", "rerun"):
            yield from _weights(claim, both)


def _held(claim: Control, both: Sequence[tuple[int, _Run, _Run]]) -> Iterator[str]:
    for seed, (left, _), (right, _) in both:
        if left is None or right is None:
            continue
        apart = [one for one in differences(left.items, right.items) if one.item in claim.held]
        if apart:
            yield f"{claim.arm}: said to be equal in every seed, and differs in seed {seed}: {apart[0]}"[:300]


def _weights(claim: Control, both: Sequence[tuple[int, _Run, _Run]]) -> Iterator[str]:
    known = [
        (seed, left, right) for seed, (_, left), (_, right) in both if left.weights_sha256 and right.weights_sha256
    ]
    same = [(seed, left.weights_sha256 == right.weights_sha256) for seed, left, right in known]
    wrong = [seed for seed, equal in same if equal is not (claim.name == "rerun_identical")]
    if wrong and (claim.name == "rerun_identical" or len(wrong) == len(same)):
        ends = "other weights than" if claim.name == "rerun_identical" else "the very weights of"
        yield f"{claim.arm}: {claim.name} is said to be proven, and seed {wrong[0]} ended with {ends} the baseline"


def _finished(places: Sequence[RunDir]) -> dict[str, dict[int, _Run]]:
    found: dict[str, dict[int, _Run]] = {}
    for place in places:
        try:
            manifest, outcome, fingerprint = read_manifest(place), read_outcome(place), read_fingerprint(place)
        except RecordError:
            continue  # said by the runs' own check
        if outcome is not None and outcome.status == "finished":
            found.setdefault(manifest.arm, {})[manifest.seed] = fingerprint, outcome
    return found


# Two versions of one file: whether they are the same bytes, and where they part.

_AROUND = 40


def where(name: str, there: Path, here: Path) -> str:
    """'' for the same bytes; else in words where they part first. there: the archive's. here: made anew."""
    left, right = there.read_bytes(), here.read_bytes()
    if left == right:
        return ""
    if name.endswith(".json"):
        try:
            return _leaves(json.loads(left), json.loads(right)) or "the same values, written otherwise"
        except (ValueError, RecursionError):
            pass
    return _text(left, right)


def _leaves(left: Any, right: Any) -> str:
    apart = list(_apart(left, right, ""))
    if not apart:
        return ""
    path, one, other = apart[0]
    more = f"; {len(apart)} values in all" if len(apart) > 1 else ""
    numbers = [_relative(one, other) for _, one, other in apart]
    known = [number for number in numbers if number is not None]
    far = f", numbers by at most {max(known):.1g} of their size" if len(known) == len(apart) else ""
    return f"at {path}: {_short(one)} there, {_short(other)} made anew{more}{far}"


def _apart(left: Any, right: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _apart(left.get(key, "absent"), right.get(key, "absent"), f"{path}.{key}".lstrip("."))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, pair in enumerate(zip(left, right, strict=True)):
            yield from _apart(*pair, f"{path}[{number}]")
    elif type(left) is not type(right) or left != right:
        yield path, left, right


def _relative(one: Any, other: Any) -> float | None:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return None
    size = max(abs(one), abs(other))
    return abs(one - other) / size if size and math.isfinite(size) else None


def _text(left: bytes, right: bytes) -> str:
    shorter = min(len(left), len(right))
    place = (
        next((at for at in range(shorter) if left[at] != right[at]), shorter)
        if left[:shorter] != right[:shorter]
        else shorter
    )
    line = left[:place].count(b"\n") + 1
    start = max(left.rfind(b"\n", 0, place) + 1, place - _AROUND // 2)
    one, other = (_short(text[start : start + _AROUND].decode(errors="replace")) for text in (left, right))
    return f"in line {line}, byte {place}: {one} there, {other} made anew"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# The report of a staged study: everything in an archive that is no record, made of the records.


# Whether digests follow from what they are digests of: the plan's, each run's, and those that runs have written
# down.


def of_the_plan(value: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """What does not fit in a plan. value: the same as it stands in plan.json."""
    if value.get("digest") not in (digest_of(counted_of(value)), plan.digest):
        yield f"plan.json says digest {_short_digests(value.get('digest'))}, and what it holds has {_short_digests(plan.digest)}"
    if plan.code and code_digest(plan.code) != plan.code_digest:
        yield f"plan.json says code {_short_digests(plan.code_digest)}, and the files it lists have {_short_digests(code_digest(plan.code))}"
    configs = {arm["name"]: arm["config"] for arm in value["arms"]}
    for run in plan.runs:
        if run.digest != _planned(plan, run, configs[run.arm]):
            yield f"plan.json says {_short_digests(run.digest)} for {run.arm}, seed {run.seed}: its config, data and code have another"


def _planned(plan: Plan, run: Run, config: Mapping[str, Any]) -> str:
    arm = plan.arm(run.arm)
    if plan.app is not None:
        request = digest_of({"app": digest_of(config), "seed_key": plan.app["seed_key"], "seed": run.seed})
    else:
        request = request_digest(config_digest(config), seed=run.seed, data=arm.data, model=arm.model)
    return digest_by(request, plan.code_digest) if run.request in ("", request) else ""


def of_a_run(place: RunDir, plan: Plan | None) -> Iterator[str]:
    """What does not fit in a run's folder. plan: None where the runs were made without one."""
    name = f"{place.path.parent.name}/{place.path.name}"
    try:
        manifest = read_manifest(place)
    except RecordError as error:
        yield error.problem
        return
    if StudyDir(place.path.parents[1]).run(manifest.arm, manifest.seed).path != place.path:
        yield f"{name} holds the manifest of {safe_name(manifest.arm)[:80]}/seed={manifest.seed}"
        return
    if manifest.code and code_digest(manifest.code) != manifest.code_digest:
        yield f"{name}: its manifest says code {_short_digests(manifest.code_digest)}, and the files it lists have another"
    if manifest.request and digest_by(manifest.request, manifest.code_digest) != manifest.digest:
        yield f"{name}: its digest {_short_digests(manifest.digest)} does not follow from its request and its code"
    if plan is not None:
        yield from _of_a_planned_run(name, place, manifest, plan)


def _of_a_planned_run(name: str, place: RunDir, manifest: Manifest, plan: Plan) -> Iterator[str]:
    run = next((one for one in plan.runs if (one.arm, one.seed) == (manifest.arm, manifest.seed)), None)
    if run is None:
        yield f"{name} is no run of the plan"
        return
    arm = plan.arm(run.arm)
    if not manifest.digest or not plan.keeps(
        run, digest=manifest.digest, request=manifest.request, code_digest=manifest.code_digest
    ):
        yield f"{name}: its digest {_short_digests(manifest.digest)} is not the plan's {_short_digests(run.digest)}"
    if plan.app is not None:
        return
    if manifest.overrides != arm.changes:
        yield f"{name}: its manifest says that it changes {manifest.overrides}, and the plan {arm.changes}"[:300]
    if manifest.data and arm.data and manifest.data != arm.data:
        yield f"{name}: it read data {_short_digests(manifest.data)}, and the plan says {_short_digests(arm.data)}"
    try:
        config = read_yaml(place.config)
        found = run_digest(
            config,
            seed=config["seed"],
            code_digest=manifest.code_digest,
            data=manifest.data or arm.data,
            model=arm.model,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        yield f"{name}: its config.yaml cannot be read as a config: {type(error).__name__}: {error}"[:300]
        return
    if found != manifest.digest or config.get("arm") != manifest.arm:
        yield f"{name}: its digest {_short_digests(manifest.digest)} does not follow from its config.yaml, seed, data and code"


def _short_digests(digest: Any) -> str:
    return f"{digest[:12]}" if isinstance(digest, str) and digest else "none"


# Whether the files of one run tell of one run: what fingerprint and outcome took from the tables still stands
# there.

_CLOSE = 1e-6
"""Relative. A trace holds 7 digits of a loss, and a sum may be taken in another order."""


def inside(place: RunDir) -> Iterator[str]:
    """What does not fit, of a run that was recorded and has come to an end."""
    name = f"{place.path.parent.name}/{place.path.name}"
    try:
        outcome = read_outcome(place)
        if outcome is None or outcome.status != "finished" or read_manifest(place).origin or not place.trace.exists():
            return
        fingerprint, trace, evals = read_fingerprint(place), read_trace(place.trace), read_evals(place.evals)
        items = fingerprint.items if fingerprint is not None else {}
        yield from (f"{name}: {problem}" for problem in _trace(items, outcome, trace))
        yield from (f"{name}: {problem}" for problem in _evals(items, outcome, evals))
        if place.predictions.exists():
            yield from (f"{name}: {problem}" for problem in _predictions(place, evals))
    except RecordError as error:
        yield error.problem
    except (ValueError, TypeError, KeyError, IndexError) as error:
        yield f"{name}: {type(error).__name__}: {error}"[:300]


def _trace(items: Mapping[str, Any], outcome: Outcome, trace: Trace) -> Iterator[str]:
    last = int(trace["step"][-1]) if len(trace) else 0
    if outcome.step != last:
        yield f"status.json says {outcome.step} steps, and trace.arrow has {last}"
    for column, said in items.get("first_step", {}).items():
        if len(trace) and not _same(said, trace[column][0]):
            yield f"fingerprint.json says {said} for {column} of the first step, and trace.arrow {trace[column][0]:.9g}"
    if "tokens_seen" in items and len(trace) and int(items["tokens_seen"]) != int(trace["tokens"][-1]):
        yield f"fingerprint.json says {items['tokens_seen']} tokens, and trace.arrow {trace['tokens'][-1]:.0f}"


def _evals(items: Mapping[str, Any], outcome: Outcome, evals: Evals) -> Iterator[str]:
    for metric, said in items.get("loss_at_start", {}).items():
        curve = evals.curve(metric)
        if len(curve) and curve.step[0] == 0 and not _same(said, curve.value[0]):
            yield f"fingerprint.json says {said} for {metric} before training, and evals.arrow {curve.value[0]:.9g}"
    for metric, best in outcome.best.items():
        curve = evals.curve(metric)
        at = curve.value[curve.step == best["step"]]
        if len(at) == 0 or not any(_same(best["value"], value) for value in at):
            yield f"status.json says that {metric} was {best['value']} at step {best['step']}, and evals.arrow does not"


def _predictions(place: RunDir, evals: Evals) -> Iterator[str]:
    kept = read_predictions(place.predictions)
    for metric in kept.metrics:
        curve = evals.curve(metric)
        at = curve.value[curve.step == kept.step]
        value = float(np.sum(kept[metric])) / max(float(np.sum(kept["items"])), 1.0)
        if len(at) and not _same(value, at[-1]):
            yield f"predictions.arrow has {metric} {value:.9g} at step {kept.step}, and evals.arrow {at[-1]:.9g}"


def _same(one: Any, other: Any) -> bool:
    return bool(np.isclose(float(one), float(other), rtol=_CLOSE, atol=_CLOSE * 1e-3, equal_nan=True))


# Whether the looks of a study that adds seeds found what its runs say: each is made anew, from the runs up to
# it.


def looks_again(folder: Path, plan: Plan) -> Iterator[str]:
    """What does not fit. folder: unpacked, and ours to move files in. When a look was made is not made anew."""
    study, aside = StudyDir(folder), folder.parent / "looks"
    aside.mkdir()
    there = [study.look(seeds) for seeds in plan.looks if study.look(seeds).exists()]
    for path in there:
        path.rename(aside / path.name)
    for path in there:
        received, again = aside / path.name, aside / "again.json"
        try:
            value = json.loads(received.read_bytes())
            write_json(again, {**look_at(folder), "made": value["made"]})
            if said := where(path.name, received, again):
                yield f"{path.name} differs {said}"
        except Exception as error:  # whatever was sent
            yield f"{path.name} cannot be made anew: {type(error).__name__}: {error}"[:300]
        received.rename(path)


# `ablate verify`: an archive is taken apart, and all that follows from something else in it is worked out anew.

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
            f"the outcome {metric} is a function of somebody's own, and would be run: --run-custom-metric, where it lies",
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
