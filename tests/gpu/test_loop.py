"""The loop on a pretended GPU: no waits between flushes, few operations, times of the device, streams, skipped steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import Checkpoints, RandomStreams, Recorder, Recording, train
from ablate.config.schema import OptimConfig
from ablate.models.optimizers import make_optimizer
from ablate.records.layout import RunDir
from ablate.records.metadata import read_status
from ablate.tasks import causal_lm
from ablate.training.optimizer_step import skips_on_device
from ablate.training.random_streams import SampleOrder
from tests.gpu.pretend import DEVICE, Gpu, OnGpu, pretended
from tests.gpu.steady import Steady, bert, llama, text, toy
from tests.training.test_train import Spoiled
from tests.training.toy import evaluation, loss_fn, network, points

FUSED = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, fused=True),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, fused=True),
}
UNFUSED = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    "rmsprop": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3),
    "dampened sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, dampening=0.5, fused=True),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "update ratios": {"recording": Recording(update_ratio=True, flush_every=100)},
    "update ratios of the model": {"recording": Recording(update_ratio=True, grad_norm_groups=None, flush_every=100)},
    "accumulated, with noise scale": {"grad_accum_steps": 2, "recording": Recording(noise_scale=True, flush_every=100)},
    "no clipping": {"max_grad_norm": None},
    "constant rate": {"lr_schedule": "constant"},
}


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", FUSED)
def test_no_wait_with_a_fused_optimizer(gpu: Gpu, optimizer: str, precision: str) -> None:
    found = toy(gpu, make_optimizer=FUSED[optimizer], precision=precision)
    assert found.waits == []
    assert gpu.meetings == []
    assert found.result.status.status == "finished"


@pytest.mark.parametrize("option", OPTIONS)
def test_no_wait_with_any_option(gpu: Gpu, option: str) -> None:
    assert toy(gpu, **OPTIONS[option]).waits == []


def test_no_wait_with_checkpoints_and_evaluations_elsewhere(gpu: Gpu, tmp_path: Path) -> None:
    found = toy(gpu, run_dir=tmp_path, checkpoint=Checkpoints(every="4 steps"), evaluation=evaluation("4 steps"))
    assert found.waits != [], "both wait, between the same steps: the count can fail"
    assert found.result.status.status == "finished"


@pytest.mark.parametrize("optimizer", UNFUSED)
def test_other_optimizers_wait_once_for_the_answer(gpu: Gpu, optimizer: str) -> None:
    assert len(toy(gpu, make_optimizer=UNFUSED[optimizer]).waits) == 2  # of two steps


@pytest.mark.parametrize("name", ["muon", "rmsprop", "adagrad", "sgd", "adamw"])
def test_waits_of_the_configured_optimizers(gpu: Gpu, name: str) -> None:
    model = bert().to("cuda")
    found = text(gpu, model, optimizer=make_optimizer(OptimConfig(name=name, lr=1e-4), model))
    assert len(found.waits) == (0 if name in ("adamw", "sgd") else 2)


TASKS = {
    "classifier": lambda gpu, **settings: text(gpu, bert(), **settings),
    "classifier without dropout": lambda gpu, **settings: text(gpu, bert(dropout=0.0), **settings),
    "language model": lambda gpu, **settings: text(gpu, llama(), task=causal_lm, **settings),
}


@pytest.mark.parametrize(
    ("task", "precision"), [*((task, "bf16") for task in TASKS), ("classifier", "fp32"), ("language model", "fp16")]
)
def test_no_wait_with_any_task(gpu: Gpu, task: str, precision: str) -> None:
    assert TASKS[task](gpu, precision=precision).waits == []
    assert gpu.meetings == []


# ---- operations: each costs the host some microseconds, which is what limits a small model on a fast GPU -----------------


@pytest.mark.parametrize(
    ("found", "most"),
    [
        pytest.param(lambda gpu: text(gpu, bert()), 233, id="unpadded"),
        pytest.param(lambda gpu: text(gpu, bert(dropout=0.0)), 221, id="unpadded, no dropout"),
        pytest.param(lambda gpu: text(gpu, bert(), unpadded=False), 244, id="padded"),
        pytest.param(lambda gpu: text(gpu, bert(), precision="fp32"), 153, id="unpadded, fp32"),
        pytest.param(lambda gpu: text(gpu, bert(), grad_accum_steps=4), 899, id="four passes"),
        pytest.param(lambda gpu: text(gpu, llama(), task=causal_lm), 358, id="language model"),
        pytest.param(lambda gpu: toy(gpu), 54, id="small network"),
    ],
)
def test_the_operations_of_a_step_stay_as_few(gpu: Gpu, found: Any, most: int) -> None:
    """Of two layers; each layer of BERT has about 75 in bf16. An equal or smaller number is a good change: lower the limit."""
    assert most * 0.95 < found(gpu).calls_per_step <= most


def test_passes_of_a_step_share_the_cast_weights(gpu: Gpu) -> None:
    one, four = (text(gpu, bert(), grad_accum_steps=passes).calls["_to_copy"] / 2 for passes in (1, 4))
    num_weights = 2 * (6 * 2 + 2)  # weight and bias of six matrices in two layers, of the pooler and of the head
    assert four <= 4 * one - 3 * num_weights


# ---- streams and clocks --------------------------------------------------------------------------------------------------


def test_what_is_copied_is_waited_for_on_the_stream_that_copies(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current device may be another one than the model's."""
    recorded, current = [], []

    class Event(torch.cuda.Event):  # type: ignore[misc]
        def record(self, stream: Any = None) -> None:
            recorded.append(stream)
            super().record()

    class Device:
        def __init__(self, device: Any) -> None:
            self.device = device

        def __enter__(self) -> None:
            current.append(self.device)

        def __exit__(self, *error: object) -> None:
            current.pop()

    devices = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: ("stream", device))

    def watched(model: Any, batch: Any) -> Any:
        devices.append(list(current))
        return loss_fn(model, batch)

    model = network(0).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    train(model, points(), watched, optimizer=optimizer, device="cuda:0", budget=4, precision="fp32")
    assert set(recorded) == {("stream", DEVICE)}
    assert all(DEVICE in seen for seen in devices)
    assert current == []


