"""The laws that the loop promises; that its numbers are those of a loop written by hand is told in tests/parity."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional

from ablate import GradNorms, Streams, read_evals, read_trace, stop_on_signals
from ablate.errors import LoopError
from ablate.records.layout import RunDir
from ablate.records.metadata import read_status
from ablate.training.grad_norms import by_depth, by_kind
from ablate.training.lr_schedule import Schedule
from ablate.training.random_streams import SampleOrder
from ablate.training.throughput import model_flops
from tests.training.toy import evaluation, network, objective, points, run


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_norm_is_unscaled_and_before_clipping() -> None:
    _, plain = run(precision="fp32", budget="4 steps")
    _, clipped = run(precision="fp32", budget="4 steps", max_grad_norm=1e-3)
    _, scaled = run(precision="fp16", budget="4 steps", max_grad_norm=1e-3)
    assert clipped.trace["grad_norm"][0] == plain.trace["grad_norm"][0]
    np.testing.assert_allclose(scaled.trace["grad_norm"][0], plain.trace["grad_norm"][0], rtol=2e-2)
    assert scaled.trace["loss_scale"][0] == 65536
    np.testing.assert_allclose(clipped.trace["clip_coefficient"][0], 1e-3 / plain.trace["grad_norm"][0], rtol=1e-4)


def test_group_norms_compose_to_the_global_norm() -> None:
    _, result = run(budget="8 steps")
    assert result.trace.groups == ["0", "3"]
    np.testing.assert_allclose(np.linalg.norm(result.trace.group_norms(), axis=1), result.trace["grad_norm"], rtol=1e-5)


def test_grad_norms_in_somebody_elses_loop() -> None:
    model = network()
    norms = GradNorms(model)
    model(torch.ones(4, 10)).sum().backward()
    total, groups = norms.measure()
    expected = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    assert torch.equal(total, expected)
    assert groups.shape == (2,)


def test_a_parameter_without_a_gradient_counts_as_zero_in_its_group() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "idle": nn.Linear(3, 1)})
    norms = GradNorms(model)
    model["used"](torch.ones(2, 3)).sum().backward()
    total, groups = norms.measure()
    assert norms.groups == ["used", "idle"]
    assert groups.tolist() == [total.item(), 0.0]


@pytest.mark.parametrize(
    ("grouping", "name", "group"),
    [
        (by_depth, "bert.encoder.layer.3.output.dense.weight", "layer.3"),
        (by_depth, "bert.embeddings.word_embeddings.weight", "embeddings"),
        (by_depth, "classifier.weight", "classifier"),
        (by_depth, "scale", "model"),
        (by_kind, "bert.embeddings.LayerNorm.weight", "norm"),
        (by_kind, "transformer.h.0.ln_1.bias", "norm"),
        (by_kind, "transformer.wte.weight", "embedding"),
        (by_depth, "transformer.h.2.attn.c_attn.weight", "h.2"),
        (by_kind, "bert.embeddings.word_embeddings.weight", "embedding"),
        (by_kind, "classifier.bias", "bias"),
    ],
)
def test_groups_of_parameters(grouping: Callable[[str], str], name: str, group: str) -> None:
    assert grouping(name) == group


@pytest.mark.parametrize("batch_size", [1, 8, 64, 100])
def test_sample_k_is_the_same_at_every_batch_size(batch_size: int) -> None:
    _, result = run(batch_size=batch_size, budget="512 samples")
    _, reference = run(batch_size=16, budget="512 samples")
    assert result.fingerprint.items["order"] == reference.fingerprint.items["order"]
    assert result.trace["samples"][-1] == 512


def test_arms_with_nested_training_sets_share_their_relative_order() -> None:
    streams = Streams(seed=3)
    big, small = np.arange(100), np.arange(0, 100, 3)
    of_big = [int(big[k]) for k in SampleOrder(streams, big).take(0, 100)]
    of_small = [int(small[k]) for k in SampleOrder(streams, small).take(0, len(small))]
    assert [k for k in of_big if k % 3 == 0] == of_small


def test_an_extra_module_leaves_every_other_modules_weights_equal() -> None:
    def build(*, extra: bool) -> nn.ModuleDict:
        parts = {"first": nn.Linear(4, 4), **({"extra": nn.Linear(4, 4)} if extra else {}), "last": nn.Linear(4, 2)}
        model = nn.ModuleDict(parts)
        Streams(seed=5).initialise(model)
        return model

    with_extra, without = build(extra=True), build(extra=False)
    for name in ("first", "last"):
        assert torch.equal(with_extra[name].weight, without[name].weight)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    hashes = [run(seed=seed)[1].outcome.weights_sha256 for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_evaluation_is_a_sum_over_examples_not_a_mean_of_batches() -> None:
    curves = [run(evaluation=evaluation(batch_size=size))[1].evals.curve("loss") for size in (100, 99, 7)]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve.value, curves[0].value, rtol=1e-6)
    assert curves[0].samples.tolist() == [0, 64, 128, 192, 256]
    assert set(curves[0].count) == {100}


def test_log_spaced_looks_are_dense_early_and_end_at_the_end() -> None:
    samples = (
        run(evaluation=evaluation(spacing="log", num_evaluations=6), budget="512 samples")[1]
        .evals.curve("loss")
        .samples
    )
    gaps = np.diff(samples[1:])
    assert samples[0] == 0
    assert samples[-1] == 512
    assert (np.diff(gaps) >= 0).all()


class Spoiled(torch.utils.data.Dataset[Any]):
    """Points, some of which make the gradient infinite."""

    def __init__(self, bad: set[int]) -> None:
        self.points, self.bad = points(), bad

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, k: int) -> Any:
        x, y = self.points[k]
        return (x * float("inf") if k in self.bad else x), y


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_non_finite_gradient_is_never_applied_and_does_not_advance_the_schedule(precision: str) -> None:
    bad = SampleOrder(Streams(seed=0), np.arange(256)).take(16, 1)  # in the third step
    model, result = run(
        examples=Spoiled(set(bad)), precision=precision, schedule="linear", max_grad_norm=1.0, budget="8 steps"
    )
    assert result.trace["applied"].tolist() == [1, 1, 0, 1, 1, 1, 1, 1]
    assert result.trace["learning_rate"][2] == result.trace["learning_rate"][3]
    assert torch.isfinite(weights(model)).all()
    assert result.status.status == "finished"
    if precision == "fp16":
        assert result.trace["loss_scale"][3] == result.trace["loss_scale"][2] / 2


def test_lasting_non_finite_gradients_end_as_diverged_and_name_the_parameter() -> None:
    sound = SampleOrder(Streams(seed=0), np.arange(256)).take(0, 16)  # two steps
    spoiled = Spoiled(set(range(256)) - set(sound))
    _, result = run(examples=spoiled, max_skipped_steps=3, precision="fp32")
    assert result.status.status == "diverged"
    assert result.outcome.step == 5
    assert "0.weight" in result.outcome.message


def test_a_stop_ends_the_run_at_the_next_step_with_its_record() -> None:
    polls: list[int] = []

    def stop() -> str | None:
        polls.append(0)
        return "SIGTERM" if len(polls) > 5 else None

    _, result = run(stop=stop)
    assert result.status.status == "interrupted"
    assert "SIGTERM" in result.outcome.message
    assert len(result.trace) == result.outcome.step == 5


def test_the_schedule_spends_the_same_rate_whatever_the_number_of_steps() -> None:
    spent = [
        np.mean([Schedule("linear", 0.0, total).step_factor(k) for k in range(1, total + 1)]) for total in (4, 16, 128)
    ]
    np.testing.assert_allclose(spent, 0.5)
    assert Schedule("linear", 0.5, 16).step_factor(1) > 0


def test_with_a_folder_the_record_on_disk_is_the_result(tmp_path: Path) -> None:
    _, result = run(folder=tmp_path, evaluation=evaluation())
    assert read_trace(tmp_path / "trace.arrow").table.equals(result.trace.table)
    assert {p.name for p in tmp_path.iterdir()} == {
        "trace.arrow", "evals.arrow", "predictions.arrow", "fingerprint.json", "status.json", "progress.json",
    }  # fmt: skip
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_file(str(tmp_path / "trace.arrow"))
    assert rows["step"][:] == list(range(1, 33))


def test_blocks_in_memory_are_not_written_over_by_later_ones() -> None:
    kept = ["step_seconds"]
    few, one = (run(flush_every=size, update_ratio=True)[1].trace.table.drop_columns(kept) for size in (3, 1000))
    assert few.combine_chunks().equals(one.combine_chunks())


def test_a_torn_tail_is_left_out(tmp_path: Path) -> None:
    run(folder=tmp_path, flush_every=8)
    path = tmp_path / "trace.arrow"
    path.write_bytes(path.read_bytes()[:-200])
    steps = read_trace(path)["step"]
    assert steps.tolist() == list(range(1, len(steps) + 1))
    assert 8 <= len(steps) < 32
    with pytest.raises(OSError, match="message body"), pa.OSFile(str(path)) as file:
        pa.ipc.open_stream(file).read_all()  # what our reader spares its callers


def frozen() -> nn.Module:
    return network().requires_grad_(False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": frozen()}, "no parameter of Sequential requires a gradient"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"examples": []}, "no training example"),
        ({"budget": "0 steps"}, "'0 steps' is not an interval"),
        ({"precision": "fp8"}, "'fp8' is not one of"),
        ({"device": "tpu"}, "device=tpu"),
        ({"objective": lambda model, batch: (model(batch[0]).sum(-1), 8)}, "a loss of shape (8,)"),
        ({"objective": lambda model, batch: (model(batch[0]).sum().detach(), 8)}, "no gradient can flow"),
        ({"objective": lambda model, batch: (model(batch[0]).sum(), 0)}, "counted 0 items"),
        ({"objective": lambda model, batch: (model(batch[0]).sum() * float("nan"), 8)}, "the first loss is nan"),
        ({"objective": lambda model, batch: (batch[0].requires_grad_().sum(), 8)}, "no parameter has a gradient"),
    ],
)
def test_set_ups_that_cannot_train_are_refused_in_words(settings: dict[str, Any], words: str) -> None:
    from ablate.errors import AblateError

    with pytest.raises(AblateError) as caught:
        run(**settings)
    assert words in str(caught.value)


def test_an_optimizer_of_another_model_is_refused() -> None:
    from ablate import train
    from tests.training.toy import objective

    other = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(LoopError, match="owns none of the 4 trainable parameters"):
        train(network(), points(), objective, optimizer=other)


class Torn(torch.utils.data.Dataset[Any]):
    """Points, one of which cannot be read."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, k: int) -> Any:
        if k == 77:
            raise OSError(f"cannot read example {k}")
        return points()[k]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_that_raises_leaves_the_record_up_to_there_and_goes_on_as_raised(
    tmp_path: Path, num_workers: int
) -> None:
    with pytest.raises(OSError, match="cannot read example 77"):
        run(examples=Torn(), folder=tmp_path, evaluation=evaluation(), num_workers=num_workers)
    at = SampleOrder(Streams(seed=0), np.arange(256)).take(0, 256).index(77)
    outcome = read_status(RunDir(tmp_path))
    assert outcome is not None
    assert (outcome.status, outcome.step, outcome.reason) == ("failed", at // 8, "OSError")
    assert "cannot read example 77" in outcome.message
    assert read_trace(tmp_path / "trace.arrow")["step"].tolist() == list(range(1, at // 8 + 1))
    assert read_evals(tmp_path / "evals.arrow").curve("loss").samples[0] == 0


def test_control_c_in_a_loop_without_signals_keeps_the_record(tmp_path: Path) -> None:
    calls: list[int] = []

    def pressed(model: nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        calls.append(0)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return objective(model, batch)

    with pytest.raises(KeyboardInterrupt):
        run(folder=tmp_path, objective=pressed)
    outcome = read_status(RunDir(tmp_path))
    assert outcome is not None
    assert (outcome.status, outcome.step) == ("interrupted", 6)
    assert len(read_trace(tmp_path / "trace.arrow")) == 6


def test_signals_are_what_they_were_after_the_context() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(signal.SIGTERM) as stop:
        assert stop() is None
        signal.raise_signal(signal.SIGTERM)
        assert stop() == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_standard_error_of_a_look_is_that_of_its_examples() -> None:
    model, result = run(evaluation=evaluation("256 samples"))
    x, y = points(100, seed=9).tensors
    with torch.no_grad():
        losses = functional.cross_entropy(model.eval()(x), y, reduction="none").double()
    curve = result.evals.curve("loss")
    assert curve.value[-1] == pytest.approx(float(losses.mean()), rel=1e-6)
    assert curve.standard_error[-1] == pytest.approx(float(losses.std() / 10), rel=1e-6)


def test_flops_are_six_per_multiplying_weight_and_token() -> None:
    model = nn.Sequential(nn.Embedding(50, 4), nn.Linear(4, 3))
    assert model_flops(model) == 6 * (4 * 3 + 3)
    model[1].requires_grad_(False)
    assert model_flops(model) == 4 * (4 * 3 + 3)
    tied = nn.Sequential(nn.Embedding(50, 4), nn.Linear(4, 50, bias=False))
    tied[1].weight = tied[0].weight
    assert model_flops(tied) == 6 * 200


def test_throughput_names_the_peak_that_it_assumes() -> None:
    _, plain = run(budget="64 steps")
    _, told = run(budget="64 steps", assumed_peak=1e9)
    assert "mfu" not in plain.throughput  # nobody says what this CPU could do
    assert told.throughput["device_peak_flops"] == 1e9
    expected = told.throughput["train_samples_per_second"] * model_flops(network()) / 1e9
    assert told.throughput["mfu"] == pytest.approx(expected)
    assert told.throughput["peak_memory_bytes"] > 1e7
