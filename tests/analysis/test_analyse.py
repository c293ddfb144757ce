"""A study folder is read as it lies there: whole, planted with defects, half done, or broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse, write_analysis
from ablate.analysis.results import Analysis, Contrast
from ablate.controls.control import Control
from ablate.errors import StudyError
from ablate.records.layout import StudyDir
from ablate.records.reader import read_table
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from ablate.serialization import read_json, write_json
from tests.synthetic import write_study


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    folder = tmp_path_factory.mktemp("runs") / "reference"
    write_study(folder, seed=2)
    return analyse(folder)


def contrast(analysis: Analysis, arm: str, metric: str) -> Contrast:
    return next(one for one in analysis.contrasts if (one.arm, one.metric) == (arm, metric))


def control(analysis: Analysis, arm: str, name: str) -> Control:
    return next(one for one in analysis.controls if (one.arm, one.name) == (arm, name))


def test_the_reference_study_answers_its_question(reference: Analysis) -> None:
    assert reference.complete
    assert contrast(reference, "batch_size=64", "eval_loss").verdict == "hurts"
    assert contrast(reference, "batch_size=64", "grad_norm_p95_p5").verdict == "lowers"
    assert contrast(reference, "train_test_ratio=4", "grad_norm_p95_p5").verdict == "inconclusive"
    said = "\n".join(reference.conclusions)
    assert "grad_norm_p95_p5: batch_size 8 -> 64 lowers it from" in said
    assert "16 updates instead of 128" in said
    assert "Inconclusive: train_test_ratio 1 -> 4" in said
    assert "the same training runs, recorded less often" in said
    assert "LOW POWER: 3 seeds" in said
    for level in reference.replays:
        assert f"{100 * (level.share_decrease_before_first_eval or 0):.0f}% at {level.value}" in said


def test_every_control_of_a_clean_study_is_passed(reference: Analysis) -> None:
    assert {one.status for one in reference.controls} == {"checked"}
    assert [one.name for one in reference.controls if one.arm == "train_test_ratio=4"] == [
        "one_variable", "matched", "took_effect", "seeds_differ", "settings_applied", "learned",
    ]  # fmt: skip
    assert set(control(reference, "batch_size=64", "matched").held) >= {"init", "order", "splits", "eval_set"}
    assert control(reference, "batch_size=64", "one_variable").derived["total_steps"] == [128, 16]


def test_the_primary_metric_comes_first_arm_by_arm_in_plan_order(reference: Analysis) -> None:
    assert reference.metrics[0].name == "eval_loss"
    primary = [one.arm for one in reference.contrasts if one.primary]
    assert primary == ["batch_size=64", "train_test_ratio=4", "placebo"]
    assert [one.primary for one in reference.contrasts] == [True] * 3 + [False] * (len(reference.contrasts) - 3)


def test_the_noise_floor_is_the_root_mean_square_of_the_placebo(reference: Analysis) -> None:
    differences = contrast(reference, "placebo", "eval_loss").differences
    assert reference.floor("noise") == pytest.approx((sum(d * d for d in differences) / 3) ** 0.5)


def test_a_known_effect_is_found_where_it_was_planted(tmp_path: Path) -> None:
    write_study(
        tmp_path / "s", arms=["learning_rate=0.0001", "placebo"], seeds=8, effects={"learning_rate=0.0001": -0.04}
    )
    found = contrast(analyse(tmp_path / "s"), "learning_rate=0.0001", "eval_loss")
    assert found.verdict == "helps"
    assert found.low is not None
    assert found.high is not None
    assert found.low < -0.04 < found.high
    assert found.labels == ()


def test_equal_arms_earn_no_effect_with_enough_seeds(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=12, smallest_effect=0.01)
    analysis = analyse(tmp_path / "s")
    assert contrast(analysis, "placebo", "eval_loss").verdict == "equivalent"
    assert not any("LOW POWER" in sentence for sentence in analysis.conclusions)


def test_a_contaminated_arm_gets_no_verdict_and_is_named(tmp_path: Path) -> None:
    write_study(tmp_path / "s", contaminated="train_test_ratio=4")
    analysis = analyse(tmp_path / "s")
    assert control(analysis, "train_test_ratio=4", "matched").status == "failed"
    assert {one.verdict for one in analysis.contrasts if one.arm == "train_test_ratio=4"} == {"none"}
    assert contrast(analysis, "batch_size=64", "eval_loss").verdict == "hurts"
    assert any("No verdict for train_test_ratio=4: contaminated" in sentence for sentence in analysis.conclusions)


def test_a_no_op_arm_gets_no_verdict_and_is_named(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["max_grad_norm=10", "placebo"], no_op="max_grad_norm=10")
    analysis = analyse(tmp_path / "s")
    assert control(analysis, "max_grad_norm=10", "took_effect").status == "failed"
    assert contrast(analysis, "max_grad_norm=10", "eval_loss").verdict == "none"
    assert any("no-op: max_grad_norm=10" in sentence for sentence in analysis.conclusions)


def test_a_plan_whose_arm_moves_a_second_key_fails_on_paper(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["batch_size=64"])
    plan = read_json(tmp_path / "s/plan.json")
    plan["arms"][1]["config"]["optim"]["lr"] = 1e-3
    write_json(tmp_path / "s/plan.json", plan)
    analysis = analyse(tmp_path / "s")
    assert control(analysis, "batch_size=64", "one_variable").status == "failed"
    assert "optim.lr" in contrast(analysis, "batch_size=64", "eval_loss").sentence


def test_diverged_and_failed_runs_are_named_counted_and_never_averaged(tmp_path: Path) -> None:
    write_study(tmp_path / "s", seeds=4, diverged=[("batch_size=64", 1)], failed=[("train_test_ratio=4", 0)])
    analysis = analyse(tmp_path / "s")
    batch = contrast(analysis, "batch_size=64", "eval_loss")
    assert batch.seeds == (0, 2, 3)
    assert {"MISSING SEEDS", "3 of 4 seeds"} <= set(batch.labels)
    assert "seed 1 of batch_size=64, which diverged" in batch.sentence
    said = "\n".join(analysis.conclusions)
    assert "2 runs of 16 gave no result" in said
    assert "batch_size=64, seed 1 diverged" in said
    assert "train_test_ratio=4, seed 0 failed" in said
    assert analysis.complete


RATE = "learning_rate=0.0001"


def test_a_run_that_diverged_is_the_worst_where_ranks_count(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=(RATE,), seeds=4, effects={RATE: -0.3}, diverged=[(RATE, 1)])
    helps = contrast(analyse(tmp_path / "s"), RATE, "eval_loss")
    assert (helps.beats, helps.seeds) == (0.75, (0, 2, 3))


def test_a_study_that_was_killed_half_way_reads_as_far_as_it_is(tmp_path: Path) -> None:
    missing = [(arm, 2) for arm in ("batch_size=64", "train_test_ratio=4", "placebo")]
    write_study(tmp_path / "s", missing=missing, running=[("baseline", 2)])
    analysis = analyse(tmp_path / "s")
    assert not analysis.complete
    assert contrast(analysis, "batch_size=64", "eval_loss").seeds == (0, 1)
    going = next(run for run in analysis.runs if run.status == "running")
    assert going.values["eval_loss"] is None
    assert going.throughput["train_steps_per_second"] > 0
    assert any("Not complete: 4 of 12 runs have not ended yet" in sentence for sentence in analysis.conclusions)


def test_a_study_without_any_run_reads_too(tmp_path: Path) -> None:
    plan = write_study(tmp_path / "s")
    for arm in plan.arms:
        shutil.rmtree(StudyDir(tmp_path / "s").run(arm.name, 0).path.parent, ignore_errors=True)
    analysis = analyse(tmp_path / "s")
    assert not analysis.complete
    assert {run.status for run in analysis.runs} == {"missing"}
    assert {one.verdict for one in analysis.contrasts} == {"inconclusive"}
    assert analysis.replays == ()
    assert any("eval_every=128 samples: read from the baseline's record once" in note for note in analysis.notes)


def test_one_seed_has_no_interval_and_says_so(tmp_path: Path) -> None:
    write_study(tmp_path / "s", seeds=1)
    found = contrast(analyse(tmp_path / "s"), "batch_size=64", "eval_loss")
    assert (found.effect, found.verdict) == (None, "inconclusive")


def test_a_torn_trace_of_a_finished_run_is_named_and_not_read(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"])
    trace = StudyDir(tmp_path / "s").run("placebo", 0).trace
    trace.write_bytes(trace.read_bytes()[:-700])
    torn = next(run for run in analyse(tmp_path / "s").runs if (run.arm, run.seed) == ("placebo", 0))
    assert torn.status == "unreadable"
    assert "trace.arrow was cut off; the study's command makes the run again" in torn.sentence


@pytest.mark.parametrize(("file", "text"), [("status.json", "{"), ("trace.arrow", "no table"), ("evals.arrow", "")])
def test_a_run_whose_files_are_broken_is_unreadable_and_the_others_count(tmp_path: Path, file: str, text: str) -> None:
    write_study(tmp_path / "s")
    (StudyDir(tmp_path / "s").run("batch_size=64", 0).path / file).write_text(text)
    analysis = analyse(tmp_path / "s")
    broken = next(run for run in analysis.runs if run.status == "unreadable")
    assert (broken.arm, broken.seed) == ("batch_size=64", 0)
    assert file in broken.sentence
    assert contrast(analysis, "batch_size=64", "eval_loss").seeds == (1, 2)
    assert not analysis.complete


def test_a_run_of_other_settings_in_the_folder_does_not_count(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"])
    manifest = StudyDir(tmp_path / "s").run("placebo", 1).manifest
    write_json(manifest, read_json(manifest) | {"digest": "0" * 64})
    analysis = analyse(tmp_path / "s")
    assert contrast(analysis, "placebo", "eval_loss").seeds == (0, 2)
    assert any("other settings or other code" in run.sentence for run in analysis.runs)


def test_an_arm_that_shares_a_digest_reads_the_other_arms_runs(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["learning_rate=0.0001", "placebo"])
    plan = read_json(tmp_path / "s/plan.json")
    twin = plan["arms"][1] | {"name": "learning_rate=1e-4", "config": plan["arms"][1]["config"]}
    plan["arms"].append(twin)
    write_json(tmp_path / "s/plan.json", plan)
    analysis = analyse(tmp_path / "s")
    folders = {run.arm: run.folder for run in analysis.runs if run.seed == 0}
    assert folders["learning_rate=1e-4"] == folders["learning_rate=0.0001"] == "learning_rate=0.0001/seed=0"


def test_arms_looked_at_unequally_often_are_read_at_their_common_looks(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=["placebo"], seeds=2)
    path = StudyDir(tmp_path / "s").run("placebo", 0).evals
    coarse = [row for row in read_table(path).to_pylist() if row["samples"] % 128 == 0]
    with TableWriter(path, EVALS) as table:
        table.write({name: [row[name] for row in coarse] for name in EVALS.names})
    analysis = analyse(tmp_path / "s")
    assert any("use the 9 evaluations that all arms have in common" in note for note in analysis.notes)
    best = {(run.arm, run.seed): run.values["best_eval_loss"] for run in analysis.runs}
    assert all(value is not None for value in best.values())


def test_analysis_json_holds_the_analysis_and_no_bare_nan(tmp_path: Path) -> None:
    write_study(tmp_path / "s", seeds=2)
    analysis = write_analysis(tmp_path / "s")

    def refuse(token: str) -> None:
        raise AssertionError(token)

    stored = json.loads((tmp_path / "s/analysis.json").read_text(), parse_constant=refuse)
    assert stored["conclusions"] == list(analysis.conclusions)
    assert len(stored["contrasts"]) == len(analysis.contrasts)


def test_reading_changes_nothing_and_says_the_same_twice(tmp_path: Path) -> None:
    write_study(tmp_path / "s", seeds=2)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "s").rglob("*")) if path.is_file()}
    assert analyse(tmp_path / "s") == analyse(tmp_path / "s")
    assert {path: path.read_bytes() for path in sorted((tmp_path / "s").rglob("*")) if path.is_file()} == before


def test_a_folder_without_a_plan_is_refused_with_the_studies_beside_it(tmp_path: Path) -> None:
    write_study(tmp_path / "imdb", arms=["placebo"], seeds=1)
    with pytest.raises(StudyError) as caught:
        analyse(tmp_path / "imbd")
    assert "imbd' is not a study folder" in caught.value.problem
    assert "imdb" in (caught.value.fix or "")


def test_without_any_study_the_refusal_says_how_to_run_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="run one first: ablate -m axis=batch_size"):
        analyse(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StudyError, match="cannot be read as a plan"):
        analyse(tmp_path)


def test_a_made_up_study_is_the_same_bytes_for_the_same_arguments(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_study(tmp_path / name / "s", seeds=1)
    left, right = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    )
    assert left == right
