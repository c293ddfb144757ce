"""What is said of imported runs: nothing is checked, how rarely they were looked at, in how many settings they differ."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.analysis.imported_runs import gaps
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.results import Analysis, Imported, LoggedCurve
from ablate.errors import ConfigError
from ablate.importers.import_runs import ImportRequest, import_runs
from ablate.report.build import build_report
from ablate.serialization import read_json
from tests.importers import made


def imported(tmp_path: Path, *arms: str, asked: PlanOptions | None = None, **options: Any) -> Analysis:
    folder = tmp_path / "runs" / "mine"
    import_runs(ImportRequest(arms=arms, output=folder, **options))
    return analyse(folder, asked)


def found(analysis: Analysis) -> Imported:
    assert analysis.imported is not None
    return analysis.imported


def alarms(analysis: Analysis) -> dict[str, str]:
    return dict(found(analysis).alarms)


def evaluations(analysis: Analysis, arm: str = "baseline") -> LoggedCurve:
    (one,) = (one for one in found(analysis).curves if one.arm == arm and one.curve == "eval loss")
    return one


def control(analysis: Analysis, arm: str, name: str) -> tuple[str, str]:
    (one,) = (one for one in analysis.controls if one.arm == arm and one.name == name)
    return one.status, one.sentence


def table(path: Path, rows: list[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


# ---- the story ------------------------------------------------------------------------------------------------------


def test_a_loss_that_had_fallen_before_the_first_look_was_looked_at_too_rarely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated every 500 steps, logged every 10: the diary that this library was made for, as its author had it on disk."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        made.state(Path(f"out/{seed}"), seed=seed)
    assert cli.main(["import", "baseline=out/0,out/1", "--output", "runs/mine"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    at = said.index("EVALUATED TOO RARELY")
    assert "first evaluation after training began at step 500 of 2000, 4 evaluations, one every 500 steps" in said[at:]
    assert (
        "the train loss, logged every 10 steps, had made over 99% of its own decrease by then (10% by step 20)"
        in said[at:]
    )
    assert "this curve cannot show what happened before step 500" in said[at:]
    assert said.index("IMPORTED") < at < said.index(" ± ")
    page = Path("runs/mine/report.html").read_text()
    assert page.index("EVALUATED TOO RARELY") < page.index("All metrics")
    assert "EVALUATED TOO RARELY" in Path("runs/mine/report.md").read_text()
    seen = read_json(Path("runs/mine/analysis.json"))["imported"]["curves"][0]
    assert (seen["rarely"], seen["measured_on"], seen["first_step"]) == (True, "train loss", 500)


def test_a_look_before_training_tells_it_by_the_curve_itself(tmp_path: Path) -> None:
    made.state(tmp_path / "a", start=True)
    analysis = imported(tmp_path, f"baseline={tmp_path / 'a'}")
    one = evaluations(analysis)
    log = json.loads((tmp_path / "a" / "trainer_state.json").read_text())["log_history"]
    losses = [row["eval_loss"] for row in log if "eval_loss" in row]
    assert one.before_first == pytest.approx((losses[0] - losses[1]) / (losses[0] - min(losses)))
    assert one.rarely is True
    (eval_loss,) = (each for each in analysis.adequacy if each.curve == "eval loss")
    assert eval_loss.coarsest is None


def test_early_looks_are_enough(tmp_path: Path) -> None:
    made.state(tmp_path / "a", start=True, eval_steps=2, steps=400)
    analysis = imported(tmp_path, f"baseline={tmp_path / 'a'}")
    assert evaluations(analysis).rarely is False
    assert "EVALUATED TOO RARELY" not in alarms(analysis)
    assert "CADENCE UNVERIFIED" not in alarms(analysis)


@pytest.mark.parametrize("logging_steps", [500, 250])
def test_where_nothing_was_logged_more_often_it_cannot_be_told(tmp_path: Path, logging_steps: int) -> None:
    """A train loss that has hardly fallen between two late rows does not say that little had happened before."""
    made.state(tmp_path / "a", logging_steps=logging_steps, steps=1000)
    analysis = imported(tmp_path, f"baseline={tmp_path / 'a'}")
    one = evaluations(analysis)
    if logging_steps == 500:
        assert (one.before_first, one.measured_on, one.rarely) == (None, "", None)
        assert "fewer than two rows of a train loss before it" in alarms(analysis)["CADENCE UNVERIFIED"]
    assert "eval loss" not in [each.curve for each in analysis.adequacy]


@pytest.mark.parametrize(
    ("steps", "every", "largest"),
    [([500, 1000, 1500], "500 steps", 500), ([500, 1000, 1200], "500 steps", 500), ([10, 20, 100], "about 10 steps", 80),
     ([7], "7 steps", 7), ([1, 2, 3], "1 step", 1), ([1, 10, 20, 30], "about 10 steps", 10)],
)  # fmt: skip
def test_a_cadence_in_words(steps: list[int], every: str, largest: int) -> None:
    assert gaps(np.asarray(steps)) == (every, largest)


# ---- controls -------------------------------------------------------------------------------------------------------


def study(tmp_path: Path, **arms: Mapping[str, Any]) -> list[str]:
    """`arm=out/arm-0,out/arm-1` of made-up states, two seeds each."""
    typed = []
    for place, (arm, given) in enumerate(arms.items()):
        for seed in range(2):
            made.state(tmp_path / "out" / f"{arm}-{seed}", seed=seed + 10 * place, **given)
        typed.append(f"{arm}={tmp_path}/out/{arm}-0,{tmp_path}/out/{arm}-1")
    return typed


def test_no_control_is_passed_and_each_says_what_is_missing(tmp_path: Path) -> None:
    analysis = imported(tmp_path, *study(tmp_path, baseline={}, large={"batch": 16}))
    assert {one.status for one in analysis.controls} == {"unverified"}
    assert [(one.arm, one.name) for one in analysis.controls] == [
        ("baseline", "matched"), ("baseline", "seeds_differ"), ("large", "one_variable"), ("large", "matched"),
        ("large", "took_effect"), ("large", "seeds_differ"),
    ]  # fmt: skip
    assert all(one.sentence.startswith("not verified: ") for one in analysis.controls)
    assert "only trainer.train_batch_size (8 -> 16) differs" in control(analysis, "large", "one_variable")[1]
    assert "initial weights, sample order, splits" in control(analysis, "large", "matched")[1]
    assert next(iter(alarms(analysis))) == "IMPORTED"
    assert analysis.conclusions[0].startswith("These runs were imported, and no control is verified")
    (primary,) = (one for one in analysis.contrasts if one.primary)
    assert primary.verdict != "none"
    assert "UNVERIFIED" in primary.labels
    build_report(tmp_path / "runs" / "mine")
    assert "whether something else differed could not be checked" in (tmp_path / "runs/mine/report.html").read_text()


def test_several_settings_at_once_are_no_contrast_of_one(tmp_path: Path) -> None:
    arms = study(tmp_path, baseline={}, both={})
    for arm, rate, dropout in (("baseline", 1e-4, 0.1), ("both", 1e-3, 0.0)):
        (tmp_path / f"{arm}.yaml").write_text(
            f"optim: {{lr: {rate}}}\ndropout: {dropout}\nseed: 3\noutput_dir: {arm}\n"
        )
    files = [f"{arm}={tmp_path / arm}.yaml" for arm in ("baseline", "both")]
    analysis = imported(tmp_path, *arms, config_files=files)
    assert control(analysis, "both", "one_variable")[0] == "failed"
    said = alarms(analysis)["SEVERAL VARIABLES"]
    assert (
        "both differs from the baseline in 2 recorded settings (dropout (0.1 -> 0), optim.lr (0.0001 -> 0.001))" in said
    )
    assert "`ablate attribute`" in said
    assert {one.verdict for one in analysis.contrasts if one.metric == "eval_loss"} == {"none"}


def test_arms_that_were_only_looked_at_differently_are_said_to_be(tmp_path: Path) -> None:
    analysis = imported(tmp_path, *study(tmp_path, baseline={"eval_steps": 200}, dense={"eval_steps": 20}))
    status, sentence = control(analysis, "dense", "one_variable")
    assert status == "unverified"
    assert sentence.endswith("only the cadence differs: eval_steps (200 -> 20)")
    # Curve outcomes are read where both were looked at: the dense arm has no lower best for its 100 looks.
    by_looks = {run.arm: run.values["best_eval_loss"] for run in analysis.runs if run.seed == 0}
    log = json.loads((tmp_path / "out/dense-0/trainer_state.json").read_text())["log_history"]
    assert by_looks["dense"] == pytest.approx(
        min(row["eval_loss"] for row in log if row.get("eval_loss") and row["step"] % 200 == 0)
    )


def test_the_same_numbers_under_two_names_are_one_run(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        path = made.state(tmp_path / name, seed=int(name in "bd"))
        state = json.loads(path.read_text()) | {"total_flos": ord(name)}
        path.write_text(json.dumps(state))
    analysis = imported(
        tmp_path,
        *(f"{arm}={tmp_path}/{one},{tmp_path}/{two}" for arm, one, two in (("baseline", "a", "b"), ("x", "c", "d"))),
    )
    assert control(analysis, "x", "took_effect")[0] == "failed"
    assert control(analysis, "baseline", "seeds_differ")[0] == "unverified"
    again = imported(tmp_path / "again", f"baseline={tmp_path}/a,{tmp_path}/c")
    status, sentence = control(again, "baseline", "seeds_differ")
    assert (status, sentence) == (
        "failed",
        "seed ignored: baseline, seeds 0 and 1 logged exactly the same values: they are one run",
    )


def test_settings_that_nobody_recorded_are_said_to_be_missing(tmp_path: Path) -> None:
    sources = [
        table(tmp_path / f"{k}.csv", [{"step": s, "loss": 1.0, "val_loss": 1 / (s + k)} for s in (10, 20, 30, 40)])
        for k in (1, 2, 3, 4)
    ]
    analysis = imported(tmp_path, f"baseline={sources[0]},{sources[1]}", f"x={sources[2]},{sources[3]}")
    assert "no settings are on record for the baseline and x" in control(analysis, "x", "one_variable")[1]
    assert "runs are compared after the same number of steps" in alarms(analysis)["STEPS, NOT SAMPLES"]
    assert "samples_seen" not in analysis.arms[0]["derived"]
    values = {run.seed: run.values for run in analysis.runs if run.arm == "baseline"}
    assert values[0]["eval_loss"] == pytest.approx(1 / 41)
    assert values[0]["samples_per_second"] is None


# ---- outcomes of a log with gaps --------------------------------------------------------------------------------------


def test_what_is_made_of_every_step_is_not_read_from_some(tmp_path: Path) -> None:
    arms = study(tmp_path, baseline={}, x={"floor": 0.2})
    analysis = imported(tmp_path, *arms)
    for run in analysis.runs:
        assert all(run.values[name] is None for name in found(analysis).not_read)
    assert {"grad_norm_p95_p5", "grad_norm_max", "grad_norm_spikes", "clip_fraction"} <= set(found(analysis).not_read)
    assert "computed from some steps they would be another metric" in alarms(analysis)["NOT READ"]
    with pytest.raises(
        ConfigError,
        match=r"grad_norm_p95_p5 needs the gradient norm of every step, and baseline seed 0 logged 200 of 2000",
    ):
        analyse(tmp_path / "runs" / "mine", PlanOptions(metric="grad_norm_p95_p5"))


def test_a_log_of_every_step_is_read_like_a_trace(tmp_path: Path) -> None:
    norms = [[1.0 + (3 * k + seed) % 7 for k in range(1, 61)] for seed in range(2)]
    sources = [
        table(
            tmp_path / f"{seed}.csv",
            [{"step": k + 1, "grad_norm": norms[seed][k], "loss": 1 / (k + 1)} for k in range(60)],
        )
        for seed in range(2)
    ]
    analysis = imported(tmp_path, f"baseline={sources[0]},{sources[1]}", samples_per_step=["8"])
    for run in analysis.runs:
        assert run.values["grad_norm_max"] == max(norms[run.seed])
        assert run.values["grad_norm_p95_p5"] == pytest.approx(
            np.subtract(*np.quantile(norms[run.seed], [0.95, 0.05], method="median_unbiased"))
        )
        assert run.values["clip_fraction"] is None
    assert found(analysis).not_read == ()
    assert {one.curve for one in analysis.adequacy} == {"train loss", "grad norm"}


def test_the_final_train_loss_is_compared_at_the_same_rows_only(tmp_path: Path) -> None:
    same = imported(tmp_path, *study(tmp_path, baseline={}, x={"floor": 0.2}))
    values = {(run.arm, run.seed): run.values["final_train_loss"] for run in same.runs}
    log = json.loads((tmp_path / "out/x-0/trainer_state.json").read_text())["log_history"]
    assert values["x", 0] == pytest.approx(
        np.mean([row["loss"] for row in log if "loss" in row and row["step"] > 1800]), rel=1e-6
    )
    other = imported(tmp_path / "b", *study(tmp_path / "b", baseline={}, x={"logging_steps": 20}))
    assert {run.values["final_train_loss"] for run in other.runs} == {None}


def test_runs_of_unequal_length_and_without_a_common_look_are_said_to_be(tmp_path: Path) -> None:
    analysis = imported(tmp_path, *study(tmp_path, baseline={}, large={"batch": 64, "steps": 1000, "eval_steps": 330}))
    said = alarms(analysis)
    assert (
        "the last evaluation of baseline seed 0 is after 16,000 samples, that of large seed 0 after 63,360"
        in said["UNEQUAL LENGTHS"]
    )
    assert "all runs were evaluated after the same number of samples 0 times" in said["FEW COMMON EVALUATIONS"]
    assert {run.values["eval_loss_irregularity"] for run in analysis.runs} == {None}
    assert all(run.values["eval_loss"] is not None for run in analysis.runs)


def test_a_run_that_did_not_end_has_no_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.state(tmp_path / "a")
    made.state(tmp_path / "b", seed=1, done=False)
    assert cli.main(["import", f"baseline={tmp_path}/a,{tmp_path}/b", "--output", str(tmp_path / "runs" / "mine")]) == 1
    assert "the Trainer's state is of step 2000 of 4000" in " ".join(capsys.readouterr().out.split())


def test_an_imported_log_with_gaps_is_not_replayed_as_if_it_had_none(tmp_path: Path) -> None:
    from ablate.analysis.resample import resample

    made.state(tmp_path / "a", start=True, last=True)
    analysis = imported(tmp_path, f"baseline={tmp_path / 'a'}")
    assert analysis.arms[0]["derived"]["effective_batch"] == 8
    folder = tmp_path / "runs" / "mine"
    for key in ("tracker.log_every", "eval.every"):
        with pytest.raises(ConfigError, match="cannot be resampled: they did not record train_examples"):
            resample(folder, key, ["200 steps"])


def test_settings_that_one_side_did_not_record_are_no_difference(tmp_path: Path) -> None:
    arms = study(tmp_path, baseline={}, b={}, c={})
    model = {"hidden_size": 64, **{f"label{k}": k for k in range(60)}}
    for arm, config in (
        ("baseline", {"lr": 0.1}),
        ("b", {"lr": 0.2, "model": model}),
        ("c", {"lr": 0.1, "model": model}),
    ):
        (tmp_path / f"{arm}.yaml").write_text(json.dumps(config))
    files = [f"{arm}={tmp_path / arm}.yaml" for arm in ("baseline", "b", "c")]
    analysis = imported(tmp_path, *arms, config_files=files)
    assert "SEVERAL VARIABLES" not in alarms(analysis)
    assert "of the settings in the logs, only lr (0.1 -> 0.2) differs" in control(analysis, "b", "one_variable")[1]
    assert alarms(analysis)["NOT ON RECORD"] == (
        "61 settings of b and c not on record for baseline, and not compared: model.hidden_size, model.label0, model.label1, "
        "model.label10, model.label11 and 56 others"
    )


def test_lists_of_settings_end_at_five(tmp_path: Path) -> None:
    arms = study(tmp_path, baseline={}, b={})
    for arm in ("baseline", "b"):
        (tmp_path / f"{arm}.yaml").write_text(json.dumps({f"key{k}": f"{arm}{k}" for k in range(40)}))
    analysis = imported(tmp_path, *arms, config_files=[f"{arm}={tmp_path / arm}.yaml" for arm in ("baseline", "b")])
    said = alarms(analysis)["SEVERAL VARIABLES"]
    assert "b differs from the baseline in 40 recorded settings (key0 (baseline0 -> b0), " in said
    assert said.count("->") == 5
    assert "and 35 others" in said


def test_no_samples_are_named_where_the_batch_is_not_known(tmp_path: Path) -> None:
    logs = [
        table(
            tmp_path / f"{k}.csv",
            [{"step": s, "loss": 1.0, "val_loss": 1 / (s + k)} for s in range(10, 10 * (3 + k), 10)],
        )
        for k in (1, 2)
    ]
    analysis = imported(tmp_path, f"baseline={logs[0]}", f"x={logs[1]}")
    assert analysis.budgets is not None
    assert analysis.budgets.question == "as the runs ended: baseline 30 steps, x 40 steps"
    assert "samples" not in alarms(analysis)["UNEQUAL LENGTHS"]


def test_a_log_without_the_metric_names_those_that_are_there(tmp_path: Path) -> None:
    log = table(tmp_path / "log.csv", [{"step": s, "loss": 1 / s, "val_accuracy": 0.5} for s in (10, 20, 30)])
    analysis = imported(tmp_path, f"baseline={log}")
    assert alarms(analysis)["NO VALUE"] == (
        "no log has eval_loss; read from them: eval_accuracy, final_train_loss. --metric eval_accuracy compares it"
    )
