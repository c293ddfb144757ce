"""Complete study folders of made-up runs: everything that a study leaves on disk, with effects that are known.

They resemble the reference study: at batch 8 the gradient norm spikes and 1,024 samples are 128 steps, at batch 64 it is
calm and they are 16 steps; the eval loss falls steeply before the first looks of a coarse cadence. The same arguments
write the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.config.schema import BASELINE, Config, DataConfig, EvalConfig, StudyConfig
from ablate.design import factorial as fraction
from ablate.design.axis import Axis
from ablate.design.designs import Corners, Mediation
from ablate.design.factorial import Factorial, joint_axis, merged
from ablate.design.plan import Arm, Plan, Run, run_digest
from ablate.hashing import digest_of
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Fingerprint, Manifest, RunStatus, Status, write_value
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import read_json, write_json, write_text

GROUPS = ("embeddings", "layer.0", "layer.1", "head")
BUDGET = 1024
LOOK_EVERY = 64
NUM_EVAL = 256

REFERENCE = (
    "batch_size=64",
    "train_test_ratio=4",
    "eval_every=128 samples",
    "eval_every=256 samples",
    "eval_every=512 samples",
    "placebo",
)

AXES = {
    axis.name: axis
    for axis in (
        Axis(
            name="batch_size",
            question="Does a larger batch calm the gradient and the eval loss?",
            kind="training",
            keys=("data.batch_size",),
            values=(64,),
            may_change=("total_steps", "schedule_steps", "effective_batch"),
            must_match=("init", "order", "splits", "eval_set", "samples_seen"),
            hypothesis="grad_norm spread falls; fewer updates per sample",
            reference="Shallue et al. 2019",
        ),
        Axis(
            name="train_test_ratio",
            question="Does more training data calm the eval loss?",
            kind="data",
            keys=("data.train_test_ratio",),
            values=(4,),
            may_change=("splits", "order", "train_examples", "epochs"),
            must_match=("init", "eval_set"),
            hypothesis="little at an equal number of samples",
        ),
        Axis(
            name="learning_rate",
            question="Does a higher learning rate help?",
            kind="training",
            keys=("optim.lr",),
            values=(1e-4,),
            may_change=("optimizer",),
            must_match=("init", "order", "splits", "eval_set"),
        ),
        Axis(
            name="max_grad_norm",
            question="Does clipping matter?",
            kind="training",
            keys=("train.max_grad_norm",),
            values=(10.0,),
            may_change=("max_grad_norm",),
            must_match=("init", "order", "splits", "eval_set"),
        ),
        Axis(
            name="eval_every",
            question="Was the irregular curve only a coarse way of looking?",
            kind="observation",
            keys=("eval.every",),
            values=("128 samples", "256 samples", "512 samples"),
            may_change=("evaluations",),
        ),
        Axis(
            name="log_every",
            question="Do rare log lines hide the gradient's spikes?",
            kind="observation",
            keys=("tracker.log_every",),
            values=("10 steps", "50 steps"),
        ),
        Axis(
            name="placebo",
            question="How far do two runs lie apart that differ in nothing but order and dropout?",
            kind="placebo",
            keys=("random_streams.order", "random_streams.dropout"),
            values=({"random_streams.order": 1000, "random_streams.dropout": 1000},),
            may_change=("order",),
            must_match=("init", "splits", "eval_set"),
        ),
        Axis(
            name="rerun",
            question="How far do two runs lie apart that differ in nothing at all?",
            kind="rerun",
            keys=("rerun",),
            values=({"rerun": 1},),
            must_match=("init", "order", "splits", "eval_set", "environment"),
            seeds=1,
        ),
    )
}


@dataclass(frozen=True)
class Shape:
    """What a made-up run looks like.

    start, end: eval loss before training and after it. tau_samples: samples in which the rest of the fall shrinks by e.
    norm_median, norm_sigma: log-normal gradient norm. spike: chance and factor of a spike.
    shift: added to the eval loss from the first step on; the known effect of the arm.
    """

    start: float = 0.692
    end: float = 0.505
    tau_samples: float = 220.0
    norm_median: float = 1.75
    norm_sigma: float = 0.35
    spike: tuple[float, float] = (0.05, 3.0)
    shift: float = 0.0


SHAPES = {
    "batch_size=64": Shape(end=0.684, tau_samples=700.0, norm_median=0.31, norm_sigma=0.2, spike=(0.0, 1.0)),
    "train_test_ratio=4": Shape(end=0.507),
}


def write_study(
    folder: Path,
    *,
    arms: Sequence[str] = REFERENCE,
    seeds: int = 3,
    effects: Mapping[str, float] | None = None,
    seed: int = 0,
    metric: str = "eval_loss",
    smallest_effect: float = 0.01,
    noise: float = 0.004,
    contaminated: str | None = None,
    no_op: str | None = None,
    drift: float = 0.0,
    diverged: Sequence[tuple[str, int]] = (),
    failed: Sequence[tuple[str, int]] = (),
    missing: Sequence[tuple[str, int]] = (),
    running: Sequence[tuple[str, int]] = (),
) -> Plan:
    """Write plan.json and one folder for every run of it.

    arms: names out of `<axis>=<level>` for the axes of `AXES`, or `placebo`; the baseline is always there.
    effects: arm name -> known shift of its final eval loss from the baseline's (replaces the reference shape).
    seed: of everything that is drawn. noise: sd of the arms' own part of the final eval loss.
    contaminated: the arm whose initial weights differ from the baseline's at seed 1 (0 when there is only one seed).
    no_op: the arm whose runs are bit-equal to the baseline's, as those of `repeat` are unless the same seed twice ends with an
    eval loss that is `drift` away. diverged, failed, missing, running: (arm, seed).
    """
    plan = make_plan(folder.name, arms=arms, seeds=seeds, metric=metric, smallest_effect=smallest_effect)
    study = StudyDir(folder)
    write_json(study.plan, {**plan.to_json(), "digest": plan.digest})
    endings: dict[tuple[str, int], Status] = {}
    for key in diverged:
        endings[key] = "diverged"
    for key in failed:
        endings[key] = "failed"
    for run in plan.runs:
        key = (run.arm, run.seed)
        if key in missing:
            continue
        shape = SHAPES.get(run.arm, Shape(shift=drift if run.arm == "rerun" else 0.0))
        if effects and run.arm in effects:
            shape = replace(Shape(), shift=effects[run.arm])
        same = run.arm in (no_op, "rerun")
        made = _make(
            Shape() if run.arm == no_op else shape,
            plan,
            run,
            seed=seed,
            noise=noise,
            twin=BASELINE if same else run.arm,
        )
        items = _fingerprint(plan.baseline if same else plan.arm(run.arm), run.seed)
        if run.arm == contaminated and run.seed == min(1, seeds - 1):
            items["init"] = {**items["init"], "layer.1": digest_of("another draw")}
        status: Status | None = None if key in running else endings.get(key, "finished")
        _write_run(study.run(run.arm, run.seed), plan, run, made, items, status)
    return plan


def make_plan(name: str, *, arms: Sequence[str], seeds: int, metric: str, smallest_effect: float) -> Plan:
    """The plan alone. Run digests come from the configs, as a planner would make them."""
    ratio = 4.0 if any(arm.startswith("train_test_ratio") for arm in arms) else None
    base = Config(
        data=DataConfig(max_examples=2000, eval_test_ratio=ratio),
        eval=EvalConfig(max_examples=NUM_EVAL),
        study=StudyConfig(seeds=seeds, metric=metric, smallest_effect=smallest_effect),
    )
    config = {key: value for key, value in asdict(base).items() if key not in ("seed", "arm")}
    made = [Arm(name=BASELINE, config=config, derived=_derived(config))]
    made += [_arm(arm, config) for arm in arms]
    code = digest_of("made-up code")
    axes = dict.fromkeys(arm.axis for arm in made if arm.axis)
    runs = [
        Run(arm=arm.name, seed=number, digest=run_digest(arm.config, seed=number, code_digest=code))
        for number in range(seeds)
        for arm in made
        if not arm.replayed and (arm.axis is None or number in AXES[arm.axis].runs_with(range(seeds)))
    ]
    return Plan(
        study=name,
        question="Which suspect made the eval loss irregular?",
        metric=metric,
        smallest_effect=smallest_effect,
        seeds=tuple(range(seeds)),
        axes=tuple(AXES[axis] for axis in axes),
        arms=tuple(made),
        runs=tuple(runs),
        code_digest=code,
        command="ablate -m axis=" + ",".join(axes),
        notes=("evaluated on the examples that every arm holds out (data.eval_test_ratio=4)",) if ratio else (),
    )


def _arm(name: str, config: dict[str, Any]) -> Arm:
    axis = AXES[name.partition("=")[0]]
    return _moved(axis, config, next(level for level in axis.values if axis.label(level) == name))


def _moved(axis: Axis, config: dict[str, Any], level: Any = None) -> Arm:
    level = axis.values[0] if level is None else level
    name, changes = axis.label(level), axis.changes(level)
    moved = json.loads(json.dumps(config))
    for key, value in changes.items():
        *groups, leaf = key.split(".")
        (moved[groups[0]] if groups else moved)[leaf] = value
    return Arm(
        name=name, axis=axis.name, value=level, kind=axis.kind, changes=changes, config=moved, derived=_derived(moved)
    )


def _derived(config: dict[str, Any]) -> dict[str, float]:
    batch, ratio = config["data"]["batch_size"], config["data"]["train_test_ratio"]
    train = round(config["data"]["max_examples"] * ratio / (ratio + 1))
    every = int(config["eval"]["every"].split()[0])
    return {
        "total_steps": BUDGET // batch,
        "warmup_steps": 0,
        "schedule_steps": BUDGET // batch,
        "evaluations": BUDGET // every + 1,
        "effective_batch": batch,
        "samples_seen": BUDGET,
        "epochs": BUDGET / train,
        "train_examples": train,
        "eval_examples": NUM_EVAL,
    }


@dataclass(frozen=True)
class _Made:
    norms: NDArray[np.float64]
    losses: NDArray[np.float64]
    looks: NDArray[np.int64]
    eval_losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    weights: str


def _make(shape: Shape, plan: Plan, run: Run, *, seed: int, noise: float, twin: str) -> _Made:
    """twin: the arm whose draws this run uses: its own, or the baseline's when the arm is a no-op."""
    batch = plan.arm(run.arm).config["data"]["batch_size"]
    steps = BUDGET // batch
    paired = np.random.default_rng([seed, run.seed])
    own = np.random.default_rng([seed, run.seed, int(digest_of(twin)[:8], 16)])
    end = shape.end + shape.shift + 0.01 * paired.standard_normal() + noise * own.standard_normal()

    def curve(samples: NDArray[np.float64], last: float) -> NDArray[np.float64]:
        fall = np.expm1(-samples / shape.tau_samples) / np.expm1(-BUDGET / shape.tau_samples)
        return np.asarray(shape.start + (last - shape.start) * fall)

    looks = np.arange(0, BUDGET + 1, LOOK_EVERY)
    wobble = 0.003 * own.standard_normal(len(looks))
    wobble[[0, -1]] = 0.0
    eval_losses = curve(looks.astype(float), end) + wobble
    seen = np.arange(1, steps + 1) * batch
    losses = curve(seen.astype(float), end) + 0.3 / np.sqrt(batch) * own.standard_normal(steps)
    norms = shape.norm_median * np.exp(shape.norm_sigma * own.standard_normal(steps))
    norms[own.random(steps) < shape.spike[0]] *= shape.spike[1]
    correct = np.round(NUM_EVAL * np.clip(1.19 - eval_losses, 0.5, 1.0))
    weights = digest_of([seed, run.seed, twin, shape.shift])
    return _Made(norms, np.maximum(losses, 0.01), looks, eval_losses, correct / NUM_EVAL, weights)


