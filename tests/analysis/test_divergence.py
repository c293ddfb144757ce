"""Divergence as an outcome of its own: who is counted, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from tests.synthetic import write_study

RATE, RATIO = "learning_rate=0.0001", "train_test_ratio=4"


def test_a_study_without_divergence_says_nothing_of_it(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=3, diverged=[("placebo", 1)], failed=[(RATE, 0)])
    analysis = analyse(tmp_path / "s")
    assert analysis.divergences == ()
    assert not any("Divergence" in sentence for sentence in analysis.conclusions)


def test_five_of_five_beside_none_is_more_often(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO], seeds=5, diverged=[(RATE, seed) for seed in range(5)])
    analysis = analyse(tmp_path / "s")
    rate, ratio = analysis.divergences
    assert (rate.arm, rate.count, rate.baseline_count, rate.runs, rate.rate) == (RATE, 5, 0, 5, 1.0)
    assert rate.p_value == pytest.approx(2 / 252 * 2), "Fisher's exact p, twice over two variants"
    assert (rate.low, rate.high) == pytest.approx((0.4782, 1.0), abs=1e-4)
    assert (ratio.count, ratio.p_value) == (0, 1.0)
    assert (
        f"{RATE} diverged in 5 of 5 seeds, the baseline in 0: more often (rate 100%, 95% interval 48% to 100%; "
        "Fisher's exact test p 0.016, Holm over 2 variants)"
    ) in "\n".join(analysis.conclusions)
    assert RATIO not in next(sentence for sentence in analysis.conclusions if "Divergence" in sentence)


def test_two_of_five_is_no_difference_shown_and_a_crash_is_no_divergence(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE], seeds=6, diverged=[(RATE, 0), (RATE, 1)], failed=[(RATE, 5)])
    (found,) = analyse(tmp_path / "s").divergences
    assert (found.count, found.runs) == (2, 5)
    assert "no difference shown" in found.sentence
