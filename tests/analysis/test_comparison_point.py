"""Equal steps and equal samples are two questions, and their answers may be opposite. Which was asked is always said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.analysis.comparison_point import read_at
from ablate.analysis.load import read_plan, read_runs
from ablate.analysis.results import Analysis, Budgets, Contrast
from ablate.config.schema import StudyConfig
from ablate.errors import ConfigError, IntervalError
from ablate.records.layout import StudyDir
from ablate.records.reader import read_evals, read_trace
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import read_json, write_json
from ablate.units import parse_amount
from tests import synthetic
from tests.example_records import keep_examples
from tests.synthetic import Shape, write_study

LARGE = "batch_size=64"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Batch 64 learns more in a step, and less from a sample: 0.598 at its end, after 16 steps and 1,024 samples. The baseline
    is at 0.607 after as many steps, and at 0.504 after as many samples."""
    folder = tmp_path_factory.mktemp("runs") / "planted"
    plain, synthetic.SHAPES[LARGE] = synthetic.SHAPES[LARGE], Shape(end=0.60, tau_samples=700.0, spike=(0.0, 1.0))
    try:
        write_study(folder, arms=(LARGE, "placebo"), seeds=5)
    finally:
        synthetic.SHAPES[LARGE] = plain
    keep_examples(folder)
    return folder


@pytest.fixture
def copy(tmp_path: Path, study: Path) -> Path:
    import shutil

    return Path(shutil.copytree(study, tmp_path / "planted"))


def primary(analysis: Analysis) -> Contrast:
    return next(one for one in analysis.contrasts if one.primary and one.arm == LARGE)


def budgets(analysis: Analysis) -> Budgets:
    assert analysis.budgets is not None
    return analysis.budgets


def test_equal_samples_and_equal_steps_give_opposite_verdicts(study: Path) -> None:
    ended, samples, steps = (analyse(study, at=at) for at in (None, "samples", "steps"))
    assert [primary(one).verdict for one in (ended, samples, steps)] == ["hurts", "hurts", "helps"]
    assert primary(samples).effect == primary(ended).effect
    assert budgets(samples).question == (
        "at equal samples (1,024): baseline and placebo 128 steps, batch_size=64 16 steps; evaluated at 1,024 samples"
    )
    assert budgets(steps).question == (
        "at equal steps (16): baseline and placebo 128 samples, batch_size=64 1,024 samples; evaluated at 16 steps"
    )
    assert budgets(ended).question == (
        "as the runs ended, at equal samples (1,024): baseline and placebo 128 steps, batch_size=64 16 steps"
    )


def test_every_outcome_is_read_up_to_there(study: Path) -> None:
    """The baseline at step 16: its look then, its gradient norms of 16 steps, its training loss of their last tenth."""
    analysis, trace, evals = (
        analyse(study, at="steps"),
        read_trace(StudyDir(study).run("baseline", 2).trace),
        read_evals(StudyDir(study).run("baseline", 2).evals),
    )
    (run,) = (one for one in analysis.runs if (one.arm, one.seed) == ("baseline", 2))
    curve = evals.curve("loss")
    assert run.values["eval_loss"] == curve.value[curve.step == 16][0]
    assert run.values["grad_norm_max"] == np.max(trace["grad_norm"][:16])
    assert run.values["final_train_loss"] == pytest.approx(np.mean(trace["loss"][14:16]))
    assert run.values["best_eval_loss"] == np.min(curve.value[(curve.step > 0) & (curve.step <= 16)])


def test_curves_are_compared_at_looks_in_common_of_that_unit(study: Path) -> None:
    """Batch 64 is looked at after each step, the baseline after every eighth: 0, 8 and 16 are common."""
    analysis = analyse(study, at="steps")
    (run,) = (one for one in analysis.runs if (one.arm, one.seed) == (LARGE, 0))
    curve = read_evals(StudyDir(study).run(LARGE, 0).evals).curve("loss")
    assert run.values["best_eval_loss"] == np.min(curve.value[[8, 16]])
    assert run.values["eval_loss_auc"] == pytest.approx(np.trapezoid(curve.value[[0, 8, 16]], [0, 8, 16]) / 16)


