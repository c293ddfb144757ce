"""Reading a study that adds seeds: who stops when, at which level, what is not read yet, and how often the whole way errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.analysis.analyse import analyse, analyse_interim, contrasts_of
from ablate.analysis.contrasts import family
from ablate.analysis.interim import InterimReader, after, interim_result, levels_of, next_interim
from ablate.analysis.results import Contrast, RunReading
from ablate.controls.control import Control
from ablate.design.designs import OneAtATime
from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.metrics.metric import MetricInfo
from ablate.records.interim import read_interims, write_interim
from ablate.records.layout import StudyDir
from ablate.serialization import write_json
from ablate.stats.verdicts import DECIDED
from tests.stats.sequential_study import stop_early
from tests.synthetic import make_plan, write_study

LOOKS = (5, 8, 12)
ARMS = ("batch_size=64", "learning_rate=0.0001", "max_grad_norm=10")
METRIC = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)


def a_plan(looks: Sequence[int] = LOOKS, margin: float = 0.01, arms: Sequence[str] = ARMS) -> Plan:
    plan = make_plan("x", arms=arms, seeds=looks[-1], metric="eval_loss", smallest_effect=margin)
    return replace(plan, design=OneAtATime(interim_seeds=tuple(looks), alpha_spending="obrien_fleming"))


def readings(plan: Plan, values: np.ndarray) -> list[RunReading]:
    """values: [arms, seeds], the baseline first."""
    common: dict[str, Any] = {"status": "finished", "sentence": "", "weights_sha256": None, "throughput": {}}
    return [
        RunReading(
            arm=arm.name,
            seed=seed,
            folder=f"{arm.name}/seed={seed}",
            values={"eval_loss": float(values[number, seed])},
            **common,
        )
        for number, arm in enumerate(plan.arms)
        for seed in plan.seeds
    ]


def contrasts(
    plan: Plan, values: np.ndarray, interims: InterimReader, checks: Sequence[Control] = ()
) -> list[Contrast]:
    runs = readings(plan, values)
    return list(contrasts_of(interims.due, METRIC, family(plan, runs, checks), runs, checks, interims))


def whole_way(plan: Plan, values: np.ndarray, checks: Sequence[Control] = ()) -> InterimReader:
    """InterimResult after look, through the code that makes them in a study."""
    reader = after(plan, [])
    while not reader.course.over:
        found = interim_result(plan, contrasts(plan, values, next_interim(reader), checks), reader.made)
        reader = after(plan, [*reader.made, found])
    return reader


def test_the_reading_is_the_calibrated_procedure() -> None:
    """Effects, intervals, claims and stops of six drawn studies, as `stop_early` has them."""
    plan, rng = a_plan(margin=0.9), np.random.default_rng(5)
    for _ in range(6):
        values = rng.normal(size=(4, 12)) + rng.normal(size=12)
        values[1:] += np.array([[2.0], [0.9], [0.0]])
        reader = whole_way(plan, values)
        expected = stop_early(values, LOOKS, levels_of(plan), 0.9)
        said = {one.arm: one for one in contrasts(plan, values, reader)}
        for number, name in enumerate(ARMS):
            one = said[name]
            assert one.effect == pytest.approx(expected.effects[number])
            assert one.low == pytest.approx(expected.low[number])
            assert one.high == pytest.approx(expected.high[number])
            assert (one.verdict in DECIDED) == expected.differs[number]
            assert (one.verdict == "equivalent") == expected.within[number]
            assert len(one.seeds) == expected.seeds[number]


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_way_claims_something_of_nothing_in_about_five_percent_and_free_peeking_in_more() -> None:
    plan, rng, draws = a_plan((4, 6, 8, 10), 1e-9, ARMS[:1]), np.random.default_rng(11), 300
    wrong, peeked = 0, 0
    for _ in range(draws):
        values = rng.normal(size=(2, 10))
        reader = whole_way(plan, values)
        wrong += any(verdict in DECIDED for made in reader.made for verdict in made["stops"].values())
        free = stop_early(values, plan.interim_seeds, [0.95] * 4)
        peeked += bool(np.any(free.differs))
    assert wrong / draws <= 0.055 + 2 * (0.055 * 0.945 / draws) ** 0.5
    assert peeked > 1.5 * wrong


def test_before_the_first_look_nothing_is_said_whatever_has_run() -> None:
    values = np.random.default_rng(1).normal(size=(4, 12))
    values[1] += 50
    assert contrasts(a_plan(), values, after(a_plan(), [])) == []


def test_runs_after_the_last_look_are_not_read() -> None:
    plan, rng = a_plan(), np.random.default_rng(2)
    values = 0.1 * rng.normal(size=(4, 12))
    first = interim_result(plan, contrasts(plan, values, next_interim(after(plan, []))), [])
    assert len(first["goes_on"]) == 3, "undecided, all of them"
    reader = after(plan, [first])
    then = contrasts(plan, values, reader)
    values[:, 5:] = 1000 * rng.normal(size=(4, 7))
    assert contrasts(plan, values, reader) == then
    assert {len(one.seeds) for one in then} == {5}
    assert {one.confidence for one in then} == {levels_of(plan)[0]}
    assert "% interval" in then[0].sentence
    assert "95% interval" not in then[0].sentence


def test_what_is_decided_is_not_decided_again_and_says_where_it_stopped() -> None:
    plan, rng = a_plan(), np.random.default_rng(3)
    values = 0.01 * rng.normal(size=(4, 12))
    values[1] += 0.5
    reader = whole_way(plan, values)
    assert reader.made[0]["stops"] == {"batch_size=64": "hurts"}
    values[1, 5:] -= 3  # what it would have done later
    one = next(one for one in contrasts(plan, values, reader) if one.arm == "batch_size=64")
    assert one.verdict == "hurts"
    assert "STOPPED AT 5 SEEDS" in one.labels
    assert not any("of 12 seeds" in label for label in one.labels)
    assert reader.course.stops["batch_size=64"] == 5
    due = {(run.arm, run.seed) for run in reader.due.runs}
    assert ("batch_size=64", 4) in due
    assert ("batch_size=64", 5) not in due
    assert ("baseline", reader.course.seeds - 1) in due


def test_a_variant_whose_control_failed_costs_no_further_seeds() -> None:
    plan = a_plan()
    broken = Control(arm="max_grad_norm=10", name="matched", status="failed", sentence="init differs")
    reader = whole_way(plan, 0.1 * np.random.default_rng(4).normal(size=(4, 12)), [broken])
    assert reader.made[0]["stops"]["max_grad_norm=10"] == "none"


def test_all_decided_at_the_first_look_is_the_end() -> None:
    plan = a_plan(margin=1.0)
    reader = whole_way(plan, 0.01 * np.random.default_rng(6).normal(size=(4, 12)))
    assert reader.course.over
    assert reader.course.made == 1
    assert {run.seed for run in reader.due.runs} == set(range(5))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """On disk: of twelve seeds at most, the first six have run; one variant is plainly worse."""
    folder, effects = tmp_path / "runs" / "top", {"batch_size=64": 0.3, "learning_rate=0.0001": 0.0}
    arms = ("batch_size=64", "learning_rate=0.0001", "placebo")
    later = [(arm, seed) for arm in ("baseline", *arms) for seed in range(6, 12)]
    plan = write_study(folder, arms=arms, seeds=12, effects=effects, missing=later, smallest_effect=0.0001)
    plan = replace(plan, design=OneAtATime(interim_seeds=LOOKS, alpha_spending="pocock"))
    write_json(StudyDir(folder).plan, plan.to_json() | {"digest": plan.digest})
    return folder


def test_a_study_folder_is_read_by_its_looks(study: Path) -> None:
    before = analyse(study)
    assert before.contrasts == ()
    assert before.interim is not None
    assert "No verdict yet: the first analysis is at 5 seeds, and all its runs have ended" in before.conclusions[1]
    assert len(before.runs) == 4 * 5, "what is due"
    found = analyse_interim(study)
    assert found["stops"] == {"batch_size=64": "hurts"}
    assert write_interim(study, found)
    now = analyse(study)
    assert now.interim is not None
    assert [one.made for one in now.interim.analyses] == [True, False, False]
    assert (
        "the analysis at 8 seeds comes next, for learning_rate=0.0001, and 6 of its 29 runs are still to do"
        in (now.conclusions[1])
    )
    assert not now.complete
    assert any("overstated on average" in sentence for sentence in now.conclusions)
    assert {len(one.seeds) for one in now.contrasts if one.primary} == {5}
    assert now.floors[0].seeds == tuple(range(5)), "a floor that grows later takes no verdict back"
    assert all(level.metric for level in now.adequacy)


def test_a_look_is_written_once(study: Path) -> None:
    found = analyse_interim(study)
    assert write_interim(study, found)
    assert not write_interim(study, found | {"stops": {}})
    plan_digest = found["plan"]
    assert read_interims(study, LOOKS, plan_digest)[0]["stops"] == {"batch_size=64": "hurts"}
    assert not list(study.glob(".*part"))


def test_what_its_runs_say_after_they_were_made_again_is_told(study: Path) -> None:
    write_interim(study, analyse_interim(study) | {"stops": {"batch_size=64": "helps"}})
    said = " ".join(analyse(study).conclusions)
    assert "An interim decision is final" in said
    assert "batch_size=64 (helps then, hurts now)" in said


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"plan": "another"}, "is an interim analysis of another plan"),
        ({"level": 2}, "cannot be read"),
        ({"stops": None}, "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_look_that_is_none_is_refused(study: Path, edit: dict[str, Any] | None, says: str) -> None:
    found = analyse_interim(study)
    path = StudyDir(study).interim(5)
    if edit is None:
        path.write_text("{")
    else:
        write_json(path, found | edit)
    with pytest.raises(RecordError, match=says) as caught:
        analyse(study)
    assert caught.value.fix
