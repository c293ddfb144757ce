"""`study.design` from the shell: planned, frozen, run once and gone on with like any study."""

from __future__ import annotations

import json

import pytest

from ablate.design.plan import Plan
from ablate.serialization import read_json

TWO = ("data.batch_size=8,64", "optim.lr=5e-5,1e-4", "study.design=factorial")
FOUR = ("data.batch_size=8,64", "optim.lr=5e-5,1e-4", "optim.warmup_ratio=0,0.1", "model.dropout=0,0.1")


@pytest.mark.slow
def test_every_cell_is_run_at_every_seed_and_never_twice(ablate, runs, here):
    assert ablate("-m", *TWO, "study.seeds=2")[0] == 0
    folder = here / "runs" / "factorial-batch_size+learning_rate"
    plan = Plan.from_json(read_json(folder / "plan.json"))
    assert plan.crossed is not None
    assert set(plan.crossed.arms) == {arm.name for arm in plan.arms}
    assert len(runs.jobs) == 8
    both = [job for job in runs.jobs if job.arm == "batch_size=64+learning_rate=0.0001"]
    assert {(job.config["data"]["batch_size"], job.config["optim"]["lr"]) for job in both} == {(64, 1e-4)}
    runs.forget()
    assert ablate("-m", *TWO, "study.seeds=2")[0] == 0
    assert runs.names == []


@pytest.mark.slow
def test_another_design_in_the_same_folder_is_refused(ablate, runs, here):
    ablate("-m", *TWO, "study.seeds=1", "study.name=s")
    code, _, err = ablate("-m", *TWO[:2], "study.seeds=1", "study.name=s")
    assert code == 2
    assert "runs/s holds another study: its arms are baseline, batch_size=64" in err
    code, _, err = ablate("-m", *TWO[:2], "study.design=pairwise", "study.seeds=1", "study.name=s")
    assert code == 2
    assert "runs/s holds another study" in err


@pytest.mark.slow
def test_plan_says_the_alias_structure_in_words_and_runs_nothing(ablate, runs, here):
    code, out, _ = ablate("plan", *FOUR, "study.design=fractional", "hydra/launcher=basic")
    assert code == 0
    words = " ".join(out.split())
    assert (
        "design fractional, of resolution 4: 8 of the 16 arms of all combinations of batch_size, learning_rate" in words
    )
    assert (
        "the effect called batch_size is that of batch_size plus that of learning_rate, warmup and dropout together"
        in words
    )
    assert (
        "the effect called batch_size x learning_rate is that of batch_size and learning_rate together plus that of warmup and "
        "dropout together"
    ) in words
    assert "40 to do" in words
    assert not runs.jobs
    assert not list(here.iterdir())
    _, out, _ = ablate("plan", *TWO, "hydra/launcher=basic")
    assert "design factorial: all 4 combinations (2 x 2) of batch_size and learning_rate" in " ".join(out.split())
    _, out, _ = ablate(
        "plan", "data.batch_size=16,64", "optim.lr=1e-4,2e-4", "study.design=pairwise", "hydra/launcher=basic"
    )
    assert (
        "design pairs: 4 changes, each alone, and 4 of their 6 pairs, the others cannot be combined: 9 arms"
        in " ".join(out.split())
    )


def test_a_word_that_is_no_design_names_the_nearest(ablate, here):
    code, _, err = ablate("-m", *TWO[:2], "study.design=pair")
    assert code == 2
    assert (
        "study.design='pair' is not one of one_at_a_time, factorial, fractional, pairwise, variance_components" in err
    )
    assert "study.design=pairwise" in err


def test_bisect_has_its_own_arms(ablate, runs, here):
    code, _, err = ablate("attribute", "", "data.batch_size=64 optim.lr=1e-4", "study.design=factorial")
    assert code == 2
    assert "study.design=factorial: `ablate attribute` and `ablate mediate` have their own arms" in err
    assert not (here / "runs").exists()


@pytest.mark.slow
def test_a_real_study_from_the_command_to_the_words(ablate, here):
    """Trained for real, tiny: four arms, two seeds."""
    code, out, err = ablate(
        "-m", "data.batch_size=8,32", "optim.lr=5e-5,1e-3", "study.design=factorial", "debug=quick", "study.seeds=2",
        "study.workers=1",
    )  # fmt: skip
    assert code == 0, err
    assert "Main effects and interactions: eval_loss" in out
    folder = here / "runs" / "factorial-batch_size+learning_rate"
    about = json.loads((folder / "analysis.json").read_text())["effects"]
    assert [one["name"] for one in about["effects"]] == [
        "batch_size 8 -> 32", "learning_rate 5e-05 -> 0.001", "batch_size x learning_rate",
    ]  # fmt: skip
    assert all(one["effect"] is not None for one in about["effects"])
    # A main effect is the mean of the axis's effect at each level of the other.
    means = {cell["arm"]: cell["mean"] for cell in about["cells"]}
    small = means["learning_rate=0.001"] - means["baseline"]
    large = means["batch_size=32+learning_rate=0.001"] - means["batch_size=32"]
    assert about["effects"][1]["effect"] == pytest.approx((small + large) / 2)
    assert 'id="effects"' in (folder / "report.html").read_text()