def slow(gpu: Gpu, steps: int, *, host: float, device: float, **settings: Any) -> Any:
    """Train with a host and a device that need so many seconds for a step."""
    gpu.host_seconds = 0.0

    def heavy(model: Any, batch: Any) -> Any:
        assert gpu.host_seconds is not None
        gpu.host_seconds += host
        gpu.work(device)
        return loss_fn(model, batch)

    model = network(0).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    return train(model, points(), heavy, optimizer=optimizer, device="cuda", budget=steps, precision="fp32", **settings)


@pytest.mark.parametrize(("host", "device", "step"), [(0.001, 0.02, 0.02), (0.03, 0.02, 0.03)])
def test_a_step_takes_as_long_as_the_device_takes(gpu: Gpu, host: float, device: float, step: float) -> None:
    """A fast host has queued all steps long before the device has done them; a slow one works meanwhile."""
    result = slow(gpu, 20, host=host, device=device)
    assert result.trace["step_seconds"].tolist()[1:] == pytest.approx([step] * 19, abs=2e-3)
    assert result.throughput["train_steps_per_second"] == pytest.approx(1 / step, rel=0.1)


def test_what_was_queued_before_an_evaluation_is_time_of_training(gpu: Gpu) -> None:
    recording = Recording(flush_every=100)
    result = slow(gpu, 20, host=0.001, device=0.02, evaluation=evaluation("10 steps"), recording=recording)
    assert result.trace["step_seconds"].sum() == pytest.approx(20 * 0.02, rel=0.02)
    assert result.throughput["train_seconds"] == pytest.approx(20 * 0.02, rel=0.02)


def test_another_loop_is_timed_by_the_device_too(gpu: Gpu, tmp_path: Path) -> None:
    gpu.host_seconds = 0.0
    model = network(0).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    with Recorder(tmp_path, model, arm="a", seed=0) as recorder:
        for _ in range(10):
            gpu.work(0.02)
            loss = model(torch.ones(8, 10, device="cuda")).sum()
            loss.backward()
            recorder.log_step(loss, samples=8)
            optimizer.step()
            optimizer.zero_grad()
    status = read_status(RunDir(tmp_path / "a" / "seed=0"))
    assert status is not None
    assert status.throughput["train_steps_per_second"] == pytest.approx(50, rel=0.01)


def test_a_block_of_one_row_keeps_its_numbers(gpu: Gpu) -> None:
    """The memory in which it lands is used again."""

    def ratios(flush_every: int) -> list[list[float]]:
        torch.manual_seed(0)
        recording = Recording(update_ratio=True, flush_every=flush_every)
        trace = toy(gpu, precision="fp32", recording=recording).result.trace
        return [trace.table[name].to_pylist() for name in ("update_ratios", "group_norms", "loss")]

    assert ratios(1) == ratios(64)


