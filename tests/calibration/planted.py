"""Studies whose cause is planted, drawn by the hundred and read by the real code: from runs in memory to the conclusions.

Noise model, of every kind: a run's value is what its arm is planted to do, plus noise of sd 1 (`SD`) of single runs, of which
seeds share the part rho of the variance. A planted effect is 2 sd; a study has 5 seeds. Every draw has a seed of its own.

A draw is `right` when the conclusions name the planted cause and no other, `beside` when they name it and another too,
`wrong` when they name another in its place (or any, where nothing may be named), and otherwise `inconclusive`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal
from unittest import mock
from zlib import crc32

import numpy as np
import pyarrow as pa

from ablate.analysis import load
from ablate.analysis.analyse import analysis_of
from ablate.analysis.contrasts import PLACEBO_DIFFERS
from ablate.analysis.results import Analysis, Contrast
from ablate.config.schema import BASELINE
from ablate.design.axis import Axis
from ablate.design.designs import Corners, Held, Mediation
from ablate.design.plan import Plan, Run, run_digest
from ablate.hashing import digest_of
from ablate.metrics.registry import METRICS
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint
from ablate.records.reader import EvalCurve, Trace
from ablate.records.run_files import RunFiles
from tests.synthetic import (
    AXES,
    BUDGET,
    SHAPES,
    Shape,
    _fingerprint,
    _Made,
    _make,
    _moved,
    _outcome,
    corners_plan,
    make_plan,
    mediation_plan,
)

SD = 0.01
"""In nats: the smallest effect that matters, too."""
SEEDS = 5
RHOS = (0.5, 0.8)
"""Of the reference study at five seeds the losses have .3 to .7; stable fine-tuning has more."""
EFFECT = 2 * SD
DRAWS = 200

Named = Literal["right", "beside", "wrong", "inconclusive"]
WORDS: tuple[Named, ...] = ("right", "beside", "wrong", "inconclusive")
Truth = Callable[[tuple[int, ...]], float]

FIVE = tuple(
    AXES[name].label(AXES[name].values[0])
    for name in ("batch_size", "train_test_ratio", "learning_rate", "max_grad_norm")
)
WARMUP = Axis(
    name="warmup",
    question="",
    kind="training",
    keys=("optim.warmup_ratio",),
    values=(0.1,),
    may_change=("warmup_steps", "schedule_steps"),
)
TWO = Corners(names=("batch_size", "train_test_ratio"), moves=({"data.batch_size": 64}, {"data.train_test_ratio": 4.0}))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """planted: what is true, for the table. draw: a study of that truth, and what its conclusions are worth."""

    name: str
    planted: str
    draw: Callable[[Chance], Named]


@dataclass(frozen=True)
class Chance:
    """rho: the share of a run's variance that its seed gives it."""

    rng: np.random.Generator
    rho: float


def rates(kind: Kind, draws: int = DRAWS, rho: float = RHOS[0]) -> dict[Named, float]:
    seeds = ([crc32(kind.name.encode()), number] for number in range(draws))
    found = [kind.draw(Chance(np.random.default_rng(seed), rho)) for seed in seeds]
    return {word: found.count(word) / draws for word in WORDS}


# --- one variable at a time


@cache
def plan_of(arms: tuple[str, ...], *, warmup: bool = False) -> Plan:
    plan = make_plan("planted", arms=arms, seeds=SEEDS, metric="eval_loss", smallest_effect=SD)
    if not warmup:
        return plan
    arm = _moved(WARMUP, plan.baseline.config)
    runs = tuple(
        Run(arm=arm.name, seed=seed, digest=run_digest(arm.config, seed=seed, code_digest=plan.code_digest))
        for seed in plan.seeds
    )
    return replace(plan, axes=(*plan.axes, WARMUP), arms=(*plan.arms, arm), runs=(*plan.runs, *runs))


