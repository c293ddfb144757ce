"""An analysis made by hand, so that a report can be asked about cases that a study rarely shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.analysis.results import Analysis, Contrast, Floor, ResampledCadence, RunReading
from ablate.controls.control import Control
from ablate.design.plan import Plan
from ablate.metrics.metric import MetricInfo

METRICS = (
    MetricInfo(name="eval_loss", unit="nats", definition="mean loss at the last look", lower_is_better=True),
    MetricInfo(name="grad_norm_p95_p5", unit="ratio", definition="99% over median", lower_is_better=None),
    MetricInfo(name="grad_norm_median", unit="", definition="median over steps", lower_is_better=None),
    MetricInfo(name="grad_norm_max", unit="", definition="largest over steps", lower_is_better=None),
)
VALUES = {
    "baseline": (0.5081, 4.2, 1.75, 7.31),
    "batch_size=64": (0.6862, 1.9, 0.312, 0.62),
    "train_test_ratio=4": (0.5049, 4.1, 1.71, 8.02),
    "placebo": (0.5102, 4.3, 1.76, 6.9),
}


def contrast(arm: str, **changes: Any) -> Contrast:
    """A contrast of that arm; batch_size 8 -> 64 hurts by 0.178 unless told otherwise."""
    made = Contrast(
        arm=arm,
        axis=arm.partition("=")[0],
        value=64,
        baseline_value=8,
        metric="eval_loss",
        unit="nats",
        primary=True,
        method="seed-blocked",
        family=2,
        effect=0.1781,
        low=0.1602,
        high=0.1960,
        inner_low=0.1631,
        inner_high=0.1931,
        seeds=(0, 1, 2),
        differences=(0.171, 0.177, 0.186),
        baseline_mean=0.5081,
        arm_mean=0.6862,
        beats=0.0,
        hedges_g=21.4,
        p_value=0.0008,
        own_p=0.0006,
        signflip_p=0.25,
        error=0.0063,
        residual_sd=0.0075,
        residual_df=4,
        pool_weight=0.7,
        df=3.6,
        rho=0.62,
        verdict="hurts",
        seeds_needed=None,
        labels=("LOW POWER",),
        sentence="batch_size 8 -> 64 raises eval_loss by 0.178 nats (95% interval [0.160, 0.196])",
    )
    return replace(made, **changes)


def analysis(plan: Plan, **changes: Any) -> Analysis:
    """The analysis of a reference-like plan (see tests/synthetic.py)."""
    questions = {axis.name: axis for axis in plan.axes}
    arms: list[dict[str, Any]] = [
        {
            "name": arm.name,
            "axis": arm.axis,
            "value": arm.value,
            "kind": arm.kind,
            "changes": arm.changes,
            "derived": arm.derived,
            "question": questions[arm.axis].question if arm.axis else "",
            "expect": questions[arm.axis].hypothesis if arm.axis else "",
            "source": questions[arm.axis].reference if arm.axis else "",
        }
        for arm in plan.arms
    ]
    made = Analysis(
        study=plan.study,
        question=plan.question,
        command=plan.command,
        metric="eval_loss",
        smallest_effect=0.01,
        seeds=plan.seeds,
        metrics=METRICS,
        arms=tuple(arms),
        contrasts=_contrasts(plan),
        divergences=(),
        replays=tuple(_replay(arm.name, arm.value, plan.seeds) for arm in plan.arms if arm.replayed),
        controls=tuple(control for arm in plan.arms[1:] if not arm.replayed for control in _controls(arm.name)),
        runs=tuple(_reading(run.arm, run.seed) for run in plan.runs),
        floors=(
            Floor(
                kind="noise",
                arms=("placebo",),
                seeds=plan.seeds,
                values={"eval_loss": 0.0121, "grad_norm_p95_p5": 0.4},
                same_weights=False,
            ),
        ),
        conclusions=(
            "batch_size 8 -> 64 calms the gradient: its spread falls from 4.2 to 1.9.",
            "The same change raises eval_loss by 0.178 nats at an equal number of samples, because it takes 16 updates "
            "instead of 128.",
            "A cadence of 512 samples hides 94% of the fall: it lies before the first look.",
        ),
        notes=plan.notes,
        complete=True,
    )
    return replace(made, **changes)


def _contrasts(plan: Plan) -> tuple[Contrast, ...]:
    known = {
        "batch_size=64": contrast("batch_size=64"),
        "train_test_ratio=4": contrast(
            "train_test_ratio=4",
            value=4,
            baseline_value=1.0,
            effect=-0.0032,
            low=-0.0211,
            high=0.0147,
            differences=(-0.011, 0.004, -0.0026),
            verdict="inconclusive",
            seeds_needed=9,
        ),
        "placebo": contrast(
            "placebo",
            value={"random_streams.order": 1000},
            baseline_value={"random_streams.order": 0},
            effect=0.0021,
            low=-0.0112,
            high=0.0154,
            differences=(0.008, -0.004, 0.0023),
            verdict="inconclusive",
            seeds_needed=40,
        ),
    }
    primary = [known[arm.name] for arm in plan.arms if arm.name in known]
    spread = [
        replace(
            item,
            metric="grad_norm_p95_p5",
            unit="ratio",
            primary=False,
            verdict="lowers",
            effect=-2.31,
            low=-2.9,
            high=-1.7,
        )
        for item in primary
        if item.arm == "batch_size=64"
    ]
    return tuple(primary + spread)


def _replay(arm: str, level: str, seeds: tuple[int, ...]) -> ResampledCadence:
    every = int(level.split()[0])
    looks = range(0, 1025, every)
    curve = tuple((look / 8, float(look), 0.505 + 0.187 * 0.99 ** (look / 4)) for look in looks)
    share = 1 - 0.99 ** (every / 4)
    return ResampledCadence(
        arm=arm,
        axis=arm.partition("=")[0],
        value=level,
        evaluations=len(curve),
        seeds=seeds,
        first_eval_step=every // 8,
        share_decrease_before_first_eval=share,
        shares=(share,) * len(seeds),
        same_trajectory=True,
        curve=(curve,) * len(seeds),
        sentence=f"looked at every {level}, {share:.0%} of the fall lies before the first look",
    )


def _controls(arm: str) -> tuple[Control, ...]:
    return (
        Control(
            arm=arm,
            name="one_variable",
            status="checked",
            sentence="differs from the baseline in one declared key",
            derived={"total_steps": [128, 16], "evaluations": [17, 17]} if arm == "batch_size=64" else {},
        ),
        Control(
            arm=arm,
            name="matched",
            status="checked",
            sentence="all that must be equal is equal in every seed",
            held=("init", "order", "splits", "eval_set") if arm == "batch_size=64" else ("init", "splits", "eval_set"),
        ),
        Control(arm=arm, name="took_effect", status="checked", sentence="the trajectory differs from the baseline's"),
    )


def _reading(arm: str, seed: int) -> RunReading:
    values: dict[str, float | None] = dict(zip((info.name for info in METRICS), VALUES[arm], strict=True))
    return RunReading(
        arm=arm,
        seed=seed,
        folder=str(Path(arm) / f"seed={seed}"),
        status="finished",
        sentence="trained for 128 steps",
        weights_sha256=f"{arm}{seed}",
        values={name: None if value is None else value * (1 + seed / 1000) for name, value in values.items()},
        throughput={"train_samples_per_second": 15.4, "train_seconds": 66.0, "eval_seconds": 25.0},
    )
