"""One run of the base config, and of the base config with values changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablate.records.metadata import RunStatus
from ablate.records.reader import EvalCurve


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
    runs.fate = lambda job: RunStatus(status=status, message="so it ended")
    assert ablate()[0] == code


def test_a_run_of_other_code_is_not_overwritten(ablate, runs, here, monkeypatch):
    ablate()
    monkeypatch.setattr("ablate.runner.launch.code_files", lambda targets: {"ablate/training/train.py": "other"})
    code, _, err = ablate()
    assert code == 2
    assert "runs/single/baseline/seed=0 was made by other code: " in err
    assert "--accept-code-change keeps it" in err
    code, out, _ = ablate("--accept-code-change")
    assert (code, len(runs.jobs)) == (0, 1)
    assert "was there already" in out


def test_a_run_that_failed_under_other_code_is_made_again(ablate, runs, here, monkeypatch):
    runs.fate = lambda job: RunStatus(status="failed")
    ablate()
    monkeypatch.setattr("ablate.runner.launch.code_files", lambda targets: {"ablate/training/train.py": "other"})
    ablate()
    assert len(runs.jobs) == 2


def test_a_run_says_how_fast_it_went(ablate, runs, here):
    rates = {
        "train_samples_per_second": 24.51, "train_tokens_per_second": 615.3, "eval_samples_per_second": 92.4,
        "peak_memory_bytes": 2.0**30, "mfu": 0.412, "device_peak_flops": 989e12,
    }  # fmt: skip
    runs.fate = lambda job: RunStatus(status="finished", step=8, throughput=rates)
    _, out, _ = ablate()
    assert (
        "pace train 24.5 samples/s, 615 tokens/s, eval 92.4 samples/s, MFU 41% of an assumed 989 TFLOP/s, "
        "peak memory 1.00 GiB\n"
    ) in out
    runs.fate = lambda job: RunStatus(status="interrupted")
    assert "pace" not in ablate("optim.lr=1e-4")[1]


def test_a_look_has_its_standard_error():
    from ablate.runner.launch import look_line

    made = [np.asarray(column) for column in ([0, 8], [0, 64], [0, 0.1], [0, 1.0], [0.693, 0.5708], [256, 256])]
    told, means_only = (EvalCurve(*made, np.asarray(errors)) for errors in ([0.001, 0.0213], [np.nan, np.nan]))
    assert look_line("loss", told) == "eval loss  0.693 -> 0.5708 (standard error 0.021) in 2 looks at 256 examples"
    assert look_line("loss", means_only) == "eval loss  0.693 -> 0.5708 in 2 looks at 256 examples"
