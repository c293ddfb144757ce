"""A loop of somebody else's leaves the same record as ours, in two lines, and is left as it was."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from torch import nn
from torch.multiprocessing import spawn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ablate import Recorder, cli, read_evals, read_trace
from ablate.errors import LoopError, RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import read_fingerprint, read_manifest, read_status
from ablate.serialization import read_json
from ablate.training.evaluation import MetricSum
from tests.training.toy import network, points, rows_as_on_a_gpu

BATCH = 8


def batches(steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    x, y = points().tensors
    for step in range(steps):
        ids = list(range(step * BATCH, (step + 1) * BATCH))
        yield x[ids], y[ids], ids


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def by_hand(steps: int = 20, max_grad_norm: float | None = None) -> tuple[nn.Module, list[dict[str, float]]]:
    """The loop without anything of ours. Returns the model and what each step was."""
    model, rows = network(dropout=0.0), []
    optimizer = sgd(model)
    for x, y, _ in batches(steps):
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        rows.append({"loss": loss.item(), "grad_norm": norm.item()})
        optimizer.step()
        optimizer.zero_grad()
    return model, rows


def recorded(folder: Path, steps: int = 20, max_grad_norm: float | None = None, **settings: Any) -> nn.Module:
    """The same loop with the two lines in it."""
    model = network(dropout=0.0)
    optimizer = sgd(model)
    x_out, y_out = points(100, seed=9).tensors
    with Recorder(folder, model, samples_per_epoch=256, **settings) as run:
        for x, y, ids in batches(steps):
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            rate = 0.5 / run.position.step if run.position.step else 0.0
            run.log_step(loss, samples=len(x), learning_rate=rate, max_grad_norm=max_grad_norm,
                     sample_ids=ids)  # fmt: skip
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            logits = model(x_out)
        right = (logits.argmax(-1) == y_out).float()
        run.log_eval({"loss": functional.cross_entropy(logits, y_out, reduction="none"), "accuracy": right})
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine" / "baseline" / "seed=3"


@pytest.mark.parametrize("max_grad_norm", [None, 0.3])
def test_every_step_is_recorded_as_it_was_and_training_is_as_without(folder: Path, max_grad_norm: float | None) -> None:
    plain, rows = by_hand(max_grad_norm=max_grad_norm)
    state = torch.random.get_rng_state()
    model = recorded(folder, max_grad_norm=max_grad_norm)
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row["grad_norm"] for row in rows], rtol=1e-6)
    np.testing.assert_allclose(trace["loss"], [row["loss"] for row in rows], rtol=1e-6)
    wanted = np.minimum(1.0, max_grad_norm / (trace["grad_norm"] + 1e-6)) if max_grad_norm else np.ones(20)
    np.testing.assert_allclose(trace["clip_coefficient"], wanted, rtol=1e-6)
    assert (wanted < 1).any() == (max_grad_norm is not None)
    np.testing.assert_allclose(np.sqrt((trace.group_norms() ** 2).sum(axis=1)), trace["grad_norm"], rtol=1e-5)
    assert trace["step"].tolist() == list(range(1, 21))
    assert trace["samples"].tolist() == [BATCH * step for step in range(1, 21)]
    assert trace["epoch"][-1] == 160 / 256
    assert trace["learning_rate"].tolist() == [0.0] + [0.5 / step for step in range(1, 20)]
    assert trace["applied"].all()
    assert (trace["step_seconds"] > 0).all()


@pytest.mark.parametrize(("last", "status"), [(float("nan"), "diverged"), (0.5, "finished")])
def test_a_run_whose_last_evaluation_is_no_number_has_diverged(folder: Path, last: float, status: str) -> None:
    model = network(dropout=0.0)
    with Recorder(folder, model) as run:
        run.log_eval({"loss": torch.tensor([0.7, 0.7])})
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        run.log_step(0.5, samples=8)
        run.log_eval({"loss": torch.tensor([0.5, last])})
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert outcome.status == status
    assert ("eval_loss is nan at step 1" in outcome.message) == (status == "diverged")


def test_the_folder_holds_what_a_run_of_ours_holds(folder: Path) -> None:
    model = recorded(
        folder, config={"lr": 0.5, "nested": {"path": Path("a"), "kind": nn.ReLU, "sizes": (1, np.int64(2))}}
    )
    run = RunDir(folder)
    manifest, outcome, fingerprint = read_manifest(run), read_status(run), read_fingerprint(run)
    assert outcome is not None
    assert fingerprint is not None
    assert (manifest.arm, manifest.seed) == ("baseline", 3)
    assert manifest.ended is not None
    assert manifest.versions["torch"] == torch.__version__
    assert (outcome.status, outcome.step, outcome.message) == ("finished", 20, "finished after 20 steps")
    assert len(outcome.weights_sha256 or "") == 64
    assert outcome.throughput["train_samples_per_second"] > 0
    assert set(outcome.gradient) == {"spikes", "vanished", "exploded"}
    assert outcome.best["accuracy"]["step"] == 20
    assert set(fingerprint.items) == {"parameters", "init", "dropout", "environment", "order"}
    assert set(fingerprint.items["order"]) == {"8", "16", "32", "64", "128"}
    assert fingerprint.items["parameters"]["count"] == sum(p.numel() for p in model.parameters())
    assert yaml.safe_load(run.config.read_text()) == {
        "lr": 0.5, "nested": {"path": "a", "kind": "ReLU", "sizes": [1, 2]}
    }  # fmt: skip
    assert read_json(run.progress)["step"] == 20
    rows = datasets.Dataset.from_file(str(run.trace))
    assert len(rows) == 20


def test_a_look_keeps_sum_squares_and_count(folder: Path) -> None:
    model = network()
    values = torch.tensor([0.1, 0.2, 0.6])
    with Recorder(folder, model) as run:
        run.log_eval({"loss": values, "accuracy": MetricSum(2.0, math.nan, 4)})
        one_step(model, run)
        run.log_eval({"loss": values / 2}, split="train")
    table = read_evals(folder / "evals.arrow").table.to_pylist()
    first, means, second = table
    assert first["sum"] == pytest.approx(0.9)
    assert first["sum_squares"] == pytest.approx(0.41)
    assert (first["count"], first["step"], first["split"]) == (3, 0, "held_out")
    assert (means["sum"], means["count"]) == (2.0, 4)
    assert math.isnan(means["sum_squares"])
    assert (second["split"], second["step"], second["samples"]) == ("train", 1, 8)
    curve = read_evals(folder / "evals.arrow").curve("loss")
    assert curve.value.tolist() == [pytest.approx(0.3)]
    assert math.isnan(first["epoch"])
    fingerprint = read_fingerprint(RunDir(folder))
    assert fingerprint is not None
    assert fingerprint.items["loss_at_start"] == {"loss": pytest.approx(0.3), "accuracy": 0.5}


def one_step(model: nn.Module, run: Recorder, **settings: Any) -> torch.Tensor:
    x, y = points(8).tensors
    loss = functional.cross_entropy(model(x), y)
    model.zero_grad()
    loss.backward()
    return run.log_step(loss, **{"samples": 8} | settings)


def test_the_clock_of_a_step_leaves_evaluation_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ablate.training.throughput.time.perf_counter", lambda: now[0])
    model = network()
    with Recorder(folder, model) as run:
        for _ in range(2):
            now[0] += 1.0
            one_step(model, run)
            now[0] += 10.0
            run.log_eval({"loss": torch.ones(4)})
        now[0] += 1.5
        one_step(model, run)
    assert read_trace(folder / "trace.arrow")["step_seconds"].tolist() == [1.0, 1.0, 1.5]
    assert [row["eval_seconds"] for row in read_evals(folder / "evals.arrow").table.to_pylist()] == [10.0, 10.0]


def test_a_scaled_loss_is_recorded_unscaled_with_its_scale(folder: Path) -> None:
    model = network(dropout=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = sgd(model)
    x, y = points(8).tensors
    with Recorder(folder, model) as run:
        loss = functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        run.log_step(loss, samples=8, loss_scale=scaler.get_scale())
        scaler.step(optimizer)
    _, rows = by_hand(1)
    trace = read_trace(folder / "trace.arrow")
    assert trace["grad_norm"][0] == pytest.approx(rows[0]["grad_norm"], rel=1e-6)
    assert trace["loss_scale"].tolist() == [1024.0]


@pytest.mark.parametrize(("given", "kept"), [(None, 0), (True, 1), (torch.tensor(True), 1), (False, 0)])
def test_a_gradient_that_is_not_finite_is_not_applied_unless_the_loop_says_so(
    folder: Path, given: torch.Tensor | bool | None, kept: int
) -> None:
    model = network()
    with Recorder(folder, model) as run:
        one_step(model, run)
        x, y = points(8).tensors
        functional.cross_entropy(model(x), y).backward()
        next(iter(model.parameters())).grad.fill_(math.inf)  # type: ignore[union-attr]
        run.log_step(float("nan"), samples=8, applied=given)
    trace = read_trace(folder / "trace.arrow")
    assert trace["applied"].tolist() == [1, kept]
    assert math.isinf(trace["grad_norm"][1])


def test_measured_now_and_kept_later(folder: Path) -> None:
    """For loops that know the loss after the optimizer's step, and clip by themselves."""
    model = network(dropout=0.0)
    with Recorder(folder, model) as run:
        x, y = points(8).tensors
        functional.cross_entropy(model(x), y).backward()
        before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        gradient = run.measure(0.01, clips_itself=True)
        assert all(
            torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True) if p.grad is not None
        )
        model.zero_grad()
        run.log_step(0.7, samples=8, gradient=gradient)
    trace = read_trace(folder / "trace.arrow")
    assert trace["clip_coefficient"][0] == pytest.approx(0.01 / trace["grad_norm"][0], rel=1e-3)
    assert trace["loss"][0] == pytest.approx(0.7)


