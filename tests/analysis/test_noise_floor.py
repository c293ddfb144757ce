"""Two floors, measured where they were planted; an effect that is no larger than one of them gets no verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.contrasts import NOT_BEYOND, ONE_SIDED, WITHIN_FLOOR
from ablate.analysis.results import Analysis, Contrast
from tests.synthetic import write_study

RATE = "learning_rate=0.0001"


def contrast(analysis: Analysis, arm: str, metric: str = "eval_loss") -> Contrast:
    return next(one for one in analysis.contrasts if (one.arm, one.metric) == (arm, metric))


def status(analysis: Analysis, arm: str, name: str) -> str:
    return next(one.status for one in analysis.controls if (one.arm, one.name) == (arm, name))


def test_the_same_seed_twice_has_a_floor_of_zero_and_no_contrast(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo", "rerun"], seeds=3)
    analysis = analyse(tmp_path / "s")
    assert analysis.complete
    assert analysis.floor("nondeterminism") == 0.0
    assert analysis.floor("nondeterminism", "grad_norm_p95_p5") == 0.0
    assert (analysis.floor("noise") or 0.0) > 0.0
    assert [run.seed for run in analysis.runs if run.arm == "rerun"] == [0]
    assert status(analysis, "rerun", "rerun_identical") == "proven"
    assert not any(one.arm == "rerun" for one in analysis.contrasts)
    assert not any(one.arm == "rerun" and one.name == "took_effect" for one in analysis.controls)
    assert any("Same seed twice (1 seed): identical weights, nondeterminism floor 0" in s for s in analysis.conclusions)
    # One run of it must not make the study look like one of a single seed.
    assert "LOW POWER: 3 seeds" in "\n".join(analysis.conclusions)


def test_other_weights_of_the_same_seed_give_the_floor_and_take_verdicts_away(tmp_path: Path) -> None:
    """A planted effect of 0.04 nats, on a machine on which the same seed ends 0.05 apart."""
    effects = {RATE: -0.04}
    write_study(tmp_path / "still", arms=[RATE, "rerun"], seeds=8, effects=effects)
    write_study(tmp_path / "loose", arms=[RATE, "rerun"], seeds=8, effects=effects, drift=0.05)
    still, loose = analyse(tmp_path / "still"), analyse(tmp_path / "loose")
    assert contrast(still, RATE).verdict == "helps"
    assert loose.floor("nondeterminism") == pytest.approx(0.05, abs=1e-6)
    assert status(loose, "rerun", "rerun_identical") == "unverified"
    found = contrast(loose, RATE)
    assert (found.verdict, found.seeds_needed) == ("inconclusive", None)
    assert WITHIN_FLOOR in found.labels
    assert "within the noise floor of 0.050" in found.sentence
    said = "\n".join(loose.conclusions)
    assert "different weights, 0.0500 nats apart in eval_loss: the nondeterminism floor" in said
    assert "within the noise floor of 0.05" in said


def test_an_effect_beyond_both_floors_keeps_its_verdict(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo", "rerun"], seeds=8, effects={RATE: -0.04}, drift=0.02)
    found = contrast(analyse(tmp_path / "s"), RATE)
    assert (found.verdict, found.labels) == ("helps", ())
    assert found.floor == pytest.approx(0.02, abs=1e-6)


@pytest.mark.parametrize("shift", [0.008, -0.008])
@pytest.mark.slow
def test_no_effect_at_or_below_a_floor_is_decided_on_any_outcome(tmp_path: Path, shift: float) -> None:
    """Small true effects with little noise and a placebo that is far off: intervals exclude 0, and still nothing is claimed."""
    effects = {RATE: shift, "placebo": -shift}
    write_study(tmp_path / "s", arms=[RATE, "placebo", "rerun"], seeds=8, effects=effects, noise=0.0005, drift=0.01)
    analysis = analyse(tmp_path / "s")
    within = [
        one for one in analysis.contrasts if one.effect is not None and one.floor and abs(one.effect) <= one.floor
    ]
    assert {one.verdict for one in within} <= {"equivalent", "inconclusive"}
    found = contrast(analysis, RATE)
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high > 0
    # A smallest effect of 0.01 that matters makes this one `no effect`, which a floor leaves as it is.
    assert (found.verdict, WITHIN_FLOOR in found.labels) == ("equivalent", False)


def test_a_floor_takes_a_verdict_away_and_never_gives_one(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "rerun"], seeds=8, effects={RATE: 0.012}, noise=0.0005, drift=0.011)
    assert contrast(analyse(tmp_path / "s"), RATE).verdict == "hurts"
    write_study(tmp_path / "t", arms=[RATE, "rerun"], seeds=8, effects={RATE: 0.012}, noise=0.0005, drift=0.013)
    assert contrast(analyse(tmp_path / "t"), RATE).verdict == "inconclusive"


def test_a_placebo_that_lies_to_one_side_is_said_aloud(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=8, effects={"placebo": 0.05})
    analysis = analyse(tmp_path / "s")
    found = contrast(analysis, "placebo")
    assert (found.verdict, found.labels) == ("inconclusive", (ONE_SIDED,))
    assert any("always in one direction" in sentence for sentence in analysis.conclusions)


def test_beyond_the_floor_but_not_beyond_the_placebo_is_still_undecided(tmp_path: Path) -> None:
    """The placebo and the arm lie to the same side: larger than the floor alone is not enough."""
    effects = {RATE: 0.032, "placebo": 0.030}
    write_study(tmp_path / "s", arms=[RATE, "placebo"], seeds=8, effects=effects, noise=0.003)
    found = contrast(analyse(tmp_path / "s"), RATE)
    assert found.floor is not None
    assert found.effect is not None
    assert found.effect > found.floor
    assert (found.verdict, found.labels) == ("inconclusive", (NOT_BEYOND,))


def test_an_arm_that_failed_a_control_measures_no_floor(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo", "rerun"], seeds=3, contaminated="placebo")
    analysis = analyse(tmp_path / "s")
    assert analysis.floor("noise") is None
    assert analysis.floor("nondeterminism") == 0.0


def test_a_repeat_that_has_not_run_yet_is_no_floor(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "rerun"], seeds=2, missing=[("rerun", 0)])
    analysis = analyse(tmp_path / "s")
    assert (analysis.floors, analysis.complete) == ((), False)
