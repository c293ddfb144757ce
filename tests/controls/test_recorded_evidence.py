"""Contamination of recorded runs, which no fingerprint shows: it fails the control, and clean records do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import Recorder
from ablate.analysis.analyse import analysis_of
from ablate.analysis.infer_plan import PlanOptions, adopt
from ablate.analysis.load import read_runs
from ablate.analysis.results import UNVERIFIED, Analysis
from ablate.controls.control import Control
from ablate.controls.recorded_evidence import Evidence, with_evidence
from ablate.design.axis import Axis
from ablate.design.designs import ExternalApp
from ablate.records.layout import StudyDir
from ablate.records.returned_values import write_returned
from ablate.serialization import read_json, write_json

IDS = np.arange(100)
RATES = np.full(40, 1e-3)
MATCHED = Control(arm="dropout=0.2", name="matched", status="unverified", sentence="not verified: no fingerprint")


def axis(key: str = "dropout", may_change: tuple[str, ...] = ()) -> Axis:
    return Axis(name=key, question="", kind="training", keys=(key,), values=(0.2,), may_change=may_change)


def recorded(
    ids: Any = IDS, rates: Any = RATES, final: tuple[float, float] = (0.5, 0.5), items: Mapping[str, Any] | None = None
) -> Evidence:
    return Evidence(items=items or {}, eval_ids=ids, rates=rates, final={"loss": final})


def check(own: Evidence, changed: Axis | None = None, baseline: Evidence | None = None) -> Control:
    return with_evidence(MATCHED, changed or axis(), {0: baseline or recorded()}, {0: own})


def unchanged(found: Control) -> bool:
    return found.status == MATCHED.status and found.sentence.startswith(MATCHED.sentence)


def test_clean_records_leave_the_status_and_say_what_agrees() -> None:
    assert unchanged(check(recorded()))
    assert check(recorded()).sentence.endswith(
        "; of the whole run: evaluation examples, learning rates, predictions and evaluations"
    )
    assert check(recorded(ids=None, rates=None)).sentence.endswith("; of the whole run: predictions and evaluations")
    bare = Evidence(items={}, final={})
    assert check(bare, baseline=bare) is MATCHED
    assert unchanged(with_evidence(MATCHED, axis(), {}, {3: recorded(ids=IDS + 7)})), "no seed in common"


def test_another_half_of_the_evaluation_set_is_a_contamination() -> None:
    found = check(recorded(ids=IDS[50:]), baseline=recorded(ids=IDS[:50]))
    assert found.status == "failed"
    assert "seed 0: evaluated on other examples than the baseline (0 in common, of 50 and 50)" in found.sentence
    subset = check(recorded(ids=IDS[:60]))
    assert "(60 in common, of 60 and 100)" in subset.sentence


def test_a_rate_that_doubles_from_step_10_on_is_a_contamination() -> None:
    rates = np.where(np.arange(40) >= 9, 2e-3, 1e-3)
    found = check(recorded(rates=rates))
    assert found.status == "failed"
    assert "learning rate 0.002 at step 10, where the baseline has 0.001" in found.sentence
    assert "(31 such steps)" in found.sentence


@pytest.mark.parametrize("changed", [axis("lr"), axis("optim.warmup_ratio"), axis("width", ("optimizer.lr",))])
def test_an_axis_on_the_rate_may_change_it(changed: Axis) -> None:
    assert unchanged(check(recorded(rates=2 * RATES), changed))


def test_rates_are_left_to_the_declared_schedule_and_to_equal_numbers_of_steps() -> None:
    declared = recorded(rates=2 * RATES, items={"rates": {}})
    assert unchanged(check(declared))
    assert unchanged(check(recorded(rates=RATES[:20] / 2)))


def test_an_axis_on_the_evaluation_set_may_change_it() -> None:
    assert unchanged(check(recorded(ids=IDS[:50]), axis("data.eval_test_ratio")))
    assert unchanged(check(recorded(ids=IDS[:50]), axis("model", ("eval_set",))))
    assert unchanged(check(recorded(ids=IDS[:50]), axis("evalSubset")))


def test_an_axis_that_only_changes_the_number_of_evaluations_may_not() -> None:
    found = check(recorded(ids=IDS[50:]), axis("data.batch_size", ("evaluations", "total_steps")))
    assert found.status == "failed"
    assert "evaluated on other examples" in found.sentence


def test_an_evaluation_that_its_predictions_contradict_is_a_contamination() -> None:
    for changed in (axis(), None):
        found = with_evidence(MATCHED, changed, {0: recorded()}, {0: recorded(final=(0.35, 0.91))})
        assert found.status == "failed"
        assert "predictions give a final loss of 0.35, and its evaluations 0.91" in found.sentence


def test_a_control_that_failed_already_keeps_its_reason() -> None:
    failed = Control(arm="dropout=0.2", name="matched", status="failed", sentence="contaminated: init")
    assert with_evidence(failed, axis(), {0: recorded()}, {0: recorded(ids=IDS[:3])}) is failed


# Runs of a loop that is not ours


def other_loop(folder: Path, changed: Mapping[str, Any], *, app: bool = True, known: bool = True) -> Analysis:
    """Two seeds of a baseline and of a larger batch, whose runs differ in `changed` too.

    app: run by the sweeper, else a folder of runs. known: with a Recorder.
    """
    for arm, batch in (("baseline", 8), ("batch=16", 16)):
        own = {"rate": 0.1, "doubles_at": 99, "ids": range(20), "altered": False} | (
            dict(changed) if batch == 16 else {}
        )
        for seed in range(2):
            torch.manual_seed(seed)
            model = torch.nn.Linear(3, 1)
            with Recorder(folder, model, arm=arm, seed=seed, config={"batch": batch}) as run:
                for step in range(12):
                    loss = (model(torch.randn(batch, 3)) ** 2).mean()
                    model.zero_grad()
                    loss.backward()
                    rate = own["rate"] * (2 if step + 1 >= own["doubles_at"] else 1)
                    run.log_step(loss, samples=batch, learning_rate=rate)
                    with torch.no_grad():
                        for parameter in model.parameters():
                            parameter -= rate * parameter.grad
                ids = list(own["ids"])
                values = torch.rand(len(ids), generator=torch.Generator().manual_seed(batch + seed))
                run.log_eval({"loss": values}, sample_ids=ids)
                if own["altered"]:
                    run.log_eval({"loss": values / 2})
            stored = StudyDir(folder).run(arm, seed)
            if app:
                write_returned(stored, {"returned": float(values.mean())})
            if not known:
                for file in (stored.fingerprint, stored.trace, stored.evals, stored.predictions):
                    file.unlink()
                write_json(stored.status, read_json(stored.status) | {"files": {}})
    plan = adopt(folder, PlanOptions(metric=None if app else "eval_loss"))
    if app:
        plan = replace(plan, metric="returned", design=ExternalApp(seed_key="seed"))
    return analysis_of(plan, read_runs(folder, plan), folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"doubles_at": 10}, "learning rate 0.2 at step 10, where the baseline has 0.1"),
        ({"ids": range(10, 30)}, "evaluated on other examples than the baseline (10 in common, of 20 and 20)"),
        ({"altered": True}, "its saved predictions give a final loss of"),
    ],
    ids=["rates", "examples", "evaluations"],
)
@pytest.mark.parametrize("app", [True, False], ids=["app", "folder"])
def test_a_contaminated_run_of_another_loop_gets_no_verdict(
    tmp_path: Path, changed: dict[str, Any], said: str, app: bool
) -> None:
    analysis = other_loop(tmp_path, changed, app=app)
    matched = next(one for one in analysis.controls if (one.arm, one.name) == ("batch=16", "matched"))
    assert matched.status == "failed"
    assert said in matched.sentence
    assert {one.verdict for one in analysis.contrasts} == {"none"}


def test_a_clean_app_is_checked_and_says_how_far(tmp_path: Path) -> None:
    analysis = other_loop(tmp_path, {})
    matched = next(one for one in analysis.controls if (one.arm, one.name) == ("batch=16", "matched"))
    assert matched.status == "checked"
    assert "equal to the baseline in 2 seeds, before the first step: " in matched.sentence
    assert "; of the whole run: evaluation examples, learning rates, predictions and evaluations" in matched.sentence
    assert not any(UNVERIFIED in one.labels for one in analysis.contrasts)


def test_an_app_without_a_record_is_labelled(tmp_path: Path) -> None:
    analysis = other_loop(tmp_path, {}, known=False)
    assert [UNVERIFIED in one.labels for one in analysis.contrasts if one.effect is not None] == [True]
