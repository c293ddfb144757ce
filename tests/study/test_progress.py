"""The time that is left, said at the moments at which it is easy to say it wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.record.rundir import RunDir
from ablate.record.values import Outcome
from ablate.study import progress
from ablate.study.progress import LiveView


def test_a_run_that_ends_does_not_double_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "time", lambda: now)
    view, said = LiveView("t", total=10, done=0), []
    monkeypatch.setattr(view, "say", lambda *_: said.append(view.time_left()))
    view.started("a", RunDir(tmp_path / "a"))
    view.started("b", RunDir(tmp_path / "b"))
    now += 60
    view.ended("a", Outcome(status="finished"))  # the next one has not begun: b is at its end, eight wait
    view.started("c", RunDir(tmp_path / "c"))
    assert said == ["about 4 min left"]  # 8 runs of 60 s, two at a time
    assert view.time_left() == "about 4 min left"


def test_the_last_run_has_nobody_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "time", lambda: now)
    view = LiveView("t", total=3, done=0)
    view.started("a", RunDir(tmp_path / "a"))
    view.started("b", RunDir(tmp_path / "b"))
    now += 60
    view.ended("a", Outcome(status="finished"))
    view.ended("b", Outcome(status="finished"))
    view.started("c", RunDir(tmp_path / "c"))
    assert view.time_left() == "about 60 s left"
