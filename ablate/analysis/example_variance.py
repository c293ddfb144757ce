"""The second source of variance: intervals of the primary metric over new seeds and new examples.

They are reported next to the verdict, which is about the evaluation set of the study, and never replace it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.results import Contrast, Examples, Holds, OverExamples
from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.formatting import change, counted, joined, plain_figure, plain_percent
from ablate.metrics.eval_metrics import eval_metric
from ablate.records.reader import Predictions, read_predictions
from ablate.records.run_files import RunFiles
from ablate.stats.example_variance import widened
from ablate.stats.rates import paired_examples
from ablate.stats.verdicts import DECIDED

Values = NDArray[np.float64]
BySeed = Mapping[int, RunFiles]

THIS_SET = "verdicts are about this evaluation set: the sampling of its examples is not part of the intervals"


def over_examples(plan: Plan, runs: Sequence[RunFiles], contrasts: Sequence[Contrast]) -> Examples | None:
    """Return the interval over examples of every contrast of the primary metric; None in a study without contrasts."""
    primary = [one for one in contrasts if one.primary]
    if not primary:
        return None
    metric = _mean_over_examples(plan.metric)
    finished: dict[str, dict[int, RunFiles]] = {arm.name: {} for arm in plan.arms}
    for run in runs:
        if run.finished and run.trace is not None:
            finished[run.arm][run.seed] = run
    saved = any(run.folder.predictions.exists() for runs_of in finished.values() for run in runs_of.values())
    if metric is None or not saved:
        reason = "no run has saved its predictions" if metric else f"{plan.metric} is not a mean over examples"
        return Examples(metric=plan.metric, scope=f"{THIS_SET}; {reason}")
    reader = _Reader(metric)
    contrasts_over_examples = tuple(
        _contrast(reader, one, finished[plan.baseline.name], finished[one.arm], plan) for one in primary
    )
    return Examples(
        metric=plan.metric,
        scope=_scope(plan, contrasts_over_examples, reader),
        examples=reader.examples,
        groups=reader.groups,
        contrasts=contrasts_over_examples,
    )


def _mean_over_examples(name: str) -> str | None:
    """The recorded metric whose final value the primary metric is; None for any other."""
    metric = eval_metric(name)
    return metric.recorded_as if metric is not None and name == f"eval_{metric.recorded_as}" else None


class _RefusedError(Exception):
    """Reason for which a contrast has no interval over examples."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """One evaluation set: ids in ascending order, and the items and the group number of each example."""

    id: NDArray[np.int64]
    items: NDArray[np.int64]
    group: NDArray[np.int64]

    def same(self, other: _Layout) -> bool:
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("id", "items", "group"))


class _Reader:
    """Reads the predictions of a run once: the baseline's are needed for every contrast."""

    def __init__(self, metric: str) -> None:
        self.metric, self.examples, self.groups = metric, 0, 0
        self._cache: dict[str, tuple[_Layout, Values, Values | None]] = {}

    def read(self, run: RunFiles) -> tuple[_Layout, Values, Values | None]:
        """Return the layout, the metric's sums, and the right examples where recorded. Raises _RefusedError."""
        key = str(run.folder.path)
        if key not in self._cache:
            self._cache[key] = self._read(run)
            layout = self._cache[key][0]
            self.examples, self.groups = len(layout.id), int(layout.group.max()) + 1
        return self._cache[key]

    def _read(self, run: RunFiles) -> tuple[_Layout, Values, Values | None]:
        name = f"seed {run.seed} of {run.arm}"
        if not run.folder.predictions.exists():
            raise _RefusedError(f"{name} has not saved its predictions")
        try:
            predictions = read_predictions(run.folder.predictions)
        except RecordError as error:
            raise _RefusedError(str(error.problem)) from None
        curve = (run.curves or {}).get(self.metric)
        if self.metric not in predictions.metrics or curve is None or not len(predictions) or not len(curve):
            raise _RefusedError(f"{name} has saved no {self.metric} of each example")
        if predictions.step != curve.step[-1]:
            raise _RefusedError(
                f"predictions are of step {predictions.step}, and {name} is read at step {curve.step[-1]}"
            )
        order = np.argsort(predictions["id"], kind="stable")
        items, sums = predictions["items"][order].astype(np.int64), predictions[self.metric][order]
        _, group = np.unique(predictions["group"][order], return_inverse=True)
        value, recorded = float(np.sum(sums) / max(int(np.sum(items)), 1)), float(curve.value[-1])
        if np.min(items) < 1 or not abs(value - recorded) <= 1e-6 * max(1.0, abs(value)):
            raise _RefusedError(
                f"the predictions of {name} give {plain_figure(value, 6)}, and its evaluation {plain_figure(recorded, 6)}: "
                "they are not of this run"
            )
        layout = _Layout(predictions["id"][order].astype(np.int64), items, group)
        return layout, sums, _right(predictions, order, items)


