"""Did it learn? The last evaluation of every arm, compared with the one before training and with the majority class.

Two models that have learned nothing agree in everything, whatever was changed between them: a comparison of arms that did not
learn has no verdict. An arm that did not learn next to one that did is a finding, and is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ablate.analysis.answer_results import Learning
from ablate.analysis.results import Contrast
from ablate.controls.control import Control
from ablate.design.plan import Plan
from ablate.formatting import joined, plain_figure
from ablate.metrics.curves import orientation
from ablate.metrics.registry import find
from ablate.records.run_files import RunFiles

DID_NOT_LEARN = "DID NOT LEARN"
"""Label of a contrast in which one of the two arms did not learn."""

SMOKE_RUN = (
    "SMOKE RUN: a study at debug size shows that everything works. Its figures say nothing about the changes, and it has no "
    "verdicts."
)

_NOISE = 2.0
"""Standard errors by which the last evaluation has to be better."""


def learning(plan: Plan, runs: Sequence[RunFiles]) -> tuple[Learning, ...]:
    """Return one value for each arm with a finished run that was evaluated, in plan order."""
    evaluated = [run for run in runs if run.finished and run.curves]
    metric = _metric(plan, evaluated)
    by_arm = {arm.name: [run for run in evaluated if run.arm == arm.name] for arm in plan.arms}
    return tuple(_learning(arm, metric, mine) for arm, mine in by_arm.items() if mine and metric)


def _metric(plan: Plan, runs: Sequence[RunFiles]) -> str:
    """The first of accuracy, loss and the primary metric that every run evaluated; '' where there is none.

    Not the accuracy of a language model, over thousands of tokens: it stays near 0 long after the loss began to fall.
    """
    primary = find(plan.metric)
    accuracy = "" if plan.baseline.config.get("task", {}).get("name") == "causal_lm" else "accuracy"
    wanted = (accuracy, "loss", primary.recorded_as if primary is not None else "")
    return next((name for name in wanted if runs and name and all(name in (run.curves or {}) for run in runs)), "")


def _learning(arm: str, metric: str, runs: Sequence[RunFiles]) -> Learning:
    sign, seeds = orientation(metric), tuple(run.seed for run in runs)
    rows = [row for run in runs if (row := _read(run, metric, sign)) is not None]
    about = Learning(
        arm=arm, metric=metric, seeds=seeds, start=None, last=None, majority=None, noise=None, learned=None, failed_seeds=(),
        sentence=f"{arm}: not known, because there is no evaluation before training",
    )  # fmt: skip
    if len(rows) < len(runs):
        return about
    start, last, _ = (float(np.mean(column)) for column in zip(*rows, strict=True))
    spread = float(np.var([row[1] for row in rows], ddof=1)) / len(rows) if len(rows) > 1 else 0.0
    noise = _NOISE * float(np.sqrt(np.mean([row[2] ** 2 for row in rows]) + spread))
    majority = _majority(runs) if metric == "accuracy" else None
    bars = [row[0] if majority is None else max(row[0], majority) for row in rows]
    bar = start if majority is None else max(start, majority)
    learned = sign * (bar - last) > noise
    failed = [
        seed for seed, row, own in zip(seeds, rows, bars, strict=True) if not sign * (own - row[1]) > _NOISE * row[2]
    ]
    kind = "lowest " if metric == "loss" else ""
    also = "" if majority is None else f"; the majority class alone has {plain_figure(majority)}"
    figures = f"{kind}eval {metric} {plain_figure(start)} -> {plain_figure(last)}{also}; noise {plain_figure(noise, 2)}"
    some = f"; not in seed {joined(map(str, failed))}" if learned and failed else ""
    return replace(
        about,
        start=start,
        last=last,
        majority=majority,
        noise=noise,
        learned=learned,
        failed_seeds=tuple(failed),
        sentence=f"{arm} {'learned' if learned else 'did not learn'} ({figures}){some}",
    )


def _read(run: RunFiles, metric: str, sign: int) -> tuple[float, float, float] | None:
    """(value before training, the last value, its standard error); for a loss, of the lowest evaluation."""
    curve = (run.curves or {})[metric]
    trained = np.flatnonzero(curve.step > 0)
    if not len(trained) or curve.step[0] != 0 or not np.isfinite(curve.value[[0, *trained]]).all():
        return None
    index = int(trained[np.argmin(sign * curve.value[trained])]) if metric == "loss" else int(trained[-1])
    error = float(curve.standard_error[index])
    return float(curve.value[0]), float(curve.value[index]), error if np.isfinite(error) else 0.0


def _majority(runs: Sequence[RunFiles]) -> float | None:
    """Largest share of a class in the evaluation set, from the fingerprints."""
    sets = [run.fingerprint.items.get("eval_set", {}) for run in runs if run.fingerprint is not None]
    shares = [float(one["majority"]) for one in sets if isinstance(one, dict) and "majority" in one]
    return max(shares, default=None)


def learned_controls(plan: Plan, results: Sequence[Learning]) -> Iterator[Control]:
    """Yield the control `learned`: checked for an arm that did; failed for one that did not where the baseline did not either.

    An arm that did not learn next to a baseline that did keeps its verdict: `label_learning` names it.
    """
    by_arm = {one.arm: one for one in results}
    baseline = by_arm.get(plan.baseline.name)
    for one in results:
        if one.learned:
            yield Control(arm=one.arm, name="learned", status="checked", sentence=one.sentence)
        elif one.learned is False and one is not baseline and baseline is not None and baseline.learned is False:
            sentence = f"neither arm learned: {one.sentence}; {baseline.sentence}"
            yield Control(arm=one.arm, name="learned", status="failed", sentence=sentence)


def learning_sentence(plan: Plan, results: Sequence[Learning]) -> str:
    """Return the headline of arms that did not learn; '' where every arm did, or none is known not to."""
    failed = [one for one in results if one.learned is False]
    if not failed:
        return ""
    if len(failed) == len(results):
        first = next((one for one in failed if one.arm == plan.baseline.name), failed[0])
        return (
            f"No arm learned: {first.sentence}. Models that have learned nothing agree whatever is changed, so there is no "
            "verdict. Train longer, or find out why the loss does not fall."
        )
    texts = "; ".join(one.sentence for one in failed)
    if any(one.arm == plan.baseline.name for one in failed):
        return f"The baseline did not learn: {texts}. Arms that did not learn either have no verdict."
    return f"Not every arm learned: {texts}. The effect of such an arm is that of not learning."


def label_learning(one: Contrast, baseline: str, results: Sequence[Learning], *, smoke_run: bool) -> Contrast:
    """Return a contrast with the label of an arm that did not learn; one of a smoke run without its verdict."""
    if smoke_run:
        subject = one.sentence.partition(f", {one.metric}: ")[0]
        sentence = f"{subject}, {one.metric}: no verdict, because this is a smoke run at debug size"
        return replace(
            one, verdict="none", seeds_needed=None, corrected_effect=None, labels=("SMOKE RUN",), sentence=sentence
        )
    failed = any(other.learned is False and other.arm in (one.arm, baseline) for other in results)
    return replace(one, labels=(*one.labels, DID_NOT_LEARN)) if failed and one.verdict != "none" else one


def smoke_control(plan: Plan) -> Control:
    """Return the failed control that withholds the verdicts of every design."""
    return Control(
        arm=plan.baseline.name, name="smoke_run", status="failed", sentence="a study at debug size has no verdicts"
    )
