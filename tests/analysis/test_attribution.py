"""Two configs taken apart: planted causes are named with their share, and nothing is divided that is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.analysis.analyse import analyse, write_analysis
from ablate.analysis.attribution import attribution
from ablate.analysis.design_results import Attribution
from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.designs import Corners, OneAtATime, draw_paths
from ablate.design.plan import Plan
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import StudyDir
from ablate.serialization import read_json
from tests.synthetic import corners_plan, write_corners

TWO = Corners(names=("batch_size", "train_test_ratio"), moves=({"data.batch_size": 64}, {"data.train_test_ratio": 4.0}))
THREE = replace(TWO, names=(*TWO.names, "lr"), moves=(*TWO.moves, {"optim.lr": 1e-4}))
FIVE = replace(
    THREE,
    names=(*THREE.names, "max_grad_norm", "warmup"),
    moves=(*THREE.moves, {"train.max_grad_norm": 10.0}, {"optim.warmup_ratio": 0.1}),
    paths=draw_paths(5, 3, np.random.default_rng(0)),
)
ROUGH = MetricInfo(name="eval_loss_irregularity", unit="nats", definition="", lower_is_better=True)
Truth = Callable[[tuple[int, ...]], float]


def made(corners: Corners, truth: Truth, *, seeds: int = 5, noise: float = 0.02, seed: int = 0) -> tuple[Plan, Any]:
    """A plan, and readings whose value at a corner is the truth of its bits, a seed's own level and noise."""
    plan = corners_plan("b", corners, seeds=seeds, metric=ROUGH.name)
    rng = np.random.default_rng(seed)
    level = rng.normal(size=seeds)
    readings = [
        reading(corners.arm(number), k, truth(bits(corners, number)) + level[k] + noise * rng.normal())
        for number in corners.numbers
        for k in range(seeds)
    ]
    return plan, readings


def bits(corners: Corners, number: int) -> tuple[int, ...]:
    return tuple(number >> key & 1 for key in range(len(corners.names)))


def reading(arm: str, seed: int, value: float | None, status: str = "finished") -> RunReading:
    return RunReading(
        arm=arm,
        seed=seed,
        folder=f"{arm}/seed={seed}",
        status=status,
        sentence="",
        weights_sha256=None,
        values={ROUGH.name: value},
        throughput={},
    )


def answer(plan: Plan, readings: Any, checks: Any = ()) -> Attribution:
    found = attribution(plan, (ROUGH,), readings, checks)
    assert found is not None
    return found


def test_the_sentence_that_a_person_wants() -> None:
    found = answer(*made(TWO, lambda on: 3.0 - 1.0 * on[0] + 0.03 * on[1] - 0.1 * on[0] * on[1]))
    assert found.sentence.startswith("batch_size explains 9")
    first, rest = found.sentence.split(" of the fall in eval-loss irregularity; ")
    assert first.count("% (") == 1
    assert "interaction" in rest
    assert "train_test_ratio -" in rest, "it works against the fall"
    assert "Total: " in rest
    assert "5 seeds" in rest
    assert found.significant[0] == "batch_size"
    assert found.shapley_sentence.startswith(
        "With the interaction divided evenly among the keys (Shapley): batch_size 9"
    )


@pytest.mark.parametrize("corners", [TWO, THREE, FIVE], ids=["two keys", "three keys", "five keys on paths"])
def test_both_readings_add_up_exactly_to_the_total(corners: Corners) -> None:
    rng = np.random.default_rng(7)
    table: dict[tuple[int, ...], float] = {}
    found = answer(*made(corners, lambda on: table.setdefault(on, float(3 * rng.normal() - 4 * sum(on)))))
    assert found.total is not None
    assert found.interaction is not None
    assert not found.refused
    alone = sum(part.effect for part in found.alone) + found.interaction.effect
    assert alone == pytest.approx(found.total.effect, rel=1e-12)
    assert sum(part.effect for part in found.shapley) == pytest.approx(found.total.effect, rel=1e-12)
    shares = [part.share for part in (*found.alone, found.interaction)]
    assert sum(share for share in shares if share is not None) == pytest.approx(1.0, rel=1e-12)


