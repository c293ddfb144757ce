"""Axes that are moved together: planted effects are named with their words, and what is not there is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.analysis.analyse import write_analysis
from ablate.analysis.design_results import CellEffect, Effects
from ablate.analysis.factorial import design_effects, effect_sentences
from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.designs import OneAtATime
from ablate.design.factorial import Factorial
from ablate.design.plan import Plan
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import StudyDir
from ablate.serialization import read_json
from tests.synthetic import TWO_LEVELS, crossed_cells, crossed_plan, write_crossed

LOSS = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)
TWO = crossed_cells("factorial", TWO_LEVELS[:2])
THREE = crossed_cells("factorial", TWO_LEVELS[:3])
HALF = crossed_cells("fractional", TWO_LEVELS, {"max_grad_norm": TWO_LEVELS[:3]})
QUARTER = crossed_cells("fractional", TWO_LEVELS[:3], {"learning_rate": TWO_LEVELS[:2]})
PAIRS = crossed_cells("pairwise", TWO_LEVELS)
Truth = Callable[[tuple[int, ...]], float]


def made(
    cells: Factorial, truth: Truth, *, seeds: int = 6, noise: float = 0.002, margin: float = 0.01
) -> tuple[Plan, list[RunReading]]:
    """A plan, and readings whose value in a cell is the truth of its levels, a seed's own level and noise."""
    plan = crossed_plan("s", cells, seeds=seeds, smallest_effect=margin)
    rng = np.random.default_rng(0)
    level = rng.normal(size=seeds)
    return plan, [
        reading(arm, k, truth(place) + level[k] + noise * rng.normal())
        for arm, place in zip(cells.arms, cells.indices, strict=True)
        for k in range(seeds)
    ]


def reading(
    arm: str, seed: int, value: float | None, status: str = "finished", weights: str | None = None
) -> RunReading:
    return RunReading(
        arm=arm,
        seed=seed,
        folder=f"{arm}/seed={seed}",
        status=status,
        sentence="",
        weights_sha256=weights,
        values={LOSS.name: value},
        throughput={},
    )


def read(plan: Plan, readings: Sequence[RunReading], checks: Any = (), contrasts: Any = ()) -> Effects:
    found = design_effects(plan, (LOSS,), readings, checks, contrasts)
    assert found is not None
    return found


def by_name(about: Effects) -> dict[str, CellEffect]:
    return {one.name: one for one in about.effects}


def word_of(about: Effects) -> dict[str, str]:
    return {part.name: part.word for part in about.parts}


BATCH, RATIO, BOTH = "batch_size off -> 64", "train_test_ratio off -> 4", "batch_size x train_test_ratio"


def test_a_main_effect_alone() -> None:
    about = read(*made(TWO, lambda on: 0.1 * on[0]))
    found = by_name(about)
    assert {name: one.verdict for name, one in found.items()} == {
        BATCH: "hurts",
        RATIO: "equivalent",
        BOTH: "equivalent",
    }
    assert found[BATCH].effect == pytest.approx(0.1, abs=0.005)
    assert not found[BATCH].average
    assert re.match(r"eval_loss: batch_size off -> 64 raises it by \+0\.(09|10)\d\d? nats \(95%", about.sentences[0])
    assert "nats (95% interval [0.0" in about.sentences[0]
    assert about.sentences[0].endswith(
        "which hurts; on average over the levels of train_test_ratio; batch_size=64 alone does not differ significantly, so it "
        "may act only in combination."
    ), "no contrast of the arm alone is given"
    assert "equivalent (within plus or minus 0.01): train_test_ratio" in about.sentences[1]


def test_an_interaction_makes_the_main_effect_an_average_and_says_so() -> None:
    about = read(*made(TWO, lambda on: 0.2 * on[0] - 0.1 * on[0] * on[1]))
    found = by_name(about)
    assert found[BOTH].verdict == "interact"
    assert found[BOTH].effect == pytest.approx(-0.05, abs=0.005)
    assert found[BATCH].effect == pytest.approx(0.15, abs=0.005)
    assert found[BATCH].average.startswith(
        "an average over the levels of train_test_ratio, with which it interacts: +0."
    )
    assert found[BATCH].average.endswith(" at 4")
    interaction, *mains = about.sentences
    assert interaction.startswith(
        "eval_loss: batch_size and train_test_ratio interact: the effect of batch_size off -> 64 is +0."
    )
    assert "at train_test_ratio off and +0." in interaction
    assert "an average over the levels of train_test_ratio" in mains[0]


