"""Did it learn? Planted runs that learned nothing are named; a comparison of two such arms has no verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.answer_results import Learning
from ablate.analysis.learning import DID_NOT_LEARN
from ablate.analysis.results import Analysis, Contrast
from ablate.records.layout import StudyDir
from ablate.records.schema import EVALS
from ablate.records.writer import TableWriter
from ablate.serialization import read_json
from tests.synthetic import write_study

RATIO = "train_test_ratio=4"
LN2 = float(np.log(2))


def plant(folder: Path, arm: str, seed: int, values: dict[str, list[float]], majority: float | None = None) -> None:
    """Replace the evaluations of a run. values: by metric, the first before training; examples: 256."""
    run = StudyDir(folder).run(arm, seed)
    rows = [(metric, number, value) for metric, curve in values.items() for number, value in enumerate(curve)]
    rows.sort(key=lambda row: row[1])
    last = max(number for _, number, _ in rows)
    steps = np.asarray([128 * number // last for _, number, _ in rows])  # a finished run is evaluated at its last step
    mean = np.asarray([value for *_, value in rows])
    squares = np.asarray([value if metric == "accuracy" else value**2 + 0.04 for metric, _, value in rows])
    with TableWriter(run.evals, EVALS) as table:
        table.write({
            "split": ["held_out"] * len(rows), "metric": [metric for metric, *_ in rows], "step": steps, "samples": 8 * steps,
            "tokens": 160 * steps, "epoch": steps / 125, "train_seconds": steps / 10, "eval_seconds": np.full(len(rows), 0.1),
            "sum": 256 * mean, "count": np.full(len(rows), 256), "sum_squares": 256 * squares,
        })  # fmt: skip
    if majority is not None:
        stored = read_json(run.fingerprint)
        stored["items"]["eval_set"] = {**stored["items"].get("eval_set", {}), "majority": majority}
        run.fingerprint.write_text(json.dumps(stored))


GOOD = {"loss": [0.69, 0.6, 0.5], "accuracy": [0.5, 0.7, 0.8]}
NOTHING = {"loss": [LN2, 0.691, 0.689], "accuracy": [0.5, 0.51, 0.53]}


def study(
    folder: Path, baseline: dict[str, list[float]], arm: dict[str, list[float]], *, majority: float | None = 0.52
) -> Analysis:
    write_study(folder, arms=[RATIO], seeds=3)
    for seed in range(3):
        for name, values in (("baseline", baseline), (RATIO, arm)):
            shift = 0.001 * seed * (1 if name == "baseline" else 1.5)
            plant(folder, name, seed, {key: [v + shift for v in curve] for key, curve in values.items()}, majority)
    return analyse(folder)


def learning(analysis: Analysis) -> dict[str, Learning]:
    return {one.arm: one for one in analysis.learning}


def primary(analysis: Analysis) -> Contrast:
    return next(one for one in analysis.contrasts if one.primary)


def test_a_language_model_learned_where_its_loss_fell_whatever_its_accuracy(tmp_path: Path) -> None:
    start = {"loss": [10.4, 10.2, 10.0], "accuracy": [0.0, 0.0, 0.0]}
    folder = tmp_path / "s"
    assert not any(one.learned for one in study(folder, start, start, majority=None).learning)
    plan = read_json(folder / "plan.json")
    for arm in plan["arms"]:
        arm["config"]["task"]["name"] = "causal_lm"
    (folder / "plan.json").write_text(json.dumps(plan))
    assert all(one.learned for one in analyse(folder).learning)


def test_arms_that_learned_are_compared_and_say_by_what(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", GOOD, {"loss": [0.69, 0.6, 0.4], "accuracy": [0.5, 0.7, 0.85]})
    found = learning(analysis)["baseline"]
    assert (found.learned, found.metric, found.failed_seeds) == (True, "accuracy", ())
    assert (found.start, found.last) == (pytest.approx(0.501), pytest.approx(0.801))
    assert found.majority == pytest.approx(0.52)
    assert "the majority class alone has 0.520" in found.sentence
    assert {(check.arm, check.status) for check in analysis.controls if check.name == "learned"} == {
        ("baseline", "checked"), (RATIO, "checked"),
    }  # fmt: skip
    assert primary(analysis).verdict == "helps"
    assert "learn" not in analysis.conclusions[0]


def test_two_arms_that_did_not_learn_have_no_verdict_and_the_headline_says_why(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", NOTHING, {"loss": [LN2, 0.692, 0.6935], "accuracy": [0.5, 0.49, 0.52]})
    assert [one.learned for one in analysis.learning] == [False, False]
    assert {one.verdict for one in analysis.contrasts} == {"none"}
    assert "the control `learned` failed: neither arm learned" in primary(analysis).sentence
    assert analysis.conclusions[0].startswith("No arm learned: baseline did not learn (eval accuracy 0.501 -> 0.531")
    assert not any("no variable has a significant effect" in text for text in analysis.conclusions)


def test_a_loss_that_moves_by_less_than_the_noise_is_not_learning_whatever_the_seeds_agree_on(tmp_path: Path) -> None:
    """0.693 to 0.689 in every seed: the loss moved, and the model still predicts the majority class."""
    found = learning(study(tmp_path / "s", GOOD, NOTHING, majority=0.5))[RATIO]
    assert found.learned is False
    assert found.failed_seeds == (0, 1, 2)


def test_an_arm_that_did_not_learn_next_to_one_that_did_is_named_and_keeps_its_verdict(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", GOOD, NOTHING)
    assert primary(analysis).verdict == "hurts"
    assert DID_NOT_LEARN in primary(analysis).labels
    assert analysis.conclusions[0].startswith(f"Not every arm learned: {RATIO} did not learn (")
    assert {check.arm for check in analysis.controls if check.name == "learned"} == {"baseline"}


def test_always_the_majority_class_is_not_learning(tmp_path: Path) -> None:
    analysis = study(tmp_path / "s", GOOD, {"loss": [0.69, 0.55, 0.5], "accuracy": [0.25, 0.74, 0.75]}, majority=0.75)
    assert learning(analysis)[RATIO].learned is False


def test_an_overfit_is_not_a_failure_to_learn(tmp_path: Path) -> None:
    overfit = {"loss": [0.69, 0.45, 0.95], "accuracy": [0.5, 0.8, 0.78]}
    assert learning(study(tmp_path / "s", overfit, overfit))["baseline"].learned is True
    only_loss = {"loss": [0.69, 0.45, 0.95]}
    found = learning(study(tmp_path / "t", only_loss, only_loss))["baseline"]
    assert (found.metric, found.learned, found.last) == ("loss", True, pytest.approx(0.451))


def test_seeds_that_failed_are_named(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATIO], seeds=3)
    for seed in range(3):
        plant(
            tmp_path / "s",
            "baseline",
            seed,
            NOTHING if seed == 1 else {"loss": [0.69, 0.4], "accuracy": [0.5, 0.99]},
            0.5,
        )
    found = learning(analyse(tmp_path / "s"))["baseline"]
    assert found.failed_seeds == (1,)


def test_without_an_evaluation_before_training_it_is_not_known_and_nothing_is_withheld(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATIO], seeds=3)
    for seed in range(3):
        for arm in ("baseline", RATIO):
            path = StudyDir(tmp_path / "s").run(arm, seed).evals
            plant(tmp_path / "s", arm, seed, GOOD)
            from ablate.records.reader import read_table

            rows = [row for row in read_table(path).to_pylist() if row["step"] > 0]
            with TableWriter(path, EVALS) as table:
                table.write({name: [row[name] for row in rows] for name in EVALS.names})
    analysis = analyse(tmp_path / "s")
    assert [one.learned for one in analysis.learning] == [None, None]
    assert not [check for check in analysis.controls if check.name == "learned"]
    assert primary(analysis).verdict != "none"


def test_a_smoke_run_is_labelled_and_carries_no_verdicts(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=[RATIO, "batch_size=64"], seeds=3)
    path = tmp_path / "s" / "plan.json"
    plan = read_json(path)
    for arm in plan["arms"]:
        arm["config"]["study"] = {**arm["config"].get("study", {}), "smoke_run": True}
    path.write_text(json.dumps(plan))
    analysis = analyse(tmp_path / "s")
    assert analysis.smoke_run
    assert {(one.verdict, one.labels) for one in analysis.contrasts} == {("none", ("SMOKE RUN",))}
    assert analysis.conclusions[0].startswith("SMOKE RUN: ")
    assert all(one.effect is not None for one in analysis.contrasts if one.primary)
    assert not [check for check in analysis.controls if check.name in ("learned", "smoke_run")]


@pytest.mark.parametrize("name", ["quick", "overfit"])
def test_debug_configs_are_smoke_runs(repo: Path, name: str) -> None:
    assert "smoke_run: true" in (repo / "conf/debug" / f"{name}.yaml").read_text()
