"""`ablate verify`: compare an archive with its manifest of hashes, and with a rebuild of all that follows from its records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from ablate.analysis.infer_plan import Asked
from ablate.archive.bundle import is_complete
from ablate.archive.digests import plan_problems, run_problems
from ablate.archive.extract import ExtractedArchive, extract, table_problem
from ablate.archive.files import LOCK, MANIFEST, is_record
from ablate.archive.limitations import limitations, machine_differences
from ablate.archive.manifest import BundleManifest, read_bundle_manifest
from ablate.archive.rebuild import first_difference, interim_problems, rebuild_report
from ablate.design.plan import Plan
from ablate.errors import AblateError, ConfigError
from ablate.records.layout import StudyDir
from ablate.serialization import read_json

Status = Literal["passed", "failed", "not checked"]


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
        request = digest_of({"app": digest_of(config), "seed_key": plan.app.seed_key, "seed": run.seed})
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
    there = [study.look(seeds) for seeds in plan.interim_seeds if study.look(seeds).exists()]
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
    """One check of an archive."""

    name: str
    about: str
    """What is compared."""
    status: Status
    findings: tuple[str, ...] = ()
    """Everything that failed, or why it was not checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """Result of `verify`."""

    archive: str
    sha256: str
    """Hash of the archive itself."""
    bytes: int
    study: str
    plan: str
    """Digest of the plan."""
    complete: bool
    runs: int
    files: int
    checks: tuple[Check, ...]
    limitations: tuple[str, ...]
    """What no check of an archive can prove."""
    machine_differences: tuple[str, ...]

    @property
    def verified(self) -> bool:
        return all(check.status == "passed" for check in self.checks)


def verify(path: Path, *, sha256: str = "", run_custom_metric: bool = False) -> Verification:
    """Check an archive from an untrusted source; nothing in it is executed, and nothing is left on disk.

    sha256: published hash of the archive; '' if unknown.
    run_custom_metric: call the study's metric if it is a function of the working directory, which the archive names.
    Raises RecordError for a file that `ablate bundle` does not write, ConfigError for a malformed sha256.
    """
    published = sha256.strip().lower()
    if published and not re.fullmatch("[0-9a-f]{64}", published):
        problem = f"--sha256: expected 64 characters of 0-9 and a-f, got {len(published)} characters: {sha256!r}"
        raise ConfigError(problem, "the whole hash that `ablate bundle` printed")
    with TemporaryDirectory(prefix="ablate-verify-") as temporary:
        return _verify(path, extract(path, Path(temporary)), published, run_custom_metric)


def _verify(path: Path, archive: ExtractedArchive, published: str, run_custom_metric: bool) -> Verification:
    folder = archive.files[MANIFEST].parent
    manifest, problems = _manifest(archive)
    checks = [_check("manifest", f"{MANIFEST} is as it was written", problems)]
    if published:
        problems = [] if published == archive.sha256 else [f"{path}: expected {published}, got {archive.sha256}"]
        checks.insert(0, _check("published", "SHA-256 of the archive is the published one", problems))
    if manifest is not None:
        about = f"SHA-256 of {len(manifest.files)} files, and no other file"
        checks.append(_check("files", about, _file_problems(manifest, archive)))
        extra = [] if archive.is_as_written() else ["headers, order or padding are not as `ablate bundle` writes them"]
        checks.append(_check("archive", "no bytes outside of these files", extra))
    report = _move_report(archive, folder)
    records = {name: file for name, file in archive.files.items() if is_record(name)}
    runs = [run for run in StudyDir(folder).runs() if run.manifest.relative_to(folder).as_posix() in records]
    plan, problems = _plan(folder, manifest)
    checks.append(_check("plan", "digests of the plan, its code and its runs", problems))
    tables = [
        f"{name}: {problem}"
        for name, file in records.items()
        if name.endswith(".arrow") and (problem := table_problem(file))
    ]
    run_findings = tables or [problem for run in runs for problem in run_problems(run, plan)]
    checks.append(_check("runs", f"tables and digests of {len(runs)} runs", run_findings))
    options = manifest.report_options if manifest is not None else Asked()
    metric = plan.metric if plan is not None else options.metric or ""
    rebuilt = "analysis, tables and page, rebuilt from the records, byte for byte"
    if tables:
        checks.append(_not_checked("report", rebuilt, "nothing is computed from such tables"))
    elif _CUSTOM_METRIC.fullmatch(metric) and not run_custom_metric:
        why = f"the metric {metric} is a function of the user and would be executed: --run-custom-metric, in its directory"
        checks.append(_not_checked("report", rebuilt, why))
    else:
        checks.append(_check("runs", _digests(runs, plan), (one for run in runs for one in of_a_run(run, plan))))
        inner = (one for run in runs for one in inside(run))
        checks.append(_check("records", "fingerprint and outcome of each run against its own tables", inner))
        checks.append(_check("controls", "fingerprints against what the controls claim", _claims(kept, runs)))
        if plan is not None and plan.interim_seeds and not _own(plan.metric, own_outcome):
            checks.append(_check("looks", "what each look found, made anew", looks_again(folder, plan)))
        asked = asked_of(contents) if contents is not None else Asked()
        checks.append(_report(folder, kept, plan, contents, asked, own_outcome))
    return Verification(
        archive=str(path), sha256=archive.sha256, bytes=archive.bytes, study=manifest.study if manifest else "",
        plan=manifest.plan if manifest else "", complete=manifest.complete if manifest else False, runs=len(runs),
        files=len(archive.files), checks=tuple(checks), limitations=tuple(limitations(runs, plan, published=bool(published))),
        machine_differences=tuple(machine_differences(manifest, archive.files.get(LOCK), runs)),
    )  # fmt: skip