def _fingerprint(arm: Arm, seed: int) -> dict[str, Any]:
    config = arm.config
    ratio, streams, lr = config["data"]["train_test_ratio"], config["random_streams"], config["optim"]["lr"]
    batch = config["data"]["batch_size"]
    counts = [64 * 2**k for k in range(5) if 64 * 2**k <= BUDGET]
    return {
        "parameters": {"names": digest_of("names"), "count": 22_713_986, "trainable": 22_713_986},
        "init": {group: digest_of([group, seed + streams["init"]]) for group in GROUPS},
        "order": {str(n): digest_of([n, ratio, seed + streams["order"]]) for n in counts if n % batch == 0},
        "splits": {part: digest_of([part, ratio]) for part in ("train", "held_out")},
        "eval_set": {"ids": digest_of("eval set"), "count": NUM_EVAL},
        "optimizer": {"name": "adamw", "lr": lr, "weight_decay": [0.01, 0.0], "beta1": 0.9, "beta2": 0.999},
        "schedule": {f"{share:.2f}": 1 - share for share in (0.0, 0.25, 0.5, 0.75, 1.0)},
        "precision": {"autocast": "off", "scaler": False},
        "max_grad_norm": {"max": config["train"]["max_grad_norm"]},
        "dropout": {"0.1": 14},
        "loss_at_start": {"loss": 0.692},
        "environment": {"device": "cpu", "torch": "2.13.0", "num_threads": 1, "deterministic": True},
    }


