"""Real processes, killed at random moments: what they leave and go on with is the record of the undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate import read_trace
from ablate.records.layout import RunDir
from ablate.records.metadata import read_status
from tests.training.killed import SETTINGS, main
from tests.training.test_resume import rows

KILLS = 6
"""Of every setting; four settings make 24 kills."""


def start(folder: Path, setting: str, repo: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.training.killed", str(folder), setting]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo)}
    with (folder.parent / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(command, cwd=repo, env=environment, stderr=errors)


def wait_for(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Until the run has recorded that step, as a reader of the growing trace sees it."""
    deadline, trace = time.monotonic() + 120, RunDir(folder).trace
    while not (trace.exists() and trace.stat().st_size and len(read_trace(trace, ["step"])) >= step):
        assert process.poll() is None, (folder.parent / "stderr.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_killed_again_and_again_the_record_is_that_of_the_undisturbed_run(
    tmp_path: Path, repo: Path, setting: str
) -> None:
    """SIGKILL mostly, SIGTERM and SIGINT too, at steps drawn with a recorded seed and a moment after them."""
    main(tmp_path / "whole", setting, pause=0.0)
    whole = read_status(RunDir(tmp_path / "whole"))
    assert whole is not None
    draw, folder, step, ended = random.Random(f"{setting} 1"), tmp_path / "cut", 0, []
    for number in draw.choices([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], weights=[4, 1, 1], k=KILLS):
        process = start(folder, setting, repo)
        step = min(step + draw.randint(1, 12), whole.step - 2)
        wait_for(folder, step, process)
        time.sleep(draw.random() * 0.02)
        process.send_signal(number)
        ended.append(process.wait(timeout=60))
    assert 0 not in ended  # every one of them was hit before its end
    last = start(folder, setting, repo)
    assert last.wait(timeout=120) == 0, (tmp_path / "stderr.txt").read_text()
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert (outcome.status, outcome.weights_sha256) == ("finished", whole.weights_sha256)
    assert len(outcome.sessions) > 1
    for table in ("trace.arrow", "evals.arrow"):
        assert rows(folder / table) == rows(tmp_path / "whole" / table)
