"""Each outcome against a record whose value is known by hand, and fair between 16 and 128 steps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.analysis.curves import falling, valley
from ablate.analysis.outcomes import OUTCOMES, Record, check_metric, spread
from ablate.errors import ConfigError
from ablate.record.columns import TRACE
from ablate.record.reader import EvalCurve, Trace


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
    return OUTCOMES[name](record)


def test_last_and_best_are_kept_apart() -> None:
    assert value("eval_loss") == 0.55
    assert value("best_eval_loss") == 0.5
    assert value("eval_accuracy") == 0.75
    assert value("best_eval_accuracy") == 0.8


def test_best_counts_only_the_looks_that_all_runs_have() -> None:
    assert value("best_eval_loss", common=[0, 64, 192]) == 0.55
    assert value("best_eval_loss", common=[0]) is None


def test_the_area_is_the_mean_loss_over_the_budget() -> None:
    assert value("eval_loss_area") == pytest.approx((0.65 + 0.55 + 0.525) / 3)
    assert value("eval_loss_area", common=[192]) is None


def test_a_smooth_fall_and_a_smooth_overfit_are_not_rough_but_a_zigzag_is() -> None:
    looks = [0, 64, 128, 192, 256]
    rough = {
        name: value("eval_loss_roughness", loss_curve=curve(looks, values), common=looks)
        for name, values in {
            "steep": [0.7, 0.4, 0.35, 0.34, 0.34],
            "overfit": [0.7, 0.4, 0.3, 0.4, 0.6],
            "zigzag": [0.7, 0.4, 0.6, 0.3, 0.5],
        }.items()
    }
    assert rough["steep"] == rough["overfit"] == pytest.approx(0.0)
    # The nearest valley merges 0.4 and 0.6 into 0.5 twice and keeps the rise at the end.
    assert rough["zigzag"] == pytest.approx(np.sqrt(2 * 0.1**2 / 5))


def test_roughness_needs_a_fourth_look() -> None:
    assert value("eval_loss_roughness", common=[0, 64, 128]) is None


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
    assert value("clipped_share", clip_coefficient=[0.5] * 5 + [1.0] * 15) == 0.25


def test_train_loss_final_is_over_the_last_tenth_of_the_samples() -> None:
    assert value("train_loss_final", loss=[9.0] * 18 + [0.25, 0.75]) == pytest.approx(0.5)


def test_samples_per_second_leaves_evaluation_out() -> None:
    assert value("samples_per_second") == pytest.approx(8 / 0.25)


@pytest.mark.parametrize(
    "name", [name for name in OUTCOMES if name.startswith(("grad_norm", "clipped", "train", "samp"))]
)
def test_a_run_without_steps_has_no_value(name: str) -> None:
    empty = Record(trace=trace([]), curves={}, common=np.asarray([], dtype=np.int64))
    assert OUTCOMES[name](empty) is None


@pytest.mark.parametrize("name", [name for name in OUTCOMES if "eval" in name])
def test_a_run_without_evaluations_has_no_value(name: str) -> None:
    bare = Record(trace=trace([1.0] * 20), curves={}, common=np.asarray([], dtype=np.int64))
    assert OUTCOMES[name](bare) is None


def test_a_loss_that_is_not_a_number_is_no_value() -> None:
    broken = curve([0, 64, 128, 192], [0.7, float("nan"), 0.5, float("nan")])
    assert value("eval_loss", loss_curve=broken) is None
    assert value("eval_loss_roughness", loss_curve=broken) is None


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
    assert value("grad_norm_spread", norms=[1.0, 2.0] * 6) is None
    assert value("grad_norm_spread", norms=[1.0, 2.0] * 6 + [1.0]) is not None


def test_every_outcome_is_named_defined_and_has_a_side_or_says_that_it_has_none() -> None:
    for name, outcome in OUTCOMES.items():
        assert outcome.info.name == name
        assert outcome.info.definition.endswith(".")
        assert outcome.info.lower_is_better in (True, False, None)
        check_metric(name)


def test_an_unknown_metric_is_quoted_and_the_nearest_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check_metric("eval_los")
    assert "study.metric='eval_los' is not an outcome" in caught.value.problem
    assert "did you mean 'eval_loss'" in caught.value.problem
    assert caught.value.fix is not None
    assert "study.metric=" in caught.value.fix


def test_the_noise_scale_is_read_where_it_was_recorded() -> None:
    """One step of 8 samples, 4 in its first pass: |G|^2 = (8 * 4 - 4 * 5) / 4 = 3, S = (5 - 4) / (1/4 - 1/8) = 8."""
    made = trace([4.0**0.5], micro_samples=[4], micro_grad_norm=[5.0**0.5])
    assert OUTCOMES["grad_noise_scale"](Record(made, {}, np.empty(0, dtype=np.int64))) == pytest.approx(8 / 3, rel=1e-6)
    assert value("grad_noise_scale", norms=[1.0] * 20) is None


def test_the_share_of_spikes() -> None:
    assert value("grad_norm_spikes", norms=[1.0] * 15 + [9.0] + [1.0] * 4) == pytest.approx(1 / 20)
