"""`ablate plan` and `ablate axes` on a terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from ablate.analysis.power import EarlierSpread
from ablate.design.plan import Plan
from ablate.report import print_plan
from ablate.report.plan import detectable, num_variants, training_steps
from ablate.runner.forecast import Cost, Forecast
from ablate.stats.power import detectable_effect
from tests.report.conftest import Study
from tests.synthetic import make_plan

COST = Cost(seconds=80.0, memory_bytes=2**30, record_bytes=80 * 2**10, checkpoint_bytes=2**29)


def plan_text(plan: Plan, known: Forecast, spread: EarlierSpread | None = None) -> str:
    file = io.StringIO()
    print_plan(plan, known, spread, Console(file=file, width=80))
    assert max(len(line.rstrip()) for line in file.getvalue().splitlines()) <= 80
    return " ".join(file.getvalue().split())


def costs(plan: Plan, cost: Cost = COST) -> dict[str, Cost]:
    return {arm.name: cost for arm in plan.arms if not arm.replayed}


def test_a_plan_lists_changes_what_comes_with_them_and_the_time(study: Study) -> None:
    done = frozenset({("baseline", 0), ("baseline", 1), ("baseline", 2)})
    known = Forecast(
        done=done, costs=costs(study.plan), seconds=365.0, num_parallel=2, basis="finished runs of this study"
    )
    text = plan_text(study.plan, known)
    assert "data.batch_size 8 → 64" in text
    assert "total_steps 128 → 16" in text
    assert "not trained: resampled" in text
    assert "9 to do, 3 done, 9 not trained (9 resampled)" in text
    assert (
        "about 6 min: 2 runs at a time, start-up, evaluation and report included; from finished runs of this study"
        in text
    )


def test_arms_that_cost_the_same_share_a_line(study: Study) -> None:
    each = costs(study.plan) | {"batch_size=64": replace(COST, seconds=200.0, memory_bytes=3 * 2**29)}
    text = plan_text(study.plan, Forecast(costs=each, seconds=900.0))
    assert "baseline, train_test_ratio=4, placebo 80 s 1.0 GiB 80 KiB" in text
    assert "batch_size=64 3 min 1.5 GiB 80 KiB" in text


def test_memory_and_disk_are_of_all_that_goes_at_a_time(study: Study) -> None:
    text = plan_text(study.plan, Forecast(costs=costs(study.plan), seconds=900.0, num_parallel=4))
    assert "memory at most 1.0 GiB per run, 4.0 GiB for 4 at a time" in text
    assert "disk 0.94 MiB remain; during training at most 2.0 GiB more, for checkpoints" in text


def test_without_an_estimate_it_says_where_one_will_come_from(study: Study) -> None:
    text = plan_text(study.plan, Forecast())
    assert "no estimate before the first finished run" in text
    assert "memory" not in text


@pytest.mark.parametrize(
    ("device", "gpus", "instructions", "sentence"),
    [
        ("auto", [], "AMX-BF16", "bf16: this CPU has AMX-BF16"),
        ("auto", [], "", "fp32: this CPU has no bf16 instructions"),
        ("auto", ["0"], "", "bf16 where the GPU computes in it, else fp16"),
        ("cpu", ["0"], "", "fp32: this CPU has no bf16 instructions"),
        ("cuda", [], "AMX-BF16", "bf16 where the GPU computes in it, else fp16"),
    ],
)
def test_it_says_what_precision_auto_is_here(
    study: Study, monkeypatch: pytest.MonkeyPatch, device: str, gpus: list[str], instructions: str, sentence: str
) -> None:
    monkeypatch.setattr("ablate.report.plan.visible_gpus", lambda: gpus)
    monkeypatch.setattr("ablate.report.plan.bf16_instructions", lambda: instructions)
    baseline, *variants = study.plan.arms

    def text_of(precision: str) -> str:
        train = baseline.config["train"] | {"precision": precision, "device": device}
        arm = replace(baseline, config=baseline.config | {"train": train})
        return plan_text(replace(study.plan, arms=[arm, *variants]), Forecast())

    assert f"precision {sentence} (train.precision=auto)" in text_of("auto")
    assert "train.precision=auto" not in text_of("fp32")


def test_a_finished_plan_has_nothing_to_run(study: Study) -> None:
    done = frozenset((run.arm, run.seed) for run in study.plan.runs)
    text = plan_text(study.plan, Forecast(done=done))
    assert "0 to do, 12 done" in text
    assert "nothing to run" in text


def test_runs_that_are_taken_from_other_studies_are_free_and_take_no_steps(study: Study) -> None:
    shared = {("baseline", 0): "earlier", ("baseline", 1): "earlier", ("placebo", 0): "other"}
    text = plan_text(study.plan, Forecast(shared=shared))
    assert "9 to do, 0 done, 12 not trained (9 resampled, 2 reused from earlier, 1 reused from other)" in text
    assert "1 to do, 2 reused" in text
    # 12 runs of 128 or 16 steps, less three; nine looks at the baseline would be nine more runs.
    assert training_steps(study.plan, Forecast(shared=shared)) == (
        9 * 128 + 3 * 16 - 3 * 128,
        9 * 128 + 3 * 16 + 9 * 128,
    )


def test_the_share_of_the_naive_steps_is_said(study: Study) -> None:
    text = plan_text(study.plan, Forecast())
    assert "steps 1,200 of training, 51% of the 2,352 of running every arm and cadence separately" in text


def test_one_seed_of_the_repeat_is_one_run(study: Study) -> None:
    plan = make_plan("s", arms=("rerun", "eval_every=128 samples"), seeds=4, metric="eval_loss", smallest_effect=0.01)
    text = plan_text(plan, Forecast())
    assert "5 to do, 0 done, 4 not trained (4 resampled)" in text
    assert training_steps(plan, Forecast()) == (5 * 128, 9 * 128)


def test_the_smallest_detectable_effect_is_in_sd_until_an_earlier_study_says_more(study: Study) -> None:
    text = plan_text(study.plan, Forecast())
    three, five, eight = (f"{detectable_effect(n, 2, 1.0):.1f} sd with {n} seeds" for n in (3, 5, 8))
    assert f"minimum detectable effect: {three}, {five} and {eight} (80% power at 5% over 2 variants together)" in text
    assert "residual sd of eval_loss unknown: no earlier study of this baseline" in text
    spread = EarlierSpread(sd=0.01, rho=0.5, num_contrasts=3, studies=("earlier",))
    text = plan_text(study.plan, Forecast(), spread)
    five = f"{detectable_effect(5, 2, 0.01):.3f}"
    assert f"{five} with 5 seeds" in text
    assert "residual sd 0.010, rho 0.50, from 3 contrasts in earlier" in text
    assert re.search(r"0\.01 is decided by about \d+ seeds", text)


def test_the_more_variants_a_plan_has_the_larger_an_effect_must_be() -> None:
    one, many = (
        make_plan("s", arms=(*arms, "placebo"), seeds=5, metric="eval_loss", smallest_effect=0.01)
        for arms in (["batch_size=64"], ["batch_size=64", "train_test_ratio=4", "learning_rate=0.0001"])
    )
    assert (num_variants(one), num_variants(many)) == (1, 3)
    assert detectable(one, None)[8] < detectable(many, None)[8]


def test_a_number_of_seeds_of_ones_own_is_shown_too(study: Study) -> None:
    plan = replace(study.plan, seeds=tuple(range(12)))
    assert "with 12 seeds" in plan_text(plan, Forecast())


def test_it_says_when_ablate_m_will_ask(study: Study) -> None:
    assert "asks for confirmation" not in plan_text(study.plan, Forecast(costs=costs(study.plan), seconds=7.9 * 3600))
    text = plan_text(study.plan, Forecast(costs=costs(study.plan), seconds=9 * 3600))
    assert "`ablate -m` asks for confirmation before it starts: longer than study.confirm_above_hours=8" in text
