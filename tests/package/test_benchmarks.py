"""The benchmarks still run. Their figures are looked at by people; no test asserts a time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def quick(repo: Path, folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    path = folder / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(path), *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
@pytest.mark.long
def test_two_loops_do_the_same_work(repo: Path, tmp_path: Path) -> None:
    """The exit code is 1 where a loop's losses are not ours."""
    assert quick(repo, tmp_path, "loop", "--loops", "raw")["benchmark"] == "loop"


@pytest.mark.slow
@pytest.mark.long
def test_the_calls_that_record_are_where_the_benchmark_expects_them(repo: Path, tmp_path: Path) -> None:
    found = quick(repo, tmp_path, "recording")
    assert set(found["single_calls"][0]["calls"]) == {
        "GradNorms.measure_each",
        "GradNorms.clip",
        "RunRecorder.log_step",
    }


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), reason="no chromium")
def test_the_page_answers_to_every_slider_that_is_timed(repo: Path, tmp_path: Path) -> None:
    (study,) = quick(repo, tmp_path, "page")["studies"].values()
    assert set(study["slider_ms"]) == {"smoothing", "evaluation cadence", "row every"}
    assert all(len(moves) == 2 for moves in study["slider_ms"].values())
