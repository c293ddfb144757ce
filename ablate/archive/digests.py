"""Recompute the digests of a plan and of its runs from the files that they summarize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ablate.design.plan import Plan, counted_of, digest_by, run_digest
from ablate.errors import RecordError
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_manifest
from ablate.serialization import read_yaml


def plan_problems(value: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """Compare a plan's digest with its contents. value: the content of plan.json, which an earlier version may have written."""
    if value.get("digest") not in (digest_of(counted_of(value)), plan.digest):
        yield f"plan.json: expected digest {_short(plan.digest)} from its contents, got {_short(value.get('digest'))}"


def run_problems(run_dir: RunDir, plan: Plan | None) -> Iterator[str]:
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
