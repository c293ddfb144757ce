"""What a run on a GPU must do: on the GPU of this machine (`make gpu`), or on a pretended one where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import Checkpoints, GradNorms, RandomStreams, Recording, train
from ablate.models.unpadding import leave_unread, unpad
from ablate.tasks import text_classification as texts
from ablate.training.evaluation import to_device
from ablate.training.random_streams import SampleOrder
from tests.models.test_unpad import build
from tests.training.test_resume import after, rows
from tests.training.test_train import Spoiled
from tests.training.toy import evaluation, loss_fn, network, points

pytestmark = pytest.mark.usefixtures("any_gpu")


def on_gpu(examples: Any = None, **settings: Any) -> Any:
    model = network(0).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    data = points() if examples is None else examples
    return train(
        model, data, loss_fn, optimizer=optimizer, device="cuda", random_streams=RandomStreams(seed=0), **settings
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_steps_between_flushes_do_not_synchronise(precision: str, max_grad_norm: float | None) -> None:
    """CUDA itself is told to raise at any wait for the device, from the third step to the last before the flush."""
    model = network(0)
    calls = 0

    def strict(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        nonlocal calls
        calls += 1
        torch.cuda.set_sync_debug_mode("error" if 3 <= calls <= 30 else "default")
        return loss_fn(model, batch)

    try:
        result = train(
            model, points(), strict, optimizer=torch.optim.AdamW(model.to("cuda").parameters(), fused=True), budget=40,
            lr_schedule="linear", max_grad_norm=max_grad_norm, precision=precision, device="cuda",
            recording=Recording(flush_every=32),
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.status.status == "finished"
    assert len(result.trace) == 40


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_skipped_step_is_decided_on_the_device_and_holds_the_schedule(precision: str) -> None:
    bad = set(SampleOrder(RandomStreams(seed=0), np.arange(256)).take(16, 1))  # in the third step
    result = on_gpu(Spoiled(bad), precision=precision, lr_schedule="linear", max_grad_norm=1.0, budget="8 steps")
    assert result.trace["applied"].tolist() == [1, 1, 0, 1, 1, 1, 1, 1]
    assert result.trace["learning_rate"][2] == result.trace["learning_rate"][3]
    if precision == "fp16":
        assert result.trace["loss_scale"][3] == result.trace["loss_scale"][2] / 2


def test_lasting_non_finite_gradients_end_as_diverged_and_name_the_parameter() -> None:
    sound = set(SampleOrder(RandomStreams(seed=0), np.arange(256)).take(0, 16))
    result = on_gpu(
        Spoiled(set(range(256)) - sound),
        precision="bf16",
        budget="200 steps",
        recording=Recording(flush_every=4),
        max_skipped_steps=3,
    )
    assert result.status.status == "diverged"
    assert "first in 0.weight" in result.status.message
    assert result.status.step < 20  # noticed two blocks late at most


def test_the_gpu_sees_the_samples_and_nearly_the_numbers_of_the_cpu() -> None:
    gpu = on_gpu(precision="fp32", budget="64 steps", evaluation=evaluation())
    model = network(0, dropout=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
    cpu = train(model, points(), loss_fn, optimizer=optimizer, device="cpu", precision="fp32", budget="64 steps",
                random_streams=RandomStreams(seed=0), evaluation=evaluation())  # fmt: skip
    for item in ("order", "init", "schedule", "optimizer"):
        assert gpu.fingerprint.items[item] == cpu.fingerprint.items[item]
    first = gpu.evals.curve("loss").value[0], cpu.evals.curve("loss").value[0]
    assert first[0] == pytest.approx(first[1], rel=1e-5)  # dropout masks differ from the first step on


def test_stopped_and_resumed_on_a_gpu(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "precision": "bf16",
        "budget": "60 steps",
        "lr_schedule": "linear",
        "max_grad_norm": 0.5,
    }
    on_gpu(run_dir=tmp_path / "whole", **settings)
    on_gpu(run_dir=tmp_path / "cut", checkpoint=Checkpoints(), should_stop=after(23), **settings)
    on_gpu(run_dir=tmp_path / "cut", checkpoint=Checkpoints(), **settings)
    assert rows(tmp_path / "cut" / "trace.arrow") == rows(tmp_path / "whole" / "trace.arrow")


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_without_padding_the_loss_and_the_gradient_are_the_padded_ones(autocast: torch.dtype | None) -> None:
    """fp32 takes the padded attention call, bf16 the kernel for packed sequences; neither makes the host wait."""
    plain, packed = (build("Bert", "SequenceClassification").to("cuda").train() for _ in range(2))
    packed.load_state_dict(plain.state_dict())
    assert unpad(packed) is None
    assert leave_unread(packed) is None
    draw = np.random.Generator(np.random.Philox(key=1))
    samples = [(draw.integers(3, 100, length), k % 2) for k, length in enumerate((60, 17, 33, 33, 3))]
    batch = to_device(texts.pad_batch(samples, 0), torch.device("cuda"))
    found = []
    for model in (plain, packed):
        for attempt in range(2):  # the second one has nothing left to look up
            model.zero_grad()
            torch.cuda.set_sync_debug_mode("error" if attempt and model is packed else "default")
            try:
                with torch.autocast("cuda", autocast or torch.float16, enabled=autocast is not None):
                    loss, _ = texts.loss_fn(model, batch)
                loss.backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        norm, groups = GradNorms(model).measure()
        found.append((float(loss), float(norm), groups.tolist()))
    rel = 1e-4 if autocast is None else 3e-2
    assert found[1][0] == pytest.approx(found[0][0], rel=rel)
    assert found[1][1] == pytest.approx(found[0][1], rel=rel)
    assert found[1][2] == pytest.approx(found[0][2], rel=rel, abs=rel * found[0][1])