def ends_with(error: BaseException, model: nn.Module, folder: Path) -> None:
    with Recorder(folder, model) as run:
        one_step(model, run)
        raise error


def test_an_exception_becomes_the_outcome_and_goes_on(folder: Path) -> None:
    model = network()
    with pytest.raises(ValueError, match="out of data"):
        ends_with(ValueError("out of data"), model, folder)
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "ValueError", 1)
    assert outcome.message == "ValueError: out of data"
    assert outcome.weights_sha256 is None
    assert len(read_trace(folder / "trace.arrow")) == 1


def test_control_c_is_an_interruption(folder: Path) -> None:
    model = network()
    with pytest.raises(KeyboardInterrupt):
        ends_with(KeyboardInterrupt(), model, folder)
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert (outcome.status, outcome.message) == ("interrupted", "interrupted after 1 steps: KeyboardInterrupt")


def test_a_run_without_a_step_has_failed(folder: Path) -> None:
    with Recorder(folder, network()) as run:
        run.log_eval({"loss": torch.ones(4)})
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert outcome.status == "failed"
    assert "call log_step(...)" in outcome.message


def test_a_second_run_replaces_the_first(folder: Path) -> None:
    recorded(folder)
    model = network()
    with Recorder(folder, model) as run:
        assert read_status(RunDir(folder)) is None
        one_step(model, run)
    assert len(read_trace(folder / "trace.arrow")) == 1
    assert len(read_evals(folder / "evals.arrow").table) == 0


