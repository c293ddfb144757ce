"""`ablate verify`: compare an archive with its manifest of hashes, and with a rebuild of all that follows from its records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ablate.analysis.infer_plan import PlanOptions
from ablate.archive.bundle import is_complete
from ablate.archive.extract import ExtractedArchive, extract, table_problem
from ablate.archive.manifest import (
    LOCK,
    MANIFEST,
    BundleManifest,
    is_record,
    own_code,
    own_version,
    read_bundle_manifest,
    version_differences,
)
from ablate.archive.rebuild import first_difference, interim_problems, rebuild_report
from ablate.design.plan import Plan, counted_of, digest_by, run_digest
from ablate.errors import AblateError, ConfigError, RecordError
from ablate.hashing import digest_of
from ablate.metrics.custom import EVERY, custom_metrics
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.records.source_code import changed_files, code_files
from ablate.serialization import read_json, read_text, read_yaml

Status = Literal["passed", "failed", "not checked"]

_CUSTOM_METRIC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ANY_CONTENT = (OSError, ValueError, KeyError, TypeError, AttributeError)
"""Errors of reading a file of ours that may contain anything."""


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
    with TemporaryDirectory(prefix="ablate-verify-") as temporary, custom_metrics(*[EVERY] * run_custom_metric):
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
    checks.append(_check("plan", "digest of the plan", problems))
    tables = [
        f"{name}: {problem}"
        for name, file in records.items()
        if name.endswith(".arrow") and (problem := table_problem(file))
    ]
    run_findings = tables or [problem for run in runs for problem in _run_problems(run, plan)]
    checks.append(_check("runs", f"tables and digests of {len(runs)} runs", run_findings))
    options = manifest.report_options if manifest is not None else PlanOptions()
    metric = plan.metric if plan is not None else options.metric or ""
    rebuilt = "analysis, tables and page, rebuilt from the records, byte for byte"
    if tables:
        checks.append(_not_checked("report", rebuilt, "nothing is computed from such tables"))
    elif _CUSTOM_METRIC.fullmatch(metric) and not run_custom_metric:
        why = f"the metric {metric} is a function of the user and would be executed: --run-custom-metric, in its directory"
        checks.append(_not_checked("report", rebuilt, why))
    else:
        if plan is not None and plan.interim_seeds:
            checks.append(
                _check("interim", "interim analyses, rebuilt from the runs before them", interim_problems(folder, plan))
            )
        checks.append(_check("report", rebuilt, _report_problems(folder, report, manifest, options)))
    return Verification(
        archive=str(path), sha256=archive.sha256, bytes=archive.bytes, study=manifest.study if manifest else "",
        plan=manifest.plan if manifest else "", complete=manifest.complete if manifest else False, runs=len(runs),
        files=len(archive.files), checks=tuple(checks), limitations=tuple(_limitations(runs, plan, published=bool(published))),
        machine_differences=tuple(_machine_differences(manifest, archive.files.get(LOCK), runs)),
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
    folder: Path, archived: Mapping[str, Path], manifest: BundleManifest | None, options: PlanOptions
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


# ---- digests of the plan and its runs, recomputed from the files that they summarize ----


def plan_problems(value: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Compare a plan's digest with its contents. value: the content of plan.json, which an earlier version may have written."""
    if value.get("digest") not in (digest_of(counted_of(value)), plan.digest):
        yield f"plan.json: expected digest {_short(plan.digest)} from its contents, got {_short(value.get('digest'))}"