def _right(predictions: Predictions, order: NDArray[np.int64], items: NDArray[np.int64]) -> Values | None:
    if "accuracy" not in predictions.metrics or np.any(items != 1):
        return None
    right = predictions["accuracy"][order]
    return right if np.all((right == 0) | (right == 1)) else None


def _contrast(reader: _Reader, contrast: Contrast, baseline: BySeed, arm: BySeed, plan: Plan) -> OverExamples:
    if contrast.verdict == "none":
        return OverExamples(arm=contrast.arm, refused="a control failed, so there is no verdict to widen")
    try:
        return _widened(reader, contrast, baseline, arm, plan)
    except _RefusedError as reason:
        return OverExamples(
            arm=contrast.arm, refused=str(reason), sentence=f"{contrast.arm}: no interval over new examples: {reason}"
        )


def _widened(reader: _Reader, contrast: Contrast, baseline: BySeed, arm: BySeed, plan: Plan) -> OverExamples:
    error, low, high = contrast.error, contrast.low, contrast.high
    if contrast.effect is None or error is None or low is None or high is None or not error > 0 or contrast.df < 1:
        raise _RefusedError("there is no interval over seeds to widen")
    if len(contrast.seeds) < 2:
        raise _RefusedError(f"{counted(len(contrast.seeds), 'seed')} in both arms")
    layout, left, left_right = _matrix(reader, [baseline[seed] for seed in contrast.seeds])
    other, right, right_right = _matrix(reader, [arm[seed] for seed in contrast.seeds])
    if not layout.same(other):
        raise _RefusedError(_unlike(contrast.arm, plan.baseline.name, layout, other))
    groups = int(layout.group.max()) + 1
    if groups < 2:
        raise _RefusedError(f"all {len(layout.id)} examples were drawn together, so that results on others are unknown")
    wider = widened(_linear(right - left, layout, contrast.effect), error, contrast.df)
    half = wider.half_width((high - low) / 2, error, contrast.df)
    result = OverExamples(
        arm=contrast.arm,
        seeds=contrast.seeds,
        low=contrast.effect - half,
        high=contrast.effect + half,
        df=wider.df,
        example_share=wider.example_share,
        paired=None
        if left_right is None or right_right is None
        else paired_examples(left_right, right_right, layout.group),
    )
    inner = None
    if contrast.inner_low is not None and contrast.inner_high is not None:
        inner = wider.half_width((contrast.inner_high - contrast.inner_low) / 2, error, contrast.df)
    if plan.arm(contrast.arm).kind != "placebo":  # a placebo gets no verdict
        result = replace(result, holds=_holds(contrast, half, inner, plan.smallest_effect))
    return replace(result, sentence=_sentence(contrast, result))


def _matrix(reader: _Reader, runs: Sequence[RunFiles]) -> tuple[_Layout, Values, Values | None]:
    """The layout that all runs share, the sums [seeds, examples], and the right ones where all runs recorded them."""
    layouts, sums, right = zip(*(reader.read(run) for run in runs), strict=True)
    for run, layout in zip(runs, layouts, strict=True):
        if not layout.same(layouts[0]):
            raise _RefusedError(_unlike(f"seed {run.seed} of {run.arm}", f"seed {runs[0].seed}", layouts[0], layout))
    return layouts[0], np.stack(sums), None if any(one is None for one in right) else np.stack(right)


