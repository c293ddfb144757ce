"""Two processes that train one model, against one process that trains it alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ablate import read_evals, read_predictions, read_trace
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint, RunStatus, read_fingerprint, read_status
from ablate.serialization import read_json
from ablate.training.distributed import Ranks
from ablate.training.stop import StopPoll
from tests.training.toy import network


def torchrun(repo: Path, *arguments: str, expected: int = 0) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
        f"--master-port={port}", "-m", "tests.training.together", *arguments,
    ]  # fmt: skip
    here = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, cwd=repo, env={**os.environ, **here}, capture_output=True, text=True, timeout=240)
    assert done.returncode == expected, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.training.together import together

    folder = tmp_path_factory.mktemp("alone")
    together(network(0, dropout=0.0), folder)
    return folder


def small_files(folder: Path) -> tuple[RunStatus, Fingerprint]:
    outcome, fingerprint = read_status(RunDir(folder)), read_fingerprint(RunDir(folder))
    assert outcome is not None
    assert fingerprint is not None
    return outcome, fingerprint


def assert_same_run(folder: Path, alone: Path) -> None:
    (ours, print_ours), (theirs, print_theirs) = small_files(folder), small_files(alone)
    assert (ours.status, ours.step) == (theirs.status, theirs.step) == ("finished", 13)
    for item in ("order", "init", "parameters", "optimizer", "schedule"):
        assert print_ours.items[item] == print_theirs.items[item], item
    trace, expected = read_trace(folder / "trace.arrow"), read_trace(alone / "trace.arrow")
    for column in ("step", "samples", "learning_rate", "applied"):
        assert trace[column].tolist() == expected[column].tolist()
    for column in ("loss", "grad_norm", "clip_coefficient"):
        np.testing.assert_allclose(trace[column], expected[column], rtol=2e-5, err_msg=column)
    np.testing.assert_allclose(trace.group_norms(), expected.group_norms(), rtol=2e-5)
    np.testing.assert_allclose(trace.update_ratios(), expected.update_ratios(), rtol=1e-4)
    curve, wanted = (read_evals(path / "evals.arrow").curve("loss") for path in (folder, alone))
    assert curve.samples.tolist() == wanted.samples.tolist()
    assert set(curve.count) == {100}
    np.testing.assert_allclose(curve.value, wanted.value, rtol=1e-5)
    np.testing.assert_allclose(curve.standard_error, wanted.standard_error, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_are_one_run(tmp_path: Path, repo: Path, alone: Path, kind: str) -> None:
    """Same sample order, global norms, one record; a share without samples in the last step takes part and counts nothing."""
    torchrun(repo, str(tmp_path), kind)
    assert_same_run(tmp_path, alone)
    ours, theirs = (read_predictions(RunDir(folder).predictions) for folder in (tmp_path, alone))
    assert ours["id"].tolist() == theirs["id"].tolist() == list(range(100))
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-3, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp+noise", "fsdp+noise"])
def test_two_processes_draw_the_same_noise_as_one(tmp_path: Path, repo: Path, kind: str) -> None:
    from tests.training.together import NOISE, together

    together(network(0, dropout=0.0), tmp_path / "alone", **NOISE)
    torchrun(repo, str(tmp_path / "both"), kind)
    assert_same_run(tmp_path / "both", tmp_path / "alone")
    drawn = [small_files(tmp_path / name)[1].items["grad_noise"] for name in ("alone", "both")]
    assert drawn[0] == drawn[1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.long
def test_stopped_in_one_process_both_end_at_the_same_step_and_go_on_together(
    tmp_path: Path, repo: Path, alone: Path, kind: str
) -> None:
    torchrun(repo, str(tmp_path), kind, "4")  # both stop at step 8, where they agree
    stopped, _ = small_files(tmp_path)
    assert (stopped.status, stopped.reason) == ("interrupted", "asked to")
    assert 0 < stopped.step < 13
    torchrun(repo, str(tmp_path), kind)
    assert_same_run(tmp_path, alone)
    assert len(read_json(tmp_path / "status.json")["sessions"]) == 2


@pytest.mark.slow
def test_a_model_that_is_not_shared_is_refused(tmp_path: Path, repo: Path) -> None:
    errors = torchrun(repo, str(tmp_path), "plain", expected=1)
    assert "2 processes train Sequential, which is not shared between them" in errors
    assert "DistributedDataParallel(model) or fully_shard(model)" in errors


class OneOfTwo(Ranks):
    """This process of two, the other of which says what it is told to."""

    def __init__(self, *, diverged: bool) -> None:
        self.size, self.rank, self._diverged, self.asked = 2, 0, diverged, 0

    def agree(self, reason: str | None, diverged: bool = False) -> tuple[str | None, bool]:
        self._hosts = None  # two of them are asked below
        return super().agree(reason, diverged)

    def sum_counts(self, *counts: int) -> list[int]:
        self.asked += 1
        return [counts[0], counts[1] + self._diverged]


def test_processes_end_together_where_one_sees_a_divergence_first() -> None:
    """A process whose rows arrive later would wait for ever for one that has left."""
    for diverged in (False, True):
        ranks = OneOfTwo(diverged=diverged)
        poll = StopPoll(lambda: None, ranks)
        found = [poll.after_step(step, last=step == 18) for step in range(1, 19)]
        assert found == [(None, diverged and step in (8, 16, 18)) for step in range(1, 19)]
        assert ranks.asked == 3
    alone = OneOfTwo(diverged=False)
    assert StopPoll(lambda: None, alone).after_step(8, diverged=True) == (None, True)
    assert StopPoll(lambda: None, alone).after_step(7, diverged=True) == (None, False), "not yet: the other goes on"