def _write_run(folder: RunDir, plan: Plan, run: Run, made: _Made, items: dict[str, Any], status: Status | None) -> None:
    arm = plan.arm(run.arm)
    batch = arm.config["data"]["batch_size"]
    train = arm.derived["train_examples"]
    whole = len(made.norms)
    steps = whole if status == "finished" else whole // 2
    folder.path.mkdir(parents=True)
    write_text(folder.config, json.dumps({**arm.config, "seed": run.seed, "arm": run.arm}, indent=2) + "\n")
    write_text(folder.log, "made-up run\n")
    ended = None if status is None else "2026-01-01T00:01:25+00:00"
    manifest = Manifest(
        arm=run.arm,
        seed=run.seed,
        overrides=arm.changes,
        digest=run.digest,
        code_digest=plan.code_digest,
        versions={"torch": "2.13.0"},
        device="cpu",
        num_threads=1,
        started="2026-01-01T00:00:00+00:00",
        ended=ended,
    )
    write_value(folder, manifest)
    write_value(folder, Fingerprint(items=items))
    _write_trace(folder, made, steps, batch, train, arm.config["train"]["max_grad_norm"])
    looks = [k for k, samples in enumerate(made.looks) if samples <= steps * batch]
    _write_evals(folder, made, looks, batch, train)
    if status is not None:
        write_value(folder, _outcome(status, made, steps, batch, looks))
        # Without hashes, as an import: a test may write a table of it again.
        write_json(folder.status, read_json(folder.status) | {"files": {}}, checksum=True)