def _unlike(name: str, than: str, first: _Layout, second: _Layout) -> str:
    common = len(np.intersect1d(first.id, second.id))
    if common == len(first.id) == len(second.id):
        return f"{name} was evaluated on the same {common} examples as {than}, with other contents"
    return (
        f"{name} was evaluated on other examples than {than} ({common} in common, of {len(second.id)} and {len(first.id)}): "
        "a difference between them would be one of examples"
    )


def _linear(differences: Values, layout: _Layout, effect: float) -> Values:
    """Contribution of each group [seeds, groups], with the metric's difference as mean over groups.

    Groups of unequal numbers of items are weighted by their items (the linear term of a ratio of two sums).
    """
    groups = int(layout.group.max()) + 1
    sums = np.stack([np.bincount(layout.group, weights=row, minlength=groups) for row in differences])
    items = np.bincount(layout.group, weights=layout.items, minlength=groups)
    return np.asarray(effect + (sums - items * effect) / np.mean(items))


def _holds(contrast: Contrast, half: float, inner: float | None, margin: float) -> Holds:
    effect = contrast.effect or 0.0
    if contrast.verdict in DECIDED:
        return "new examples too" if abs(effect) > half else "this evaluation set only"
    if contrast.verdict == "equivalent":
        return "new examples too" if inner is not None and abs(effect) + inner < margin else "this evaluation set only"
    return ""


def _sentence(contrast: Contrast, result: OverExamples) -> str:
    assert contrast.effect is not None
    assert result.low is not None
    assert result.high is not None
    about = {
        "new examples too": "holds for new examples of this kind as well",
        "this evaluation set only": "holds for this evaluation set only",
        "": "over new examples as well",
    }[result.holds]
    subject = f"{contrast.arm}, {contrast.metric}: "
    subject += f"`{contrast.verdict}` {about}" if result.holds else about
    share = f"the examples make {plain_percent(result.example_share or 0.0)} of the squared error"
    return f"{subject}: {change(contrast.effect, result.low, result.high)} over seeds and examples; {share}{_pairs(result)}"


def _pairs(result: OverExamples) -> str:
    """`; of 256 examples, 12.3 only the baseline gets right and 30 only the arm, per seed (exact p 0.0021, these runs)`."""
    paired = result.paired
    if paired is None:
        return ""
    if paired.only_baseline == paired.only_arm == 0:
        return f"; both get the same of the {paired.examples} examples right"
    p_value = plain_figure(paired.p_value, 2) if paired.p_value >= 1e-4 else "under 0.0001"
    return (
        f"; of {paired.examples} examples, only the baseline gets {plain_figure(paired.only_baseline)} right and only the arm "
        f"{plain_figure(paired.only_arm)}, per seed (in every seed {paired.always_baseline} and {paired.always_arm}; exact p "
        f"over examples {p_value}, of these runs)"
    )


def _scope(plan: Plan, contrasts: Sequence[OverExamples], reader: _Reader) -> str:
    """What verdicts are about: new examples where that is shown, otherwise this evaluation set."""
    variants = [one for one in contrasts if plan.arm(one.arm).kind != "placebo"]
    known = [one for one in variants if one.low is not None]
    refused = [one for one in variants if one.low is None and one.sentence]
    if not known:
        return "; ".join([THIS_SET, *dict.fromkeys(one.refused for one in refused)])
    size = counted(reader.examples, "example")
    if reader.groups != reader.examples:
        size += f" in {counted(reader.groups, 'group')}"
    texts = [f"each verdict is shown with an interval over seeds and {size}, about new examples of this kind as well"]
    both, only = (
        [one.arm for one in known if one.holds == holds] for holds in ("new examples too", "this evaluation set only")
    )
    texts += [f"the verdict holds there too: {joined(both)}"] if both else []
    texts += [f"the verdict holds for this evaluation set only: {joined(only)}"] if only else []
    texts += [f"{one.arm} has none, because {one.refused}" for one in refused]
    return "; ".join(texts)