def test_three_keys_of_which_two_are_causes() -> None:
    found = answer(*made(THREE, lambda on: 5.0 + 2.0 * on[0] + 1.0 * on[2]))
    shares = {part.name: part.share for part in found.alone}
    assert shares == {
        "batch_size": pytest.approx(2 / 3, abs=0.03),
        "train_test_ratio": pytest.approx(0.0, abs=0.03),
        "lr": pytest.approx(1 / 3, abs=0.03),
    }
    assert set(found.significant) == {"batch_size", "lr"}
    assert found.sentence.startswith("batch_size explains 6")
    assert "of the rise in eval-loss irregularity; lr 3" in found.sentence
    assert "Not significant (corrected for 4 comparisons): " in found.sentence


def test_a_pair_that_works_only_together_is_no_key_s_own() -> None:
    found = answer(*made(TWO, lambda on: 2.0 - 1.0 * on[0] * on[1]))
    assert found.significant == ("interaction",)
    assert found.sentence.startswith("batch_size and train_test_ratio together, and not each by itself, explain 9")
    assert [part.share for part in found.shapley] == [pytest.approx(0.5, abs=0.03)] * 2


def test_two_that_cancel_are_a_difference_of_nothing_and_are_not_divided() -> None:
    found = answer(*made(TWO, lambda on: 1.0 * on[0] - 1.0 * on[1]))
    assert found.refused.startswith("the total difference is not significant (")
    assert found.sentence.startswith(
        f"eval-loss irregularity: no shares, because {found.refused}. By itself batch_size raises it ("
    )
    assert found.sentence.endswith(": they work against each other.")
    assert (found.significant, found.shapley_sentence) == (("batch_size", "train_test_ratio"), "")
    assert all(part.share is None and part.share_low is None for part in (*found.alone, *found.shapley))
    assert [part.effect for part in found.alone] == [pytest.approx(1.0, abs=0.05), pytest.approx(-1.0, abs=0.05)]


def test_two_that_nearly_cancel_are_not_one_cause_of_several_hundred_per_cent() -> None:
    found = answer(*made(TWO, lambda on: 1.0 * on[0] - 0.8 * on[1]))
    assert found.refused == ""
    assert found.sentence.startswith("eval-loss irregularity: by itself batch_size raises it (+")
    assert "and train_test_ratio lowers it (-0." in found.sentence
    assert (
        "): they work against each other. Of the remaining rise in eval-loss irregularity, batch_size 4"
        in found.sentence
    )
    most = answer(*made(TWO, lambda on: 1.0 * on[0] - 0.2 * on[1]))
    assert most.sentence.startswith("batch_size explains 12")


@pytest.mark.slow
def test_of_equal_configs_shares_are_claimed_at_most_as_often_as_the_test_errs() -> None:
    claimed = [not answer(*made(TWO, lambda on: 0.0, noise=1.0, seed=seed)).refused for seed in range(300)]
    assert np.mean(claimed) < 0.08


@pytest.mark.slow
def test_the_only_cause_is_named_and_hardly_ever_another() -> None:
    """Effect of 5 sd of a run: most draws name it; a key without an effect is told from 0 in few."""
    found = [answer(*made(TWO, lambda on: -5.0 * on[0], noise=1.0, seed=seed)) for seed in range(100)]
    named = [one for one in found if one.sentence.startswith("batch_size explains")]
    wrong = [one for one in found if set(one.significant) - {"batch_size"}]
    assert len(named) > 75
    assert len(wrong) <= 10, "5% and what chance adds to it"
    evenly = [one for one in found if one.shapley_significant == ("batch_size",)]
    assert len(evenly) > 85
    covered = [part.share_low <= 1 <= part.share_high for one in named for part in one.alone[:1] if part.share_low]
    assert np.mean(covered) > 0.9


