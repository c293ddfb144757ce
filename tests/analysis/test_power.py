"""`ablate power`: from a pilot or from what is assumed, how many seeds; and how sure a small pilot can be of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.power import PowerOptions, power, sd_interval
from ablate.errors import ConfigError, StudyError
from ablate.stats.contrasts import decide
from ablate.stats.power import detectable_effect, residual_sd, seeds_to_decide
from tests.synthetic import write_study

ARMS = ("batch_size=64", "learning_rate=0.0001", "placebo")
SMALL = {"batch_size=64": 0.004, "learning_rate=0.0001": 0.0}


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pilot"
    write_study(folder, arms=ARMS, effects=SMALL)
    return folder


@pytest.mark.slow
def test_a_pilot_says_what_its_report_rests_on(pilot: Path) -> None:
    found = power(pilot, PowerOptions())
    one = next(one for one in analyse(pilot).contrasts if one.primary and one.method == "seed-blocked")
    assert (found.spread.sd, found.spread.rho, found.spread.df) == (one.residual_sd, one.rho, one.residual_df)
    assert found.variants == 2, "the placebo is no variant"
    assert found.effect == 0.01, "the study's own smallest effect"
    assert found.needed == seeds_to_decide(found.spread.sd, 0.01, 2)
    assert {row.seeds: row.detectable for row in found.rows}[5] == detectable_effect(5, 2, found.spread.sd)


def test_a_small_pilots_sd_is_uncertain_and_so_is_the_number_of_seeds(pilot: Path) -> None:
    found = power(pilot, PowerOptions())
    assert found.needed_low is not None
    assert found.needed is not None
    assert found.needed_high is not None
    assert found.needed_low < found.needed < found.needed_high
    assert found.needed_high > 4 * found.needed, "four degrees of freedom"


def test_the_interval_of_the_sd_holds_the_true_one_in_95_percent() -> None:
    drawn = np.random.default_rng(4).normal(size=(4000, 5)).std(axis=1, ddof=1)
    inside = [low < 1 < high for low, high in (sd_interval(float(sd), 4) for sd in drawn)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.01)


def test_the_chances_are_those_of_the_decision_rule() -> None:
    """Simulated: what is promised for an assumed sd and rho is what `decide` does with such runs."""
    found = power(None, PowerOptions(sd=0.02, rho=0.5, variants=3, effect=0.03, seeds=(6,))).rows[0]
    rng = np.random.default_rng(8)
    values = 0.02 * (np.sqrt(0.5) * rng.normal(size=(4000, 1, 6)) + np.sqrt(0.5) * rng.normal(size=(4000, 4, 6)))
    equal = np.mean(decide(values, 0.03).within[:, 0])
    values[:, 1] += 0.03
    finds = np.mean(decide(values, 0.03).differs[:, 0])
    assert found.finds == pytest.approx(finds, abs=0.035)
    assert found.equals == pytest.approx(equal, abs=0.035)


def test_another_level_and_chance_cost_seeds() -> None:
    def needed(**more: float) -> int:
        found = power(None, PowerOptions(sd=0.02, rho=0.5, effect=0.02, **more)).needed  # type: ignore[arg-type]
        assert found is not None
        return found

    assert needed() < needed(chance=0.9)
    assert needed() < needed(level=0.99)


def test_seeds_that_correlate_need_fewer() -> None:
    loose, tight = (power(None, PowerOptions(sd=0.02, rho=rho, effect=0.02)).needed for rho in (0.0, 0.9))
    assert loose is not None
    assert tight is not None
    assert tight < loose / 3
    assert power(None, PowerOptions(sd=0.02, rho=0.5)).spread.sd == residual_sd(0.02, 0.5)


def test_without_an_effect_that_matters_nothing_is_said_to_decide(pilot: Path) -> None:
    found = power(pilot, PowerOptions(metric="eval_accuracy"))
    assert found.effect is None
    assert found.needed is None
    assert found.rows[0].finds is None
    assert power(pilot, PowerOptions(metric="eval_accuracy", effect=0.01)).needed is not None


def test_the_baseline_alone_tells_its_spread_and_rho_has_to_be_assumed(tmp_path: Path) -> None:
    write_study(tmp_path / "base", arms=(), seeds=4)
    plain, paired = power(tmp_path / "base", PowerOptions()), power(tmp_path / "base", PowerOptions(rho=0.5))
    assert plain.spread.df == 3
    assert "baseline alone" in plain.spread.basis
    assert paired.spread.sd == pytest.approx(plain.spread.sd * np.sqrt(0.5))


@pytest.mark.parametrize(
    ("wanted", "says", "fix"),
    [
        (PowerOptions(), "expected a pilot or an assumed spread of runs", "ablate power runs/<study>"),
        (PowerOptions(sd=0.0), "--sd 0: expected a run's standard deviation, above 0", "--sd 0.02"),
        (PowerOptions(sd=-1.0), "--sd -1", "--sd 0.02"),
        (PowerOptions(sd=float("nan")), "--sd nan", "--sd 0.02"),
        (PowerOptions(sd=1.0, effect=-0.5), "--smallest-effect -0.5", "--smallest-effect 0.01"),
        (
            PowerOptions(sd=1.0, rho=1.0),
            "--rho 1: the baseline and 1 variant can correlate by -1 at least",
            "--rho 0.5",
        ),
        (PowerOptions(sd=1.0, rho=-0.6, variants=2), "--rho -0.6: the baseline and 2 variants", "--rho 0.5"),
        (PowerOptions(sd=1.0, level=95), "--confidence 95: expected a share", "--confidence 0.95"),
        (PowerOptions(sd=1.0, level=0), "--confidence 0: expected a share", "--confidence 0.95"),
        (PowerOptions(sd=1.0, chance=1.0), "--power 1: expected a share", "--power 0.8"),
        (
            PowerOptions(sd=1.0, seeds=(5, 1)),
            "--seeds 1: expected numbers of seeds from 2 to 1,000",
            "--seeds 3,5,8,10",
        ),
        (PowerOptions(sd=1.0, variants=0), "--variants 0: expected 1 to 1,000", "--variants 4"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(wanted: PowerOptions, says: str, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        power(None, wanted)
    assert says in caught.value.problem
    assert fix in str(caught.value.fix)


def test_a_pilot_that_says_nothing_of_the_spread_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "one", arms=ARMS, seeds=1)
    with pytest.raises(StudyError, match="one has 1 seed with a value of eval_loss in its baseline"):
        power(tmp_path / "one", PowerOptions())
    write_study(tmp_path / "still", arms=("learning_rate=0.0001",), effects={"learning_rate=0.0001": 0.1}, noise=0.0)
    with pytest.raises(StudyError, match="every difference in eval_loss is the same in all seeds"):
        power(tmp_path / "still", PowerOptions())


def test_a_pilot_is_measured_and_not_assumed_as_well(pilot: Path) -> None:
    with pytest.raises(ConfigError, match="expected a measured or an assumed spread"):
        power(pilot, PowerOptions(sd=0.02))
    with pytest.raises(ConfigError, match=r"--rho 0.5: .*pilot has several arms"):
        power(pilot, PowerOptions(rho=0.5))
    with pytest.raises(ConfigError) as caught:
        power(pilot, PowerOptions(metric="eval_los"))
    assert "'eval_loss'" in str(caught.value.fix)