def _manifest(archive: ExtractedArchive) -> tuple[BundleManifest | None, list[str]]:
    try:
        manifest = read_bundle_manifest(archive.files[MANIFEST])
    except (OSError, ValueError) as error:
        return None, [f"{MANIFEST}: {error}"[:300]]
    if manifest.folder != archive.top:
        return manifest, [f"{MANIFEST}: expected the directory {archive.top!r}, got {manifest.folder!r}"]
    return manifest, []


def _file_problems(manifest: BundleManifest, archive: ExtractedArchive) -> Iterator[str]:
    hashes = {name: sha for name, sha in archive.hashes.items() if name != MANIFEST}
    for name in sorted(hashes.keys() | manifest.files.keys()):
        if name not in hashes:
            yield f"{name} is missing from the archive, but {MANIFEST} lists it"
        elif name not in manifest.files:
            yield f"{name} is in the archive, but {MANIFEST} does not list it"
        elif hashes[name] != (expected := manifest.files[name]["sha256"]):
            yield f"{name}: expected SHA-256 {expected[:12]}, got {hashes[name][:12]}"


def _move_report(archive: ExtractedArchive, folder: Path) -> dict[str, Path]:
    """Move the archive's report out of the study, so that another can be built there."""
    report = {}
    for name, file in archive.files.items():
        if not is_record(name) and name not in (MANIFEST, LOCK):
            report[name] = folder.parent / "archived report" / name
            report[name].parent.mkdir(parents=True, exist_ok=True)
            file.replace(report[name])
    return report


def _plan(folder: Path, manifest: BundleManifest | None) -> tuple[Plan | None, list[str]]:
    listed = manifest.plan if manifest is not None else None
    if not (folder / "plan.json").exists():
        return None, [f"{MANIFEST} lists a plan, but there is no plan.json"] if listed else []
    try:
        value = read_json(folder / "plan.json")
        plan = Plan.from_json(value)
        problems = list(plan_problems(value, plan))
        if listed not in (None, value.get("digest")):
            problems.append(f"{MANIFEST} lists the plan {str(listed)[:12] or 'none'}, but plan.json has another digest")
        return plan, problems
    except _ANY_CONTENT as error:
        return None, [f"cannot read plan.json: {type(error).__name__}: {error}"[:300]]


def _report_problems(
    folder: Path, archived: Mapping[str, Path], manifest: BundleManifest | None, options: Asked
) -> Iterator[str]:
    try:
        analysis, rebuilt = rebuild_report(folder, options)
    except Exception as error:  # the archive may hold anything
        problem = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
        yield f"cannot rebuild the report: {problem}"[:400]
        return
    if manifest is not None and (manifest.study, manifest.complete) != (analysis.study, is_complete(analysis)):
        got = f"{manifest.study!r}, complete={manifest.complete}"
        yield f"{MANIFEST}: expected {analysis.study!r}, complete={is_complete(analysis)}, got {got}"
    rebuilt = {name: file for name, file in rebuilt.items() if name not in (MANIFEST, LOCK)}
    for name in sorted(rebuilt.keys() | archived.keys()):
        if name not in archived:
            yield f"{name} follows from the records, but is not in the archive"
        elif name not in rebuilt:
            yield f"{name} is in the archive, but does not follow from the records"
        elif difference := first_difference(archived[name], rebuilt[name]):
            yield f"{name} differs {difference}"


def _check(name: str, about: str, findings: Iterable[str]) -> Check:
    problems = tuple(findings)
    return Check(name=name, about=about, status="failed" if problems else "passed", findings=problems)


def _not_checked(name: str, about: str, why: str) -> Check:
    return Check(name=name, about=about, status="not checked", findings=(why,))