def test_two_that_act_only_together_are_said_to() -> None:
    """As one at a time would have seen it: neither alone differs from the baseline."""
    about = read(*made(TWO, lambda on: 0.1 * on[0] * on[1]))
    assert "they act only together: neither batch_size=64 nor train_test_ratio=4 alone differs" in about.sentences[0]


def test_two_that_undo_each_other_have_no_main_effect_and_each_acts() -> None:
    plan, readings = made(TWO, lambda on: 0.1 * (on[0] != on[1]))
    contrasts = [replace_contrast(arm) for arm in ("batch_size=64", "train_test_ratio=4")]
    about = read(plan, readings, contrasts=contrasts)
    assert {name: one.verdict for name, one in by_name(about).items()} == {
        BATCH: "equivalent",
        RATIO: "equivalent",
        BOTH: "interact",
    }
    assert "act only together" not in about.sentences[0]
    assert "on average over the other's levels neither has a significant effect (batch_size" in about.sentences[0]
    assert "equivalent on average" in about.sentences[1]


def replace_contrast(arm: str) -> Any:
    class Told:
        primary, verdict, labels = True, "hurts", ()

    told = Told()
    told.arm = arm  # type: ignore[attr-defined]
    return told


def test_of_all_combinations_higher_interactions_are_read_too() -> None:
    about = read(*made(THREE, lambda on: 0.4 * on[0] * on[1] * on[2]))
    assert about.family == 7
    assert by_name(about)["batch_size x train_test_ratio x learning_rate"].verdict == "interact"
    assert "batch_size, train_test_ratio and learning_rate interact: how two of them act together" in about.sentences[3]
    assert {term.factors for term in about.terms if term.p_value < 0.001} == {one.axes for one in about.effects}


def test_a_fraction_gives_sums_and_says_of_what() -> None:
    about = read(*made(HALF, lambda on: 0.1 * on[0] + 0.1 * on[2] * on[3]))
    found = by_name(about)
    assert len(found) == 7
    assert found["batch_size x train_test_ratio"].verdict == "interact"
    assert found["batch_size x train_test_ratio"].mixed_with == (
        "plus that of learning_rate and max_grad_norm together",
    )
    assert about.sentences[0].startswith(
        "eval_loss: the effect called batch_size x train_test_ratio is significant (+0.0"
    )
    assert "only more arms can separate them (study.design=factorial)" in about.sentences[0]
    assert found["learning_rate off -> 0.0001"].average.startswith("an average over the levels of the other axes")
    assert (about.resolution, about.full, len(about.cells)) == (4, 16, 8)
    main = next(text for text in about.sentences if "batch_size off -> 64 raises" in text)
    assert "is the effect of batch_size plus that of train_test_ratio, learning_rate and max_grad_norm together" in main


def test_at_resolution_three_an_interaction_shows_as_a_main_effect_with_its_sign() -> None:
    about = read(*made(QUARTER, lambda on: 0.2 * on[0] * on[1]))
    found = by_name(about)["learning_rate off -> 0.0001"]
    # The interaction is +0.1 where two levels are coded -1/2 and 1/2; the words say that it is subtracted.
    assert found.effect == pytest.approx(-0.1, abs=0.005)
    assert found.mixed_with == ("less that of batch_size and train_test_ratio together",)


def test_a_seed_that_lost_an_arm_still_counts_and_is_named() -> None:
    plan, readings = made(TWO, lambda on: 0.1 * on[0])
    lost = [
        replace(one, values={LOSS.name: None}, status="diverged")
        if (one.arm, one.seed) == ("train_test_ratio=4", 2)
        else one
        for one in readings
    ]
    about = read(plan, lost)
    assert about.seeds == (0, 1, 3, 4, 5)
    assert about.left_out == ("seed 2 has no value in train_test_ratio=4 (diverged); its other runs still count",)
    assert about.labels == ("MISSING SEEDS",)
    assert by_name(about)[BATCH].labels == ("5 of 6 seeds",)
    assert by_name(about)[BATCH].verdict == "hurts"
    assert about.df == 23 - 6 - 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda one: replace(one, values={}, status="missing") if "+" in one.arm else one,
            "not every arm has a finished run",
        ),
        (lambda one: one if one.seed == 0 else replace(one, values={}, status="missing"), "one seed has no interval"),
    ],
)
def test_runs_that_give_no_effects_yet(change: Callable[[RunReading], RunReading], words: str) -> None:
    plan, readings = made(TWO, lambda on: 0.1 * on[0])
    about = read(plan, [change(one) for one in readings])
    assert words in about.refused
    assert not about.effects
    assert effect_sentences(about) == (f"eval_loss: no effects yet, because {about.refused}.",)