def test_the_last_look_in_common_is_named_where_it_lies_before_the_amount(study: Path) -> None:
    analysis = analyse(study, at="12 steps")
    assert budgets(analysis).question.endswith(
        "evaluated at 8 steps, the last evaluation before that all runs have in common"
    )
    (run,) = (one for one in analysis.runs if (one.arm, one.seed) == (LARGE, 0))
    curve = read_evals(StudyDir(study).run(LARGE, 0).evals).curve("loss")
    assert run.values["eval_loss"] == curve.value[curve.step == 8][0]


def test_a_schedule_that_was_not_over_is_said_and_one_that_was_is_not(study: Path) -> None:
    assert budgets(analyse(study, at="samples")).cautions == (
        "re-read: the study was planned to be compared as the runs ended; this comparison was chosen later",
    )
    said = budgets(analyse(study, at="steps")).cautions
    assert said[1].startswith(
        "baseline and placebo: read at 16 of 128 steps of a schedule, with the rate at 88% of its peak, which ends at 1%"
    )
    assert LARGE not in said[1]


def test_a_constant_rate_needs_no_caution(copy: Path) -> None:
    rewrite(copy, learning_rate=lambda rates: np.full(len(rates), 1e-3))
    assert len(budgets(analyse(copy, at="steps")).cautions) == 1


def test_a_schedule_of_unknown_rate_is_said(copy: Path) -> None:
    rewrite(copy, learning_rate=lambda rates: np.full(len(rates), np.nan))
    assert "the learning rate was not recorded" in budgets(analyse(copy, at="steps")).cautions[1]


def test_seconds_are_the_machines(study: Path) -> None:
    """A step of 64 takes 3.88 s and one of 8 0.52 s: after 62 s the one has taken 16 steps and the other 119."""
    analysis = analyse(study, at="seconds")
    found = budgets(analysis)
    assert found.unit == "seconds"
    assert found.amount == pytest.approx(16 * 3.88)
    assert {one.arm: one.steps for one in found.arms} == {
        "baseline": (119, 119),
        LARGE: (16, 16),
        "placebo": (119, 119),
    }
    assert "each is evaluated at its own last one before, 58.24 to 62.08 seconds" in found.question
    assert any("other work on the machine slows runs down" in text for text in found.cautions)


def test_of_runs_that_are_cut_off_unlike_the_earliest_is_named(copy: Path) -> None:
    """One seed of the large batch had a slow machine."""
    run = StudyDir(copy).run(LARGE, 1)
    trace = read_trace(run.trace)
    table = {name: trace.table[name].to_pylist() for name in TRACE.names}
    table["step_seconds"] = [4 * seconds for seconds in table["step_seconds"]]
    with TableWriter(run.trace, TRACE, metadata={"groups": "\n".join(trace.groups)}) as writer:
        writer.write(table)
    said = " ".join(budgets(analyse(copy, at="31.04 seconds")).cautions)
    assert "batch_size=64: read at 2 to 8 of 16 steps" in said
    assert "baseline and placebo: read at 59 of 128 steps" in said


def test_tokens_and_epochs_are_amounts_too(study: Path) -> None:
    for at, amount in (("tokens", 25_600.0), ("12800 tokens", 12_800.0), ("epochs", 1.024), ("0.512 epochs", 0.512)):
        found = budgets(analyse(study, at=at))
        assert found.amount == pytest.approx(amount)
        assert {one.samples for one in found.arms} == {(round(amount * (1000 if amount < 2 else 0.04)),) * 2}


def test_kept_examples_are_of_the_end_and_of_no_earlier_amount(study: Path) -> None:
    at_end, earlier = (analyse(study, at=at).examples for at in ("samples", "steps"))
    assert at_end is not None
    assert earlier is not None
    assert at_end.contrasts[0].low is not None
    assert earlier.contrasts[0].refused == "predictions are of step 128, and seed 0 of baseline is read at step 16"