def values(
    chance: Chance, plan: Plan, effects: Mapping[str, float], noisy: Mapping[str, float] | None = None
) -> dict[tuple[str, int], float]:
    """{(arm, seed): value}. effects: arm -> in the value's unit. noisy: arm -> how many times the residual sd of the others."""
    rng, rho = chance.rng, chance.rho
    shared = rho**0.5 * rng.normal(size=len(plan.seeds))
    found = {}
    for arm in (arm for arm in plan.arms if not arm.replayed):
        own = (1 - rho) ** 0.5 * (noisy or {}).get(arm.name, 1.0) * rng.normal(size=len(plan.seeds))
        for number, seed in enumerate(plan.seeds):
            found[arm.name, seed] = 0.5 + effects.get(arm.name, 0.0) + SD * float(shared[number] + own[number])
    return found


def studied(
    plan: Plan,
    outcomes: Mapping[str, Mapping[tuple[str, int], float]],
    *,
    diverged: Sequence[str] = (),
    contaminated: str | None = None,
    found: Callable[[Run], Mapping[str, Any]] = lambda _: {},
) -> Analysis:
    """The analysis of runs that have these values of their outcomes, and the fingerprints that their arms should have.

    found: what a run's fingerprint has besides.
    """
    runs = []
    for run in plan.runs:
        items = {**_fingerprint(plan.arm(run.arm), run.seed), **found(run)}
        if run.arm == contaminated and run.seed == 1:
            items["init"] = {**items["init"], "layer.1": digest_of("another draw")}
        lost = run.arm in diverged
        runs.append(
            RunFiles(
                arm=run.arm,
                seed=run.seed,
                folder=RunDir(Path("planted") / run.arm / f"seed={run.seed}"),
                status="diverged" if lost else "finished",
                sentence="non-finite gradients" if lost else "",
                fingerprint=Fingerprint(items=items),
                returned=None if lost else {name: of[run.arm, run.seed] for name, of in outcomes.items()},
            )
        )
    return _analysed(plan, runs)


def _analysed(plan: Plan, runs: Sequence[RunFiles]) -> Analysis:
    """As a study is, but for the outcomes that no planted run has a value of: they would be judged for nothing."""
    with mock.patch.object(load, "METRICS", {name: METRICS[name] for name in ("eval_loss", "grad_norm_p95_p5")}):
        return analysis_of(plan, runs, Path("planted"))


def named(analysis: Analysis, metric: str = "eval_loss") -> set[str]:
    """Arms that the conclusion about a metric says to raise or lower it, from its words."""
    said = next((one for one in analysis.conclusions if one.startswith(f"{metric}: ")), "")
    mine = [one for one in analysis.contrasts if one.metric == metric]
    return {one.arm for one in mine if any(f"{_called(one)} {verb} it" in said for verb in ("raises", "lowers"))}


def _called(one: Contrast) -> str:
    return one.bundle or one.sentence.partition(f", {one.metric}:")[0]


def judged(found: set[str], truth: set[str]) -> Named:
    if not truth <= found:
        return "wrong" if found - truth else "inconclusive"
    return "right" if found == truth else "beside"


def _nothing(found: set[str]) -> Named:
    return "wrong" if found else "right"


def single(chance: Chance) -> Named:
    plan = plan_of(FIVE, warmup=True)
    return judged(named(studied(plan, {"eval_loss": values(chance, plan, {FIVE[2]: EFFECT})})), {FIVE[2]})


def single_of_two(chance: Chance) -> Named:
    plan = plan_of(FIVE[1:3])
    return judged(named(studied(plan, {"eval_loss": values(chance, plan, {FIVE[2]: EFFECT})})), {FIVE[2]})


def mediated(chance: Chance) -> Named:
    """The rate moves the gradient's spread, and all that it does to the loss goes through it. The moved key is the cause."""
    plan = plan_of(FIVE[1:4])
    spread = values(chance, plan, {FIVE[2]: EFFECT / 0.6})
    loss = values(chance, plan, {})
    through = {key: 0.8 * (value - 0.5) + 0.6 * (spread[key] - 0.5) for key, value in loss.items()}
    analysis = studied(plan, {"eval_loss": through, "grad_norm_p95_p5": spread})
    return judged(named(analysis), {FIVE[2]})