def _run_problems(run_dir: RunDir, plan: Plan | None) -> Iterator[str]:
    """Compare a run's manifest with its directory, its digest with the plan and with its config, seed, data and code."""
    name = f"{run_dir.path.parent.name}/{run_dir.path.name}"
    try:
        manifest = read_manifest(run_dir)
    except RecordError as error:
        yield error.problem
        return
    if StudyDir(run_dir.path.parents[1]).run(manifest.arm, manifest.seed).path != run_dir.path:
        yield f"{name}: its manifest is that of arm {manifest.arm[:80]!r}, seed {manifest.seed}"
        return
    if manifest.request and digest_by(manifest.request, manifest.code_digest) != manifest.digest:
        yield f"{name}: its digest {_short(manifest.digest)} does not match its request and code"
    if plan is None:
        return
    run = next((run for run in plan.runs if (run.arm, run.seed) == (manifest.arm, manifest.seed)), None)
    if run is None:
        yield f"{name} is not in the plan"
        return
    digests = {"digest": manifest.digest, "request": manifest.request, "code_digest": manifest.code_digest}
    if not manifest.digest or not plan.keeps(run, **digests):
        yield f"{name}: expected the plan's digest {_short(run.digest)}, got {_short(manifest.digest)}"
    if plan.app is not None:  # the config of another program has no digest of ours
        return
    arm = plan.arm(run.arm)
    if manifest.overrides != arm.changes:
        yield f"{name}: expected the changes {arm.changes}, got {manifest.overrides}"[:300]
    data = manifest.data or arm.data
    try:
        config = read_yaml(run_dir.config)
        digest = run_digest(config, seed=config["seed"], code_digest=manifest.code_digest, data=data, model=arm.model)
        matches = digest == manifest.digest and config["arm"] == manifest.arm
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"{name}: cannot read config.yaml: {type(error).__name__}: {error}"[:300]
        return
    if not matches:
        yield f"{name}: its digest {_short(manifest.digest)} does not match its config.yaml, seed, data and code"


def _short(digest: Any) -> str:
    return digest[:12] if isinstance(digest, str) and digest else "none"


# ---- what no check can prove, and differences to this machine ----


def _limitations(runs: Sequence[RunDir], plan: Plan | None, *, published: bool) -> Iterator[str]:
    """Yield what an archive cannot prove, most important first. published: whether its SHA-256 was given."""
    manifests = _manifests(runs)
    if not published:
        yield (
            "whether the whole archive was rewritten consistently: it is not signed. Compare it with the SHA-256 that its "
            "author published: --sha256"
        )
    yield "whether the runs were trained as recorded: that requires their data, their code and training them again"
    yield "times, device names, log.txt and the versions that made the report: nothing else in the archive depends on them"
    if plan is None:
        yield "what was decided beforehand: without a plan, metric and smallest effect may have been chosen afterwards"
    else:
        yield "whether the plan was frozen before the first run, and whether other studies were run and left out"
        yield "data and models: the archive contains their digests, not the files"
    imported = sum(bool(manifest.origin) for manifest in manifests)
    if imported:
        yield f"where the numbers of {imported} imported runs come from: the archive contains only hashes of their logs"
    custom = {name for manifest in manifests for name in (*manifest.code, *manifest.imported)}
    names = sorted(name for name in custom if not name.startswith("ablate/"))
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield f"the user's code: the archive contains the hashes of {len(names)} files ({shown}), not the files"


def _machine_differences(manifest: BundleManifest | None, lock: Path | None, runs: Sequence[RunDir]) -> Iterator[str]:
    """Yield differences to this machine, which may explain why a rebuilt file differs."""
    if manifest is not None and (changed := changed_files(manifest.code, own_code())):
        there, here = manifest.ablate or "unknown version", own_version() or "unknown version"
        yield f"the report was made by other code ({there} there, {here} here): {_shown(changed)}"
    if lock is not None:
        with suppress(OSError, ValueError):
            if versions := version_differences(read_text(lock)):
                yield f"other versions: {', '.join(versions)}"
    code = {name: sha for one in _manifests(runs) for name, sha in one.code.items() if name.startswith("ablate/")}
    if code and (changed := changed_files(code, code_files())):
        yield f"the runs were trained by other code than is installed here, so a rerun would differ: {_shown(changed)}"


def _shown(changed: Sequence[str]) -> str:
    return ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def _manifests(runs: Sequence[RunDir]) -> list[Manifest]:
    manifests = []
    for run in runs:
        with suppress(RecordError):
            manifests.append(read_manifest(run))
    return manifests
