"""Two floors, measured where they were planted and shown next to the effects; the placebo is a negative control."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.contrasts import PLACEBO_DIFFERS
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
    assert status(analysis, "rerun", "rerun_identical") == "checked"
    assert not any(one.arm == "rerun" for one in analysis.contrasts)
    assert not any(one.arm == "rerun" and one.name == "took_effect" for one in analysis.controls)
    assert any("Same seed twice (1 seed): identical weights, nondeterminism floor 0" in s for s in analysis.conclusions)
    # One run of it must not make the study look like one of a single seed.
    assert "LOW POWER: 3 seeds" in "\n".join(analysis.conclusions)


def test_other_weights_of_the_same_seed_give_the_floor_and_leave_the_verdict(tmp_path: Path) -> None:
    """A planted effect of 0.04 nats over eight seeds, on a machine on which a single run ends 0.05 apart."""
    effects = {RATE: -0.04}
    write_study(tmp_path / "loose", arms=[RATE, "rerun"], seeds=8, effects=effects, drift=0.05)
    loose = analyse(tmp_path / "loose")
    assert loose.floor("nondeterminism") == pytest.approx(0.05, abs=1e-6)
    assert status(loose, "rerun", "rerun_identical") == "unverified"
    found = contrast(loose, RATE)
    assert (found.verdict, found.labels) == ("helps", ())
    assert found.floor == pytest.approx(0.05, abs=1e-6)
    said = "\n".join(loose.conclusions)
    assert "different weights, 0.0500 nats apart in eval_loss: the nondeterminism floor" in said


def test_a_placebo_takes_no_verdict_away(tmp_path: Path) -> None:
    """The same study with and without it: single runs of the placebo lie further from the baseline than the effect is large."""
    effects = {RATE: 0.015}
    write_study(tmp_path / "with", arms=[RATE, "placebo"], seeds=10, effects=effects)
    write_study(tmp_path / "without", arms=[RATE], seeds=10, effects=effects)
    found = [contrast(analyse(tmp_path / name), RATE) for name in ("with", "without")]
    assert [one.verdict for one in found] == ["hurts", "hurts"]
    assert (found[0].low, found[0].high) == (found[1].low, found[1].high)
    assert (found[0].floor or 0.0) > 0.0


def test_accuracy_that_collapses_in_every_seed_hurts_with_a_placebo_too(tmp_path: Path) -> None:
    """Four axes and a placebo at three seeds; accuracy falls from 0.91 to 0.35."""
    arms = [RATE, "batch_size=64", "train_test_ratio=4", "max_grad_norm=10", "placebo"]
    write_study(tmp_path / "s", arms=arms, seeds=3, effects={RATE: 0.56})
    assert contrast(analyse(tmp_path / "s"), RATE).verdict == "hurts"


def test_a_placebo_that_differs_is_the_first_conclusion(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo"], seeds=8, effects={"placebo": 0.05})
    analysis = analyse(tmp_path / "s")
    found = contrast(analysis, "placebo")
    assert (found.verdict, found.labels) == ("hurts", (PLACEBO_DIFFERS,))
    assert analysis.conclusions[0].startswith(
        "PLACEBO DIFFERS: the placebo differs significantly from the baseline in eval_loss"
    )


def test_a_placebo_that_does_not_differ_raises_no_alarm(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo"], seeds=8)
    analysis = analyse(tmp_path / "s")
    assert contrast(analysis, "placebo").labels == ()
    assert not any("PLACEBO DIFFERS" in sentence for sentence in analysis.conclusions)
    assert any("the noise floor. Mean difference from the baseline:" in one for one in analysis.conclusions)


def test_an_arm_that_failed_a_control_measures_no_floor(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo", "rerun"], seeds=3, contaminated="placebo")
    analysis = analyse(tmp_path / "s")
    assert analysis.floor("noise") is None
    assert analysis.floor("nondeterminism") == 0.0


def test_a_repeat_that_has_not_run_yet_is_no_floor(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "rerun"], seeds=2, missing=[("rerun", 0)])
    analysis = analyse(tmp_path / "s")
    assert (analysis.floors, analysis.complete) == ((), False)
