"""The time that is left, said at the moments at which it is easy to say it wrongly."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus
from ablate.runner import progress
from ablate.runner.progress import LiveView
from ablate.serialization import write_json


def test_a_run_that_ends_does_not_double_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "time", lambda: now)
    view, said = LiveView("t", total=10, done=0), []
    monkeypatch.setattr(view, "_print", lambda *_, **__: said.append(view.time_left()))
    view.started("a", RunDir(tmp_path / "a"))
    view.started("b", RunDir(tmp_path / "b"))
    now += 60
    view.ended("a", RunStatus(status="finished"))  # the next one has not begun: b is at its end, eight wait
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
    view.ended("a", RunStatus(status="finished"))
    view.ended("b", RunStatus(status="finished"))
    view.started("c", RunDir(tmp_path / "c"))
    assert view.time_left() == "about 60 s left"


class Screen(io.StringIO):
    """Standard output that says what it is."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "kind", "moves"),
    [(True, "xterm-256color", True), (True, "dumb", False), (False, "xterm-256color", False)],
)
def test_what_cannot_move_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, terminal: bool, kind: str, moves: bool
) -> None:
    screen = Screen(terminal=terminal)
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", kind)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress.plain_or_live("a study", total=2, done=0) as view:
        view.started("baseline/seed=0", RunDir(tmp_path))
        view.refresh()
        view.ended("baseline/seed=0", RunStatus(status="finished"))
    assert (view.live is not None) == moves
    assert "finished" in screen.getvalue()
    assert ("\x1b[" in screen.getvalue()) == moves


def test_the_line_of_a_long_arm_keeps_its_seed(tmp_path: Path) -> None:
    view = LiveView("t", total=2, done=0)
    for seed in (3, 4):
        view.started(f"batch_size=64+train_test_ratio=4+learning_rate=0.0001/seed={seed}", RunDir(tmp_path / str(seed)))
    first, second = view.lines()
    assert "/seed=3  starting" in first
    assert "/seed=4  starting" in second
    assert len(first.split("  starting")[0]) == 2 + 28


def test_a_line_of_a_running_run_fits_80_columns_with_its_eval_loss_and_both_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_790_000_000.0
    monkeypatch.setattr(progress.time, "time", lambda: now)
    view, run = LiveView("t", total=2, done=0), RunDir(tmp_path / "a")
    view.started("batch_size=64+train_test_ratio=4+learning_rate=0.0001/seed=3", run)
    now += 600
    updated = datetime.fromtimestamp(now, tz=UTC).isoformat()
    value = {
        "step": 1234, "total_steps": 12340, "loss": 0.6, "grad_norm": 9.9, "samples_per_second": 12.0, "eval_loss": 0.6931,
        "updated": updated, "sessions": [{"first_step": 1}],
    }  # fmt: skip
    write_json(run.progress, value)
    (line,) = view.lines()
    assert "step 1234/12340  eval loss 0.693  10 min  90 min left" in line
    assert "/seed=3" in line
    assert len(line) <= 80
    assert view.counts() == "0/2 runs done, 1 running, 10 min elapsed, about 3 h 10 min left"
