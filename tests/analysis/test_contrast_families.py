"""Which arms are judged together: the variants, each once, and nothing that a control spoke against."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.results import Analysis, Contrast
from ablate.records.layout import StudyDir
from ablate.records.reader import read_table
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from ablate.serialization import read_json, write_json
from tests.synthetic import write_study

RATE, RATIO = "learning_rate=0.0001", "train_test_ratio=4"


def contrast(analysis: Analysis, arm: str, metric: str = "eval_loss") -> Contrast:
    return next(one for one in analysis.contrasts if (one.arm, one.metric) == (arm, metric))


def rewrite(folder: Path, arm: str, seed: int, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """The looks of a run, each replaced by what `change` makes of it, or left out for None."""
    path = StudyDir(folder).run(arm, seed).evals
    rows = [kept for row in read_table(path).to_pylist() if (kept := change(row)) is not None]
    with TableWriter(path, EVALS) as table:
        table.write({name: [row[name] for row in rows] for name in EVALS.names})


def test_variants_are_judged_together_and_controls_by_themselves(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo", "rerun"], seeds=5, effects={RATE: -0.04})
    analysis = analyse(tmp_path / "s")
    rate, ratio, placebo = (contrast(analysis, arm) for arm in (RATE, RATIO, "placebo"))
    assert [(one.method, one.family, one.residual_df) for one in (rate, ratio)] == [("seed-blocked", 2, 8)] * 2
    assert (placebo.method, placebo.family, placebo.df) == ("own pairs", 1, 4)
    assert rate.rho == ratio.rho != placebo.rho
    assert rate.verdict == "helps"
    said = "\n".join(analysis.notes)
    assert "95% simultaneous intervals over 2 variants (Dunnett), seed-blocked; residual sd" in said
    assert "with 8 degrees of freedom; the squared error of an effect is" in said
    assert "judged alone, by a paired t test, because they are controls: placebo" in said
    assert "cannot reach 0.05 with 5 seeds: its smallest p is 0.062; from six seeds on it is reported" in said


def test_a_placebo_changes_no_interval_of_a_variant(tmp_path: Path) -> None:
    write_study(tmp_path / "with", arms=[RATE, RATIO, "placebo"], seeds=5)
    write_study(tmp_path / "without", arms=[RATE, RATIO], seeds=5)
    found = [contrast(analyse(tmp_path / name), RATE) for name in ("with", "without")]
    assert (found[0].low, found[0].high) == (found[1].low, found[1].high)


def test_one_variant_is_its_paired_t_and_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, "placebo"], seeds=6)
    analysis = analyse(tmp_path / "s")
    found = contrast(analysis, RATE)
    assert (found.method, found.family) == ("own pairs", 1)
    assert found.p_value == pytest.approx(found.own_p)
    assert any(note.startswith("95% t intervals, paired by seed") for note in analysis.notes)
    assert any("exact sign-flip p, one contrast at a time: learning_rate=0.0001 0." in note for note in analysis.notes)


@pytest.mark.parametrize("broken", [RATE, RATIO])
@pytest.mark.slow
def test_an_arm_whose_control_failed_does_not_colour_the_others(tmp_path: Path, broken: str) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=5, contaminated=broken)
    write_study(tmp_path / "alone", arms=[arm for arm in (RATE, RATIO) if arm != broken], seeds=5)
    analysis = analyse(tmp_path / "s")
    other = RATE if broken == RATIO else RATIO
    alone = contrast(analyse(tmp_path / "alone"), other)
    assert (contrast(analysis, broken).verdict, contrast(analysis, broken).family) == ("none", 1)
    assert (contrast(analysis, other).low, contrast(analysis, other).family) == (alone.low, 1)


@pytest.mark.slow
def test_two_names_for_the_same_runs_count_once(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=5)
    before = contrast(analyse(tmp_path / "s"), RATE)
    plan = read_json(tmp_path / "s/plan.json")
    plan["arms"].append(plan["arms"][1] | {"name": "learning_rate=1e-4"})
    write_json(tmp_path / "s/plan.json", plan)
    analysis = analyse(tmp_path / "s")
    first, twin = contrast(analysis, RATE), contrast(analysis, "learning_rate=1e-4")
    assert (first.low, first.family) == (twin.low, twin.family) == (before.low, 2)


@pytest.mark.slow
def test_an_arm_of_another_spread_lowers_the_weight_of_the_pool(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=8)
    for seed in range(8):
        wild = 0.3 * (-1) ** seed
        rewrite(
            tmp_path / "s",
            RATIO,
            seed,
            lambda row, wild=wild: row | {"sum": row["sum"] + wild * row["count"]} if row["metric"] == "loss" else row,
        )
    analysis = analyse(tmp_path / "s")
    rate, ratio = contrast(analysis, RATE), contrast(analysis, RATIO)
    assert rate.pool_weight == ratio.pool_weight <= 0.4
    assert (rate.error or 0.0) < (ratio.error or 0.0)


def test_lost_runs_leave_the_rest_of_their_seed_in_the_analysis(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=5, seed=1, diverged=[(RATIO, 0), (RATIO, 3)])
    analysis = analyse(tmp_path / "s")
    rate, ratio = contrast(analysis, RATE), contrast(analysis, RATIO)
    assert (rate.seeds, ratio.seeds) == ((0, 1, 2, 3, 4), (1, 2, 4))
    assert rate.residual_df == ratio.residual_df == 6
    assert {"MISSING SEEDS", "3 of 5 seeds", "LOW POWER"} <= set(ratio.labels)
    assert "MISSING SEEDS" not in rate.labels


def test_a_study_whose_runs_all_diverged_has_rates_and_no_verdict(tmp_path: Path) -> None:
    arms = ["baseline", RATE, RATIO]
    write_study(tmp_path / "s", arms=arms[1:], seeds=3, diverged=[(arm, seed) for arm in arms for seed in range(3)])
    analysis = analyse(tmp_path / "s")
    assert {one.verdict for one in analysis.contrasts} <= {"inconclusive", "none"}
    assert {(one.count, one.baseline_count, one.runs) for one in analysis.divergences} == {(3, 3, 3)}


def test_a_metric_that_some_arms_lack_leaves_the_others_judged(tmp_path: Path) -> None:
    """One arm was never asked for its eval loss, and its gradient norms are still compared."""
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=5)
    for seed in range(5):
        rewrite(tmp_path / "s", RATIO, seed, lambda row: None if row["metric"] == "loss" else row)
    analysis = analyse(tmp_path / "s")
    assert (contrast(analysis, RATIO).effect, contrast(analysis, RATIO).verdict) == (None, "inconclusive")
    assert contrast(analysis, RATE).low is not None
    assert contrast(analysis, RATIO, "grad_norm_median").low is not None


def test_nan_in_the_evals_of_one_run_costs_that_run_alone(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATE, RATIO, "placebo"], seeds=5)
    rewrite(tmp_path / "s", RATE, 2, lambda row: row | {"sum": math.nan})
    analysis = analyse(tmp_path / "s")
    assert contrast(analysis, RATE).seeds == (0, 1, 3, 4)
    assert contrast(analysis, RATIO).seeds == (0, 1, 2, 3, 4)
    assert contrast(analysis, RATE).low is not None
