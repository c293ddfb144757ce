"""Does it act through the mediator? Planted cases get the right words, and no claim is made that is not there."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.design_results import HeldEffect, Mediated
from ablate.analysis.mediation import mediation, mediation_sentences, part, verdict
from ablate.analysis.results import RunReading
from ablate.controls.control import Control
from ablate.design.designs import Held, Mediation
from ablate.design.plan import Plan
from ablate.metrics.metric import MetricInfo
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint, RunStatus
from ablate.records.run_files import RunFiles
from ablate.stats.shapley import Contribution
from tests.synthetic import mediation_plan

LOSS = MetricInfo(name="eval_loss", unit="nats", definition="", lower_is_better=True)
TREATED, NOISY = "batch_size=64", "batch_size=64+noise_batch_size=8"
NOISE = Mediation(
    key="data.batch_size",
    levels=(8, 64),
    treated=TREATED,
    held=(Held(mediator="grad_noise", level=8, first="baseline", second=NOISY),),
    arms={TREATED: {"data.batch_size": 64}, NOISY: {"data.batch_size": 64, "train.noise_batch_size": 8}},
)
CLIP = Mediation(
    key="data.batch_size",
    levels=(8, 64),
    treated=TREATED,
    held=(
        Held(mediator="max_grad_norm", level=0.25, first="max_grad_norm=0.25", second=f"{TREATED}+max_grad_norm=0.25"),
    ),
    arms={
        TREATED: {"data.batch_size": 64},
        "max_grad_norm=0.25": {"train.max_grad_norm": 0.25},
        f"{TREATED}+max_grad_norm=0.25": {"data.batch_size": 64, "train.max_grad_norm": 0.25},
    },
)
BOTH = replace(NOISE, held=(*NOISE.held, *CLIP.held), arms={**NOISE.arms, **CLIP.arms})
NORMS = {"baseline": 1.8, TREATED: 0.7, NOISY: 1.8}
CLIPPED = {"max_grad_norm=0.25": 1.0, f"{TREATED}+max_grad_norm=0.25": 0.97}


def study(
    asked: Mediation,
    means: dict[str, float],
    *,
    seeds: int = 5,
    noise: float = 0.004,
    seed: int = 0,
    clipped: dict[str, float] | None = None,
    norms: dict[str, float] | None = None,
    of: int | None = 8,
    same_weights: bool = False,
) -> tuple[Plan, list[RunReading], list[RunFiles]]:
    """A plan and its runs: each arm's mean, a seed's own level and noise. of: what the fingerprints say was drawn."""
    rng = np.random.default_rng(seed)
    plan = mediation_plan("m", asked, seeds=seeds)
    level = 0.01 * rng.normal(size=seeds)
    readings, runs = [], []
    for arm in ("baseline", *asked.arms):
        for k in range(seeds):
            value = 0.56 + means.get(arm, 0.0) + level[k] + noise * rng.normal()
            readings.append(reading(arm, k, value, {**CLIPPED, **(clipped or {})}.get(arm)))
            norm = {**NORMS, **(norms or {})}.get(arm, 1.0) * float(np.exp(0.1 * rng.normal()))
            drawn = of if "noise_batch_size" in arm else None
            weights = f"{TREATED}{k}" if same_weights and arm == NOISY else f"{arm}{k}"
            runs.append(files(arm, k, norm, drawn, weights))
    return plan, readings, runs


def reading(arm: str, seed: int, value: float | None, clipped: float | None, status: str = "finished") -> RunReading:
    return RunReading(
        arm=arm, seed=seed, folder=f"{arm}/seed={seed}", status=status, sentence="", weights_sha256=None,
        values={LOSS.name: value, "clip_fraction": clipped, "grad_norm_median": NORMS.get(arm)}, throughput={},
    )  # fmt: skip


def files(arm: str, seed: int, norm: float, drawn: int | None, weights: str) -> RunFiles:
    items: dict[str, Any] = {"first_step": {"loss": 0.69, "grad_norm": norm}}
    items |= {"grad_noise": {"of": drawn, "drawn": "h"}} if drawn else {}
    return RunFiles(
        arm=arm, seed=seed, folder=RunDir(Path(arm)), status="finished", sentence="",
        outcome=RunStatus(status="finished", weights_sha256=weights), fingerprint=Fingerprint(items=items),
    )  # fmt: skip


def answer(made: Any, checks: Any = ()) -> Mediated:
    plan, readings, runs = made
    found = mediation(plan, (LOSS,), readings, runs, checks)
    assert found is not None
    return found


def only(about: Mediated) -> HeldEffect:
    (one,) = about.held
    return one


def test_an_effect_that_does_not_go_through_the_noise() -> None:
    found = answer(study(NOISE, {TREATED: 0.12, NOISY: 0.12}))
    one = only(found)
    assert one.verdict == "none"
    assert found.sentence.startswith("data.batch_size 8 -> 64 raises eval loss from 0.5")
    assert "5 seeds" in found.sentence
    assert (
        "of it goes through the gradient's noise: with that of 8 samples at both levels, the rise is 0.1"
        in one.sentence
    )
    assert (
        "So the effect does not need the gradient's noise: what goes through is within plus or minus 0.01"
        in one.sentence
    )
    assert "at the first step, at equal weights, the grad norm is 1." in one.sentence
    assert "not to other mediators" in found.limits
    assert "number of updates (128 and 16), another path" in found.limits
    assert "train.budget='128 steps' compares them at equal updates" in found.limits
    assert found.labels == ()


def test_an_effect_that_goes_through_the_noise_wholly() -> None:
    one = only(answer(study(NOISE, {TREATED: 0.12, NOISY: 0.0})))
    assert one.verdict == "all"
    assert one.through is not None
    assert one.through.share == pytest.approx(1.0, abs=0.1)
    assert "all of it that matters goes through it" in one.sentence


def test_an_effect_that_goes_through_it_by_half() -> None:
    one = only(answer(study(NOISE, {TREATED: 0.12, NOISY: 0.06})))
    assert one.verdict == "part"
    assert one.through is not None
    assert one.through.share_low is not None
    assert one.through.share_high is not None
    assert 0 < one.through.share_low < 0.5 < one.through.share_high < 1
    assert "So part of it goes through it (at least" in one.sentence


@pytest.mark.parametrize(
    ("left", "noise", "word", "says"),
    [
        (0.19, 0.004, "against", "So the gradient's noise works against it: with it held, the effect is larger"),
        (-0.08, 0.004, "beyond", "the rise turns into a fall of 0.0"),
        (0.10, 0.02, "not all", "that any does is not shown (at most"),
        (0.02, 0.02, "some or all", "an effect without it is not shown"),
        (0.06, 0.06, "inconclusive", "but neither this nor what is left is significant; with that of 8"),
    ],
)
def test_every_other_verdict_has_its_words(left: float, noise: float, word: str, says: str) -> None:
    """A fall reads as a rise does, with the other word."""
    one = only(answer(study(NOISE, {TREATED: 0.12, NOISY: left}, noise=noise, seed=1)))
    assert one.verdict == word
    assert says in one.sentence
    fall = only(answer(study(NOISE, {TREATED: -0.12, NOISY: -left}, noise=noise / 4, seed=1)))
    assert fall.verdict != "inconclusive"
    assert "fall" in fall.sentence


def test_nothing_is_divided_where_the_total_is_not_told_from_0() -> None:
    found = answer(study(NOISE, {NOISY: 0.2}))
    assert found.held == ()
    assert found.sentence.startswith("eval loss: nothing is divided, because the total effect is not significant")
    assert "paths that cancel each other would give the same result" in found.sentence
    assert found.total is not None
    assert found.total.share is None


def test_one_seed_has_no_answer_and_four_are_low_power() -> None:
    assert "one seed has no interval" in answer(study(NOISE, {TREATED: 0.2}, seeds=1)).refused
    assert answer(study(NOISE, {TREATED: 0.2}, seeds=4)).labels == ("LOW POWER",)


@pytest.mark.parametrize("arm", ["baseline", TREATED, NOISY])
def test_a_failed_control_leaves_no_answer(arm: str) -> None:
    failed = Control(arm=arm, name="matched", status="failed", sentence="contaminated: init differs")
    found = answer(study(NOISE, {TREATED: 0.12}), (failed,))
    assert all(one.verdict == "none given" for one in found.held)
    assert "the control `matched` failed: contaminated: init differs" in " ".join(mediation_sentences(found))
    assert not any("goes through the gradient's noise:" in text for text in mediation_sentences(found))


NOT_HELD: dict[str, tuple[dict[str, Any], str]] = {
    "not drawn": ({"of": None}, "seed 0 draws no noise, where 8 were declared"),
    "drawn otherwise": ({"of": 16}, "seed 0 draws 16 samples of each step, where 8 were declared"),
    "no-op": ({"same_weights": True}, "ends with weights identical to those of batch_size=64"),
    "gap not closed": ({"norms": {NOISY: 0.7}}, "the gap is not closed, so the noise is not as declared"),
}


@pytest.mark.parametrize("name", NOT_HELD)
def test_noise_that_was_not_held_is_said_loudly_and_divides_nothing(name: str) -> None:
    settings, says = NOT_HELD[name]
    one = only(answer(study(NOISE, {TREATED: 0.12, NOISY: 0.12}, **settings)))
    assert one.verdict == "not held"
    assert one.sentence.startswith("NOT HELD: ")
    assert says in one.sentence
    assert "does not show what goes through the gradient's noise" in one.sentence


def test_a_limit_that_clips_one_arm_only_holds_nothing() -> None:
    means = {TREATED: 0.12, "max_grad_norm=0.25": 0.0, f"{TREATED}+max_grad_norm=0.25": 0.12}
    held = only(answer(study(CLIP, means)))
    assert held.verdict == "none"
    assert (
        "Held: 100% of the steps of max_grad_norm=0.25 and 97% of the steps of batch_size=64+max_grad_norm=0.25"
        in held.sentence
    )
    loose = only(answer(study(CLIP, means, clipped={f"{TREATED}+max_grad_norm=0.25": 0.2})))
    assert loose.verdict == "not held"
    assert (
        "so that the applied gradients still differ in size; a smaller max_grad_norm clips them all" in loose.sentence
    )


def test_a_first_level_that_has_more_samples_is_the_one_that_is_made_noisier() -> None:
    """64 -> 8: the baseline with the noise of 8, against the treated arm as it is."""
    noisy = "noise_batch_size=8"
    asked = Mediation(
        key="data.batch_size", levels=(64, 8), treated="batch_size=8",
        held=(Held(mediator="grad_noise", level=8, first=noisy, second="batch_size=8"),),
        arms={"batch_size=8": {"data.batch_size": 8}, noisy: {"train.noise_batch_size": 8}},
    )  # fmt: skip
    norms = {"baseline": 0.7, "batch_size=8": 1.8, noisy: 1.8}
    one = only(answer(study(asked, {"batch_size=8": -0.12, noisy: 0.0}, norms=norms)))
    assert one.verdict == "none"
    assert "the fall is 0.1" in one.sentence


def test_two_mediators_share_one_family_of_intervals() -> None:
    means = {TREATED: 0.12, NOISY: 0.06, "max_grad_norm=0.25": 0.0, f"{TREATED}+max_grad_norm=0.25": 0.12}
    alone, both = (answer(study(asked, means, noise=0.001)) for asked in (NOISE, BOTH))
    assert [one.verdict for one in both.held] == ["part", "none"]
    lefts = [about.held[0].left for about in (alone, both)]
    widths = [one.high - one.low for one in lefts if one and one.high is not None and one.low is not None]
    assert widths[1] / widths[0] == pytest.approx(stats.t.ppf(1 - 0.05 / 4, 4) / stats.t.ppf(1 - 0.05 / 2, 4))


def test_a_seed_that_lacks_an_arm_is_left_out_and_named() -> None:
    plan, readings, runs = study(NOISE, {TREATED: 0.12, NOISY: 0.12}, seeds=6)
    lost = [
        reading(run.arm, 2, None, None, "diverged") if (run.arm, run.seed) == (NOISY, 2) else run for run in readings
    ]
    found = answer((plan, lost, runs))
    assert found.seeds == (0, 1, 3, 4, 5)
    assert found.left_out == (f"seed 2 is left out: no value in {NOISY} (diverged)",)


def test_equal_updates_are_said_to_leave_little_else() -> None:
    plan, readings, runs = study(NOISE, {TREATED: 0.12})
    arms = tuple(replace(arm, derived={**arm.derived, "total_steps": 128}) for arm in plan.arms)
    found = answer((replace(plan, arms=arms), readings, runs))
    assert "another path" not in found.limits
    assert "nearly all has to go through the noise" in found.limits


def test_the_plan_keeps_what_was_held(tmp_path: Path) -> None:
    import json

    plan = mediation_plan("m", BOTH)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.mediation == BOTH
    for broken in ({"treated": "x"}, {"held": []}, {"levels": [8]}, {"held": 3}):
        with pytest.raises(ValueError, match=r"mediation|Mediation"):
            Plan.from_json({**plan.to_json(), "design": {**asdict(BOTH), **broken}})


# ---- how often a claim is wrong, on arrays ---------------------------------------------------------------------------


def claims(
    total: float, left: float, *, seeds: int, studies: int, spread: tuple[float, float, float]
) -> dict[str, float]:
    """Share of studies with each verdict, '' where the total is not told. spread: sd of baseline, treated and held arm."""
    rng = np.random.default_rng([seeds, int(1000 * total), int(1000 * left) % 997])
    counts: dict[str, int] = {}
    for _ in range(studies):
        base, treated, held = (sd * rng.standard_normal(seeds) for sd in spread)
        whole, stays = total + treated - base, left + held - base
        gate = part("total", whole, whole, 0.95)
        assert gate.low is not None
        assert gate.high is not None
        word = ""
        if not gate.low <= 0 <= gate.high:
            parts = (part("", own, whole, 0.95) for own in (stays, whole - stays))
            word = verdict(gate.effect, *parts, smallest_effect=0.5)
        counts[word] = counts.get(word, 0) + 1
    return {word: count / studies for word, count in counts.items()}


THROUGH = ("some or all", "part", "all", "beyond", "against")
"""Verdicts that say that something goes through."""
STAYS = ("not all", "none", "part", "beyond")
"""Verdicts that say that something is left."""


@pytest.mark.slow
@pytest.mark.parametrize("spread", [(1.0, 1.0, 1.0), (1.0, 1.0, 4.0), (0.3, 2.0, 1.0)])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("total", [0.0, 4.0])
def test_a_wrong_claim_comes_in_at_most_five_of_a_hundred_studies(
    total: float, seeds: int, spread: tuple[float, float, float]
) -> None:
    studies = 600
    most = 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5
    none_through = claims(total, total, seeds=seeds, studies=studies, spread=spread)
    assert sum(none_through.get(word, 0.0) for word in THROUGH) < most
    none_left = claims(total, 0.0, seeds=seeds, studies=studies, spread=spread)
    assert sum(none_left.get(word, 0.0) for word in STAYS) < most


def test_a_cause_that_is_there_is_found() -> None:
    found = claims(12.0, 6.0, seeds=5, studies=400, spread=(1.0, 1.0, 1.0))
    assert found["part"] > 0.9
    assert claims(12.0, 12.0, seeds=5, studies=400, spread=(1.0, 1.0, 1.0)).get("inconclusive", 0.0) < 0.02


def test_what_is_smaller_than_what_matters_is_none_of_it_though_it_is_told_from_0() -> None:
    """The reference case: total 0.125, left 0.129, and what goes through -0.0035 (-0.0061 to -0.0009) with 0.01 to matter."""

    def between(effect: float, low: float, high: float) -> Contribution:
        return Contribution(name="", effect=effect, low=low, high=high, share=None, share_low=None, share_high=None)

    left, through = between(0.129, 0.084, 0.174), between(-0.0035, -0.0061, -0.0009)
    assert verdict(0.125, left, through, 0.01) == "none"
    assert verdict(0.125, left, through, 0.005) == "against"
    assert verdict(0.125, between(0.004, 0.001, 0.007), between(0.121, 0.09, 0.15), 0.01) == "all"
    assert verdict(0.125, between(0.004, 0.001, 0.007), between(0.121, 0.09, 0.15), 0.005) == "part"
    # A total that hardly matters has two parts that do not: then only what is told from 0 counts.
    assert verdict(0.008, between(0.004, 0.001, 0.007), between(0.004, 0.001, 0.007), 0.01) == "part"
