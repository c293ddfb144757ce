"""A run in an engine's process: as in one of ours, and the process is left as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate.errors import RecordError
from ablate.runner.launch import as_local_run, run_planned, working_in
from ablate.runner.processes import leases


@pytest.fixture
def engine() -> Iterator[list[str]]:
    """What the engine's own handler of SIGUSR2 heard."""
    heard: list[str] = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append("engine"))
    yield heard
    signal.signal(signal.SIGUSR2, before)


def test_threads_are_those_of_the_local_launcher_and_come_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with as_local_run(tmp_path / "log.txt"):
            assert torch.get_num_threads() == leases(None)[0].num_threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_what_is_printed_goes_to_the_log(tmp_path: Path) -> None:
    with as_local_run(tmp_path / "run" / "log.txt"):
        os.write(1, b"from C\n")
    os.write(1, b"after\n")
    assert (tmp_path / "run" / "log.txt").read_text() == "from C\n"


def test_the_engines_warning_ends_the_run_first_and_reaches_the_engine_then(tmp_path: Path, engine: list[str]) -> None:
    with as_local_run(tmp_path / "log.txt") as stop:
        assert stop() is None
        signal.raise_signal(signal.SIGUSR2)
        assert stop() == "SIGUSR2"
        assert engine == []  # its handler would raise in the middle of a step
    assert engine == ["engine"]


def test_without_a_warning_the_engine_hears_nothing(tmp_path: Path, engine: list[str]) -> None:
    with as_local_run(tmp_path / "log.txt") as stop:
        pass
    assert stop() is None
    assert engine == []
    signal.raise_signal(signal.SIGUSR2)
    assert engine == ["engine"]


def test_a_folder_that_this_machine_does_not_have_is_named(tmp_path: Path) -> None:
    before = Path.cwd()
    with (
        pytest.raises(RecordError, match="where the study was started, is not on") as raised,
        working_in(tmp_path / "no"),
    ):
        pass
    assert "folder that all machines of the engine share" in str(raised.value)
    assert Path.cwd() == before


def test_a_machine_that_does_not_see_the_study_says_so_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist on") as raised:
        run_planned(Path("runs/mine"), "baseline", 0, launched_from=tmp_path)
    assert "share" in str(raised.value)
    assert not list(tmp_path.rglob("*"))
