"""The ten-minute script of `make gpu`: every part of it runs on a pretended GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.slow
def test_every_part_of_the_session_runs_dry(repo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert not any(part.get("failed") or part.get("skipped") for part in found.values())
    assert found["Machine"]["name"] == "NVIDIA H100 80GB HBM3"
    assert all(found["Kernels of packed attention"].values())
    assert found["Milliseconds per step"]["tiny b2 x 8 packed"]["true"] > 0
    assert all(made[0] > 0 for made in found["Against other loops"].values())
    assert (tmp_path / "gpu.md").read_text().startswith("# Ten minutes on NVIDIA H100 80GB HBM3\n")


def test_a_part_without_time_is_left_out_and_one_that_fails_does_not_end_the_session(tmp_path: Path) -> None:
    from benchmarks.gpu import Session
    from tests.gpu.pretend import pretended

    def fails(session: Session) -> tuple[str, dict[str, int]]:
        raise ValueError("no such kernel")

    with pretended():
        session = Session(60, dry=True, out=tmp_path)
        session.add("too long", lambda _: ("x", {}), at_least=100)
        session.add("broken", fails, at_least=1)
        session.add("sound", lambda _: ("fine", {"ms": 1}), at_least=1)
    assert json.loads((tmp_path / "gpu.json").read_text()) == {
        "too long": {"skipped": True}, "broken": {"failed": True}, "sound": {"ms": 1}
    }  # fmt: skip
    assert "ValueError: no such kernel" in (tmp_path / "gpu.md").read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_how_to_run_dry(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.gpu import main

    assert main([]) == 2
    assert capsys.readouterr().err == "expected a CUDA GPU, and torch finds none: --dry runs on a pretended one\n"
