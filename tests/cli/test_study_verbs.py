"""`ablate status`, `ablate stop`, `ablate retry`, and how a study ends that was stopped or has no room."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, RunStatus, now, write_value
from ablate.runner.freeze import read_plan
from ablate.runner.locks import Locks
from ablate.runner.stop import StudyStopped, stop_request
from ablate.serialization import read_json, write_json

STUDY = Path("runs/batch_size")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the runs of `study` are kept once the first test has made them."""
    return tmp_path_factory.mktemp("made") / "runs"


@pytest.fixture
def study(ablate, runs, here, made):
    """Two arms x two seeds; the variant's second run has failed, the baseline's second is still to do."""
    if made.exists():
        shutil.copytree(made, here / "runs")
        return here / STUDY

    def fate(job):
        if (job.arm, job.seed) == ("batch_size=64", 1):
            return RunStatus(
                status="failed", reason="out of memory", message="out of memory: a tensor; data.batch_size=32"
            )
        return RunStatus(status="interrupted" if (job.arm, job.seed) == ("baseline", 1) else "finished", step=1)

    runs.fate = fate
    ablate("-m", "axis=batch_size", "study.seeds=2")
    runs.forget()
    runs.fate = lambda job: RunStatus(status="finished", step=1)
    shutil.copytree(here / "runs", made)
    return here / STUDY


def states(out: str) -> dict[str, str]:
    return {f"{run['arm']}/{run['seed']}": run["state"] for run in json.loads(out)["runs"]}


def test_status_counts_per_arm_and_says_why_a_run_failed(ablate, study):
    code, out, _ = ablate("status", str(STUDY))
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "batch_size 2/4 runs done 1 failed 1 interrupted"
    assert "arm done running failed interrupted waiting" in lines
    assert "baseline 1 - - 1 -" in lines
    assert "batch_size=64 1 - 1 - -" in lines
    assert "batch_size=64/seed=1 out of memory: a tensor; data.batch_size=32" in " ".join(lines)
    assert "retry the failed runs: ablate retry runs/batch_size" in lines
    assert "nothing is running; continue with: ablate -m axis=batch_size study.seeds=2" in lines


def test_status_for_a_program(ablate, study):
    code, out, _ = ablate("status", str(STUDY), "--json")
    assert code == 0
    assert states(out) == {
        "baseline/0": "done", "baseline/1": "interrupted", "batch_size=64/0": "done", "batch_size=64/1": "failed",
    }  # fmt: skip


def test_status_says_where_a_run_is_going_and_how_far_it_is(ablate, study):
    run = RunDir(study / "baseline/seed=1")
    digest = next(run.digest for run in read_plan(study).runs if (run.arm, run.seed) == ("baseline", 1))
    run.status.unlink()
    write_value(run, Manifest(arm="baseline", seed=1, digest=digest, started="2026-01-01T00:00:00+00:00",
                              attempts=[{"reason": "SIGKILL"}]))  # fmt: skip
    progress = {"step": 25, "total_steps": 100, "samples_per_second": 40.0, "updated": "2026-01-01T00:00:10+00:00"}
    write_json(run.progress, progress | {"sessions": [{"first_step": 1}]})
    with Locks(study.parent) as locks:
        locks.acquire(digest)
        _, out, _ = ablate("status", str(STUDY))
        found = json.loads(ablate("status", str(STUDY), "--json")[1])["runs"][1]
    assert (found["state"], found["pid"], found["seconds_left"]) == ("running", os.getpid(), 30.0)
    out = " ".join(out.split())
    assert "baseline/seed=1 step 25/100 40 samples/s about 30 s left on" in out
    assert f"(process {os.getpid()}) try 2" in out
    assert "nothing runs it now" not in out


def test_status_only_reads(ablate, study):
    before = {path: path.stat().st_mtime_ns for path in study.parent.rglob("*")}
    ablate("status", str(STUDY))
    assert {path: path.stat().st_mtime_ns for path in study.parent.rglob("*")} == before


@pytest.mark.parametrize("verb", ["status", "stop", "retry"])
def test_a_folder_that_is_no_study_is_refused(ablate, here, verb):
    code, _, err = ablate(verb, "nowhere")
    assert code == 2
    assert "is not a study directory: it has no plan.json" in err
    assert not list(here.iterdir())


def test_retry_does_the_failed_runs_and_goes_on(ablate, runs, study):
    code, out, _ = ablate("retry", str(STUDY))
    assert code == 0
    assert "again: batch_size=64/seed=1" in out
    assert sorted(runs.names) == ["baseline/1", "batch_size=64/1"]
    assert {job.folder.parents[1] for job in runs.jobs} == {STUDY}
    assert set(states(ablate("status", str(STUDY), "--json")[1]).values()) == {"done"}


