"""A study that everything happens to ends complete by its own command, with the bits of one that nothing happened to."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runner import studies

SEEDS, NUM_RUNS = 15, 60
CALM = ("study.workers=2", "study.output_dir=calm")
STORM = ("study.workers=2", "study.output_dir=disk", "checkpoint.every='5 steps'")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small one of its own, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    ) if hasattr(os, "geteuid") and os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode != 0:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip() if mounted else 'only root may mount one'}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.long
def test_killed_runs_killed_studies_and_a_full_disk_change_no_bit(tmp_path: Path, disk: Path) -> None:
    """Twelve runs and three times the study itself are killed by SIGKILL, and once the disk is full."""
    events = ["run"] * 12 + ["study"] * 3 + ["disk"]
    random.Random(4).shuffle(events)
    storm, folder = studies.command(SEEDS, *STORM), disk / "study"
    going = studies.start(tmp_path, storm)
    for number, event in enumerate(events):
        threshold = 2 * number + 1
        _until(lambda: studies.num_done(folder) >= threshold or going.poll() is not None)  # noqa: B023
        if going.poll() is not None:
            going = studies.start(tmp_path, storm)
        if event == "run":
            _kill_a_run(tmp_path, going, random.Random(number))
        elif event == "study":
            studies.kill(going.pid)
            going.wait()
            going = studies.start(tmp_path, storm)
        else:
            _fill(disk, going)
            going = studies.start(tmp_path, storm)
    for _ in range(3):
        going.wait()
        if len(_finished(folder)) == NUM_RUNS:
            break
        going = studies.start(tmp_path, storm)
    said = studies.said(tmp_path)
    assert said.count("ended by SIGKILL") >= 12
    assert "is full: 0.0 MB of" in said
    assert not list((disk / ".claims").glob("[!.]*"))

    assert studies.start(tmp_path, studies.command(SEEDS, *CALM)).wait() in (0, 1)
    undisturbed = studies.bits(tmp_path / "calm" / "study")
    assert len(undisturbed) == NUM_RUNS
    assert {run["status"] for run in undisturbed.values()} == {"finished"}
    assert len({run["weights"] for run in undisturbed.values()}) == NUM_RUNS
    assert studies.bits(folder) == undisturbed


def _kill_a_run(tmp_path: Path, going: subprocess.Popen[str], when: random.Random) -> None:
    """Until one was hit while it was at it: the study says so. A run may end in the moment before."""
    before = studies.said(tmp_path).count("ended by SIGKILL")
    while studies.said(tmp_path).count("ended by SIGKILL") == before:
        assert going.poll() is None
        running = studies.workers(going)
        if running:
            time.sleep(when.uniform(0, 0.5))
            with contextlib.suppress(ProcessLookupError):
                studies.kill(max(running))
            _until(lambda: studies.said(tmp_path).count("ended by SIGKILL") > before, seconds=2, must=False)


def _fill(disk: Path, going: subprocess.Popen[str]) -> None:
    """Until the study has ended, which it must do by itself, with 1 and with every small file whole."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while going.poll() is None:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                try:
                    file.write(b"0" * 64)
                except OSError:
                    time.sleep(0.05)
    assert going.returncode == 1
    for path in (disk / "study").rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())
    ballast.unlink()


def _finished(folder: Path) -> list[Path]:
    found = folder.glob("*/seed=*/status.json")
    return [path for path in found if json.loads(path.read_text())["status"] == "finished"]


def _until(condition: Callable[[], bool], *, seconds: float = 600, must: bool = True) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and (must or time.monotonic() < deadline):
        assert time.monotonic() < deadline
        time.sleep(0.05)
