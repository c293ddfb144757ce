"""The second source of variance: what a claim is about, and when it holds for one evaluation set only."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.analyse import analyse
from ablate.analysis.example_variance import THIS_SET
from ablate.analysis.results import Analysis, Contrast, Examples, OverExamples
from ablate.records.layout import RunDir, StudyDir
from ablate.records.reader import read_predictions, read_table
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from ablate.stats.example_variance import widened
from ablate.stats.rates import paired_examples, sign_flips
from ablate.training.predictions import write_predictions
from tests.example_records import keep_examples
from tests.synthetic import write_study

ARMS = ("learning_rate=0.0001", "train_test_ratio=4", "placebo")
UP, SAME = ARMS[:2]


def made(folder: Path, metric: str = "eval_loss", **kept: object) -> Analysis:
    write_study(folder, arms=ARMS, seeds=5, effects={UP: 0.06, SAME: 0.0}, metric=metric)
    keep_examples(folder, **kept)  # type: ignore[arg-type]
    return analyse(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Analysis]:
    """The study with nothing changed: its folder, which no test writes to, and its analysis."""
    folder = tmp_path_factory.mktemp("runs") / "s"
    return folder, made(folder)


@pytest.fixture
def copy(plain: tuple[Path, Analysis], tmp_path: Path) -> Path:
    """A copy of its folder, to be changed."""
    shutil.copytree(plain[0], tmp_path / "s")
    return tmp_path / "s"


def found(analysis: Analysis) -> Examples:
    assert analysis.examples is not None
    return analysis.examples


def of(analysis: Analysis, arm: str) -> tuple[Contrast, OverExamples]:
    one = found(analysis).of(arm)
    assert one is not None
    return next(c for c in analysis.contrasts if c.primary and c.arm == arm), one


def test_a_difference_that_is_alike_in_all_examples_holds_for_new_ones(plain: tuple[Path, Analysis]) -> None:
    contrast, one = of(plain[1], UP)
    assert contrast.verdict == "hurts"
    assert one.holds == "new examples too"
    assert one.low is not None
    assert contrast.low is not None
    assert 0 < one.low < contrast.low + 1e-9
    assert one.example_share is not None
    assert one.example_share < 0.2
    assert "holds for new examples of this kind as well: +0.06" in one.sentence


def test_of_a_placebo_nothing_is_claimed(plain: tuple[Path, Analysis]) -> None:
    _, one = of(plain[1], "placebo")
    assert one.holds == ""
    assert one.low is not None
    assert "over new examples as well" in one.sentence


@pytest.mark.slow
def test_a_difference_that_few_examples_make_holds_for_this_set_only_and_the_verdict_stays(tmp_path: Path) -> None:
    analysis = made(tmp_path / "s", own={UP: 0.8})
    plain = analyse_without(tmp_path)
    contrast, one = of(analysis, UP)
    assert contrast == next(c for c in plain.contrasts if c.primary and c.arm == UP)
    assert contrast.verdict == "hurts"
    assert one.holds == "this evaluation set only"
    assert one.low is not None
    assert one.high is not None
    assert one.low < 0 < one.high
    assert one.example_share is not None
    assert one.example_share > 0.9
    assert f"the verdict holds for this evaluation set only: {UP}" in analysis.notes[-1]
    assert "`hurts` holds for this evaluation set only" in one.sentence


def analyse_without(tmp_path: Path) -> Analysis:
    shutil.copytree(tmp_path / "s", tmp_path / "t" / "s")
    for run in StudyDir(tmp_path / "t" / "s").runs():
        run.predictions.unlink()
    return analyse(tmp_path / "t" / "s")


def test_without_kept_examples_the_claims_are_about_this_evaluation_set(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=ARMS)
    analysis = analyse(tmp_path / "s")
    assert analysis.notes[-1] == f"{THIS_SET}; no run has saved its predictions"
    assert found(analysis).contrasts == ()


def test_an_outcome_that_is_no_mean_over_examples_says_so(tmp_path: Path) -> None:
    analysis = made(tmp_path / "s", metric="eval_loss_irregularity")
    assert analysis.notes[-1] == f"{THIS_SET}; eval_loss_irregularity is not a mean over examples"


@pytest.mark.slow
def test_no_effect_has_to_lie_inside_the_margin_for_new_examples_too(tmp_path: Path) -> None:
    for name, own, holds in (("a", 0.0, "new examples too"), ("b", 0.3, "this evaluation set only")):
        folder = tmp_path / name
        write_study(folder, arms=ARMS, seeds=5, effects={UP: 0.06, SAME: 0.0}, smallest_effect=0.02)
        keep_examples(folder, own={SAME: own})
        contrast, one = of(analyse(folder), SAME)
        assert contrast.verdict == "equivalent"
        assert one.holds == holds


def test_arms_with_other_evaluation_sets_are_refused_with_the_reason(tmp_path: Path) -> None:
    analysis = made(tmp_path / "s", ids={UP: 100})
    _, one = of(analysis, UP)
    assert one.low is None
    assert one.refused == "a control failed, so there is no verdict to widen"
    contrast, _ = of(analysis, UP)
    assert contrast.verdict == "none"
    assert "evaluated on other examples than the baseline (156 in common, of 256 and 256)" in contrast.sentence
    assert of(analysis, SAME)[1].low is not None


def test_a_run_that_was_taken_over_without_examples_reads_as_not_kept(copy: Path) -> None:
    StudyDir(copy).run(UP, 3).predictions.unlink()
    _, one = of(analyse(copy), UP)
    assert one.refused == f"seed 3 of {UP} has not saved its predictions"


def rewrite(run: RunDir, *, step: int | None = None, shift: float = 0.0, without: str = "") -> None:
    kept = read_predictions(run.predictions)
    columns = {name: kept[name] for name in kept.table.column_names if name != without}
    if "loss" in columns:
        columns["loss"] = columns["loss"] + shift
    write_predictions(run.predictions, columns, step=kept.step if step is None else step, split="held_out")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 3}, "predictions are of step 3, and seed 1 of baseline is read at step 128"),
        ({"without": "loss"}, "seed 1 of baseline has saved no loss of each example"),
    ],
)
def test_examples_that_do_not_belong_to_the_evaluation_are_refused(
    copy: Path, change: dict[str, object], said: str
) -> None:
    rewrite(StudyDir(copy).run("baseline", 1), **change)  # type: ignore[arg-type]
    _, one = of(analyse(copy), UP)
    assert said in one.refused


@pytest.mark.parametrize("edited", ["predictions", "evaluations"])
def test_evaluations_that_the_predictions_contradict_have_no_verdict(copy: Path, edited: str) -> None:
    run = StudyDir(copy).run("baseline", 1)
    if edited == "predictions":
        rewrite(run, shift=0.1)
    else:
        rows = read_table(run.evals).to_pylist()
        with TableWriter(run.evals, EVALS) as table:
            shifted = [row | {"sum": row["sum"] + 0.1 * row["count"]} for row in rows]
            table.write({name: [row[name] for row in shifted] for name in EVALS.names})
    analysis = analyse(copy)
    assert {one.verdict for one in analysis.contrasts} == {"none"}, "there is no baseline to compare with"
    assert any("was altered, or is of another run" in one.sentence for one in analysis.controls)


def test_a_torn_file_costs_its_own_interval_and_nothing_else(copy: Path) -> None:
    path = StudyDir(copy).run(UP, 0).predictions
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    analysis = analyse(copy)
    assert of(analysis, UP)[1].low is None
    assert of(analysis, SAME)[1].low is not None


@pytest.mark.slow
def test_examples_that_were_drawn_together_count_as_one_draw(tmp_path: Path) -> None:
    """Eight documents that an arm treats unlike: as 256 single examples they would look like much evidence."""
    apart, together = (made(tmp_path / str(n), own={UP: 0.3}, groups=n) for n in (256, 8))
    assert found(together).groups == 8
    wide, narrow = (of(analysis, UP)[1] for analysis in (together, apart))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)  # type: ignore[operator]
    assert "256 examples in 8 groups" in together.notes[-1]
    assert "were drawn together" in of(made(tmp_path / "one", groups=1), UP)[1].refused


def test_which_examples_only_one_arm_gets_right(plain: tuple[Path, Analysis]) -> None:
    folder, analysis = plain
    _, one = of(analysis, UP)
    assert one.paired is not None
    baseline, arm = (
        np.stack([read_predictions(StudyDir(folder).run(name, s).predictions)["accuracy"] for s in range(5)])
        for name in ("baseline", UP)
    )
    assert one.paired.only_baseline == np.mean(np.sum((baseline == 1) & (arm == 0), axis=1))
    assert one.paired.only_arm == np.mean(np.sum((baseline == 0) & (arm == 1), axis=1))
    assert one.paired.always_baseline == np.sum(np.all((baseline == 1) & (arm == 0), axis=0))
    assert one.paired.only_baseline > one.paired.only_arm
    assert one.paired.p_value < 0.001


def mcnemar_p(only_baseline: int, only_arm: int) -> float:
    """Exact two-sided p of McNemar's test, from the binomial distribution of scipy."""
    return float(stats.binomtest(only_baseline, only_baseline + only_arm).pvalue) if only_baseline + only_arm else 1.0


