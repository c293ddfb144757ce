"""`study.stopping=sequential` as it is typed: what is refused, and what `ablate plan` and `ablate status` say of it."""

from __future__ import annotations

import pytest

from ablate.config.schema import StudyConfig
from ablate.errors import ConfigError
from ablate.records.metadata import RunStatus

DECIDED = ("axis=batch_size", "study.stopping=sequential")


@pytest.mark.parametrize(
    ("typed", "says", "fix"),
    [
        (("study.stopping=decide",), "study.stopping='decide' is not one of fixed, sequential", "study.stopping=fixed"),
        (
            (*DECIDED, "study.interim_seeds=[8,5]"),
            "study.interim_seeds=[8,5]: expected ascending numbers of seeds",
            "study.interim_seeds=[5,8]",
        ),
        ((*DECIDED, "study.interim_seeds=[5,5,8]"), "expected ascending numbers of seeds", "study.interim_seeds=[5,8]"),
        ((*DECIDED, "study.interim_seeds=[1,5]"), "each from 2 to 1,000", "study.interim_seeds=[5]"),
        (
            ("axis=batch_size", "study.interim_seeds=[5,8]"),
            "study.interim_seeds=[5,8] without study.stopping=sequential",
            "study.stopping=sequential",
        ),
        (
            (*DECIDED, "study.alpha_spending=pococ"),
            "study.alpha_spending='pococ' is not one of obrien_fleming, pocock",
            "study.alpha_spending=pocock",
        ),
        (
            (*DECIDED, "study.seeds=20", "study.interim_seeds=[5,8]"),
            "the interim analyses set the number of seeds",
            "study.seeds=5",
        ),
        ((*DECIDED, "study.seeds=1"), "study.seeds=1: expected at least 2", "study.interim_seeds=[5,8,12]"),
        (
            ("study.stopping=anytime", "study.seeds=4"),
            "study.seeds=4: expected at least 5",
            "study.interim_seeds=[5,8,12]",
        ),
        (
            ("axis=placebo", "study.stopping=sequential"),
            "study.stopping=sequential: placebo has no variant to decide about",
            "axis=",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(ablate, runs, typed, says, fix):
    code, _, err = ablate("-m", *typed)
    assert code == 2
    assert says in err
    assert fix in err.partition("fix:")[2]
    assert runs.jobs == []


@pytest.mark.slow
def test_a_bisect_needs_every_seed_of_every_corner(ablate, runs):
    code, _, err = ablate("attribute", "", "data.batch_size=64 optim.lr=1e-4", "study.stopping=sequential")
    assert code == 2
    assert "shares add up only where every corner has every seed" in err
    assert "study.stopping=fixed" in err


def test_looks_that_nobody_named_follow_from_the_seeds():
    assert StudyConfig(stopping="sequential").planned_interim_seeds == (5, 8, 12)
    assert StudyConfig(stopping="sequential", seeds=3).planned_interim_seeds == (3, 5, 8)
    assert StudyConfig(stopping="sequential", interim_seeds=[4, 9]).most_seeds == 9
    assert StudyConfig().planned_interim_seeds == ()
    with pytest.raises(ConfigError, match="ascending numbers of seeds"):
        StudyConfig(stopping="sequential", interim_seeds=[True, 5])  # type: ignore[list-item]


def test_a_plan_says_its_looks_and_that_time_is_a_bound(ablate, runs, here, monkeypatch):
    from ablate.runner.forecast import Pace

    pace = Pace(step_seconds=0.8, example_seconds=0.01, startup_seconds=2.0)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", lambda config, *, num_parallel: pace)
    code, out, _ = ablate("plan", *DECIDED)
    said = " ".join(out.split())
    assert code == 0
    assert "at most 12 seeds" in said
    assert "interim analyses at 5, 8 and 12 (O'Brien-Fleming), with intervals of 99.9" in said
    assert "time at most, if no variant is decided before the last interim analysis" in said
    assert "at the level of each interim analysis" in said
    assert max(map(len, out.splitlines())) <= 80
    assert not list(here.iterdir())


def test_a_plan_says_what_looking_after_every_seed_costs(ablate, runs, here, monkeypatch):
    from ablate.runner.forecast import Pace

    pace = Pace(step_seconds=0.8, example_seconds=0.01, startup_seconds=2.0)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", lambda config, *, num_parallel: pace)
    code, out, _ = ablate("plan", "axis=batch_size", "study.stopping=anytime")
    said = " ".join(out.split())
    assert code == 0
    assert "at most 20 seeds; interim analyses after every seed from 5 on (a t-mixture e-value, decided at 20)" in said
    assert "what 10 fixed seeds detect with 80% power takes at most 20" in said
    assert StudyConfig(stopping="anytime", interim_seeds=[6, 9, 30]).planned_interim_seeds == (6, 9, 30)


def test_a_study_begins_with_the_first_look_and_waits_for_it(ablate, runs, here):
    """The made-up runs leave no record that could be read, so nothing is decided; the first part is what was launched."""
    runs.fate = lambda job: RunStatus(status="failed", reason="x", message="made up to fail")
    code, out, _ = ablate("-m", *DECIDED, "study.interim_seeds=[2,3]")
    assert code == 0
    assert sorted(runs.names) == ["baseline/0", "baseline/1", "batch_size=64/0", "batch_size=64/1"]
    assert "the interim analysis at 2 seeds waits for 4 runs; failed: " in out
    code, out, _ = ablate("status", "runs/batch_size")
    said = " ".join(out.split())
    assert "at most 3 seeds; interim analyses at 2 and 3" in said
    assert "next interim analysis at 2 seeds; runs and time are upper bounds, because variants stop" in said
