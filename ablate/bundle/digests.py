"""Whether digests follow from what they are digests of: the plan's, each run's, and those that runs have written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ablate.design.plan import Plan, Run, config_digest, counted_of, digest_by, request_digest, run_digest
from ablate.errors import RecordError
from ablate.record.code import code_digest
from ablate.record.digest import digest_of
from ablate.record.rundir import RunDir, StudyDir, safe_name
from ablate.record.values import Manifest, read_manifest
from ablate.record.yaml_file import read_yaml


def of_the_plan(value: Mapping[str, Any], plan: Plan) -> Iterator[str]:
    """What does not fit in a plan. value: the same as it stands in plan.json."""
    if value.get("digest") not in (digest_of(counted_of(value)), plan.digest):
        yield f"plan.json says digest {_short(value.get('digest'))}, and what it holds has {_short(plan.digest)}"
    if plan.code and code_digest(plan.code) != plan.code_digest:
        yield f"plan.json says code {_short(plan.code_digest)}, and the files it lists have {_short(code_digest(plan.code))}"
    configs = {arm["name"]: arm["config"] for arm in value["arms"]}
    for run in plan.runs:
        if run.digest != _planned(plan, run, configs[run.arm]):
            yield f"plan.json says {_short(run.digest)} for {run.arm}, seed {run.seed}: its config, data and code have another"


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
        yield f"{name}: its manifest says code {_short(manifest.code_digest)}, and the files it lists have another"
    if manifest.request and digest_by(manifest.request, manifest.code_digest) != manifest.digest:
        yield f"{name}: its digest {_short(manifest.digest)} does not follow from its request and its code"
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
        yield f"{name}: its digest {_short(manifest.digest)} is not the plan's {_short(run.digest)}"
    if plan.app is not None:
        return
    if manifest.overrides != arm.changes:
        yield f"{name}: its manifest says that it changes {manifest.overrides}, and the plan {arm.changes}"[:300]
    if manifest.data and arm.data and manifest.data != arm.data:
        yield f"{name}: it read data {_short(manifest.data)}, and the plan says {_short(arm.data)}"
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
        yield f"{name}: its digest {_short(manifest.digest)} does not follow from its config.yaml, seed, data and code"


def _short(digest: Any) -> str:
    return f"{digest[:12]}" if isinstance(digest, str) and digest else "none"