def test_an_arm_that_never_finishes_leaves_its_effects_undecided() -> None:
    plan, readings = made(TWO, lambda on: 0.1 * on[0])
    lost = [replace(one, values={LOSS.name: None}, status="diverged") if "+" in one.arm else one for one in readings]
    about = read(plan, lost)
    assert {one.verdict for one in about.effects} == {"inconclusive"}
    assert {one.effect for one in about.effects} == {None}


def test_a_cell_whose_control_failed_takes_every_verdict() -> None:
    broken = Control(arm="train_test_ratio=4", name="matched", status="failed", sentence="contaminated: init differs")
    about = read(*made(TWO, lambda on: 0.1 * on[0]), checks=[broken])
    assert {one.verdict for one in about.effects} == {"none"}
    assert about.sentences == (
        "eval_loss: no effects, because train_test_ratio=4: the control `matched` failed: contaminated: init differs.",
    )
    elsewhere = replace(broken, arm="placebo")
    assert by_name(read(*made(TWO, lambda on: 0.1 * on[0]), checks=[elsewhere]))[BATCH].verdict == "hurts"


def test_few_seeds_are_labelled_and_what_is_open_says_how_many_would_do() -> None:
    about = read(*made(TWO, lambda on: 0.1 * on[0], seeds=3, noise=0.03))
    assert "LOW POWER" in by_name(about)[BATCH].labels
    open_ = by_name(about)[RATIO]
    assert open_.verdict == "inconclusive"
    assert open_.seeds_needed is not None
    assert open_.seeds_needed > 3
    assert f"needs about {open_.seeds_needed} seeds" in about.sentences[-1]


def test_a_study_of_one_axis_at_a_time_has_no_effects() -> None:
    plan, readings = made(TWO, lambda on: 0.0)
    assert design_effects(replace(plan, design=OneAtATime()), (LOSS,), readings, (), ()) is None
    assert effect_sentences(None) == ()


def test_a_redundant_pair_a_dead_part_and_one_that_matters_are_told_apart() -> None:
    """batch_size and train_test_ratio stand in for each other; max_grad_norm matters; learning_rate is dead."""
    about = read(*made(PAIRS, lambda on: 0.1 * on[0] * on[1] + 0.05 * on[3]))
    assert word_of(about) == {
        "batch_size=64": "redundant",
        "train_test_ratio=4": "redundant",
        "learning_rate=0.0001": "dead",
        "max_grad_norm=10": "matters",
    }
    parts = {part.name: part for part in about.parts}
    assert parts["batch_size=64"].partners == ("train_test_ratio=4",)
    assert parts["train_test_ratio=4"].most is not None
    assert parts["train_test_ratio=4"].most.axes == ("train_test_ratio=4", "batch_size=64")
    assert about.sentences[0].startswith("eval_loss: batch_size=64 is redundant: equivalent alone (")
    assert re.search(r"but it has an effect with train_test_ratio=4 \(\+0\.(09|10)", about.sentences[0])
    assert "learning_rate=0.0001 is dead: equivalent alone" in " ".join(about.sentences)
    assert about.family == 4 + 2 * 6


def test_nothing_found_is_not_yet_dead() -> None:
    """Equivalence has to be earned: with an interval wider than the margin nobody is dead or redundant."""
    about = read(*made(PAIRS, lambda on: 0.0, noise=0.02))
    assert set(word_of(about).values()) == {"inconclusive"}
    assert "inconclusive whether dead, redundant or useful: batch_size=64, " in about.sentences[-1]
    assert set(word_of(read(*made(PAIRS, lambda on: 0.0, noise=0.02, margin=0.2))).values()) == {"dead"}


