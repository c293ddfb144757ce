"""A real study until it is decided, by the command line: killed in the middle, gone on with by two processes at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from ablate.records.layout import StudyDir
from ablate.serialization import read_json
from tests.runner.studies import bits, command, kill, num_done, said, start, times_made

# A rate of 5.1e-5 does what 5e-5 does, and one of 0.1 plainly does not.
TYPED = (
    "optim.lr=5.1e-5,1e-1",
    "study.stopping=sequential",
    "study.interim_seeds=[3,4]",
    "study.smallest_effect=0.001",
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_killed_and_gone_on_with_by_two_it_comes_to_the_same_runs_and_looks(tmp_path: Path) -> None:
    typed = [text for text in command(5, *TYPED) if not text.startswith(("optim.lr=1e-3", "study.seeds="))]
    whole = start(tmp_path / "whole", typed)
    broken = start(tmp_path / "broken", typed)
    folder = tmp_path / "broken" / "runs" / "study"
    while num_done(folder) < 4 and broken.poll() is None:
        time.sleep(0.2)
    kill(broken.pid)
    broken.wait()
    both = [start(tmp_path / "broken", typed) for _ in range(2)]
    assert {one.wait() for one in (whole, *both)} <= {0, 1}, said(tmp_path / "broken")
    other = tmp_path / "whole" / "runs" / "study"
    assert bits(folder) == bits(other)
    first = read_json(StudyDir(folder).interim(3))
    assert first["stops"].get("lr=5.1e-05", first["stops"].get("learning_rate=5.1e-05")) == "equivalent"
    here, there = analyse(folder), analyse(other)
    assert here.interim == there.interim
    assert [one.verdict for one in here.contrasts] == [one.verdict for one in there.contrasts]
    assert here.complete
    assert max(times_made(folder).values()) <= 2, "none but those that were killed were begun twice"
