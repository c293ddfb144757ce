"""Outcomes of an eval curve, for any metric that a run records: `eval_loss`, `best_eval_f1`, `eval_loss_roughness`."""

from __future__ import annotations

import re

import numpy as np

from ablate.metrics.curve_fits import rms, valley
from ablate.metrics.metric import COMMON_LOOKS, FINAL_LOOK, MetricInfo, Outcome, Reading, Record

FEWEST_LOOKS = 4
"""Three points are always a fall, a rise, or one of each; roughness begins with the fourth."""

FORMS = (
    "eval_{}",
    "best_eval_{}",
    "min_eval_{}",
    "max_eval_{}",
    "eval_{}_roughness",
    "eval_{}_auc",
    "eval_{}_decrease_before_first_eval",
)
"""What can be read from the eval curve of a metric; `best` only where the metric's name says which side is the better one."""

LOWER = ("loss", "nll", "perplexity", "entropy", "error", "mae", "mse", "rmse", "wer", "cer", "ece", "brier")
HIGHER = ("accuracy", "f1", "precision", "recall", "auc", "auroc", "ndcg", "bleu", "rouge", "mcc", "r2", "score")
"""Words in a metric's name that say which side is the better one."""


def lower_is_better(metric: str) -> bool | None:
    """The better side of a recorded metric, told by the words of its name; None where they do not say, or contradict."""
    words = re.split(r"[^a-z0-9]+", metric.lower())
    low, high = (any(word in sides for word in words) for sides in (LOWER, HIGHER))
    return low if low != high else None


def eval_outcome(name: str) -> Outcome | None:
    """The outcome that a name of one of the `FORMS` stands for; None for another name."""
    for form in reversed(FORMS):  # `eval_{}` last: it would take all the others for metrics
        head, _, tail = form.partition("{}")
        metric = name[len(head) : len(name) - len(tail)]
        if name.startswith(head) and name.endswith(tail) and re.fullmatch(r"[\w./@-]+", metric):
            return _of(form, name, metric)
    return None


def _of(form: str, name: str, metric: str) -> Outcome | None:
    side = lower_is_better(metric)
    unit = "nats" if metric == "loss" else ""

    def made(read: Reading, lower_better: bool | None, definition: str, cadence: str, unit: str = unit) -> Outcome:
        info = MetricInfo(name=name, unit=unit, definition=definition, lower_is_better=lower_better, cadence=cadence)
        return Outcome(info, read, "eval", metric)

    if form == "eval_{}":
        return made(_last(metric), side, _final(metric), FINAL_LOOK)
    if form == "eval_{}_auc":
        early = {True: " Low when it falls early.", False: " High when it rises early."}
        text = f"Mean eval {metric} over the budget: trapezoids over samples, at {COMMON_LOOKS}."
        return made(_area(metric), side, text + (early[side] if side is not None else ""), COMMON_LOOKS)
    if form == "eval_{}_roughness":
        move, back = ("rise", "fall") if side is False else ("fall", "rise")
        text = (
            f"Root mean square distance of the eval {metric} from the nearest curve that {move}s and then {back}s, at "
            f"{COMMON_LOOKS}. A smooth {move} is 0 however steep, and so is the smooth {back} of an overfit; a zigzag is not."
        )
        return made(_roughness(metric, rises=side is False), True, text, COMMON_LOOKS)
    if form == "eval_{}_decrease_before_first_eval":
        gain = "rise" if side is False else "fall"
        text = (
            f"Share of the whole {gain} of the eval {metric}, from the look before training to the best one, that had happened "
            f"by the first look after training began, at {COMMON_LOOKS}. It says how late one looked, not how well it went."
        )
        return made(_decrease_before_first_eval(metric, rises=side is False), None, text, COMMON_LOOKS, unit="")
    lowest = side if form == "best_eval_{}" else form == "min_eval_{}"
    return None if lowest is None else made(_best(metric, lowest), lowest, _extreme(metric, lowest), COMMON_LOOKS)


def _final(metric: str) -> str:
    known = {
        "loss": "Mean loss over the evaluation set at the final look.",
        "accuracy": "Share of the evaluation set that is right at the final look.",
    }
    return known.get(metric, f"Mean of `{metric}` over the evaluation set at the final look.")


def _extreme(metric: str, lowest: bool) -> str:
    first, more = ("Lowest", "a lower") if lowest else ("Highest", "a higher")
    return f"{first} eval {metric} after training began, at {COMMON_LOOKS}: more looks alone would find {more} one."


def _last(metric: str) -> Reading:
    def read(record: Record) -> float | None:
        curve = record.curves.get(metric)
        return float(curve.value[-1]) if curve is not None and len(curve) and curve.step[-1] > 0 else None

    return read


def _best(metric: str, lowest: bool) -> Reading:
    def read(record: Record) -> float | None:
        looks = record.at_common_looks(metric)
        trained = looks[1][looks[0] > 0] if looks else ()
        return float(np.min(trained) if lowest else np.max(trained)) if len(trained) else None

    return read


def _roughness(metric: str, *, rises: bool) -> Reading:
    def read(record: Record) -> float | None:
        looks = record.at_common_looks(metric)
        if looks is None or len(looks[1]) < FEWEST_LOOKS or not np.isfinite(looks[1]).all():
            return None
        values = -looks[1] if rises else looks[1]
        return rms(values - valley(values))

    return read


def _area(metric: str) -> Reading:
    def read(record: Record) -> float | None:
        looks = record.at_common_looks(metric)
        if looks is None or len(looks[0]) < 2:
            return None
        samples, values = looks
        return float(np.trapezoid(values, samples) / (samples[-1] - samples[0]))

    return read


def _decrease_before_first_eval(metric: str, *, rises: bool) -> Reading:
    def read(record: Record) -> float | None:
        looks = record.at_common_looks(metric)
        if looks is None or len(looks[0]) < 2 or looks[0][0] > 0:
            return None
        values = -looks[1] if rises else looks[1]
        fall = float(values[0] - np.min(values))
        return float(values[0] - values[1]) / fall if fall > 0 else None

    return read
