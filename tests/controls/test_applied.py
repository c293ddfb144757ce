"""Clipping and learning rate are checked step by step against what was declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ablate.controls.declared_settings import Made, applied

NORMS = [4.0, 0.5, 2.0, 1.0]


def made(
    coefficients: list[float], *, limit: float | None = 1.0, rates: list[float] | None = None, **items: Any
) -> Made:
    trace = {
        "step": [1, 2, 3, 4],
        "grad_norm": NORMS,
        "clip_coefficient": coefficients,
        "applied": [1, 1, 1, 1],
        "learning_rate": rates or [0.1] * 4,
    }
    return Made(
        {"max_grad_norm": {"max": limit}} | items, {name: np.asarray(column, float) for name, column in trace.items()}
    )


def said(*runs: Made) -> tuple[str, str]:
    control = applied("fast", dict(enumerate(runs)))
    assert control is not None
    return control.status, control.sentence


def test_the_coefficient_is_the_limit_over_the_norm_with_or_without_what_torch_adds() -> None:
    for added in (0.0, 1e-6):
        status, sentence = said(made([min(1.0, 1.0 / (norm + added)) for norm in NORMS]))
        assert (status, sentence) == ("checked", "every step clipped as declared")


def test_a_small_limit_over_small_norms_is_no_false_alarm() -> None:
    tiny = made([1e-4 / (norm * 1e-3 + 1e-6) if norm > 0.1 else 1.0 for norm in NORMS], limit=1e-4)
    assert said(Made(tiny.items, {**tiny.trace, "grad_norm": np.asarray(NORMS) * 1e-3}))[0] == "checked"


@pytest.mark.parametrize(
    ("coefficients", "limit", "expected"),
    [
        ([0.25, 1.0, 1.0, 1.0], 1.0, "at step 3 a gradient of norm 2 was multiplied by 1 and not by 0.5"),
        ([0.25, 0.9, 0.5, 1.0], 1.0, "at step 2 a gradient of norm 0.5 was multiplied by 0.9 and not by 1"),
        (
            [0.25, 1.0, 0.5, 1.0],
            None,
            "no clipping is declared, but at step 1 a gradient of norm 4 was multiplied by 0.25",
        ),
        ([0.125, 1.0, 0.25, 0.5], 1.0, "(3 such steps)"),
    ],
)
def test_another_coefficient_is_named_with_its_step(
    coefficients: list[float], limit: float | None, expected: str
) -> None:
    status, sentence = said(made([min(1.0, 1.0 / norm) for norm in NORMS]), made(coefficients, limit=limit))
    if limit is None:
        status, sentence = said(made([1.0] * 4, limit=None), made(coefficients, limit=limit))
    assert status == "failed"
    assert sentence.startswith("not as declared: fast, seed 1: ")
    assert expected in sentence


def test_a_step_that_was_skipped_has_no_coefficient() -> None:
    one = made([float("nan"), 1.0, 0.5, 1.0])
    skipped = Made(one.items, {**one.trace, "applied": np.asarray([0.0, 1, 1, 1])})
    assert said(skipped)[0] == "checked"
    assert said(one)[0] == "failed"


CLIPPED = [0.25, 1.0, 0.5, 1.0]
LINEAR = {"shape": "linear", "warmup": 0.0}
PEAK = {"group 0": {"lr": 0.1}}


def test_the_rates_of_a_schedule_are_worked_out_anew() -> None:
    rates = [0.1 * (1 - (k + 0.5) / 4) for k in range(4)]
    right = made(CLIPPED, rates=rates, rates_=None, schedule=LINEAR, optimizer=PEAK)
    right = Made({**right.items, "rates": {"1": rates[0], "4": rates[3]}}, right.trace)
    assert said(right) == ("checked", "every step clipped as declared, every rate as scheduled")
    slow = Made(right.items, {**right.trace, "learning_rate": np.asarray([*rates[:3], 0.05])})
    status, sentence = said(slow)
    assert status == "failed"
    assert "the schedule's rate at step 4 is 0.05, but the optimizer had 0.0125" in sentence
    other = Made({**right.items, "schedule": {"shape": "constant", "warmup": 0.0}}, right.trace)
    assert (
        "a constant schedule with warm-up 0 has the rate 0.1 at step 1, but 0.0875 was recorded (4 such steps)"
        in (said(other)[1])
    )


def test_where_a_loop_of_somebody_else_tells_neither_there_is_nothing_to_say() -> None:
    assert applied("fast", {0: Made({}, {})}) is None