def test_a_part_that_was_not_there_to_be_changed_is_not_dead() -> None:
    """Beside the other one it ends with the very same weights: nothing was removed, so nothing can be said."""
    plan, readings = made(PAIRS, lambda on: 0.0)
    same = {"train_test_ratio=4": "w", "batch_size=64+train_test_ratio=4": "w"}
    bits = [replace(one, weights_sha256=f"{same.get(one.arm, one.arm)}{one.seed}") for one in readings]
    about = read(plan, bits)
    parts = {part.name: part for part in about.parts}
    assert parts["batch_size=64"].word == "inconclusive"
    assert "with train_test_ratio=4 the weights are identical to those without it" in parts["batch_size=64"].sentence
    assert parts["learning_rate=0.0001"].word == "dead"
    assert "IDENTICAL WEIGHTS" in by_name(about)["batch_size=64 with train_test_ratio=4"].labels


def test_a_pair_whose_control_failed_costs_its_two_parts_their_word_and_no_other() -> None:
    arm = "batch_size=64+train_test_ratio=4"
    broken = Control(arm=arm, name="matched", status="failed", sentence="contaminated")
    words = word_of(read(*made(PAIRS, lambda on: 0.0), checks=[broken]))
    assert words == {
        "batch_size=64": "inconclusive",
        "train_test_ratio=4": "inconclusive",
        "learning_rate=0.0001": "dead",
        "max_grad_norm=10": "dead",
    }
    alone = replace(broken, arm="max_grad_norm=10")
    about = read(*made(PAIRS, lambda on: 0.0), checks=[alone])
    assert word_of(about)["max_grad_norm=10"] == "none"
    assert any("max_grad_norm=10: no verdict, because the control `matched` failed" in text for text in about.sentences)


def test_what_could_not_be_combined_is_said_beside_the_word() -> None:
    kept = [k for k, arm in enumerate(PAIRS.arms) if arm != "batch_size=64+train_test_ratio=4"]
    some = replace(PAIRS, arms=tuple(PAIRS.arms[k] for k in kept), indices=tuple(PAIRS.indices[k] for k in kept))
    parts = {part.name: part for part in read(*made(some, lambda on: 0.0)).parts}
    assert parts["batch_size=64"].word == "dead"
    assert parts["batch_size=64"].untried == ("train_test_ratio=4",)
    assert parts["batch_size=64"].sentence.endswith("it could not be combined with train_test_ratio=4")


@pytest.mark.slow
def test_words_are_wrongly_given_as_seldom_as_the_analysis_errs() -> None:
    """Where nothing matters, `matters` or `redundant` stands in about 5% of studies or fewer."""
    wrong = 0
    for seed in range(100):
        plan = crossed_plan("s", PAIRS, seeds=5)
        values = np.random.default_rng([4, seed]).normal(size=(len(PAIRS.arms), 5))
        readings = [reading(arm, k, float(values[i, k])) for i, arm in enumerate(PAIRS.arms) for k in range(5)]
        wrong += bool({"matters", "redundant"} & set(word_of(read(plan, readings)).values()))
    assert wrong / 100 < 0.1


@pytest.mark.parametrize("cells", [TWO, PAIRS], ids=["factorial", "pairwise"])
@pytest.mark.slow
def test_from_runs_on_disk_to_the_answer(tmp_path: Path, cells: Factorial) -> None:
    write_crossed(tmp_path / "s", cells, {arm: 0.1 for arm in cells.arms if "batch_size" in arm})
    analysis = write_analysis(tmp_path / "s")
    about = analysis.effects
    assert about is not None
    assert not [check.sentence for check in analysis.controls if check.status == "failed"]
    assert analysis.conclusions[: len(about.sentences)] == about.sentences
    assert any("batch_size" in text and ("raises it" in text or "matters" in text) for text in about.sentences)
    single = [one for one in analysis.contrasts if one.primary and one.arm == "batch_size=64"]
    assert single[0].verdict == "hurts", "the contrasts with the baseline are there as ever"
    stored = read_json(StudyDir(tmp_path / "s").analysis)["effects"]
    assert stored["kind"] == cells.kind
    assert [one["verdict"] for one in stored["effects"]] == [one.verdict for one in about.effects]
