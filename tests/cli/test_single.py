"""One run of the base config, and of the base config with values changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.record.values import Outcome


def test_the_base_config_is_a_run_called_baseline(ablate, runs, here):
    code, out, _ = ablate()
    assert code == 0
    assert [job.folder for job in runs.jobs] == [Path("runs/single/baseline/seed=0")]
    assert "run  runs/single/baseline/seed=0" in out


def test_a_run_is_named_by_what_was_typed_and_recorded_by_what_differs(ablate, runs, here):
    ablate("optim.lr=1e-4", "data.batch_size=64", "seed=3", "tracker=none")
    (job,) = runs.jobs
    assert job.folder == Path("runs/single/data.batch_size=64,optim.lr=1e-4/seed=3")
    assert job.changes == {"data.batch_size": 64, "optim.lr": 1e-4}
    assert job.config["seed"] == 3


def test_the_same_run_again_is_not_run(ablate, runs, here):
    ablate("optim.lr=1e-4")
    code, out, _ = ablate("optim.lr=1e-4")
    assert (code, len(runs.jobs)) == (0, 1)
    assert "was there already; nothing was run" in out


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("diverged", 0), ("failed", 1), ("interrupted", 1)])
def test_the_exit_code_says_whether_there_is_a_result(ablate, runs, here, status, code):
    runs.fate = lambda job: Outcome(status=status, sentence="so it ended")
    assert ablate()[0] == code


def test_a_run_of_other_code_is_not_overwritten(ablate, runs, here, monkeypatch):
    ablate()
    monkeypatch.setattr("ablate.study.launch.code_digest", lambda: "other")
    code, _, err = ablate()
    assert code == 2
    assert "runs/single/baseline/seed=0 holds a run of another config, or by other code" in err
    assert len(runs.jobs) == 1