def _step_seconds(batch: int) -> float:
    return 0.04 + 0.06 * batch


def _write_trace(folder: RunDir, made: _Made, steps: int, batch: int, train: float, limit: float) -> None:
    number = np.arange(1, steps + 1)
    norms = made.norms[:steps]
    parts = np.sqrt(np.asarray([0.1, 0.2, 0.3, 0.4]))
    columns: dict[str, Any] = {
        "step": number,
        "epoch": number * batch / train,
        "samples": number * batch,
        "tokens": number * batch * 25,
        "loss": made.losses[:steps].astype(np.float32),
        "grad_norm": norms.astype(np.float32),
        "clip_coefficient": np.minimum(1.0, limit / norms).astype(np.float32),
        "applied": np.ones(steps, dtype=bool),
        "learning_rate": 5e-5 * (1 - (number - 1) / len(made.norms)),
        "loss_scale": np.ones(steps, dtype=np.float32),
        "step_seconds": np.full(steps, _step_seconds(batch)),
        "group_norms": [row.tolist() for row in np.outer(norms, parts)],
        "update_ratios": [[]] * len(norms),
        "micro_samples": [0] * len(norms),
        "micro_grad_norm": [None] * len(norms),
    }
    with TableWriter(folder.trace, TRACE, metadata={"groups": "\n".join(GROUPS)}) as table:
        for start in range(0, steps, 32):
            table.write({name: list(column[start : start + 32]) for name, column in columns.items()})


