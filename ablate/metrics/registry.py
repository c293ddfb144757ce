"""The outcomes by name: one number per run, each with its unit, its definition and its better side.

A definition states how arms of unequal length are made comparable: curve outcomes read only the looks that every
finished run of the study has in common, quantiles of the gradient norm are corrected for the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from ablate.errors import ConfigError, nearest
from ablate.metrics import eval_metrics as eval_outcomes
from ablate.metrics import targets
from ablate.metrics.custom import own_outcome
from ablate.metrics.custom import register as register
from ablate.metrics.eval_metrics import eval_outcome
from ablate.metrics.metric import Outcome as Outcome
from ablate.metrics.metric import Record as Record
from ablate.metrics.step_metrics import STEP_OUTCOMES
from ablate.metrics.targets import is_target, target_outcome

_OF_EVALS = (
    "eval_loss",
    "eval_accuracy",
    "best_eval_loss",
    "best_eval_accuracy",
    "eval_loss_roughness",
    "eval_loss_auc",
    "eval_loss_decrease_before_first_eval",
)

OUTCOMES: dict[str, Outcome] = {
    one.info.name: one for one in (*map(eval_outcome, _OF_EVALS), *STEP_OUTCOMES) if one is not None
}
"""Those that every study is read by. `outcome` knows more: of any recorded metric, of targets, of the user's own."""

STANDARD_METRICS = ("loss", "accuracy")

PATTERNS = (*(form.format("<metric>") for form in eval_outcomes.FORMS), *targets.FORMS, "<module>:<function>")
"""Names that stand for more outcomes than `OUTCOMES` lists."""


def outcome(name: str, *, key: str = "study.metric") -> Outcome:
    """The outcome of a name. key: what it was typed for. Raises ConfigError for a name that is none."""
    if name in OUTCOMES:
        return OUTCOMES[name]
    if is_target(name):
        return target_outcome(name, key=key)
    if ":" in name:
        return own_outcome(name, key=key)
    slip = any(one_slip(name, known) for known in OUTCOMES)  # `eval_los` is no metric `los`
    if not slip and (found := eval_outcome(name)) is not None:
        return found
    best = name.removeprefix("best_eval_")
    if not slip and name != best and best:
        raise ConfigError(
            f"{key}={name!r}: which side of {best} is the better one, its name does not say",
            f"{key}=min_eval_{best} or {key}=max_eval_{best}",
        )
    raise ConfigError(
        f"{key}={name!r} is not an outcome; {nearest(name, OUTCOMES)}",
        f"{key}=eval_loss, or one of {', '.join(list(OUTCOMES)[1:])}; {key}=eval_<metric> of another metric that your runs "
        f"evaluate, {key}=samples_to:eval_loss:0.6, or a function of yours, {key}=my_module:my_outcome",
    )


def one_slip(typed: str, meant: str) -> bool:
    """Whether one letter too many, too few, wrong or swapped with its neighbour turns one into the other."""
    if typed == meant or abs(len(typed) - len(meant)) > 1:
        return False
    short, long = sorted((typed, meant), key=len)
    start = next((place for place, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return swapped or short[start + 1 :] == long[start + 1 :]


def find(name: str) -> Outcome | None:
    """The outcome of a name; None for a name that is none, such as that of a value which an app returned."""
    try:
        return outcome(name)
    except ConfigError:
        return None


def check_metric(name: str, *, key: str = "study.metric") -> None:
    """Raise ConfigError unless `name` is an outcome."""
    outcome(name, key=key)


def check_recorded(name: str, curves: Sequence[Sequence[str]]) -> None:
    """`check_metric`, and that a metric known by its pattern alone was evaluated. curves: the metrics of each run."""
    metric = outcome(name).metric
    measured = sorted({one for run in curves for one in run})
    if name in OUTCOMES or not metric or not measured or metric in measured:
        return
    near = get_close_matches(metric, measured, n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"study.metric={name!r}: no run has evaluated {metric!r}; evaluated: {', '.join(measured)}",
        f"study.metric={name.replace(metric, near, 1)} and another study.name; runs that are done are taken over",
    )


def recorded(metrics: Iterable[str]) -> list[str]:
    """Names of the final values of all metrics that runs recorded beside the standard ones."""
    return [
        f"eval_{metric}" for metric in sorted(set(metrics) - set(STANDARD_METRICS)) if eval_outcome(f"eval_{metric}")
    ]