def test_the_conclusions_do_not_speak_of_the_updates_of_the_whole_runs(study: Path) -> None:
    assert any("16 updates instead of 128" in text for text in analyse(study).conclusions)
    assert not any("updates" in text for text in analyse(study, at="steps").conclusions)


def plan_at(folder: Path, at: str) -> None:
    path = StudyDir(folder).plan
    write_json(path, read_json(path) | {"compare_at": at})


def test_what_the_plan_fixed_is_read_without_being_asked_and_is_no_rereading(copy: Path) -> None:
    plan_at(copy, "steps")
    analysis = analyse(copy)
    assert primary(analysis).verdict == "helps"
    assert not budgets(analysis).reread
    other = budgets(analyse(copy, at="end"))
    assert other.reread
    assert other.cautions == (
        "re-read: the study was planned to be compared at equal steps; this comparison was chosen later",
    )
    assert not budgets(analyse(copy, at="steps")).reread


def test_a_rereading_lies_beside_the_study_s_own_report(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(copy)]) == 0
    own = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    assert cli.main(["report", str(copy), "--compare-at", "16 steps"]) == 0
    assert {name: (copy / name).read_bytes() for name in own} == own
    said = " ".join(capsys.readouterr().out.split())
    assert "Compared as the runs ended, at equal samples (1,024)" in said
    assert "Compared at equal steps (16)" in said
    assert "Re-read: the study was planned" in said
    assert "report.at-16-steps.html" in said
    page = (copy / "report.at-16-steps.html").read_text()
    assert "Compared at equal steps (16)" in page
    assert "Re-read" in page
    assert "Compared at equal steps" not in (copy / "report.html").read_text()
    assert "New examples" in (copy / "report.html").read_text()
    for name in ("report.at-16-steps.md", "table.at-16-steps.tex"):
        assert "at equal steps" in (copy / name).read_text()


