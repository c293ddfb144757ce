"""Each outcome against a record whose value is known by hand, and fair between 16 and 128 steps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import ConfigError
from ablate.metrics.curves import falling, valley
from ablate.metrics.metric import Record
from ablate.metrics.registry import METRICS, check_metric, check_recorded, get_metric, one_slip
from ablate.metrics.step_metrics import spread
from ablate.records.reader import EvalCurve, Trace
from ablate.records.schema import TRACE


def trace(norms: list[float], *, batch: int = 8, **columns: Any) -> Trace:
    n = len(norms)
    made: dict[str, Any] = {
        "step": range(1, n + 1),
        "epoch": [0.0] * n,
        "samples": [batch * k for k in range(1, n + 1)],
        "tokens": [0] * n,
        "loss": [0.5] * n,
        "grad_norm": norms,
        "clip_coefficient": [1.0] * n,
        "applied": [True] * n,
        "learning_rate": [1e-4] * n,
        "loss_scale": [1.0] * n,
        "step_seconds": [0.25] * n,
        "group_norms": [[]] * n,
        "update_ratios": [[]] * n,
        "micro_samples": [0] * n,
        "micro_grad_norm": [None] * n,
    }
    return Trace(pa.table({**made, **columns}, schema=TRACE))


def curve(samples: list[int], values: list[float]) -> EvalCurve:
    at = np.asarray(samples, dtype=np.int64)
    value, count = np.asarray(values, dtype=np.float64), np.full(len(at), 256)
    return EvalCurve(at // 8, at, at / 1000, at / 100, value, count, np.full(len(at), 0.01))


def value(
    name: str, *, norms: list[float] | None = None, common: list[int] | None = None, **given: Any
) -> float | None:
    loss = given.pop("loss_curve", curve([0, 64, 128, 192], [0.7, 0.6, 0.5, 0.55]))
    looks = np.asarray(common if common is not None else [0, 64, 128, 192], dtype=np.int64)
    accuracy = curve([0, 64, 128, 192], [0.5, 0.7, 0.8, 0.75])
    record = Record(
        trace=trace(norms or [1.0] * 20, **given), curves={"loss": loss, "accuracy": accuracy}, common=looks
    )
    return METRICS[name](record)


def test_last_and_best_are_kept_apart() -> None:
    assert value("eval_loss") == 0.55
    assert value("best_eval_loss") == 0.5
    assert value("eval_accuracy") == 0.75
    assert value("best_eval_accuracy") == 0.8


def test_best_counts_only_the_looks_that_all_runs_have() -> None:
    assert value("best_eval_loss", common=[0, 64, 192]) == 0.55
    assert value("best_eval_loss", common=[0]) is None


def test_the_area_is_the_mean_loss_over_the_budget() -> None:
    assert value("eval_loss_auc") == pytest.approx((0.65 + 0.55 + 0.525) / 3)
    assert value("eval_loss_auc", common=[192]) is None


def test_irregularity_is_read_after_training_began_and_needs_eight_evaluations() -> None:
    samples, values = [64 * k for k in range(9)], [9.0, 0.9, 0.8, 0.7, 0.7, 0.4, 0.6, 0.3, 0.5]
    # The nearest valley is 0.9, 0.8, 0.7, 0.7, 0.5, 0.5, 0.3, 0.5: it leaves -0.1 and 0.1 in the middle, and the height is 0.6.
    log = np.log(8)
    noise_has_one = 7.09 - 2.13 * log + 0.541 * log**2 - 0.036 * log**3
    found = value("eval_loss_irregularity", loss_curve=curve(samples, values), common=samples)
    assert found == pytest.approx(noise_has_one * ((0.1**2 + 0.2**2 + 0.1**2) / 7 / 2) ** 0.5 / 0.6)
    # Without the last of them seven remain.
    assert value("eval_loss_irregularity", loss_curve=curve(samples, values), common=samples[:-1]) is None


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12))
def test_the_valley_falls_then_rises_and_no_monotone_curve_is_nearer(values: list[float]) -> None:
    y = np.asarray(values)
    fit = valley(y)
    turn = int(np.argmin(fit))
    assert all(a >= b - 1e-9 for a, b in pairwise(fit[: turn + 1]))
    assert all(a <= b + 1e-9 for a, b in pairwise(fit[turn:]))
    nearest_fall, nearest_rise = falling(y), -falling(-y)
    error = np.sum((y - fit) ** 2)
    assert error <= np.sum((y - nearest_fall) ** 2) + 1e-9
    assert error <= np.sum((y - nearest_rise) ** 2) + 1e-9


def test_norms_are_of_applied_steps_with_a_finite_gradient() -> None:
    norms = [float("inf"), 9.0, *[2.0] * 18]
    applied = [False, False] + [True] * 18
    assert value("grad_norm_max", norms=norms, applied=applied) == 2.0
    assert value("grad_norm_median", norms=[*norms[1:], float("nan")]) == 2.0


def test_clipped_share_counts_where_the_clip_bound() -> None:
    assert value("clip_fraction", clip_coefficient=[0.5] * 5 + [1.0] * 15) == 0.25


def test_train_loss_final_is_over_the_last_tenth_of_the_samples() -> None:
    assert value("final_train_loss", loss=[9.0] * 18 + [0.25, 0.75]) == pytest.approx(0.5)


def test_samples_per_second_leaves_evaluation_out() -> None:
    assert value("samples_per_second") == pytest.approx(8 / 0.25)


@pytest.mark.parametrize(
    "name", [name for name in METRICS if name.startswith(("grad_norm", "clipped", "train", "samp"))]
)
def test_a_run_without_steps_has_no_value(name: str) -> None:
    empty = Record(trace=trace([]), curves={}, common=np.asarray([], dtype=np.int64))
    assert METRICS[name](empty) is None


@pytest.mark.parametrize("name", [name for name in METRICS if "eval" in name])
def test_a_run_without_evaluations_has_no_value(name: str) -> None:
    bare = Record(trace=trace([1.0] * 20), curves={}, common=np.asarray([], dtype=np.int64))
    assert METRICS[name](bare) is None


def test_a_loss_that_is_not_a_number_is_no_value() -> None:
    broken = curve([0, 64, 128, 192], [0.7, float("nan"), 0.5, float("nan")])
    assert value("eval_loss", loss_curve=broken) is None
    assert value("eval_loss_irregularity", loss_curve=broken) is None


def test_spread_is_the_same_at_16_steps_as_at_128_and_plain_quantiles_are_not() -> None:
    """Medians over 4,000 runs of one log-normal law: few steps must not look calmer for being few."""
    rng = np.random.default_rng(16)
    few, many = (rng.lognormal(sigma=0.5, size=(4000, n)) for n in (16, 128))
    truth = np.exp(0.5 * 1.6448536) - np.exp(-0.5 * 1.6448536)
    ours = [float(np.median([spread(run) for run in runs])) for runs in (few, many)]
    plain = [
        float(np.median(np.quantile(runs, 0.95, axis=1) - np.quantile(runs, 0.05, axis=1))) for runs in (few, many)
    ]
    assert ours == pytest.approx([truth, truth], rel=0.05)
    assert plain[0] < 0.9 * plain[1]


def test_spread_needs_thirteen_steps() -> None:
    assert value("grad_norm_p95_p5", norms=[1.0, 2.0] * 6) is None
    assert value("grad_norm_p95_p5", norms=[1.0, 2.0] * 6 + [1.0]) is not None


def test_every_outcome_is_named_defined_and_has_a_side_or_says_that_it_has_none() -> None:
    for name, one in METRICS.items():
        assert one.info.name == name
        assert one.info.definition.endswith(".")
        assert one.info.lower_is_better in (True, False, None)
        check_metric(name)


def test_an_unknown_metric_is_quoted_and_the_nearest_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check_metric("eval_los")
    assert "study.metric='eval_los' is not a valid metric" in caught.value.problem
    assert "did you mean 'eval_loss'" in caught.value.problem
    assert caught.value.fix is not None
    assert "study.metric=" in caught.value.fix


def test_the_noise_scale_is_read_where_it_was_recorded() -> None:
    """One step of 8 samples, 4 in its first pass: |G|^2 = (8 * 4 - 4 * 5) / 4 = 3, S = (5 - 4) / (1/4 - 1/8) = 8."""
    made = trace([4.0**0.5], micro_samples=[4], micro_grad_norm=[5.0**0.5])
    assert METRICS["grad_noise_scale"](Record(made, {}, np.empty(0, dtype=np.int64))) == pytest.approx(8 / 3, rel=1e-6)
    assert value("grad_noise_scale", norms=[1.0] * 20) is None


def test_the_share_of_spikes() -> None:
    assert value("grad_norm_spikes", norms=[1.0] * 15 + [9.0] + [1.0] * 4) == pytest.approx(1 / 20)


def test_the_gradient_norms_99_percent_quantile_needs_67_steps() -> None:
    norms = [float(k) for k in range(1, 68)]
    assert value("grad_norm_p99", norms=norms[:66]) is None
    assert value("grad_norm_p99", norms=norms) == pytest.approx(67.0, abs=0.01)


def test_the_coefficient_of_variation_sees_rare_spikes_which_the_spread_leaves_out() -> None:
    calm, spiky = [1.0] * 400, [1.0] * 398 + [30.0] * 2
    assert value("grad_norm_cv", norms=calm) == 0.0
    assert value("grad_norm_p95_p5", norms=spiky) == value("grad_norm_p95_p5", norms=calm) == 0.0
    by_hand = np.std(spiky, ddof=1) / np.mean(spiky)
    assert value("grad_norm_cv", norms=spiky) == pytest.approx(by_hand)
    assert value("grad_norm_cv", norms=[2 * norm for norm in spiky]) == pytest.approx(by_hand)
    assert value("grad_norm_cv", norms=[0.0] * 20) is None


def test_the_overfit_gap_is_the_final_eval_loss_less_the_late_training_loss() -> None:
    assert value("generalization_gap", loss=[9.0] * 18 + [0.25, 0.75]) == pytest.approx(0.55 - 0.5)


def test_the_share_of_the_fall_before_the_first_look() -> None:
    assert value("eval_loss_decrease_before_first_eval") == pytest.approx(0.1 / 0.2)
    assert value("eval_loss_decrease_before_first_eval", common=[0, 128, 192]) == pytest.approx(1.0)
    assert value("eval_loss_decrease_before_first_eval", common=[64, 128, 192]) is None


def test_tokens_per_second() -> None:
    assert value("tokens_per_second", tokens=[10 * k for k in range(1, 21)]) == pytest.approx(40.0)
    assert value("tokens_per_second") is None


def record(samples: list[int], **curves: list[float]) -> Record:
    made = {name: curve(samples, values) for name, values in curves.items()}
    return Record(trace=trace([1.0] * 20), curves=made, common=np.asarray(samples))


def test_any_recorded_metric_is_read_by_its_name() -> None:
    made = record([0, 64, 128, 192, 256], f1=[0.1, 0.5, 0.9, 0.7, 0.8], distance=[4.0, 2.0, 1.0, 3.0, 2.5])
    assert get_metric("eval_f1")(made) == 0.8
    assert get_metric("best_eval_f1")(made) == 0.9
    assert get_metric("eval_f1").info.lower_is_better is False
    assert get_metric("min_eval_distance")(made) == 1.0
    assert get_metric("max_eval_distance")(made) == 3.0
    assert get_metric("eval_distance").info.lower_is_better is None
    assert get_metric("eval_f1_decrease_before_first_eval")(made) == pytest.approx(0.4 / 0.8)
    assert get_metric("eval_f1_auc")(made) == pytest.approx((0.3 + 0.7 + 0.8 + 0.75) / 4)
    # What rises and then falls is smooth for a metric that is to rise, and what falls and then rises is not.
    samples = [64 * k for k in range(9)]
    rising = record(samples, f1=[0.1, 0.4, 0.5, 0.6, 0.9, 0.85, 0.8, 0.75, 0.7])
    assert get_metric("eval_f1_irregularity")(rising) == 0.0
    falling = record(samples, f1=[0.1, 0.9, 0.8, 0.7, 0.4, 0.5, 0.6, 0.75, 0.8])
    assert (get_metric("eval_f1_irregularity")(falling) or 0) > 0.3
    assert get_metric("eval_f1")(record([0, 64], loss=[1.0, 0.5])) is None


def test_best_of_a_metric_whose_better_side_is_unknown_is_refused_with_what_to_type() -> None:
    with pytest.raises(ConfigError, match="the name of distance does not say which side is better") as caught:
        check_metric("best_eval_distance")
    assert caught.value.fix == "study.metric=min_eval_distance or study.metric=max_eval_distance"


@pytest.mark.parametrize(
    "typed", ["eval_los", "eval_lsos", "eval_losss", "eval_acuracy", "eval_loss_acu", "best_eval_los"]
)
def test_a_slip_of_the_hand_is_not_taken_for_another_metric(typed: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid metric; did you mean"):
        check_metric(typed)


@given(st.text("abc", min_size=1, max_size=6), st.integers(0, 5), st.sampled_from(["cut", "swap", "wrong", "more"]))
def test_one_slip_is_one_letter(word: str, place: int, how: str) -> None:
    place = min(place, len(word) - 1)
    swapped = word[:place] + word[place : place + 2][::-1] + word[place + 2 :]
    slips = {
        "cut": word[:place] + word[place + 1 :],
        "swap": swapped,
        "wrong": word[:place] + "z" + word[place + 1 :],
        "more": word[:place] + "z" + word[place:],
    }
    assert one_slip(slips[how], word) == one_slip(word, slips[how]) == (slips[how] != word)
    assert not one_slip(f"{word}zz", word)
    assert not one_slip(f"z{word}"[:-1] + "yy", word)


def test_a_target_is_reached_on_the_line_between_two_looks() -> None:
    assert get_metric("samples_to:eval_loss:0.65")(record([0, 64, 128], loss=[0.7, 0.6, 0.5])) == pytest.approx(32)
    assert get_metric("steps_to:eval_loss:0.55")(record([0, 64, 128], loss=[0.7, 0.6, 0.5])) == pytest.approx(12)
    assert get_metric("seconds_to:eval_loss:0.5")(record([0, 64, 128], loss=[0.7, 0.6, 0.5])) == pytest.approx(1.28)
    assert get_metric("samples_to:eval_f1:0.5")(record([0, 64, 128], f1=[0.0, 1.0, 0.2])) == pytest.approx(32)


def test_a_target_that_holds_from_the_start_takes_nothing_and_one_never_reached_has_no_value() -> None:
    assert get_metric("samples_to:eval_loss:0.9")(record([0, 64], loss=[0.7, 0.6])) == 0.0
    assert get_metric("samples_to:eval_loss:0.1")(record([0, 64], loss=[0.7, 0.6])) is None
    assert get_metric("samples_to:eval_loss:0.1")(record([0, 64], f1=[0.7, 0.6])) is None


def test_a_target_is_looked_for_at_the_looks_that_all_runs_have() -> None:
    made = record([0, 64, 128], loss=[0.7, 0.5, 0.6])
    sparse = replace(made, common=np.asarray([0, 128]))
    assert get_metric("samples_to:eval_loss:0.6")(made) == pytest.approx(32)
    assert get_metric("samples_to:eval_loss:0.6")(sparse) == 128


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("samples_to:eval_loss=0.6", "names no curve and target: expected samples_to:eval_<metric>:<value>"),
        ("samples_to:loss:0.6", "names no curve and target"),
        ("steps_to:", "names no curve and target"),
        ("steps_to:eval_loss:low", "the target 'low' is not a number"),
        ("steps_to:eval_loss:nan", "the target 'nan' is not a number"),
        ("seconds_to:eval_x:3", "the name of x does not say whether it is to fall to 3 or to rise to it"),
    ],
)
def test_an_incomplete_target_is_refused_with_one_that_is_complete(typed: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_metric(typed)
    assert problem in caught.value.problem
    assert "_to:eval_loss:0.6" in (caught.value.fix or "")


def test_a_metric_that_no_run_has_evaluated_is_named_with_those_that_were() -> None:
    check_recorded("eval_f1", [["loss"], ["loss", "f1"]])
    check_recorded("eval_f1", [])  # nothing has finished yet
    check_recorded("eval_loss", [["f1"]])  # a standard one has no value then, as ever
    with pytest.raises(ConfigError) as caught:
        check_recorded("best_eval_f2_score", [["loss"], ["loss", "f1_score"]])
    assert "no run has evaluated 'f2_score'; evaluated: f1_score, loss" in caught.value.problem
    assert (caught.value.fix or "").startswith("study.metric=best_eval_f1_score and another study.name")


def test_every_outcome_says_where_runs_are_compared() -> None:
    for name in (*METRICS, "eval_f1", "best_eval_f1", "samples_to:eval_loss:0.6"):
        assert get_metric(name).info.cadence


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=10))
def test_no_turn_makes_a_nearer_valley(values: list[float]) -> None:
    y = np.asarray(values)
    each = [np.concatenate([falling(y[:turn]), -falling(-y[turn:])]) for turn in range(1, len(y))]
    nearest_error = min(float(np.sum((y - fit) ** 2)) for fit in [*each, falling(y)])
    assert float(np.sum((y - valley(y)) ** 2)) == pytest.approx(nearest_error, abs=1e-9)


def test_a_metric_whose_own_name_ends_in_auc_is_read_at_the_final_evaluation() -> None:
    made = record([0, 64, 128], roc_auc=[0.5, 0.7, 0.8])
    assert get_metric("eval_roc_auc")(made) == pytest.approx(0.8)
    assert get_metric("eval_roc_auc").recorded_as == "roc_auc"
    assert get_metric("eval_loss_auc").recorded_as == "loss"
