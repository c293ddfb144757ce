"""`ablate mediate`: from a treatment and a mediator to the arms that hold it, run once and resumed like any study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.design.plan import Plan
from ablate.runner.forecast import Pace
from ablate.serialization import read_json

BATCH = "data.batch_size=8,64"


def plan_in(folder: Path) -> Plan:
    return Plan.from_json(read_json(folder / "plan.json"))


@pytest.mark.slow
def test_the_larger_batch_is_given_the_noise_of_the_smaller(ablate, runs, here):
    assert ablate("mediate", BATCH, "--through", "grad_noise", "study.seeds=2")[0] == 0
    plan = plan_in(here / "runs" / "mediate-batch_size-grad_noise")
    assert [(arm.name, arm.changes) for arm in plan.arms] == [
        ("baseline", {}),
        ("batch_size=64", {"data.batch_size": 64}),
        ("batch_size=64+noise_batch_size=8", {"data.batch_size": 64, "train.noise_batch_size": 8}),
    ]
    assert plan.baseline.config["data"]["batch_size"] == 8
    assert plan.mediation is not None
    assert [(one.first, one.second, one.level) for one in plan.mediation.held] == [("baseline", plan.arms[2].name, 8)]
    assert plan.mediation.levels == (8, 64)
    assert len(runs.jobs) == 3 * 2
    assert {job.config["train"]["noise_batch_size"] for job in runs.jobs} == {None, 8}
    assert plan.command == "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=2"
    assert plan.question == "How much of what data.batch_size 8 -> 64 does to eval_loss goes through grad_noise?"
    assert "total_steps" in plan.axis("batch_size=64").may_change
    assert "samples_seen" in plan.axis("batch_size=64+noise_batch_size=8").must_match
    runs.forget()
    assert ablate("mediate", BATCH, "--through", "grad_noise", "study.seeds=2")[0] == 0
    assert runs.names == []


@pytest.mark.slow
def test_at_equal_updates_the_larger_batch_holds_the_steps(ablate, runs, here):
    code, _, err = ablate("mediate", BATCH, "--through", "grad_noise", "train.budget='4 steps'", "study.seeds=1")
    assert (code, err) == (0, "")
    plan = plan_in(here / "runs" / "mediate-batch_size-grad_noise")
    assert [arm.derived["total_steps"] for arm in plan.arms] == [4, 4, 4]
    assert [arm.derived["samples_seen"] for arm in plan.arms] == [32, 256, 256]
    assert "total_steps" in plan.axis("batch_size=64").must_match


@pytest.mark.slow
def test_from_the_larger_to_the_smaller_the_baseline_is_made_noisier(ablate, runs, here):
    assert (
        ablate("mediate", "data.batch_size=64,8", "--through", "grad_noise", "study.seeds=1", "study.name=down")[0] == 0
    )
    plan = plan_in(here / "runs" / "down")
    assert {arm.name: arm.changes for arm in plan.arms[1:]} == {
        "batch_size=8": {"data.batch_size": 8}, "noise_batch_size=8": {"train.noise_batch_size": 8},
    }  # fmt: skip
    assert plan.mediation is not None
    assert [(one.first, one.second) for one in plan.mediation.held] == [("noise_batch_size=8", "batch_size=8")]


@pytest.mark.slow
def test_clip_norms_are_held_in_both_and_both_mediators_make_one_study(ablate, runs, here):
    through = ("--through", "max_grad_norm=1.0,0.5,0.25", "--through", "grad_noise=4")
    assert ablate("mediate", BATCH, *through, "study.seeds=1", "study.name=both")[0] == 0
    plan = plan_in(here / "runs" / "both")
    assert plan.mediation is not None
    assert [(one.first, one.second) for one in plan.mediation.held] == [
        ("max_grad_norm=0.5", "batch_size=64+max_grad_norm=0.5"),
        ("max_grad_norm=0.25", "batch_size=64+max_grad_norm=0.25"),
        ("noise_batch_size=4", "batch_size=64+noise_batch_size=4"),
    ]
    assert "--through max_grad_norm=1 is left out: it is what both levels have by themselves" in plan.notes
    assert len(plan.runs) == 8


def test_a_plan_alone_runs_nothing(ablate, runs, here, monkeypatch):
    pace = Pace(step_seconds=0.8, example_seconds=0.01, startup_seconds=2.0)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", lambda config, *, num_parallel: pace)
    code, out, err = ablate("mediate", BATCH, "--through", "grad_noise", "--plan")
    assert code == 0, err
    assert "batch_size=64+noise_batch_s" in out
    assert runs.jobs == []
    assert not (here / "runs" / "mediate-batch_size-grad_noise").exists()


@pytest.mark.slow
def test_retry_goes_on_with_the_same_command(ablate, runs, here):
    assert ablate("mediate", BATCH, "--through", "grad_noise", "study.seeds=1")[0] == 0
    runs.forget()
    folder = "runs/mediate-batch_size-grad_noise"
    assert ablate("retry", folder, "batch_size=64/seed=0")[0] == 0
    assert runs.names == ["batch_size=64/0"]


def through(mediator: str) -> tuple[str, str]:
    return ("--through", mediator)


BAD: dict[str, tuple[tuple[str, ...], str, str]] = {
    "one level": (("data.batch_size=64", *through("grad_noise")), "data.batch_size=64 has one level", "<the other level>,64"),
    "no level": ((*through("grad_noise"), "study.seeds=1"), "no key has two levels", "data.batch_size=8,64"),
    "three levels": (
        ("data.batch_size=8,16,64", *through("grad_noise")),
        "data.batch_size=8,16,64: 3 levels, and a total effect is the difference of two", "data.batch_size=8,64",
    ),
    "equal levels": (("data.batch_size=8,8", *through("grad_noise")), "1 level", "<another>,8"),
    "a bundle": (
        (BATCH, "optim.lr=1e-5,1e-4", *through("grad_noise")),
        "2 keys move, and what goes through a mediator", "ablate attribute",
    ),
    "no mediator": ((BATCH,), "needs a mediator", "--through grad_noise"),
    "a mediator that there is none": (
        (BATCH, *through("grad_nois")), "'grad_nois' is not a mediator that can be held; expected one of grad_noise",
        "did you mean 'grad_noise'",
    ),
    "clip without a level": (
        (BATCH, *through("max_grad_norm")), "a clip norm is held at a level", "--through max_grad_norm=0.5,0.25"),
    "a level that is none": (
        (BATCH, *through("max_grad_norm=small")), "'small' is not a norm above 0", "max_grad_norm=1.0,0.5"),
    "never clip": ((BATCH, *through("max_grad_norm=null")), "'null' is not a norm above 0", "max_grad_norm=1.0,0.5"),
    "not a number of samples": ((BATCH, *through("grad_noise=2.5")), "'2.5' is not a whole number of samples", "grad_noise=8"),
    "the treatment itself": (
        ("train.max_grad_norm=1.0,0.5", *through("max_grad_norm=0.25")), "is the treatment itself", "--through grad_noise",
    ),
    "more samples than there are": (
        (BATCH, *through("grad_noise=16")), "8 samples has more noise than one of 16", "--through grad_noise=8",
    ),
    "a treatment that moves no noise": (
        ("optim.lr=1e-5,1e-4", *through("grad_noise")), "does not change how many samples", "--through grad_noise=4",
    ),
    "nothing held": (
        (BATCH, *through("max_grad_norm=1.0")), "what both levels of data.batch_size have by themselves", "max_grad_norm=0.25",
    ),
    "seeds until decided": (
        (BATCH, "study.stopping=sequential", *through("grad_noise")),
        "only when every arm has every seed",
        "study.stopping=fixed",
    ),
    "an axis": ((BATCH, "axis=dropout", *through("grad_noise")), "axis=dropout: the treatment is a key", "placebo"),
    "only looks": (
        ("eval.every=20,40", *through("max_grad_norm=0.5")), "eval.every changes only how often the curve",
        "ablate resample",
    ),
    "noise scale beside it": (
        ("data.batch_size=8,64", "train.grad_accum_steps=2", "record.grad_noise_scale=true", *through("grad_noise")),
        "record.grad_noise_scale=true", "record.grad_noise_scale=false",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_quoted_with_the_way_out(ablate, runs, here, name):
    typed, says, fix = BAD[name]
    code, _, err = ablate("mediate", *typed)
    assert code == 2
    assert says in err
    assert fix in err.partition("fix: ")[2] or fix in err
    assert "Traceback" not in err
    assert runs.jobs == []


def test_help_has_examples_and_says_what_can_be_held(ablate):
    code, out, _ = ablate("mediate", "--help")
    assert code == 0
    for text in (
        "ablate mediate data.batch_size=8,64 --through grad_noise study.seeds=5",
        "max_grad_norm=VALUE",
        "equal updates",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 128


@pytest.mark.slow
def test_the_whole_way_on_a_tiny_model(ablate, here):
    """For real: the gradient's norm falls with the batch, and all of that fall goes through the noise."""
    more = (
        "debug=quick",
        "study.seeds=3",
        "study.metric=grad_norm_median",
        "study.smallest_effect=0.08",
        "study.name=m",
    )
    code, _, _ = ablate("mediate", BATCH, "--through", "grad_noise", *more)
    assert code == 0
    found = read_json(here / "runs" / "m" / "analysis.json")["mediated"]
    assert found["total"]["effect"] < -0.1
    (one,) = found["held"]
    assert one["verdict"] in ("all", "some or all", "part", "inconclusive"), "three seeds bear no more"
    assert one["through"]["share"] > 0.7
    assert "at the first step, at equal weights, the grad norm is" in one["held"]
    norms = one["measures"][0]
    assert norms["treated"] < 0.5 * norms["baseline"]
    assert norms["second"] == pytest.approx(norms["baseline"], rel=0.3)
    code, out, _ = ablate("mediate", BATCH, "--through", "grad_noise", *more, "--json")
    assert code == 0
    assert json.loads(out)["held"][0]["verdict"] == one["verdict"]
