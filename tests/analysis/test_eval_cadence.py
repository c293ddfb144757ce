"""Planted curves: what a coarse cadence hides is found, what it leaves as it was is called truthful."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ablate.analysis.analyse import analyse
from ablate.analysis.eval_cadence import MAX_SHARE, adequacy, cadence_advice, even_evaluations, ladder, row_ends
from ablate.analysis.load import common_evaluations
from ablate.analysis.resample import reduce_windows, resample, resample_trace
from ablate.analysis.results import Adequacy
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import RunDir
from ablate.records.reader import read_table
from ablate.records.run_files import RunFiles
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from ablate.stats.verdicts import judge
from tests.metrics.test_metrics import curve, trace
from tests.synthetic import make_plan, write_study

STEPS, BATCH, SEEDS = 2000, 8, 5
ARM = "learning_rate=0.0001"

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator], Values]


def fall(tau: float, looks: Values) -> Values:
    """From 0.7 to 0.5; tau: steps in which the rest of the fall shrinks by e."""
    return 0.5 + 0.2 * np.exp(-looks / tau)


def planted(
    *, metric: str, every: int = 100, tau: Mapping[str, float] | None = None, norms: Mapping[str, Draw] | None = None
) -> dict[str, Adequacy]:
    """Two arms of five seeds whose curves are known; verdicts are those of the judge. every: steps between two looks."""
    plan = make_plan("planted", arms=[ARM], seeds=SEEDS, metric=metric, smallest_effect=0.01)
    steps = np.arange(0, STEPS + 1, every)
    runs = []
    for number, arm in enumerate(("baseline", ARM)):
        for seed in range(SEEDS):
            rng = np.random.default_rng([number, seed])
            offset = 0.002 * rng.standard_normal()
            loss = (
                fall((tau or {}).get(arm, 30.0), steps)
                + offset * steps / STEPS
                + 1e-6 * rng.standard_normal(len(steps))
            )
            drawn = norms[arm](rng) if norms else np.ones(STEPS)
            runs.append(
                RunFiles(
                    arm=arm,
                    seed=seed,
                    folder=RunDir(Path("nowhere")),
                    status="finished",
                    sentence="",
                    trace=trace(drawn.tolist(), batch=BATCH),
                    curves={"loss": curve((BATCH * steps).tolist(), loss.tolist())},
                )
            )

    def verdicts(info: MetricInfo, values: Sequence[float | None]) -> dict[str, str]:
        table = np.asarray([np.nan if value is None else value for value in values]).reshape(2, SEEDS)
        margin = plan.smallest_effect if info.name == metric else None
        return {ARM: judge(table, margin, info.lower_is_better).variants[0].verdict}

    return {one.curve: one for one in adequacy(plan, runs, common_evaluations(runs), verdicts)}


def test_a_fall_that_is_over_before_the_first_look_at_200_steps_is_named() -> None:
    found = planted(metric="eval_loss", every=2)["eval loss"]
    rungs = {rung.every: rung for rung in found.rungs}
    assert rungs["200 steps"].before_first == pytest.approx(1 - np.exp(-200 / 30), abs=0.02)
    assert not rungs["200 steps"].truthful
    assert rungs["200 steps"].points == 10
    # 1 - exp(-2 / 30) is 6% and 1 - exp(-4 / 30) 12%: the planted answer lies between the two.
    assert found.coarsest == "2 steps"
    assert "every 4 steps does not: in arm" in found.sentence
    assert "12% of the decrease came before the first point, at step 4" in found.sentence


def test_a_record_that_begins_too_late_says_so_and_asks_for_log_spaced_looks() -> None:
    found = planted(metric="eval_loss", every=200)["eval loss"]
    assert found.coarsest is None
    assert "eval loss: not even the record shows the decrease: in arm" in found.sentence
    assert "over 99% of the decrease came before" in found.sentence
    assert "at step 200" in found.sentence
    assert found.advice.startswith("eval.spacing=log eval.num_evaluations=20 begins at step 1")


def test_the_final_loss_is_the_same_at_every_cadence() -> None:
    found = planted(metric="eval_loss", every=2, tau={"baseline": 30.0, ARM: 60.0})["eval loss"]
    assert len(found.rungs) > 6
    assert [rung.flips for rung in found.rungs] == [()] * len(found.rungs)


def test_an_effect_on_the_early_fall_is_lost_where_nobody_looked() -> None:
    """The arms fall at another pace and end alike: the area under the curve tells them apart as long as the fall is seen."""
    found = planted(metric="eval_loss_auc", every=2, tau={"baseline": 30.0, ARM: 200.0})["eval loss"]
    assert found.metric == "eval_loss_auc"
    first, last = found.rungs[0], found.rungs[-1]
    assert first.truthful
    assert last.every == "1000 steps"
    assert last.flips == (f"{ARM}: hurts -> equivalent",)


def spiky(rng: np.random.Generator) -> Values:
    """One step in two hundred is twenty times the others."""
    return np.where(rng.random(STEPS) < 0.005, 20.0, 1.0) * np.exp(0.1 * rng.standard_normal(STEPS))


def calm(rng: np.random.Generator) -> Values:
    return np.exp(0.1 * rng.standard_normal(STEPS))


def test_spikes_tell_two_arms_apart_at_every_step_and_not_at_every_50() -> None:
    found = planted(metric="grad_norm_cv", norms={"baseline": spiky, ARM: calm})["grad norm"]
    rungs = {rung.every: rung for rung in found.rungs}
    assert rungs["1 step"].truthful
    assert rungs["50 steps"].flips == (f"{ARM}: lowers -> inconclusive",)
    assert not rungs["50 steps"].truthful
    assert found.coarsest in ("1 step", "2 steps", "5 steps", "10 steps")
    assert f"the verdict on grad_norm_cv flips ({ARM}: lowers -> inconclusive)" in found.sentence
    peaks = [rung.peak for rung in found.rungs]
    assert peaks[0] == 1.0
    assert peaks[-1] is not None
    assert peaks[-1] < 0.5


def test_arms_that_differ_throughout_are_told_apart_at_any_cadence() -> None:
    norms: dict[str, Draw] = {"baseline": calm, ARM: lambda rng: 3 * calm(rng)}
    found = planted(metric="grad_norm_median", norms=norms)["grad norm"]
    assert found.coarsest == found.rungs[-1].every == "1000 steps"
    assert found.sentence == "grad norm: every 1000 steps still gives the same verdicts as the record"


def test_a_curve_that_the_primary_metric_is_not_read_from_is_judged_by_an_outcome_of_its_own() -> None:
    found = planted(metric="grad_norm_cv", norms={"baseline": spiky, ARM: calm})
    assert {name: one.metric for name, one in found.items()} == {
        "eval loss": "eval_loss_irregularity",
        "train loss": "final_train_loss",
        "grad norm": "grad_norm_cv",
    }


@given(tau=st.floats(5, 1000), every=st.sampled_from([2, 8, 40]))
@settings(max_examples=6, deadline=None)
def test_a_coarser_cadence_never_shows_more_of_a_smooth_fall(tau: float, every: int) -> None:
    found = planted(metric="eval_loss", every=every, tau={"baseline": tau, ARM: tau})["eval loss"]
    shares = [rung.before_first or 0.0 for rung in found.rungs]
    assert all(one <= other + 1e-3 for one, other in pairwise(shares))
    assert found.rungs[0].flips == ()
    assert [rung.truthful for rung in found.rungs if (rung.before_first or 0) > MAX_SHARE] == [False] * sum(
        share > MAX_SHARE for share in shares
    )


def test_the_study_is_judged_by_its_own_verdicts_and_agrees_with_replay(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_study(folder, seeds=5, metric="grad_norm_p95_p5")
    analysis = analyse(folder)
    by_curve = {one.curve: one for one in analysis.adequacy}
    said = {one.arm: one.verdict for one in analysis.contrasts if one.primary}
    flips = [flip for rung in by_curve["grad norm"].rungs for flip in rung.flips]
    assert flips
    for flip in flips:
        arm, _, change = flip.rpartition(": ")
        assert change.startswith(f"{said[arm]} -> ")
    rung = by_curve["eval loss"].rungs[1]
    assert rung.every == "16 steps"
    (level,) = resample(folder, "eval.every", ["128 samples"])
    assert rung.points == level.evaluations
    assert rung.first_step == level.first_eval_step
    if rung.latest == "baseline":
        assert rung.before_first == pytest.approx(level.share_decrease_before_first_eval)


def test_a_study_without_a_finished_baseline_has_no_adequacy(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=1, failed=[("baseline", 0)])
    assert analyse(tmp_path / "s").adequacy == ()


def test_one_seed_has_no_verdict_to_flip_and_still_a_fall(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["train_test_ratio=4"], seeds=1)
    found = analyse(tmp_path / "s").adequacy
    assert {flip for one in found for rung in one.rungs for flip in rung.flips} == set()
    assert found[0].rungs[0].before_first is not None


def test_rows_keep_the_last_norm_and_the_mean_loss_as_a_replayed_log_does() -> None:
    rng = np.random.default_rng(3)
    made = trace(rng.random(23).tolist(), loss=rng.random(23).tolist())
    ends = row_ends(23, 5)
    assert ends.tolist() == [4, 9, 14, 19, 22]
    rows = resample_trace(made, ends)
    assert rows["loss"] == pytest.approx(reduce_windows(made["loss"], ends, "mean"), rel=1e-6)
    assert rows["grad_norm"].tolist() == made["grad_norm"][ends].tolist()
    assert row_ends(20, 5).tolist() == [4, 9, 14, 19]


def test_the_ladder_is_1_2_5_and_so_on() -> None:
    assert list(ladder(60)) == [1, 2, 5, 10, 20, 50]
    assert list(ladder(1)) == [1]


def test_a_cadence_that_a_log_spaced_record_does_not_hold_is_left_out() -> None:
    common = np.asarray([0, 8, 24, 80, 240, 800])
    assert even_evaluations(common, 16) is None
    assert even_evaluations(common, 800) is not None


def pieces(samples: Values, curve_values: Values, looks: Sequence[float]) -> float:
    done = (curve_values[0] - curve_values) / (curve_values[0] - curve_values[-1])
    return float(np.diff(np.interp([0.0, *looks], samples, done)).max())


def test_the_advised_looks_show_the_fall_in_small_pieces_and_cost_what_is_said() -> None:
    samples = np.arange(0, 16001, 8, dtype=np.float64)
    values = fall(30.0, samples / 8)
    advice = cadence_advice(samples, [values], samples_per_step=8, seconds=1.5)
    count = int(advice.partition("eval.num_evaluations=")[2].partition(" ")[0])
    assert f"with {count} evaluations ({1.5 * count:.2g} s) per run" in advice
    assert "the record has 2000 evaluations (3000 s)" in advice
    assert pieces(samples, values, np.geomspace(8, 16000, count).tolist()) <= MAX_SHARE + 1e-9
    even = int(advice.partition("even evaluations would take ")[2].partition(" ")[0])
    assert pieces(samples, values, np.linspace(0, 16000, even + 1)[1:].tolist()) <= MAX_SHARE + 0.01
    assert even > 10 * count


def test_even_evaluations_are_advised_for_a_fall_that_is_even() -> None:
    samples = np.arange(0, 8001, 80, dtype=np.float64)
    advice = cadence_advice(samples, [1 - samples / 8000], samples_per_step=8, seconds=None)
    assert advice.startswith("even evaluations do: 10 evaluations per run")


@pytest.mark.parametrize("values", [[0.5, 0.5, 0.5], [0.5, 0.6, 0.7], [0.5, float("nan"), 0.1]])
def test_there_is_no_advice_for_a_curve_that_does_not_fall(values: list[float]) -> None:
    samples = np.asarray([0.0, 8.0, 16.0])
    assert cadence_advice(samples, [np.asarray(values)], samples_per_step=8, seconds=1.0) == ""


def test_where_one_arm_was_looked_at_more_rarely_the_ladder_begins_at_what_all_have(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["train_test_ratio=4"], seeds=2)
    for seed in range(2):
        path = tmp_path / "s" / "train_test_ratio=4" / f"seed={seed}" / "evals.arrow"
        kept = [row for row in read_table(path).to_pylist() if row["samples"] % 128 == 0]
        with TableWriter(path, EVALS) as table:
            table.write({name: [row[name] for row in kept] for name in EVALS.names})
    found = analyse(tmp_path / "s").adequacy[0]
    assert found.rungs[0].every == "16 steps"
    assert "not even what all arms have in common shows the decrease" in found.sentence
    assert "the record has 16 evaluations" in found.advice  # the baseline's own


def test_the_share_is_that_of_the_arm_where_it_is_most_and_the_peak_of_the_arm_where_it_is_least() -> None:
    norms: dict[str, Draw] = {"baseline": calm, ARM: spiky}
    found = planted(metric="eval_loss", every=2, tau={"baseline": 300.0, ARM: 30.0}, norms=norms)
    rung = {one.every: one for one in found["eval loss"].rungs}["20 steps"]
    assert rung.latest == ARM
    assert rung.before_first == pytest.approx(1 - np.exp(-20 / 30), abs=0.02)
    peak = {one.every: one.peak for one in found["grad norm"].rungs}["500 steps"]
    assert peak is not None
    assert peak < 0.2
