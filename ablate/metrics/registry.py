"""The metrics by name: one number per run, each with its unit, its definition and its better side.

A definition states how arms of unequal length are made comparable: metrics of a curve use only the evaluations that every
finished run of the study has in common, quantiles of the gradient norm are corrected for the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ablate.errors import ConfigError, nearest
from ablate.metrics.custom import custom_metric
from ablate.metrics.custom import register as register
from ablate.metrics.eval_metrics import FORMS, TARGET_FORMS, eval_metric, is_target, target_metric
from ablate.metrics.metric import Metric as Metric
from ablate.metrics.metric import Record as Record
from ablate.metrics.step_metrics import STEP_METRICS

_EVAL_METRICS = (
    "eval_loss",
    "eval_accuracy",
    "best_eval_loss",
    "best_eval_accuracy",
    "eval_loss_irregularity",
    "eval_loss_auc",
    "eval_loss_decrease_before_first_eval",
)

METRICS: dict[str, Metric] = {
    metric.info.name: metric for metric in (*map(eval_metric, _EVAL_METRICS), *STEP_METRICS) if metric is not None
}
"""Those that every study reports. `get_metric` accepts more: of any recorded metric, targets, custom metrics."""

STANDARD_METRICS = ("loss", "accuracy")

PATTERNS = (*(form.format("<metric>") for form in FORMS), *TARGET_FORMS, "<module>:<function>")
"""Patterns of the names that `get_metric` accepts next to those in `METRICS`."""


def get_metric(name: str, *, key: str = "study.metric") -> Metric:
    """Return the metric of a name. key: config key of the name. Raises ConfigError for an unknown name."""
    if name in METRICS:
        return METRICS[name]
    if is_target(name):
        return target_metric(name, key=key)
    if ":" in name:
        return custom_metric(name, key=key)
    slip = any(one_slip(name, known) for known in METRICS)  # `eval_los` is a mistyped `eval_loss`, not a metric `los`
    if not slip and (metric := eval_metric(name)) is not None:
        return metric
    best = name.removeprefix("best_eval_")
    if not slip and name != best and best:
        raise ConfigError(
            f"{key}={name!r}: the name of {best} does not say which side is better",
            f"{key}=min_eval_{best} or {key}=max_eval_{best}",
        )
    raise ConfigError(
        f"{key}={name!r} is not a valid metric; {nearest(name, METRICS)}",
        f"{key}=eval_loss; {key}=eval_<metric> of another metric that your runs evaluate, {key}=samples_to:eval_loss:0.6, or a "
        f"custom function, {key}=my_module:my_metric",
    )


def find(name: str) -> Metric | None:
    """Return the metric of a name; None for an unknown name, such as that of a value which an app returned."""
    try:
        return get_metric(name)
    except ConfigError:
        return None


def one_slip(written: str, meant: str) -> bool:
    """Return True where one letter too many, too few, wrong or swapped with its neighbour turns one into the other."""
    if written == meant or abs(len(written) - len(meant)) > 1:
        return False
    short, long = sorted((written, meant), key=len)
    start = next((index for index, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]


def check_metric(name: str, *, key: str = "study.metric") -> None:
    """Raise ConfigError unless `name` is a metric."""
    get_metric(name, key=key)


def check_recorded(name: str, curves: Sequence[Sequence[str]]) -> None:
    """Check that `name` is a metric and, for one known by its pattern alone, that it was evaluated.

    curves: names of the recorded metrics of each run.
    """
    recorded_as = get_metric(name).recorded_as
    recorded_names = sorted({metric for run in curves for metric in run})
    if name in METRICS or not recorded_as or not recorded_names or recorded_as in recorded_names:
        return
    near = get_close_matches(recorded_as, recorded_names, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"study.metric={name!r}: no run has evaluated {recorded_as!r}; evaluated: {', '.join(recorded_names)}",
        f"study.metric={name.replace(recorded_as, near, 1)} and another study.name; finished runs are reused",
    )


def recorded(names: Iterable[str]) -> list[str]:
    """Return the names of the final values of all recorded metrics but the standard ones."""
    finals = (f"eval_{name}" for name in sorted(set(names) - set(STANDARD_METRICS)))
    return [final for final in finals if eval_metric(final)]
