"""Studies through Hydra, the sweeper and the launcher, with runs that are made up."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ablate.design.plan import Plan
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_manifest, write_value
from ablate.serialization import read_json


def plan_in(folder: Path) -> Plan:
    return Plan.from_json(read_json(folder / "plan.json"))


def test_a_named_axis_is_the_baseline_and_every_level_for_every_seed(ablate, runs, here):
    assert ablate("-m", "axis=batch_size,learning_rate", "study.seeds=3")[0] == 0
    plan = plan_in(here / "runs" / "batch_size+learning_rate")
    assert [arm.name for arm in plan.arms] == [
        "baseline", "batch_size=64", "learning_rate=2e-05", "learning_rate=0.0001",
    ]  # fmt: skip
    assert runs.names == [f"{run.arm}/{run.seed}" for run in plan.runs]
    assert len(runs.names) == 4 * 3
    assert [run.seed for run in plan.runs] == [0] * 4 + [1] * 4 + [2] * 4
    assert plan.command == "ablate -m axis=batch_size,learning_rate study.seeds=3"


def test_swept_keys_are_moved_one_at_a_time_and_not_multiplied(ablate, runs, here):
    assert ablate("-m", "data.batch_size=8,64", "optim.lr=5e-5,1e-4", "study.seeds=2")[0] == 0
    plan = plan_in(here / "runs" / "batch_size+learning_rate")
    assert [(arm.name, arm.changes) for arm in plan.arms] == [
        ("baseline", {}),
        ("batch_size=64", {"data.batch_size": 64}),
        ("learning_rate=0.0001", {"optim.lr": 1e-4}),
    ]
    assert len(runs.jobs) == 3 * 2


def test_a_job_is_the_arms_whole_config_with_its_seed_and_its_folder(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=2", "optim.lr=1e-4", "study.workers=2", "study.fail_fast=true")
    job = next(job for job in runs.jobs if (job.arm, job.seed) == ("batch_size=64", 1))
    assert (job.config["data"]["batch_size"], job.config["optim"]["lr"]) == (64, 1e-4)
    assert (job.config["arm"], job.config["seed"], job.config["study"]["name"]) == ("batch_size=64", 1, "batch_size")
    assert job.folder == Path("runs/batch_size/batch_size=64/seed=1")
    assert job.changes == {"data.batch_size": 64}
    assert runs.options == {"workers": 2, "title": "batch_size", "already_done": 0}


def test_a_baseline_seed_that_was_typed_does_not_leak_into_the_study(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=2", "seed=7")
    assert sorted(job.seed for job in runs.jobs) == [0, 0, 1, 1]
    assert {job.config["seed"] for job in runs.jobs} == {0, 1}


def test_observation_axes_train_nothing(ablate, runs, here):
    ablate("-m", "axis=eval_every,log_every", "study.seeds=2")
    assert runs.names == ["baseline/0", "baseline/1"]
    plan = plan_in(here / "runs" / "eval_every+log_every")
    assert sum(arm.replayed for arm in plan.arms) == 6


def test_arms_of_unequal_ratio_share_one_evaluation_set(ablate, runs, here):
    ablate("-m", "axis=train_test_ratio,batch_size", "study.seeds=1")
    assert {job.config["data"]["eval_test_ratio"] for job in runs.jobs} == {4.0}
    plan = plan_in(here / "runs" / "train_test_ratio+batch_size")
    assert any("data.eval_test_ratio=4" in note for note in plan.notes)
    assert plan.arm("train_test_ratio=4").changes == {"data.train_test_ratio": 4.0}


def test_values_that_are_one_value_run_once(ablate, runs, here):
    ablate("-m", "optim.lr=1e-4,0.0001", "study.seeds=1")
    assert runs.names == ["baseline/0", "learning_rate=0.0001/0"] or len(runs.names) == 2
    assert any("is not run twice" in note for note in plan_in(here / "runs" / "learning_rate").notes)


def test_the_same_command_again_runs_nothing(ablate, runs, here):
    for _ in range(2):
        assert ablate("-m", "axis=batch_size", "study.seeds=3")[0] == 0
    assert len(runs.jobs) == 6


def test_nothing_to_run_imports_no_torch(ablate, runs, here):
    """The table comes in seconds because nothing heavy is loaded."""
    import subprocess
    import sys

    ablate("-m", "axis=batch_size", "study.seeds=1")
    script = (
        "import sys, ablate.cli, ablate.study_command, ablate.tasks.registry as facts\n"
        "facts.data_facts = lambda config: facts.DataFacts(num_train=1000, num_held_out=1000, num_eval=256, num_classes=2)\n"
        "ablate.study_command.conclude = lambda folder: 0\n"
        "assert ablate.cli.main(['-m', 'axis=batch_size', 'study.seeds=1']) == 0\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=here, env={"PYTHONPATH": ":".join(sys.path)})


@pytest.mark.slow
@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_what_did_not_come_to_a_result_is_run_again(ablate, runs, here, status):
    runs.fate = lambda job: RunStatus(status=status if job.arm == "baseline" else "diverged")
    ablate("-m", "axis=batch_size", "study.seeds=2")
    runs.forget()
    ablate("-m", "axis=batch_size", "study.seeds=2")
    assert runs.names == ["baseline/0", "baseline/1"]
    assert runs.options["already_done"] == 2


def test_a_run_that_was_killed_is_run_again(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=2")
    (here / "runs/batch_size/baseline/seed=1/status.json").unlink()
    runs.forget()
    ablate("-m", "axis=batch_size", "study.seeds=2")
    assert runs.names == ["baseline/1"]


def test_another_number_of_workers_or_tracker_is_the_same_study(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=1")
    assert ablate("-m", "axis=batch_size", "study.seeds=1", "study.workers=1", "tracker=wandb")[0] == 0
    assert len(runs.jobs) == 2


@pytest.mark.slow
def test_seeds_and_order_are_recorded_and_come_out_the_same_again(ablate, runs, here):
    ablate("-m", "axis=learning_rate", "study.seeds=4", "study.arm_order_seed=5")
    first = runs.names[:]
    runs.forget()
    ablate("-m", "axis=learning_rate", "study.seeds=4", "study.arm_order_seed=5", "study.name=again")
    assert runs.names == first
    plan = plan_in(here / "runs/again")
    assert plan.baseline.config["study"]["arm_order_seed"] == 5
    runs.forget()
    ablate("-m", "axis=learning_rate", "study.seeds=4", "study.arm_order_seed=6", "study.name=other")
    assert runs.names != first


def test_an_axis_of_the_users_own_folder_can_be_named(ablate, runs, here, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    (tmp_path / "custom" / "axis" / "beta2.yaml").write_text(
        "name: beta2\nquestion: Longer memory?\nkind: training\nkeys: [optim.beta2]\nvalues: [0.98]\nmay_change: [optimizer]\n"
    )
    assert ablate("-m", "--config-dir", str(tmp_path / "custom"), "axis=beta2", "study.seeds=1")[0] == 0
    assert sorted(runs.names) == ["baseline/0", "beta2=0.98/0"]


def test_hydra_leaves_nothing_behind(ablate, runs, here):
    ablate("-m", "axis=batch_size", "study.seeds=1")
    assert [path.name for path in here.iterdir()] == ["runs"]
    assert sorted(path.name for path in (here / "runs/batch_size").iterdir()) == [
        "baseline",
        "batch_size=64",
        "plan.json",
    ]


def test_plan_runs_nothing_and_leaves_nothing(ablate, runs, here, monkeypatch):
    from ablate.runner.forecast import Pace

    pace = Pace(step_seconds=0.8, example_seconds=0.01, startup_seconds=2.0)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", lambda config, *, num_parallel: pace)
    code, out, _ = ablate("plan", "data.batch_size=8,64", "optim.lr=5e-5,1e-4", "study.seeds=2")
    assert code == 0
    assert "3 arms × 2 seeds" in out
    assert "total_steps 128 → 16" in " ".join(out.split())
    assert "6 to do, 0 done, 0 not trained" in out
    assert "timed just now" in out
    assert not runs.jobs
    assert not list(here.iterdir())


def test_plan_says_what_is_done_and_what_is_free(ablate, runs, here):
    ablate("-m", "axis=batch_size,eval_every", "study.seeds=2")
    before = sorted(here.rglob("*"))
    code, out, _ = ablate("plan", "-m", "axis=batch_size,eval_every", "study.seeds=2")
    assert code == 0
    assert "0 to do, 4 done, 6 not trained" in out
    assert sorted(here.rglob("*")) == before


def test_an_estimate_comes_from_earlier_runs_where_there_are_any(ablate, runs, here):
    rates = {
        "train_samples_per_second": 64.0,
        "train_steps_per_second": 8.0,
        "eval_samples_per_second": 272.0,
        "train_seconds": 16,
        "eval_seconds": 16,
    }
    runs.fate = lambda job: RunStatus(status="finished", throughput=rates)
    ablate("-m", "axis=learning_rate", "study.seeds=1", "study.name=earlier")
    for number, job in enumerate(runs.jobs):
        manifest = read_manifest(RunDir(job.folder))
        manifest.started, manifest.ended = (
            f"2026-01-01T00:{second // 60:02}:{second % 60:02}+00:00" for second in (40 * number, 40 * number + 40)
        )
        write_value(RunDir(job.folder), manifest)
    code, out, _ = ablate("plan", "axis=placebo", "study.seeds=2", "study.workers=1")
    assert code == 0
    text = " ".join(out.split())
    # 1,024 samples at 64/s are 16 s, 17 looks of 256 at 272/s are 16 s, and 8 s went by besides.
    assert "baseline, placebo 40 s" in text
    # Four of them one after the other, and to import, plan and report.
    assert "about 3 min: 1 run at a time" in text
    assert "from 3 earlier runs in runs" in text


@pytest.mark.slow
def test_a_thousand_runs_are_planned_in_seconds(ablate, runs, here):
    start = time.perf_counter()
    assert ablate("-m", "axis=learning_rate,batch_size,placebo", "study.seeds=200")[0] == 0
    assert len(runs.jobs) == 1000
    assert time.perf_counter() - start < 30


def test_hydras_own_launcher_works(ablate, here, runs, monkeypatch):
    done = []

    def execute(config, run, *, changes, **_):
        done.append((config.arm, config.seed, changes))
        return RunStatus(status="finished")

    monkeypatch.setattr("ablate.runner.worker.execute", execute)
    assert ablate("-m", "axis=batch_size", "study.seeds=1", "hydra/launcher=basic")[0] == 0
    assert sorted(done, key=str) == [("baseline", 0, {}), ("batch_size=64", 0, {"data.batch_size": 64})]
    assert [path.name for path in here.iterdir()] == ["runs"]


def test_plan_json_is_the_plan_and_its_digest(ablate, runs, here):
    ablate("-m", "axis=placebo", "study.seeds=1")
    value = json.loads((here / "runs/placebo/plan.json").read_text())
    assert value["digest"] == plan_in(here / "runs/placebo").digest


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(ablate, runs, here):
    def interrupt(job):
        raise KeyboardInterrupt

    runs.fate = interrupt
    code, _, err = ablate("-m", "axis=batch_size", "study.seeds=1")
    assert code == 130
    assert "the same command goes on with the rest" in err
    assert "Traceback" not in err