def test_for_a_program_to_read(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    assert cli.main(["report", str(copy), "--compare-at", "steps", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["budgets"]["amount"] == 16
    assert found["budgets"]["reread"] is True
    assert found["examples"]["contrasts"][0]["refused"].startswith("predictions are of step 128")


def rewrite(folder: Path, **columns: Callable[[Any], Any]) -> None:
    """Columns of every trace, made anew from what they were."""
    for run in StudyDir(folder).runs():
        trace = read_trace(run.trace)
        table = {name: trace.table[name].to_pylist() for name in TRACE.names}
        table |= {name: change(np.asarray(table[name])).tolist() for name, change in columns.items()}
        with TableWriter(run.trace, TRACE, metadata={"groups": "\n".join(trace.groups)}) as writer:
            writer.write(table)


@pytest.mark.parametrize(
    ("typed", "said", "fix"),
    [
        ("stpes", "'stpes' is not a unit that runs can be compared at; did you mean 'steps'", "--compare-at=steps"),
        ("16 sampels", "'sampels' is not a unit", "--compare-at='16 samples'"),
        (
            "3 hours",
            "'hours' is not a unit that runs can be compared at; known: epochs, samples",
            "--compare-at='3 steps'",
        ),
        ("0 steps", "'0 steps' is not an interval: expected a number above 0", "--compare-at='20 steps'"),
        ("-5 steps", "'-5 steps' is not an interval: expected a number above 0", "--compare-at='20 steps'"),
        ("1.5 samples", "'1.5 samples' is not an interval", "--compare-at='64 samples'"),
        ("", "'' is not an interval", "--compare-at='20 steps'"),
        ("5000 samples", "no run has reached that; seed 0 of baseline ended first, at 1,024 samples", "'1024 samples'"),
        (
            "64 steps",
            "5 of 15 runs have not reached that; seed 0 of batch_size=64 ended first, at 16",
            "--compare-at='16 steps'",
        ),
        ("2 samples", "the first step of every run ends later, at 8 samples at the earliest", "--compare-at=samples"),
        ("4 steps", "seed 0 of baseline has none between the start and 4 steps", "--compare-at='8 steps'"),
        ("9 seconds", "", ""),
    ],
)
def test_an_amount_that_cannot_be_read_is_refused(study: Path, typed: str, said: str, fix: str) -> None:
    if not said:
        assert budgets(analyse(study, at=typed)).amount == 9
        return
    with pytest.raises(ConfigError) as raised:
        analyse(study, at=typed)
    assert said in raised.value.problem
    assert fix in str(raised.value.fix)


@pytest.mark.parametrize(
    ("unit", "column", "value"),
    [("tokens", "tokens", 0), ("seconds", "step_seconds", 0.0), ("epochs", "epoch", np.nan)],
)
def test_what_was_not_recorded_is_said(copy: Path, unit: str, column: str, value: float) -> None:
    rewrite(copy, **{column: lambda values: np.full(len(values), value)})
    with pytest.raises(ConfigError, match=f"seed 0 of baseline has recorded no {unit}") as raised:
        analyse(copy, at=unit)
    assert raised.value.fix == "--compare-at=samples"


def test_a_plan_s_own_amount_that_cannot_be_read_names_the_key(copy: Path) -> None:
    plan_at(copy, "5000 samples")
    with pytest.raises(ConfigError, match=r"study\.compare_at='5000 samples': no run has reached"):
        analyse(copy)


def test_the_key_is_checked_before_anything_runs() -> None:
    assert StudyConfig(compare_at="512 samples").compare_at == "512 samples"
    with pytest.raises(IntervalError, match=r"study\.compare_at='sampels'.*did you mean 'samples'"):
        StudyConfig(compare_at="sampels")
    assert str(parse_amount("step", key="--compare-at")) == "steps"


def test_what_an_app_returned_has_no_value_before_its_end(study: Path) -> None:
    plan = replace(read_plan(study), metric="score")
    runs = [replace(run, returned={"score": 1.0}) for run in read_runs(study, plan)]
    with pytest.raises(ConfigError, match="score is a value that the app returned at its end"):
        read_at(plan, runs, "steps")
    assert read_at(plan, runs).runs == runs


def test_runs_that_are_not_over_are_not_compared(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=(LARGE,), seeds=3, running=[(LARGE, 1)], diverged=[("baseline", 2)])
    found = budgets(analyse(tmp_path / "s", at="steps"))
    assert found.amount == 16
    write_study(tmp_path / "t", arms=(LARGE,), seeds=1, running=[(LARGE, 0), ("baseline", 0)])
    assert budgets(analyse(tmp_path / "t", at="steps")).question == ""


def test_batches_that_do_not_meet_are_read_at_their_last_step_within(copy: Path) -> None:
    """Batch 48: 1,008 samples after 21 steps is the last step within the baseline's 1,024, and no look is in common."""
    for run in StudyDir(copy).runs():
        if run.path.parent.name != LARGE:
            continue
        trace, evals = read_trace(run.trace), read_evals(run.evals)
        table = {name: trace.table[name].to_pylist() for name in TRACE.names}
        table["samples"] = [48 * step for step in table["step"]]
        with TableWriter(run.trace, TRACE, metadata={"groups": "\n".join(trace.groups)}) as writer:
            writer.write(table)
        looks = {name: evals.table[name].to_pylist() for name in EVALS.names}
        looks["samples"] = [48 * step for step in looks["step"]]
        with TableWriter(run.evals, EVALS) as writer:
            writer.write(looks)
    found = budgets(analyse(copy, at="760 samples"))
    assert {one.arm: one.samples for one in found.arms} == {
        "baseline": (760, 760),
        LARGE: (720, 720),
        "placebo": (760, 760),
    }
    assert "batch_size=64 15 steps and 720 samples" in found.question
    assert "evaluated at 576 samples, the last evaluation before that all runs have in common" in found.question