def _write_evals(folder: RunDir, made: _Made, looks: Sequence[int], batch: int, train: float) -> None:
    with TableWriter(folder.evals, EVALS) as table:
        for k in looks:
            samples = int(made.looks[k])
            table.write(
                {
                    "step": [samples // batch] * 2,
                    "epoch": [samples / train] * 2,
                    "samples": [samples] * 2,
                    "tokens": [samples * 25] * 2,
                    "train_seconds": [samples // batch * _step_seconds(batch)] * 2,
                    "eval_seconds": [1.5] * 2,
                    "split": ["held_out"] * 2,
                    "metric": ["loss", "accuracy"],
                    "sum": [made.eval_losses[k] * NUM_EVAL, made.accuracies[k] * NUM_EVAL],
                    "sum_squares": [made.eval_losses[k] ** 2 * NUM_EVAL, made.accuracies[k] * NUM_EVAL],
                    "count": [NUM_EVAL] * 2,
                }
            )


def _outcome(status: Status, made: _Made, steps: int, batch: int, looks: Sequence[int]) -> RunStatus:
    reason, sentence = {
        "finished": ("budget", f"trained for {steps} steps"),
        "diverged": (
            "non-finite gradients",
            f"10 consecutive steps had non-finite gradients, the last at step {steps}",
        ),
        "failed": ("ValueError", f"ValueError at step {steps}: made up to fail"),
        "interrupted": ("SIGINT", f"stopped by the user at step {steps}"),
    }[status]
    seconds = steps * _step_seconds(batch)
    best = int(np.argmin(made.eval_losses[looks]))
    return RunStatus(
        status=status,
        step=steps,
        reason=reason,
        message=sentence,
        weights_sha256=made.weights if status == "finished" else None,
        best={"loss": {"value": float(made.eval_losses[best]), "step": int(made.looks[best]) // batch}},
        throughput={
            "train_samples_per_second": steps * batch / seconds,
            "train_tokens_per_second": steps * batch * 25 / seconds,
            "train_steps_per_second": steps / seconds,
            "eval_samples_per_second": NUM_EVAL / 1.5,
            "train_seconds": seconds,
            "eval_seconds": 1.5 * len(looks),
        },
    )


def write_corners(
    folder: Path, corners: Corners, shifts: Mapping[int, float], *, seeds: int = 5, noise: float = 0.004
) -> Plan:
    """A study between two configs. shifts: corner -> known shift of its final eval loss; what it lacks is 0."""
    plan = corners_plan(folder.name, corners, seeds=seeds)
    study = StudyDir(folder)
    write_json(study.plan, {**plan.to_json(), "digest": plan.digest})
    numbers = {corners.arm(number): number for number in corners.numbers}
    for run in plan.runs:
        shape = Shape(shift=shifts.get(numbers[run.arm], 0.0))
        made = _make(shape, plan, run, seed=0, noise=noise, twin=run.arm)
        _write_run(study.run(run.arm, run.seed), plan, run, made, _fingerprint(plan.arm(run.arm), run.seed), "finished")
    return plan


def corners_plan(name: str, corners: Corners, *, seeds: int = 5, metric: str = "eval_loss") -> Plan:
    """The plan alone, as `ablate attribute` makes it."""
    base = make_plan(name, arms=(), seeds=seeds, metric=metric, smallest_effect=0.01)
    axes = corners.axes()
    arms = [base.baseline, *(_moved(axis, base.baseline.config) for axis in axes)]
    runs = [
        Run(arm=arm.name, seed=seed, digest=run_digest(arm.config, seed=seed, code_digest=base.code_digest))
        for seed in range(seeds)
        for arm in arms
    ]
    return replace(base, axes=axes, arms=tuple(arms), runs=tuple(runs), design=corners)


def mediation_plan(name: str, asked: Mediation, *, seeds: int = 5, metric: str = "eval_loss") -> Plan:
    """The plan alone, as `ablate mediate` makes it."""
    base = make_plan(name, arms=(), seeds=seeds, metric=metric, smallest_effect=0.01)
    config = json.loads(json.dumps(base.baseline.config))
    group, leaf = asked.key.split(".")
    config[group][leaf] = asked.levels[0]
    baseline = replace(base.baseline, config=config, derived=_derived(config))
    axes = asked.axes(())
    arms = [baseline, *(_moved(axis, config) for axis in axes)]
    runs = [
        Run(arm=arm.name, seed=seed, digest=run_digest(arm.config, seed=seed, code_digest=base.code_digest))
        for seed in range(seeds)
        for arm in arms
    ]
    return replace(base, axes=axes, arms=tuple(arms), runs=tuple(runs), design=asked)


def write_mediation(
    folder: Path, asked: Mediation, shifts: Mapping[str, float], *, seeds: int = 5, noise: float = 0.004
) -> Plan:
    """A study that holds a mediator. shifts: arm -> known shift of its final eval loss; what it lacks is 0."""
    plan = mediation_plan(folder.name, asked, seeds=seeds)
    study = StudyDir(folder)
    write_json(study.plan, {**plan.to_json(), "digest": plan.digest})
    for run in plan.runs:
        arm = plan.arm(run.arm)
        of = arm.config["train"]["noise_batch_size"] or arm.config["data"]["batch_size"]
        shape = Shape(shift=shifts.get(run.arm, 0.0), norm_median=4.2 / of**0.5)
        made = _make(shape, plan, run, seed=0, noise=noise, twin=run.arm)
        first = np.random.default_rng(
            [of, run.seed]
        ).standard_normal()  # at equal weights: the same whatever is clipped
        made.norms[0] = 4.2 / of**0.5 * np.exp(0.1 * first)
        items = _fingerprint(arm, run.seed) | {"first_step": {"loss": 0.692, "grad_norm": float(made.norms[0])}}
        if arm.config["train"]["noise_batch_size"]:
            items["grad_noise"] = {"of": of, "drawn": digest_of([of, run.seed])}
        _write_run(study.run(run.arm, run.seed), plan, run, made, items, "finished")
    return plan


TWO_LEVELS = ("batch_size", "train_test_ratio", "learning_rate", "max_grad_norm")
"""Axes of `AXES` with one level beside the baseline's."""


def crossed_cells(
    kind: str, names: Sequence[str], generators: Mapping[str, tuple[str, ...]] | None = None
) -> Factorial:
    """Of two-level axes. generators: of a fractional design."""
    axes = [AXES[name] for name in names]
    parts = [axis.label(axis.values[0]) for axis in axes]
    count = len(names)
    if kind == "fractional":
        places = [tuple(place) for place in fraction.fraction_cells(names, generators or {}).tolist()]
    else:
        places = sorted(np.ndindex(*[2] * count), key=lambda place: (sum(place), [-one for one in place]))
    if kind == "pairwise":
        places = [place for place in places if sum(place) < 3]
    arms = ["+".join(part for part, one in zip(parts, place, strict=True) if one) or BASELINE for place in places]
    return Factorial(
        kind=kind,
        names=tuple(parts if kind == "pairwise" else names),
        levels=tuple(("off", str(axis.values[0])) for axis in axes),
        parts=tuple((part,) for part in parts),
        indices=tuple(places),
        arms=tuple(arms),
        generators=dict(generators or {}),
    )


def crossed_plan(
    name: str, cells: Factorial, *, seeds: int = 5, metric: str = "eval_loss", smallest_effect: float = 0.01
) -> Plan:
    """The plan alone, as `study.design` makes it."""
    base = make_plan(name, arms=(), seeds=seeds, metric=metric, smallest_effect=smallest_effect)
    single = {axis.label(axis.values[0]): axis for axis in AXES.values()}
    axes = []
    for arm in cells.arms[1:]:
        moved = [single[part] for part in cells.moved(arm)]
        changes: dict[str, Any] = {}
        for axis in moved:
            changes = merged(changes, axis.changes(axis.values[0]), base.baseline.config)
        axes.append(moved[0] if len(moved) == 1 else joint_axis(arm, moved, changes))
    arms = [base.baseline, *(_moved(axis, base.baseline.config) for axis in axes)]
    runs = [
        Run(arm=arm.name, seed=seed, digest=run_digest(arm.config, seed=seed, code_digest=base.code_digest))
        for seed in range(seeds)
        for arm in arms
    ]
    return replace(base, axes=tuple(axes), arms=tuple(arms), runs=tuple(runs), design=cells)


def write_crossed(
    folder: Path, cells: Factorial, shifts: Mapping[str, float], *, seeds: int = 5, noise: float = 0.004
) -> Plan:
    """A study that moves several axes at once. shifts: arm -> known shift of its final eval loss; what it lacks is 0."""
    plan = crossed_plan(folder.name, cells, seeds=seeds)
    study = StudyDir(folder)
    write_json(study.plan, {**plan.to_json(), "digest": plan.digest})
    for run in plan.runs:
        made = _make(Shape(shift=shifts.get(run.arm, 0.0)), plan, run, seed=0, noise=noise, twin=run.arm)
        _write_run(study.run(run.arm, run.seed), plan, run, made, _fingerprint(plan.arm(run.arm), run.seed), "finished")
    return plan