def lucky(chance: Chance) -> Named:
    """The baseline lies 2 sd from everything, the placebo too: right is to warn first that the placebo differs."""
    plan = plan_of((*FIVE[1:4], "placebo"))
    analysis = studied(plan, {"eval_loss": values(chance, plan, {BASELINE: -EFFECT})})
    warned = any(one.startswith(PLACEBO_DIFFERS) for one in analysis.conclusions)
    return "right" if warned else _nothing(named(analysis))


def noisy(chance: Chance) -> Named:
    plan = plan_of(FIVE[1:4])
    drawn = values(chance, plan, {FIVE[2]: EFFECT}, {FIVE[3]: 3.0})
    return judged(named(studied(plan, {"eval_loss": drawn})), {FIVE[2]})


def diverging(chance: Chance) -> Named:
    plan = plan_of(FIVE[1:4])
    analysis = studied(plan, {"eval_loss": values(chance, plan, {})}, diverged=(FIVE[2],))
    said = next((one for one in analysis.conclusions if one.startswith("Divergence: ")), "")
    often = {one.arm for one in analysis.divergences if "more often" in one.sentence and one.sentence in said}
    return judged(often | {f"eval_loss of {arm}" for arm in named(analysis)}, {FIVE[2]})


def secondary(chance: Chance) -> Named:
    plan = plan_of(FIVE[1:4])
    analysis = studied(
        plan, {"eval_loss": values(chance, plan, {}), "grad_norm_p95_p5": values(chance, plan, {FIVE[3]: EFFECT})}
    )
    primary = {f"eval_loss of {arm}" for arm in named(analysis)}
    return judged(primary | named(analysis, "grad_norm_p95_p5"), {FIVE[3]})


def contaminated(chance: Chance) -> Named:
    plan = plan_of(FIVE[1:4])
    drawn = values(chance, plan, {FIVE[2]: EFFECT})
    return _nothing(named(studied(plan, {"eval_loss": drawn}, contaminated=FIVE[2])))


def unequal(chance: Chance) -> Named:
    """A larger batch at the same samples has fewer updates: the change is named, and that it has two readings."""
    plan = plan_of(FIVE[:3])
    analysis = studied(plan, {"eval_loss": values(chance, plan, {FIVE[0]: EFFECT})})
    two_readings = "at the same samples, 16 updates instead of 128" in analysis.conclusions[0]
    return judged(named(analysis), {FIVE[0]}) if two_readings else "inconclusive"


# --- only a way of looking