# ---- steps that are skipped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_momentum_does_not_begin_with_what_was_in_memory(
    gpu: Gpu, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused SGD allocates its momentum in the first step, and writes it only if the step is applied."""
    plain = torch.empty_like

    def old_numbers(tensor: torch.Tensor, **settings: Any) -> torch.Tensor:
        made = plain(tensor, **settings)
        return made.fill_(1e3) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty_like", old_numbers)
    model = network(0).to("cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9, fused=True)
    bad = set(SampleOrder(RandomStreams(seed=0), np.arange(256)).take(0, 8))
    result = train(model, Spoiled(bad), unchecked, optimizer=optimizer, device="cuda", precision=precision, budget=4,
                   random_streams=RandomStreams(seed=0))  # fmt: skip
    assert result.trace["applied"].tolist() == [False, True, True, True]
    momentum = [_value(state["momentum_buffer"]) for state in optimizer.state.values()]
    assert max(float(buffer.abs().max()) for buffer in momentum) < 10


def unchecked(model: Any, batch: Any) -> Any:
    """The loss is finite, and its gradient is not: no check of the first loss finds it."""
    x, y = batch
    loss, count = loss_fn(model, (torch.nan_to_num(x, posinf=0.0, neginf=0.0), y))
    return loss + (Steep.apply(model[0].weight, x)).sum(), count


class Steep(torch.autograd.Function):
    """0, with a gradient that is not finite where a batch is not."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, x)
        return torch.zeros_like(weight)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        weight, x = ctx.saved_tensors
        return torch.zeros_like(weight) + (x - x).sum(), None


def _value(tensor: Any) -> torch.Tensor:
    return tensor.inner if isinstance(tensor, OnGpu) else tensor


class Elsewhere(torch.optim.AdamW):
    """A fused optimizer of another library, which applies every step."""

    def step(self, closure: Any = None) -> Any:
        if hasattr(self, "found_inf"):
            del self.found_inf
        return super().step(closure)


def test_a_fused_optimizer_that_may_not_skip_is_not_relied_on(gpu: Gpu) -> None:
    model = network(0).to("cuda")
    optimizer = Elsewhere(model.parameters(), lr=1e-3, fused=True)
    assert skips_on_device(torch.optim.AdamW(model.parameters(), fused=True), DEVICE)
    assert not skips_on_device(optimizer, DEVICE)
    bad = set(SampleOrder(RandomStreams(seed=0), np.arange(256)).take(16, 8))
    result = train(model, Spoiled(bad), loss_fn, optimizer=optimizer, device="cuda", precision="fp32", budget=5,
                   random_streams=RandomStreams(seed=0))  # fmt: skip
    assert result.trace["applied"].tolist() == [True, True, False, True, True]
    assert np.isfinite(result.trace["loss"][3:]).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_norm_is_of_the_gradient_that_is_applied(gpu: Gpu, precision: str) -> None:
    """What the optimizer does not own is neither unscaled nor zeroed by it."""
    model = network(0, dropout=0.0).to("cuda")
    assert model[0].weight.requires_grad
    head = torch.optim.AdamW(model[3].parameters(), lr=0.0, fused=True)
    result = train(model, points(8), loss_fn, optimizer=head, device="cuda", precision=precision, budget=4,
                   random_streams=RandomStreams(seed=0))  # fmt: skip
    assert result.trace["grad_norm"] == pytest.approx(result.trace["grad_norm"][0], rel=1e-2)
    for p in model[0].parameters():
        p.requires_grad_(False)
    alone = train(model, points(8), loss_fn, optimizer=head, device="cuda", precision="fp32", budget=1,
                  random_streams=RandomStreams(seed=0))  # fmt: skip
    assert result.trace["grad_norm"][0] == pytest.approx(alone.trace["grad_norm"][0], rel=1e-2)


# ---- faults of the device ------------------------------------------------------------------------------------------------


def test_a_device_that_has_failed_leaves_a_status(gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an assertion on the device every further call of CUDA raises."""
    count, broken = 0, False

    class Event(torch.cuda.Event):  # type: ignore[misc]
        def record(self, *stream: Any) -> None:
            if broken:
                raise torch.AcceleratorError("CUDA error: device-side assert triggered")
            super().record()

        def elapsed_time(self, other: Any) -> float:
            self.record()
            return float(super().elapsed_time(other))

    def breaks(model: Any, batch: Any) -> Any:
        nonlocal count, broken
        count += 1
        if count == 5:
            broken = True
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return loss_fn(model, batch)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    model = network(0).to("cuda")
    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        train(model, points(), breaks, optimizer=torch.optim.AdamW(model.parameters(), fused=True), device="cuda", budget=8,
              precision="fp32", run_dir=tmp_path)  # fmt: skip
    status = read_status(RunDir(tmp_path))
    assert status is not None
    assert (status.status, status.step) == ("failed", 4)
    assert "device-side assert" in status.message


def test_a_card_that_only_emulates_bf16_trains_in_fp16() -> None:
    with pretended((7, 5), "Tesla T4") as gpu:
        found: Steady = toy(gpu, precision="auto")
    assert found.result.fingerprint.items["precision"]["autocast"] == "fp16"
