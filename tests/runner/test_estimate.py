"""What a plan will take: learnt from earlier runs that trained alike, timed where there are none, never twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ablate.config.schema import Config, make_config
from ablate.design.plan import Plan
from ablate.errors import AblateError
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_manifest, read_status, write_value
from ablate.runner.forecast import (
    OVERHEAD_SECONDS,
    Pace,
    earlier,
    estimate,
    num_simultaneous,
    obviously_below,
    profile,
)
from tests.synthetic import make_plan, write_study

ARMS = ("batch_size=64", "learning_rate=0.0001", "placebo", "rerun", "eval_every=128 samples")
PACE = Pace(step_seconds=1 / 8, example_seconds=1 / 272, startup_seconds=2.0, peak_memory_bytes=1e9)


def plan_of(seeds: int = 2) -> Plan:
    return make_plan("s", arms=ARMS, seeds=seeds, metric="eval_loss", smallest_effect=0.01)


class Timer:
    """Stands in for the timed steps. pace: of every config."""

    def __init__(self, pace: Pace = PACE) -> None:
        self.configs: list[Config] = []
        self.num_parallel: set[int] = set()
        self.pace = pace

    def __call__(self, config: Config, *, num_parallel: int) -> Pace:
        self.configs.append(config)
        self.num_parallel.add(num_parallel)
        return self.pace


@pytest.fixture
def timer() -> Timer:
    return Timer()


def made_at(study: Path, plan: Plan, starts: dict[tuple[str, int], float], seconds: float = 40.0) -> None:
    """Say when each run of a made-up study was going; its own times are all alike."""
    for run in plan.runs:
        place = StudyDir(study).run(run.arm, run.seed)
        manifest, start = read_manifest(place), starts[run.arm, run.seed]
        manifest.started, manifest.ended = (
            f"2026-01-01T00:{at // 60:02.0f}:{at % 60:06.3f}+00:00" for at in (start, start + seconds)
        )
        write_value(place, manifest)


def test_arms_that_train_alike_are_timed_once(timer: Timer, tmp_path: Path) -> None:
    plan = plan_of()
    found = estimate(plan, plan.runs, tmp_path, slots=2, time_steps=timer)
    assert [config.data.batch_size for config in timer.configs] == [8, 64]
    assert timer.num_parallel == {2}
    assert set(found.costs) == {"baseline", "batch_size=64", "learning_rate=0.0001", "placebo", "rerun"}
    assert "a few steps of baseline, batch_size=64, timed just now, 2 at a time" in found.basis


def test_only_what_waits_is_timed(timer: Timer, tmp_path: Path) -> None:
    plan = plan_of()
    waiting = [run for run in plan.runs if run.arm == "placebo"]
    found = estimate(plan, waiting, tmp_path, slots=8, time_steps=timer)
    assert [config.arm for config in timer.configs] == ["placebo"]
    assert found.num_parallel == 2


def test_a_run_costs_its_start_its_steps_and_its_evaluations(timer: Timer, tmp_path: Path) -> None:
    plan = plan_of(seeds=1)
    found = estimate(plan, plan.runs, tmp_path, slots=1, time_steps=timer)
    # 128 steps at 8/s are 16 s, 17 evaluations of 256 examples at 272/s are 16 s, and 2 s at the start.
    assert found.costs["baseline"].seconds == pytest.approx(34.0)
    # A batch of 64 takes 16 steps.
    assert found.costs["batch_size=64"].seconds == pytest.approx(20.0)
    # Five runs one after the other, a second between them.
    assert found.seconds == pytest.approx(4 * 34.0 + 20.0 + 5.0 + OVERHEAD_SECONDS)


def test_runs_side_by_side_end_when_the_last_place_is_free(timer: Timer, tmp_path: Path) -> None:
    plan = plan_of(seeds=1)
    found = estimate(plan, plan.runs, tmp_path, slots=2, time_steps=timer)
    assert found.seconds == pytest.approx(2 * 34.0 + 20.0 + 3.0 + OVERHEAD_SECONDS)


def test_without_timing_and_without_earlier_runs_nothing_is_known(timer: Timer, tmp_path: Path) -> None:
    plan = plan_of()
    found = estimate(plan, plan.runs, tmp_path, slots=2)
    assert (dict(found.costs), found.seconds, timer.configs) == ({}, None, [])


def test_earlier_runs_tell_and_nothing_is_timed(timer: Timer, tmp_path: Path) -> None:
    arms = ("batch_size=64", "learning_rate=0.0001")
    before = write_study(tmp_path / "before", arms=arms, seeds=1)
    made_at(
        tmp_path / "before", before, {("baseline", 0): 0, ("batch_size=64", 0): 40, ("learning_rate=0.0001", 0): 80}
    )
    plan = plan_of(seeds=1)
    found = estimate(plan, plan.runs, tmp_path, slots=1, time_steps=timer)
    assert timer.configs == []
    assert found.basis == f"3 earlier runs in {tmp_path}"
    outcome = read_status(StudyDir(tmp_path / "before").run("baseline", 0))
    assert outcome is not None
    rates = outcome.throughput
    spent = 128 / rates["train_steps_per_second"] + 17 * 256 / rates["eval_samples_per_second"]
    assert found.costs["placebo"].seconds == pytest.approx(
        spent + max(0.0, 40.0 - rates["train_seconds"] - rates["eval_seconds"])
    )
    assert found.seconds is not None
    assert found.seconds > 4 * spent + OVERHEAD_SECONDS


def test_runs_that_had_more_beside_them_tell_nothing_of_one_alone(timer: Timer, tmp_path: Path) -> None:
    before = write_study(tmp_path / "before", arms=("placebo",), seeds=1)
    made_at(tmp_path / "before", before, {("baseline", 0): 0, ("placebo", 0): 0})
    plan = plan_of(seeds=1)
    key = profile(plan.baseline.config)
    assert earlier(tmp_path, {key}, 1) == ({}, 0)
    assert earlier(tmp_path, {key}, 2)[1] == 2
    estimate(plan, plan.runs, tmp_path, slots=1, time_steps=timer)
    assert [config.data.batch_size for config in timer.configs] == [8, 64]


def test_a_run_that_was_interrupted_or_taken_over_tells_nothing(tmp_path: Path) -> None:
    before = write_study(tmp_path / "before", arms=("placebo",), seeds=1)
    made_at(tmp_path / "before", before, {("baseline", 0): 0, ("placebo", 0): 100})
    place = StudyDir(tmp_path / "before").run("placebo", 0)
    outcome = read_status(place)
    assert outcome is not None
    outcome.sessions = [{}, {}]
    write_value(place, outcome)
    assert earlier(tmp_path, {profile(before.baseline.config)}, 1)[1] == 1
    base = StudyDir(tmp_path / "before").run("baseline", 0)
    manifest = read_manifest(base)
    manifest.shared_from = "other/baseline/seed=0"
    write_value(base, manifest)
    assert earlier(tmp_path, {profile(before.baseline.config)}, 1)[1] == 0


@pytest.mark.parametrize(
    "broken", ["baseline/seed=0/config.yaml", "baseline/seed=0/manifest.json", "baseline/seed=0/status.json"]
)
def test_what_cannot_be_read_does_not_count(tmp_path: Path, broken: str) -> None:
    before = write_study(tmp_path / "before", arms=("placebo",), seeds=1)
    made_at(tmp_path / "before", before, {("baseline", 0): 0, ("placebo", 0): 100})
    (tmp_path / "before" / broken).write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    found = earlier(tmp_path, {profile(before.baseline.config)}, 1)[1]
    assert found == 1


def test_a_first_step_that_fails_names_its_arm_and_what_to_type(tmp_path: Path) -> None:
    def fails(config: Config, *, num_parallel: int) -> Pace:
        raise AblateError("the first steps fail: out of memory")

    plan = plan_of()
    waiting = [run for run in plan.runs if run.arm == "batch_size=64"]
    with pytest.raises(AblateError) as caught:
        estimate(plan, waiting, tmp_path, slots=1, time_steps=fails)
    assert caught.value.problem == "batch_size=64: the first steps fail: out of memory"
    assert caught.value.fix == "`ablate data.batch_size=64` shows the whole log of such a run"


def test_a_profile_is_what_a_sample_costs() -> None:
    plan = plan_of()
    base = make_config(plan.baseline.config)

    def of(**groups: object) -> str:
        from dataclasses import asdict

        return profile(asdict(replace(base, **groups)))  # type: ignore[arg-type]

    same = [
        of(optim=replace(base.optim, lr=1.0, warmup_ratio=0.5)),
        of(train=replace(base.train, budget="5 epochs", max_grad_norm=None)),
        of(eval=replace(base.eval, every="1 epochs", max_examples=None)),
        of(data=replace(base.data, train_test_ratio=4.0, eval_test_ratio=4.0)),
        of(seed=7),
        of(rerun=1),
    ]
    other = [
        of(data=replace(base.data, batch_size=64)),
        of(data=replace(base.data, max_length=256)),
        of(model=replace(base.model, freeze=["embeddings"])),
        of(train=replace(base.train, precision="bf16")),
        of(optim=replace(base.optim, name="sgd")),
        of(record=replace(base.record, update_ratio=True)),
    ]
    assert set(same) == {profile(plan.baseline.config)}
    assert len({*same, *other}) == 1 + len(other)


def test_what_went_beside_a_run_is_a_mean_over_its_time() -> None:
    runs = [(0.0, 10.0), (0.0, 5.0), (5.0, 20.0)]
    assert num_simultaneous(runs[0], runs) == pytest.approx(2.0)
    assert num_simultaneous(runs[2], runs) == pytest.approx(1 + 5 / 15)


def test_a_study_is_obviously_short_at_a_sample_per_second() -> None:
    plan = plan_of(seeds=1)
    # Five runs of 1,024 samples and 17 looks at 256, which count a third: 12,374 s.
    assert obviously_below(plan, plan.runs, 1, 12_400)
    assert not obviously_below(plan, plan.runs, 1, 12_300)
    assert obviously_below(plan, plan.runs, 2, 6_200)


def test_memory_and_disk_come_from_what_was_measured(tmp_path: Path) -> None:
    pace = replace(PACE, peak_memory_bytes=3e9, num_parameters=22_000_000, num_trainable=1_000_000)
    plan = plan_of(seeds=1)
    cost = estimate(plan, plan.runs, tmp_path, slots=1, time_steps=Timer(pace)).costs["baseline"]
    assert cost.memory_bytes == 3e9
    # Weights in fp32, two moments of those that train, and a new checkpoint beside the old one.
    assert cost.checkpoint_bytes == 2 * 4 * (22_000_000 + 2 * 1_000_000)


def test_what_a_finished_run_leaves_is_about_what_is_said(timer: Timer, tmp_path: Path) -> None:
    plan = write_study(tmp_path / "s", arms=("batch_size=64",), seeds=1)
    costs = estimate(plan, plan.runs, tmp_path / "elsewhere", slots=1, time_steps=timer).costs
    for arm in ("baseline", "batch_size=64"):
        folder: RunDir = StudyDir(tmp_path / "s").run(arm, 0)
        left = sum(file.stat().st_size for file in folder.path.iterdir() if file.is_file())
        assert 0.4 < costs[arm].record_bytes / left < 2.5
