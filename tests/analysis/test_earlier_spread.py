"""The spread that earlier studies of the same baseline had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablate.analysis.analyse import write_analysis
from ablate.analysis.power import earlier_spread
from ablate.serialization import read_json, write_json
from tests.synthetic import make_plan, write_study

RATE = "learning_rate=0.0001"


def plan_of(metric: str = "eval_loss", arms: tuple[str, ...] = ("batch_size=64",)) -> object:
    return make_plan("new", arms=arms, seeds=5, metric=metric, smallest_effect=0.02)


def test_sd_and_rho_are_medians_over_the_contrasts_of_the_same_baseline(tmp_path: Path) -> None:
    write_study(tmp_path / "before", arms=[RATE, "placebo"], seeds=6)
    analysis = write_analysis(tmp_path / "before")
    mine = [one for one in analysis.contrasts if one.metric == "eval_loss"]
    found = earlier_spread(tmp_path, plan_of())
    assert found is not None
    # One variant and one placebo are two by two: a difference has the variance of two residuals.
    assert found.sd == pytest.approx(np.median([np.std(one.differences, ddof=1) / 2**0.5 for one in mine]))
    assert found.rho == pytest.approx(np.median([one.rho for one in mine]))
    assert (found.num_contrasts, found.studies) == (2, ("before",))


def test_an_older_analysis_without_a_residual_says_the_same(tmp_path: Path) -> None:
    write_study(tmp_path / "before", arms=[RATE, "placebo"], seeds=6)
    write_analysis(tmp_path / "before")
    now = earlier_spread(tmp_path, plan_of())
    path = tmp_path / "before/analysis.json"
    stored = read_json(path)
    for one in stored["contrasts"]:
        del one["residual_sd"]
    write_json(path, stored)
    then = earlier_spread(tmp_path, plan_of())
    assert now is not None
    assert then is not None
    assert then.sd == pytest.approx(now.sd)


def test_another_baseline_or_too_few_seeds_say_nothing(tmp_path: Path) -> None:
    write_study(tmp_path / "few", arms=[RATE], seeds=2)
    write_analysis(tmp_path / "few")
    assert earlier_spread(tmp_path, plan_of()) is None
    write_study(tmp_path / "before", arms=[RATE], seeds=4)
    write_analysis(tmp_path / "before")
    assert earlier_spread(tmp_path, plan_of()) is not None
    # A train:test ratio among the arms changes what everything is evaluated on.
    assert earlier_spread(tmp_path, plan_of(arms=("train_test_ratio=4",))) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"contrasts": [{}]}'])
def test_what_cannot_be_read_is_passed_over(tmp_path: Path, text: str) -> None:
    write_study(tmp_path / "broken", arms=[RATE], seeds=1)
    (tmp_path / "broken/analysis.json").write_text(text)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/analysis.json").write_text(text)
    assert earlier_spread(tmp_path, plan_of()) is None