def test_arm_and_seed_may_be_given(tmp_path: Path) -> None:
    model = network()
    with Recorder(tmp_path, model, arm="lr 1/2", seed=4) as run:
        one_step(model, run)
    (manifest,) = tmp_path.glob("*/seed=4/manifest.json")
    assert read_json(manifest)["arm"] == "lr 1/2"


@pytest.mark.parametrize("name", ["mine", "mine/baseline", "mine/base line/seed=0", "mine/a/seed=x", "mine/a/seed=01"])
def test_a_folder_that_names_no_arm_and_seed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordError, match=r"expected a directory that ends in <arm>/seed=<n>") as caught:
        Recorder(tmp_path / name, network())
    assert "baseline/seed=0" in (caught.value.fix or "")
    assert list(tmp_path.iterdir()) == []


def test_half_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="arm='a' and seed=None: one of them is missing"):
        Recorder(tmp_path, network(), arm="a")


def test_bad_steps_and_looks_say_what_they_got(folder: Path) -> None:
    model = network()
    with Recorder(folder, model) as run:
        with pytest.raises(LoopError, match="no parameter has a gradient"):
            run.log_step(1.0, samples=8)
        with pytest.raises(LoopError, match=r"whole number of samples from 1, got tensor\(8\)"):
            one_step(model, run, samples=torch.tensor(8))
        with pytest.raises(LoopError, match=r"sample_ids of shape \(2,\) and samples=8"):
            one_step(model, run, sample_ids=[1, 2])
        with pytest.raises(LoopError, match="sample_ids are on meta"):
            one_step(model, run, sample_ids=torch.arange(8, device="meta"))
        with pytest.raises(LoopError, match=r"expected one number, got a tensor of shape \(8,\)"):
            run.log_step(torch.ones(8), samples=8)
        for wrong in (0.5, torch.tensor(0.5)):
            with pytest.raises(LoopError, match="a mean of batch means is not the mean"):
                run.log_eval({"loss": wrong})  # type: ignore[dict-item]
        assert run.position.step == 0
        one_step(model, run)
    assert len(read_trace(folder / "trace.arrow")) == 1
    with pytest.raises(LoopError, match="not open"):
        one_step(model, run)
    with pytest.raises(LoopError, match="not open"):
        run.log_eval({})