def test_with_one_seed_the_exact_p_is_mcnemars() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = (rng.random((1, 60)) < share for share in (0.6, 0.7))
        one = paired_examples(left.astype(float), right.astype(float), np.arange(60))
        assert one.p_value == pytest.approx(mcnemar_p(int(one.only_baseline), int(one.only_arm)), abs=1e-11)


def test_the_exact_p_counts_every_sign() -> None:
    scores = np.asarray([3, -1, 2, 0, 1, 1, -2])
    every = [abs(int(np.dot(scores, 1 - 2 * ((n >> np.arange(7)) & 1)))) for n in range(128)]
    assert sign_flips(scores) == pytest.approx(np.mean([one >= abs(scores.sum()) for one in every]), abs=1e-12)
    assert sign_flips(np.zeros(5, dtype=np.int64)) == 1.0


def test_ten_seeds_are_no_ten_times_as_many_examples() -> None:
    """Nothing differs but by the examples of one set, alike in all seeds: pooled counts would cry wolf."""
    rng = np.random.default_rng(1)
    told, pooled = [], []
    for _ in range(300):
        left, right = ((rng.random((1, 100)) < 0.7).repeat(10, axis=0).astype(float) for _ in range(2))
        told.append(paired_examples(left, right, np.arange(100)).p_value < 0.05)
        pooled.append(mcnemar_p(int(np.sum(left > right)), int(np.sum(left < right))) < 0.05)
    assert np.mean(told) <= 0.06
    assert np.mean(pooled) > 0.3


def test_twenty_five_thousand_examples_ten_arms_and_ten_seeds_take_seconds() -> None:
    rng = np.random.default_rng(2)
    baseline, place = rng.random((10, 25_000)), np.arange(25_000)
    began = time.process_time()
    for _ in range(10):
        arm = baseline + 0.01 + 0.1 * rng.normal(size=baseline.shape)
        widened(arm - baseline, 0.001, 36)
        paired_examples((baseline > 0.3).astype(float), (arm > 0.3).astype(float), place)
    assert time.process_time() - began < 15


@pytest.mark.parametrize("shape", [(1, 9), (9, 1)])
def test_one_seed_and_one_example_have_no_spread(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="two seeds and two examples"):
        widened(np.ones(shape), 1.0, 1)
