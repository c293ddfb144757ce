"""Several processes on one study: they split its runs, and none is made twice."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from tests.runner import studies


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_two_that_begin_at_the_same_instant_split_a_hundred_runs(tmp_path: Path) -> None:
    typed = studies.command(25, "study.workers=1")
    both = [studies.start(tmp_path, typed) for _ in range(2)]
    assert {process.wait() for process in both} <= {0, 1}
    study = tmp_path / "runs" / "study"
    made = studies.times_made(study)
    assert len(made) == 100
    assert set(made.values()) == {1}
    shares = []
    for number in range(2):
        ended = [line for line in (tmp_path / f"out.{number}").read_text().splitlines() if line.startswith("finished ")]
        assert len(ended) == 100, "each has waited for what the other one made"
        shares.append(sum(re.match(r"finished +\S+ +elsewhere ", line) is None for line in ended))
    assert sum(shares) == 100
    assert min(shares) >= 25
    assert not list((tmp_path / "runs" / ".claims").glob("[!.]*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_what_a_killed_process_had_is_taken_over_by_the_other_one(tmp_path: Path) -> None:
    typed = studies.command(3, "study.workers=1")
    first, second = (studies.start(tmp_path, typed) for _ in range(2))
    study = tmp_path / "runs" / "study"
    while studies.num_done(study) < 2:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    assert second.wait() in (0, 1)
    outcomes = [json.loads(path.read_text()) for path in study.glob("*/seed=*/status.json")]
    assert [outcome["status"] for outcome in outcomes] == ["finished"] * 12
    assert re.search(r"12/12 runs done", studies.said(tmp_path))
    first.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_different_studies_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    """Both find an empty folder at the same instant; one is refused, with the difference."""
    one, other = (studies.start(tmp_path, studies.command(seeds, "study.workers=1")) for seeds in (1, 2))
    codes = sorted([one.wait(), other.wait()])
    assert codes[1] == 2, studies.said(tmp_path)
    assert codes[0] in (0, 1)
    assert "study.seeds is" in studies.said(tmp_path)