def test_retry_lands_in_the_same_folder_from_anywhere(ablate, runs, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ablate("retry", str(study))[0] == 0
    assert {job.folder.parents[1] for job in runs.jobs} == {study}
    assert [path.name for path in tmp_path.iterdir() if path.name != "no-netrc"] == ["here"]


def test_a_run_that_is_named_is_made_again_though_it_had_finished(ablate, runs, study):
    (study / "batch_size=64/seed=0/checkpoint/step=5").mkdir(parents=True)
    _, out, _ = ablate("retry", str(STUDY), "batch_size=64/seed=0")
    assert "again: batch_size=64/seed=0" in out
    assert sorted(runs.names) == ["baseline/1", "batch_size=64/0", "batch_size=64/1"]
    assert not (study / "batch_size=64/seed=0/checkpoint").exists()


def test_an_arm_stands_for_all_its_runs(ablate, runs, study):
    _, out, _ = ablate("retry", str(STUDY), "baseline")
    assert "again: baseline/seed=0, baseline/seed=1" in out


@pytest.mark.parametrize(
    ("typed", "problem", "fix"),
    [
        ("batch_size=63", "runs/batch_size has no run 'batch_size=63'", "did you mean 'batch_size=64'?"),
        ("baseline/seed=7", "has no run 'baseline/seed=7'", "'baseline/seed=1'"),
    ],
)
def test_a_run_that_the_plan_does_not_have(ablate, runs, study, typed, problem, fix):
    code, _, err = ablate("retry", str(STUDY), typed)
    assert code == 2
    assert problem in err
    assert fix in err
    assert not runs.jobs


def test_a_run_that_is_going_is_not_taken_away(ablate, runs, study):
    with Locks(study.parent) as locks:
        locks.acquire(next(run.digest for run in read_plan(study).runs if run.arm == "baseline" and run.seed == 0))
        code, _, err = ablate("retry", str(STUDY), "baseline/seed=0")
    assert code == 2
    assert f"baseline/seed=0 is being run by process {os.getpid()} on" in err
    assert "fix: ablate stop runs/batch_size" in err
    assert states(ablate("status", str(STUDY), "--json")[1])["baseline/0"] == "done"


def test_a_study_that_was_moved_to_another_name_is_not_run_into_the_old_one(ablate, runs, study):
    study.rename(study.with_name("moved"))
    code, _, err = ablate("retry", "runs/moved")
    assert code == 2
    assert "runs/moved holds the study 'batch_size', which belongs in a folder called batch_size" in err
    assert not runs.jobs


def test_a_level_that_is_only_read_has_no_runs(ablate, runs, here):
    ablate("-m", "axis=eval_every", "study.seeds=1")
    arm = next(arm.name for arm in read_plan(here / "runs/eval_every").arms if arm.replayed)
    code, _, err = ablate("retry", "runs/eval_every", arm)
    assert code == 2
    assert "has no runs of its own: it is read from the record of the baseline" in err


@pytest.mark.slow
def test_the_command_of_a_study_is_what_was_typed_with_the_folder_of_its_own_axes(ablate, runs, here, tmp_path):
    (tmp_path / "custom" / "axis").mkdir(parents=True)
    (tmp_path / "custom" / "axis" / "beta2.yaml").write_text(
        "name: beta2\nquestion: Longer memory?\nkind: training\nkeys: [optim.beta2]\nvalues: [0.98]\nmay_change: [optimizer]\n"
    )
    own = str(tmp_path / "custom")
    runs.fate = lambda job: RunStatus(status="failed")
    ablate("-m", "--config-dir", own, "axis=beta2", "study.seeds=1")
    assert read_plan(here / "runs/beta2").command == f"ablate -m --config-dir {own} axis=beta2 study.seeds=1"
    runs.fate = lambda job: RunStatus(status="finished")
    code, _, err = ablate("retry", "runs/beta2")
    assert code == 2
    assert f"fix: type it yourself, if you trust it: ablate -m --config-dir {own} axis=beta2 study.seeds=1" in err
    assert ablate("-m", "--config-dir", own, "axis=beta2", "study.seeds=1")[0] == 0
    assert set(states(ablate("status", "runs/beta2", "--json")[1]).values()) == {"done"}


def test_a_secret_in_the_command_is_not_kept(ablate, runs, here, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "0123456789abcdef")
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.question=0123456789abcdef")
    assert read_plan(here / STUDY).command.endswith("study.question='***'") or "***" in read_plan(here / STUDY).command
    code, _, err = ablate("retry", str(STUDY))
    assert code == 2
    assert "held a secret of the environment, which is not stored" in err


@pytest.mark.parametrize("more", [[], ["--after-current"]])
def test_stop_leaves_a_request_that_the_next_start_forgets(ablate, runs, study, more):
    with Locks(study.parent) as locks:
        locks.acquire(read_plan(study).runs[0].digest)
        code, out, _ = ablate("stop", str(STUDY), *more)
    assert code == 0
    assert f"1 by process {os.getpid()} on" in out
    assert ("end before the study stops" in out) == bool(more)
    request = stop_request(study)
    assert request is not None
    assert request.after_current == bool(more)
    assert "stopping" in ablate("status", str(STUDY))[1]
    ablate("-m", "axis=batch_size", "study.seeds=2")
    assert stop_request(study) is None


HOSTILE = {
    "a target": ("+x._target_=os.system", "names code to run"),
    "an entry point": ("task=custom task.entry_point=payload:task", "by 'task.entry_point=payload:task'"),
    "a folder of configs": ("--config-dir received/conf", "by '--config-dir'"),
    "a search path": ("hydra.searchpath=[file://received/conf]", "by 'hydra.searchpath=[file://received/conf]'"),
    "a launcher": ("hydra/launcher=evil", "by 'hydra/launcher=evil'"),
    "a callback": ("+hydra.callbacks.x=y", "by '+hydra.callbacks.x=y'"),
    "a file by its path": ("optim=../../received/optim", "by 'optim=../../received/optim'"),
    "an axis by its path": ("'study.axes=[../../received/axis]'", "by 'study.axes=[../../received/axis]'"),
    "a metric": ("study.metric=payload:f", "by 'study.metric=payload:f'"),
    "a tracker": ("tracker=mlflow tracker.uri=http://evil", "by 'tracker=mlflow'"),
    "the environment": ("'study.question=${oc.env:HOME}'", "by 'study.question=${oc.env:HOME}'"),
    "an open quote": ("study.question='", "was made by"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_command_from_a_folder_only_sets_plain_keys(ablate, runs, study, what):
    plan = study / "plan.json"
    text, problem = HOSTILE[what]
    hostile = f"ablate -m axis=batch_size study.seeds=2 {text}"
    write_json(plan, read_json(plan) | {"command": hostile})
    code, _, err = ablate("retry", str(STUDY))
    assert code == 2
    assert problem in err
    assert hostile in err
    assert not runs.jobs


@pytest.mark.parametrize(
    "command", ["ablate attribute received/a.yaml received/b.yaml", "ablate attribute a=b/x.yaml ''"]
)
def test_a_command_from_a_folder_reads_no_config_file(ablate, runs, study, command):
    write_json(study / "plan.json", read_json(study / "plan.json") | {"command": command})
    code, _, err = ablate("retry", str(STUDY))
    assert code == 2
    assert "does more than set plain keys" in err
    assert not runs.jobs


def test_runs_that_are_named_are_discarded_though_their_command_must_be_typed(ablate, runs, study):
    plan = study / "plan.json"
    write_json(plan, read_json(plan) | {"command": "ablate -m axis=batch_size task.entry_point=x:y"})
    code, _, err = ablate("retry", str(STUDY), "batch_size=64/seed=0")
    assert code == 2
    assert "type it yourself, if you trust it: ablate -m axis=batch_size task.entry_point=x:y" in err
    assert states(ablate("status", str(STUDY), "--json")[1])["batch_size=64/0"] == "waiting"


def test_retry_says_with_which_command_it_goes_on(ablate, runs, study):
    _, out, _ = ablate("retry", str(STUDY))
    assert "with: ablate -m axis=batch_size study.seeds=2 " in out


def test_stop_where_nothing_runs_says_so(ablate, study):
    assert "no process runs it now" in ablate("stop", str(STUDY))[1]


def test_a_stopped_study_ends_with_130_and_says_that_it_goes_on(ablate, runs, here):
    def stopped(job):
        raise StudyStopped("stopped by `ablate stop`")

    runs.fate = stopped
    code, _, err = ablate("-m", "axis=batch_size", "study.seeds=1")
    assert code == 130
    assert err == (
        "ablate: stopped by `ablate stop`; finished runs are kept, and the same command goes on with the rest\n"
    )


def test_a_full_disk_is_one_sentence_and_exit_code_1(ablate, runs, here):
    def full(job):
        raise OSError(errno.ENOSPC, "No space left on device", str(job.folder))

    runs.fate = full
    code, _, err = ablate("-m", "axis=batch_size", "study.seeds=1")
    assert code == 1
    assert err.startswith("ablate: the disk that holds runs/batch_size/")
    assert "the same command goes on" in err
    assert "Traceback" not in err


def test_progress_of_an_earlier_session_is_not_of_this_one(ablate, study):
    run = RunDir(study / "baseline/seed=1")
    digest = next(run.digest for run in read_plan(study).runs if (run.arm, run.seed) == ("baseline", 1))
    write_json(run.progress, {"step": 9, "total_steps": 10, "samples_per_second": 1.0, "sessions": [{"first_step": 1}],
                              "updated": "2026-01-01T00:00:00+00:00"})  # fmt: skip
    write_value(run, Manifest(arm="baseline", seed=1, digest=digest, started=now()))
    with Locks(study.parent) as locks:
        locks.acquire(digest)
        assert "starting" in ablate("status", str(STUDY))[1]