def _traced(plan: Plan, chance: Chance) -> Analysis:
    seed = int(chance.rng.integers(1 << 31))
    runs = []
    for run in plan.runs:
        shape = SHAPES.get(run.arm, Shape())
        made = _make(shape, plan, run, seed=seed, noise=0.004, twin=run.arm)
        runs.append(
            RunFiles(
                arm=run.arm,
                seed=run.seed,
                folder=RunDir(Path("planted") / run.arm / f"seed={run.seed}"),
                status="finished",
                sentence="",
                outcome=_outcome("finished", made, len(made.norms), BUDGET // len(made.norms), range(len(made.looks))),
                fingerprint=Fingerprint(items=_fingerprint(plan.arm(run.arm), run.seed)),
                trace=_trace(made),
                curves={"loss": _curve(made)},
            )
        )
    return _analysed(plan, runs)


def _trace(made: _Made) -> Trace:
    steps = len(made.norms)
    batch = BUDGET // steps
    number = np.arange(1, steps + 1)
    columns: dict[str, Any] = {
        "step": number,
        "epoch": number * batch / 2000,
        "samples": number * batch,
        "tokens": number * batch * 25,
        "loss": made.losses.astype(np.float32),
        "grad_norm": made.norms.astype(np.float32),
        "clip_coefficient": np.minimum(1.0, 1.0 / made.norms).astype(np.float32),
        "applied": np.ones(steps, dtype=bool),
        "learning_rate": np.full(steps, 5e-5),
        "loss_scale": np.ones(steps),
        "step_seconds": np.full(steps, 0.1),
        "micro_samples": np.zeros(steps),
        "micro_grad_norm": np.full(steps, np.nan),
    }
    return Trace(table=pa.table(columns))


def _curve(made: _Made) -> EvalCurve:
    batch = BUDGET // len(made.norms)
    looks = len(made.looks)
    return EvalCurve(
        step=made.looks // batch,
        samples=made.looks,
        epoch=made.looks / 2000,
        train_seconds=made.looks * 0.01,
        value=made.eval_losses,
        count=np.full(looks, 256),
        standard_error=np.full(looks, 0.01),
    )


def hidden_fall(chance: Chance) -> Named:
    """Nine tenths of the fall lie before the first coarse look. An observation axis cannot have moved anything."""
    analysis = _traced(plan_of(("eval_every=512 samples",)), chance)
    said = next((one for one in analysis.conclusions if one.startswith("eval_every changes only what is recorded")), "")
    share = analysis.replays[0].share_decrease_before_first_eval
    told = "the same training runs, recorded less often" in said and share is not None and share > 0.5
    if any(f" {verb} it from " in one for one in analysis.conclusions for verb in ("raises", "lowers")):
        return "wrong"
    return "right" if told else "inconclusive"


def hidden_spikes(chance: Chance) -> Named:
    """Spikes at batch 8 that a row every 50 steps does not show. The record's own figures tell both."""
    analysis = _traced(plan_of(("batch_size=64", "log_every=50 steps")), chance)
    norms = next(one for one in analysis.adequacy if one.curve == "grad norm")
    coarse = [rung for rung in norms.rungs if rung.points <= BUDGET // 8 // 50 + 1]
    told = "log_every changes only what is recorded" in " ".join(analysis.conclusions) and norms.coarsest is not None
    hides = bool(coarse) and not any(rung.truthful for rung in coarse)
    return judged(named(analysis, "grad_norm_p95_p5"), {"batch_size=64"}) if told and hides else "inconclusive"


# --- two configs taken apart


@cache
def _corners() -> Plan:
    return corners_plan("planted", TWO, seeds=SEEDS)


def bisected(chance: Chance, truth: Truth) -> Analysis:
    plan = _corners()
    effects = {TWO.arm(number): truth(tuple(number >> key & 1 for key in range(2))) for number in TWO.numbers}
    return studied(plan, {"eval_loss": values(chance, plan, effects)})


def causes(analysis: Analysis) -> set[str]:
    """What the answer's first sentence names: keys, or `together`."""
    about = analysis.attribution
    assert about is not None
    if about.together:
        assert "together, and not each by itself, explain" in about.sentence
        return {"together"}
    keys = {key.name for key in about.keys}
    found = keys & set(about.significant) or keys & set(about.shapley_significant)
    assert all(key in about.sentence for key in found)
    return found


def _one_of(analysis: Analysis, truth: set[str]) -> Named:
    return judged(causes(analysis), truth)


def one_helps(chance: Chance) -> Named:
    return _one_of(bisected(chance, lambda on: -EFFECT * on[0]), {"batch_size"})


def cancel(chance: Chance) -> Named:
    """Nothing is divided; that the two work against each other is said. A single key is no right answer."""
    analysis = bisected(chance, lambda on: EFFECT * on[0] - EFFECT * on[1])
    about = analysis.attribution
    assert about is not None
    if "they work against each other" in about.sentence:
        return "right"
    return "wrong" if causes(analysis) == {"together"} else "inconclusive"


def interaction(chance: Chance) -> Named:
    """Only together. One key by itself is wrong; a part made `by itself or only with the others` is not."""
    analysis = bisected(chance, lambda on: -EFFECT * on[0] * on[1])
    about = analysis.attribution
    assert about is not None
    if set(about.significant) & {key.name for key in about.keys}:
        return "wrong"
    return "right" if causes(analysis) in ({"together"}, {"batch_size", "train_test_ratio"}) else "inconclusive"


def redundant(chance: Chance) -> Named:
    """Either does it, and both no more. Both are causes; that the second adds nothing shows in the interaction."""
    return _one_of(bisected(chance, lambda on: -EFFECT * (on[0] | on[1])), {"batch_size", "train_test_ratio"})


# --- a mediator held

NOISY = "batch_size=64+noise_batch_size=8"
NOISE = Mediation(
    key="data.batch_size",
    levels=(8, 64),
    treated="batch_size=64",
    held=(Held(mediator="grad_noise", level=8, first=BASELINE, second=NOISY),),
    arms={"batch_size=64": {"data.batch_size": 64}, NOISY: {"data.batch_size": 64, "train.noise_batch_size": 8}},
)
STAYS, GOES = {"not all", "none"}, {"some or all", "all"}
"""Verdicts of what is left and of what goes through; `part`, `beyond` and `against` claim something of both."""


@cache
def _held_plan() -> Plan:
    return mediation_plan("planted", NOISE, seeds=SEEDS)


def _held(chance: Chance, left: float, right: set[str]) -> Named:
    """left: the effect of the batch that is there with the noise of the smaller one."""
    plan = _held_plan()

    def noise(run: Run) -> dict[str, Any]:
        noisy = run.arm != "batch_size=64"
        drawn = {"grad_noise": {"of": 8, "drawn": digest_of(["noise", run.seed])}} if run.arm == NOISY else {}
        return {"first_step": {"loss": 0.692, "grad_norm": 1.8 if noisy else 0.7}, **drawn}

    made = values(chance, plan, {"batch_size=64": EFFECT, NOISY: left})
    about = studied(plan, {"eval_loss": made}, found=noise).mediated
    assert about is not None
    said = {one.verdict for one in about.held} - {"inconclusive"}
    if not said:
        return "inconclusive"
    return "right" if said <= right else "wrong"


def through_the_noise(chance: Chance) -> Named:
    return _held(chance, 0.0, GOES)


def past_the_noise(chance: Chance) -> Named:
    return _held(chance, EFFECT, STAYS)


KINDS = (
    Kind(name="one cause among five axes", planted="one of five variants changes the metric", draw=single),
    Kind(name="one cause among two axes", planted="one of two variants changes the metric", draw=single_of_two),
    Kind(name="a coarse cadence hides the decrease", planted="only the evaluation cadence", draw=hidden_fall),
    Kind(
        name="coarse log rows hide the spikes",
        planted="batch size reduces the gradient norm; the log rows hide it",
        draw=hidden_spikes,
    ),
    Kind(name="two changes, one of which helps", planted="attribute: one of two keys", draw=one_helps),
    Kind(name="only together", planted="attribute: both keys, neither alone", draw=interaction),
    Kind(name="two that cancel", planted="attribute: both keys, against each other", draw=cancel),
    Kind(name="a redundant pair", planted="attribute: either key, both no more than one", draw=redundant),
    Kind(name="through the gradient", planted="the varied key, through another metric", draw=mediated),
    Kind(
        name="all through a mediator", planted="mediate: batch size, through its gradient noise", draw=through_the_noise
    ),
    Kind(name="past a mediator", planted="mediate: batch size, not through its gradient noise", draw=past_the_noise),
    Kind(name="a lucky baseline", planted="nothing; the placebo differs too", draw=lucky),
    Kind(name="a noisy arm and a cause", planted="one variant; another has three times the spread", draw=noisy),
    Kind(name="an arm that diverges", planted="divergence, and no other metric", draw=diverging),
    Kind(name="a secondary metric alone", planted="one variant changes a secondary metric", draw=secondary),
    Kind(name="a contaminated arm", planted="the arm whose control failed: nothing may be named", draw=contaminated),
    Kind(name="batch size at equal samples", planted="batch size, or its number of updates", draw=unequal),
)
