"""A hundred runs of 10,000 steps are analysed in seconds, in a process of their own so that its memory is its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tests.synthetic
from tests.synthetic import write_study

MEASURE = """
import resource, sys, time
from pathlib import Path
from ablate.analysis.analyse import analyse
start = time.process_time()
analysis = analyse(Path(sys.argv[1]))
seconds = time.process_time() - start
assert sum(run.status == "finished" for run in analysis.runs) == 100, [run.status for run in analysis.runs]
assert len(analysis.adequacy) == 3
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_100_runs_of_10000_steps_take_under_10_seconds_and_1_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tests.synthetic, "BUDGET", 80_000)
    monkeypatch.setattr(tests.synthetic, "LOOK_EVERY", 800)
    arms = ("learning_rate=0.0001", "max_grad_norm=10", "train_test_ratio=4", "placebo")
    write_study(tmp_path / "large", arms=arms, seeds=20)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    seconds, gib = map(float, done.stdout.split())
    assert seconds < 10, f"{seconds:.1f} s of CPU"
    assert gib < 1, f"{gib:.2f} GiB"
