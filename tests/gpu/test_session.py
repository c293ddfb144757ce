"""The ten-minute script of `make gpu`: every part of it runs on a pretended GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate import Loader
from ablate.models.unpadding import unpad
from benchmarks import _loops, _shared
from tests.gpu.pretend import Gpu
from tests.gpu.steady import bert, measure, samples


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


def test_our_loop_of_the_benchmarks_does_not_wait(gpu: Gpu) -> None:
    """An unpadded model asks where the texts stand, and would wait for the answer in every step."""
    model = bert(dropout=0.0).to("cuda")
    assert unpad(model) is None
    data = [(tokens.tolist(), label) for tokens, label in samples()]
    assert measure(gpu, model, data, _shared.text_loss, loader=Loader(collate=_loops.with_spans)).waits == []
    gpu.waits.clear()
    assert len(measure(gpu, model, data, _shared.text_loss, loader=Loader(collate=_shared.pad_batch)).waits) > 0


class Reviews:
    """Sixteen."""

    text, label = [str(k) for k in range(16)], np.zeros(16)

    def __len__(self) -> int:
        return 16


def test_full_reviews_come_again_where_there_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    def tokenise(some: list[str], labels: list[int], length: int) -> list[tuple[list[int], int]]:
        return [([int(text)] * (length if int(text) % 4 == 0 else 1), 0) for text in some]

    pool = Reviews()
    monkeypatch.setattr("ablate.data.datasets.load_examples", lambda _: pool)
    monkeypatch.setattr(_shared, "tokenise", tokenise)
    found = _shared.imdb_samples(10, 8, full_length=True)
    assert [len(tokens) for tokens, _ in found] == [8] * 10
    assert found[:4] == found[4:8] != found[1:5]
