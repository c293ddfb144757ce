"""Contamination of recorded runs, which no fingerprint shows: it fails the control, and clean records do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ablate.controls.control import Control
from ablate.controls.recorded_evidence import Evidence, with_evidence
from ablate.design.axis import Axis

IDS = np.arange(100)
RATES = np.full(40, 1e-3)
MATCHED = Control(arm="dropout=0.2", name="matched", status="unverified", sentence="not verified: no fingerprint")


def axis(key: str = "dropout", may_change: tuple[str, ...] = ()) -> Axis:
    return Axis(name=key, question="", kind="training", keys=(key,), values=(0.2,), may_change=may_change)


def recorded(
    ids: Any = IDS, rates: Any = RATES, final: tuple[float, float] = (0.5, 0.5), items: Mapping[str, Any] | None = None
) -> Evidence:
    return Evidence(items=items or {}, eval_ids=ids, rates=rates, final={"loss": final})


def check(own: Evidence, changed: Axis | None = None, baseline: Evidence | None = None) -> Control:
    return with_evidence(MATCHED, changed or axis(), {0: baseline or recorded()}, {0: own})


def test_clean_records_leave_the_control_as_it_is() -> None:
    assert check(recorded()) is MATCHED
    assert check(recorded(ids=None, rates=None)) is MATCHED
    assert with_evidence(MATCHED, axis(), {}, {3: recorded(ids=IDS + 7)}) is MATCHED, "no seed in common"


def test_another_half_of_the_evaluation_set_is_a_contamination() -> None:
    found = check(recorded(ids=IDS[50:]), baseline=recorded(ids=IDS[:50]))
    assert found.status == "failed"
    assert "seed 0: evaluated on other examples than the baseline (0 in common, of 50 and 50)" in found.sentence
    subset = check(recorded(ids=IDS[:60]))
    assert "(60 in common, of 60 and 100)" in subset.sentence


def test_a_rate_that_doubles_from_step_10_on_is_a_contamination() -> None:
    rates = np.where(np.arange(40) >= 9, 2e-3, 1e-3)
    found = check(recorded(rates=rates))
    assert found.status == "failed"
    assert "learning rate 0.002 at step 10, where the baseline has 0.001" in found.sentence
    assert "(31 such steps)" in found.sentence


@pytest.mark.parametrize("changed", [axis("lr"), axis("optim.warmup_ratio"), axis("model", ("optimizer.lr",))])
def test_an_axis_on_the_rate_may_change_it(changed: Axis) -> None:
    assert check(recorded(rates=2 * RATES), changed) is MATCHED


def test_rates_are_left_to_the_declared_schedule_and_to_equal_numbers_of_steps() -> None:
    declared = recorded(rates=2 * RATES, items={"rates": {}})
    assert check(declared) is MATCHED
    assert check(recorded(rates=RATES[:20] / 2)) is MATCHED


def test_an_axis_on_the_evaluation_set_may_change_it() -> None:
    assert check(recorded(ids=IDS[:50]), axis("data.eval_test_ratio")) is MATCHED
    assert check(recorded(ids=IDS[:50]), axis("model", ("eval_set",))) is MATCHED
    assert check(recorded(ids=IDS[:50]), axis("evalSubset")) is MATCHED


def test_an_axis_that_only_changes_the_number_of_evaluations_may_not() -> None:
    found = check(recorded(ids=IDS[50:]), axis("data.batch_size", ("evaluations", "total_steps")))
    assert found.status == "failed"
    assert "evaluated on other examples" in found.sentence


def test_an_evaluation_that_its_predictions_contradict_is_a_contamination() -> None:
    for changed in (axis(), None):
        found = with_evidence(MATCHED, changed, {0: recorded()}, {0: recorded(final=(0.35, 0.91))})
        assert found.status == "failed"
        assert "predictions give a final loss of 0.35, and its evaluations 0.91" in found.sentence


def test_a_control_that_failed_already_keeps_its_reason() -> None:
    failed = Control(arm="dropout=0.2", name="matched", status="failed", sentence="contaminated: init")
    assert with_evidence(failed, axis(), {0: recorded()}, {0: recorded(ids=IDS[:3])}) is failed