def test_a_frozen_model_is_refused(folder: Path) -> None:
    model = network().requires_grad_(False)
    with pytest.raises(LoopError, match="no parameter of Sequential requires a gradient"), Recorder(folder, model):
        pass
    assert not folder.exists()


def test_the_host_never_asks_the_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two blocks nothing of a tensor is read. On a CPU reading is free, so the rows are made to believe in a GPU."""
    model = network()
    asked: list[str] = []
    rows_as_on_a_gpu(monkeypatch)
    with Recorder(folder, model, flush_every=1000) as run:
        one_step(model, run)
        with monkeypatch.context() as patched:
            for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
                patched.setattr(torch.Tensor, name, lambda self, *a, name=name: asked.append(name))
            one_step(model, run)
    assert asked == []


def half(rank: int, folder: Path, meeting: Path) -> None:
    """One of two processes: the first or the second half of every batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model = DistributedDataParallel(network(dropout=0.0))
    optimizer = sgd(model)
    with Recorder(folder, model) as run:
        for x, y, _ in batches(6):
            mine = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
            loss = functional.cross_entropy(model(x[mine]), y[mine])
            loss.backward()
            run.log_step(loss, samples=BATCH // 2, max_grad_norm=0.3)
            optimizer.step()
            optimizer.zero_grad()
        run.log_eval({"loss": torch.full((5,), float(rank))})
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_leave_the_record_of_one(folder: Path, tmp_path: Path) -> None:
    spawn(half, (folder, tmp_path / "meeting"), nprocs=2)
    _, rows = by_hand(6, max_grad_norm=0.3)
    trace = read_trace(folder / "trace.arrow")
    np.testing.assert_allclose(trace["grad_norm"], [row["grad_norm"] for row in rows], rtol=1e-5)
    np.testing.assert_allclose(trace["loss"], [row["loss"] for row in rows], rtol=1e-5)
    assert trace["samples"].tolist() == [BATCH * step for step in range(1, 7)]
    (look,) = read_evals(folder / "evals.arrow").table.to_pylist()
    assert (look["sum"], look["count"]) == (5.0, 10)
    outcome = read_status(RunDir(folder))
    assert outcome is not None
    assert outcome.status == "finished"


@pytest.mark.slow
def test_the_example_is_a_study_that_can_be_reported(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-W", "error", str(repo / "docs" / "how-to" / "record_external_loop.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=repo, env=environment)
    assert done.returncode == 0, done.stderr
    assert cli.main(["report", str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "both changes 2 settings together, so it is not a one-variable comparison" in printed
    assert "momentum 0 → 0.9" in printed
