"""The second source of variance: the contrasts of the primary metric over new seeds and new examples alike.

Never in the place of the verdict, which is about the evaluation set that the study had: beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.load import RunFiles
from ablate.analysis.results import Contrast, Examples, Holds, OverExamples
from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.formatting import change, counted, joined, plain_figure, plain_percent
from ablate.metrics.eval_metrics import eval_metric
from ablate.records.reader import Predictions, read_predictions
from ablate.stats.example_variance import widened
from ablate.stats.rates import paired_examples
from ablate.stats.verdicts import DECIDED

Values = NDArray[np.float64]
BySeed = Mapping[int, RunFiles]

THIS_SET = "the claims are about this evaluation set: the sampling of its examples is not part of the intervals"


def over_examples(plan: Plan, runs: Sequence[RunFiles], contrasts: Sequence[Contrast]) -> Examples | None:
    """Of every contrast of the primary metric; None in a study without contrasts."""
    primary = [one for one in contrasts if one.primary]
    if not primary:
        return None
    metric = _mean_over_examples(plan.metric)
    finished: dict[str, dict[int, RunFiles]] = {arm.name: {} for arm in plan.arms}
    for run in runs:
        if run.finished and run.trace is not None:
            finished[run.arm][run.seed] = run
    kept = [run for mine in finished.values() for run in mine.values() if run.folder.predictions.exists()]
    if metric is None or not kept:
        why = "" if kept else "; no run has kept its examples"
        why = why if metric is not None else f"; {plan.metric} is no mean over them"
        return Examples(metric=plan.metric, scope=THIS_SET + why)
    reader = _Reader(metric)
    found = tuple(_one(reader, one, finished[plan.baseline.name], finished[one.arm], plan) for one in primary)
    return Examples(
        metric=plan.metric,
        scope=_scope(plan, found, reader),
        examples=reader.examples,
        groups=reader.groups,
        contrasts=found,
    )


def _mean_over_examples(name: str) -> str | None:
    """The recorded metric whose final value an outcome is; None for any other outcome."""
    metric = eval_metric(name)
    return metric.recorded_as if metric is not None and name == f"eval_{metric.recorded_as}" else None


class _RefusedError(Exception):
    """Why a contrast has no interval over examples, in words."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of one evaluation set: ids in ascending order, and each example's items and the place of its group among all groups."""

    id: NDArray[np.int64]
    items: NDArray[np.int64]
    place: NDArray[np.int64]

    def same(self, other: _Layout) -> bool:
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("id", "items", "place"))


class _Reader:
    """Reads a run's examples once: the baseline's are needed for every contrast."""

    def __init__(self, metric: str) -> None:
        self.metric, self.examples, self.groups = metric, 0, 0
        self._known: dict[str, tuple[_Layout, Values, Values | None]] = {}

    def read(self, run: RunFiles) -> tuple[_Layout, Values, Values | None]:
        """The layout, the metric's sums, and whether each example is right where that is known. Raises _RefusedError."""
        key = str(run.folder.path)
        if key not in self._known:
            self._known[key] = self._read(run)
            layout = self._known[key][0]
            self.examples, self.groups = len(layout.id), int(layout.place.max()) + 1
        return self._known[key]

    def _read(self, run: RunFiles) -> tuple[_Layout, Values, Values | None]:
        name = f"seed {run.seed} of {run.arm}"
        if not run.folder.predictions.exists():
            raise _RefusedError(f"{name} has not kept its examples")
        try:
            found = read_predictions(run.folder.predictions)
        except RecordError as error:
            raise _RefusedError(str(error.problem)) from None
        curve = (run.curves or {}).get(self.metric)
        if self.metric not in found.metrics or curve is None or not len(found) or not len(curve):
            raise _RefusedError(f"{name} has kept no {self.metric} of each example")
        if found.step != curve.step[-1]:
            raise _RefusedError(
                f"examples are kept after step {found.step}, and {name} is read at step {curve.step[-1]}"
            )
        order = np.argsort(found["id"], kind="stable")
        items, sums = found["items"][order].astype(np.int64), found[self.metric][order]
        _, place = np.unique(found["group"][order], return_inverse=True)
        value = float(np.sum(sums) / max(int(np.sum(items)), 1))
        off = abs(value - float(curve.value[-1]))
        if np.min(items) < 1 or not off <= 1e-6 * max(1.0, abs(value)):
            raise _RefusedError(
                f"the kept examples of {name} give {plain_figure(value, 6)}, and its evaluation {plain_figure(float(curve.value[-1]), 6)}: "
                "they are not of this run"
            )
        return _Layout(found["id"][order].astype(np.int64), items, place), sums, _right(found, order, items)