def test_a_seed_without_every_corner_is_left_out_and_said() -> None:
    plan, readings = made(TWO, lambda on: -1.0 * on[0])
    lost = [
        replace(one, values={ROUGH.name: None}, status="diverged")
        if (one.arm, one.seed) == ("train_test_ratio", 2)
        else one
        for one in readings
    ]
    found = answer(plan, lost)
    assert found.seeds == (0, 1, 3, 4)
    assert found.left_out == ("seed 2 is left out: no value in train_test_ratio (diverged)",)
    assert found.labels == ("LOW POWER",)
    assert "4 seeds" in found.sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda one: replace(one, values={ROUGH.name: None}, status="diverged"),
            "no seed has a value in every combination",
        ),
        (lambda one: replace(one, values={}, status="missing"), "no seed has finished every combination yet"),
        (
            lambda one: replace(one, values={ROUGH.name: float("nan")}),
            "no seed has a value in every combination",
        ),
        (lambda one: replace(one, values={}, status="missing") if one.seed else one, "one seed has no interval"),
        (
            lambda one: replace(one, values={ROUGH.name: float("batch" in one.arm)}),
            "without spread there is no interval",
        ),
    ],
    ids=["all diverged", "not run yet", "nan", "one seed", "constant"],
)
def test_runs_that_give_no_answer(change: Callable[[RunReading], RunReading], words: str) -> None:
    plan, readings = made(TWO, lambda on: -1.0 * on[0])
    found = answer(plan, [change(one) for one in readings])
    assert words in found.refused
    assert all(part.share is None for part in found.alone)


def test_a_corner_whose_control_failed_spoils_the_shares_of_all() -> None:
    broken = Control(arm="train_test_ratio", name="matched", status="failed", sentence="contaminated: init differs")
    found = answer(*made(TWO, lambda on: -1.0 * on[0]), checks=[broken])
    assert found.refused == "the control `matched` failed: contaminated: init differs"
    assert found.total is None
    elsewhere = replace(broken, arm="placebo")
    assert not answer(*made(TWO, lambda on: -1.0 * on[0]), checks=[elsewhere]).refused


def test_a_difference_too_small_to_matter_is_said_to_be() -> None:
    found = answer(*made(TWO, lambda on: -0.005 * on[0], noise=1e-5))
    assert "All of it is smaller than 0.01" in found.sentence


def test_on_paths_the_error_of_the_orders_is_told() -> None:
    found = answer(*made(FIVE, lambda on: -2.0 * on[0] - 1.0 * on[1] * on[2] * on[3]))
    assert len(FIVE.numbers) < 2**5
    assert found.orders == 6
    assert "over 6 orders of the keys, plus or minus" in found.shapley_sentence
    assert found.alone[0].share == pytest.approx(2 / 3, abs=0.03)
    assert found.interaction is not None
    assert found.interaction.share == pytest.approx(1 / 3, abs=0.05)


def test_a_study_of_another_kind_has_no_shares() -> None:
    plan, readings = made(TWO, lambda on: 0.0)
    assert attribution(replace(plan, design=OneAtATime()), (ROUGH,), readings, ()) is None


def test_from_runs_on_disk_to_the_answer(tmp_path: Path) -> None:
    write_corners(tmp_path / "b", TWO, {1: 0.2, 2: 0.0, 3: 0.2})
    analysis = write_analysis(tmp_path / "b")
    found = analysis.attribution
    assert found is not None
    assert not [check.sentence for check in analysis.controls if check.status == "failed"]
    assert found.sentence.startswith("batch_size explains ")
    assert analysis.conclusions[0].startswith("Not every arm learned: batch_size did not learn")
    assert analysis.conclusions[1:3] == (found.sentence, found.shapley_sentence)
    batch, ratio = found.keys
    assert batch.moves == {"data.batch_size": (8, 64)}
    assert batch.brings["total_steps"] == (128, 16)
    assert "train_examples" in ratio.brings
    stored: Mapping[str, Any] = read_json(StudyDir(tmp_path / "b").analysis)["attribution"]
    assert stored["sentence"] == found.sentence
    assert [corner["arm"] for corner in stored["corners"]] == [
        "baseline", "batch_size", "train_test_ratio", "batch_size+train_test_ratio",
    ]  # fmt: skip


def test_a_plan_that_came_from_elsewhere_must_describe_its_own_arms(tmp_path: Path) -> None:
    write_corners(tmp_path / "b", TWO, {})
    plan = read_json(tmp_path / "b" / "plan.json")
    for wrong in (
        {"names": ["x", "train_test_ratio"]},
        {"names": ["batch_size"]},
        {"moves": [{}]},
        {"paths": [[0, 0]]},
        {"paths": [0]},
        {"strange": 1},
    ):
        with pytest.raises((ValueError, TypeError)):
            Plan.from_json(plan | {"design": plan["design"] | wrong})
    assert analyse(tmp_path / "b").attribution is not None