def _right(found: Predictions, order: NDArray[np.int64], items: NDArray[np.int64]) -> Values | None:
    if "accuracy" not in found.metrics or np.any(items != 1):
        return None
    right = found["accuracy"][order]
    return right if np.all((right == 0) | (right == 1)) else None


def _one(reader: _Reader, contrast: Contrast, baseline: BySeed, arm: BySeed, plan: Plan) -> OverExamples:
    if contrast.verdict == "none":
        return OverExamples(arm=contrast.arm, refused="a control failed, so there is no claim to widen")
    try:
        return _told(reader, contrast, baseline, arm, plan)
    except _RefusedError as reason:
        return OverExamples(
            arm=contrast.arm, refused=str(reason), sentence=f"{contrast.arm}: no interval over new examples: {reason}"
        )


def _told(reader: _Reader, contrast: Contrast, baseline: BySeed, arm: BySeed, plan: Plan) -> OverExamples:
    error, low, high = contrast.error, contrast.low, contrast.high
    if contrast.effect is None or error is None or low is None or high is None or not error > 0 or contrast.df < 1:
        raise _RefusedError("there is no interval over seeds to widen")
    if len(contrast.seeds) < 2:
        raise _RefusedError(f"{counted(len(contrast.seeds), 'seed')} in both arms")
    layout, left, left_right = _matrix(reader, [baseline[seed] for seed in contrast.seeds])
    other, right, right_right = _matrix(reader, [arm[seed] for seed in contrast.seeds])
    if not layout.same(other):
        raise _RefusedError(_unlike(contrast.arm, plan.baseline.name, layout, other))
    groups = int(layout.place.max()) + 1
    if groups < 2:
        raise _RefusedError(
            f"all {len(layout.id)} examples were drawn together, so that nothing tells how others would do"
        )
    found = widened(_linear(right - left, layout, contrast.effect), error, contrast.df)
    half = found.half_width((high - low) / 2, error, contrast.df)
    told = OverExamples(
        arm=contrast.arm,
        seeds=contrast.seeds,
        low=contrast.effect - half,
        high=contrast.effect + half,
        df=found.df,
        example_share=found.example_share,
        paired=None
        if left_right is None or right_right is None
        else paired_examples(left_right, right_right, layout.place),
    )
    inner = None
    if contrast.inner_low is not None and contrast.inner_high is not None:
        inner = found.half_width((contrast.inner_high - contrast.inner_low) / 2, error, contrast.df)
    if plan.arm(contrast.arm).kind != "placebo":  # of which nothing is claimed
        told = replace(told, holds=_holds(contrast, half, inner, plan.smallest_effect))
    return replace(told, sentence=_sentence(contrast, told))


def _matrix(reader: _Reader, runs: Sequence[RunFiles]) -> tuple[_Layout, Values, Values | None]:
    """One layout of all runs, the sums [seeds, examples], and which are right."""
    found = [reader.read(run) for run in runs]
    layout = found[0][0]
    for run, (one, *_) in zip(runs, found, strict=True):
        if not one.same(layout):
            raise _RefusedError(_unlike(f"seed {run.seed} of {run.arm}", f"seed {runs[0].seed}", layout, one))
    right = [one for *_, one in found if one is not None]
    return layout, np.stack([sums for _, sums, _ in found]), np.stack(right) if len(right) == len(found) else None


def _unlike(name: str, than: str, first: _Layout, second: _Layout) -> str:
    common = len(np.intersect1d(first.id, second.id))
    if common == len(first.id) == len(second.id):
        return f"{name} was evaluated on other contents of the same {common} examples than {than}"
    return (
        f"{name} was evaluated on other examples than {than} ({common} in common, of {len(second.id)} and {len(first.id)}): "
        "a difference between them would be one between examples"
    )


def _linear(differences: Values, layout: _Layout, effect: float) -> Values:
    """What each group contributes [seeds, groups], so that the mean over groups is the metric's difference: groups of unequal
    numbers of items count by their items (the linear term of a ratio of two sums)."""
    groups = int(layout.place.max()) + 1
    sums = np.stack([np.bincount(layout.place, weights=row, minlength=groups) for row in differences])
    items = np.bincount(layout.place, weights=layout.items, minlength=groups)
    return np.asarray(effect + (sums - items * effect) / np.mean(items))


def _holds(contrast: Contrast, half: float, inner: float | None, margin: float) -> Holds:
    effect = contrast.effect or 0.0
    if contrast.verdict in DECIDED:
        return "new examples too" if abs(effect) > half else "this evaluation set only"
    if contrast.verdict == "equivalent":
        return "new examples too" if inner is not None and abs(effect) + inner < margin else "this evaluation set only"
    return ""


def _sentence(contrast: Contrast, told: OverExamples) -> str:
    assert contrast.effect is not None
    assert told.low is not None
    assert told.high is not None
    about = {
        "new examples too": "holds for new examples of this kind as well",
        "this evaluation set only": "holds for this evaluation set only",
        "": "over new examples as well",
    }[told.holds]
    subject = f"{contrast.arm}, {contrast.metric}: "
    subject += f"`{contrast.verdict}` {about}" if told.holds else about
    share = f"the examples make {plain_percent(told.example_share or 0.0)} of the squared error"
    return f"{subject}: {change(contrast.effect, told.low, told.high)} over seeds and examples; {share}{_pairs(told)}"


def _pairs(told: OverExamples) -> str:
    """`; of 256 examples, 12.3 only the baseline gets right and 30 only the arm, per seed (exact p 0.0021, these runs)`."""
    one = told.paired
    if one is None:
        return ""
    if one.only_baseline == one.only_arm == 0:
        return f"; both get the very same of the {one.examples} examples right"
    return (
        f"; of {one.examples} examples, only the baseline gets {plain_figure(one.only_baseline)} right and only the arm "
        f"{plain_figure(one.only_arm)}, per seed (in every seed {one.always_baseline} and {one.always_arm}; exact p over examples "
        f"{plain_figure(one.p_value, 2) if one.p_value >= 1e-4 else 'under 0.0001'}, of these runs)"
    )


def _scope(plan: Plan, found: Sequence[OverExamples], reader: _Reader) -> str:
    """What the claims are about: new examples where that is shown, this evaluation set where it is not."""
    told = [one for one in found if one.low is not None and plan.arm(one.arm).kind != "placebo"]
    refused = [one for one in found if one.low is None and one.sentence and plan.arm(one.arm).kind != "placebo"]
    if not told:
        reasons = dict.fromkeys(one.refused for one in refused)
        return THIS_SET + (f"; {'; '.join(reasons)}" if reasons else "")
    size = counted(reader.examples, "example")
    if reader.groups != reader.examples:
        size += f" in {counted(reader.groups, 'group')}"
    said = [f"beside each verdict stands an interval over seeds and {size}, about new examples of this kind as well"]
    both, only = (
        [one.arm for one in told if one.holds == holds] for holds in ("new examples too", "this evaluation set only")
    )
    said += [f"the verdict holds there too: {joined(both)}"] if both else []
    said += [f"the verdict holds for this evaluation set only: {joined(only)}"] if only else []
    said += [f"{one.arm} has none, because {one.refused}" for one in refused]
    return "; ".join(said)
