"""The training loop: one page, no hooks. Everything that happens in a step is in `train`, in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ablate.records.metadata import Fingerprint, RunStatus
from ablate.records.reader import Evals, Trace
from ablate.training import fingerprint as fp
from ablate.training.checkpoint import CheckpointManager, Checkpoints
from ablate.training.data_loading import BatchStream, Loader
from ablate.training.distributed import Ranks
from ablate.training.evaluation import Evaluation, Evaluator, to_device
from ablate.training.grad_norms import GradNorms, UpdateRatios
from ablate.training.lr_schedule import LRSchedule
from ablate.training.optimizer_step import LearningRate, skips_on_device, start_momentum
from ablate.training.precision import Precision, pick_device
from ablate.training.random_streams import RandomStreams, SampleOrder
from ablate.training.run_recorder import Recording, RunRecorder, StopReason
from ablate.training.stop import ShouldStop, StopPoll
from ablate.training.throughput import StepClock, peak_flops
from ablate.training.trace_buffer import DeviceRow
from ablate.training.validation import check_can_train, check_loss, check_num_items
from ablate.units import parse_interval

LossFn = Callable[[nn.Module, Any], tuple[torch.Tensor, int]]


@dataclass(frozen=True)
class TrainResult:
    """The result of a run; with a run directory, the same is on disk. `trace` and `evals` are read when first used."""

    status: RunStatus
    fingerprint: Fingerprint
    _recorder: RunRecorder

    @cached_property
    def trace(self) -> Trace:
        """One row per optimizer step; in the first process only, where there are several."""
        return self._recorder.trace()

    @cached_property
    def evals(self) -> Evals:
        """One row per evaluation and metric."""
        return self._recorder.evals()

    @property
    def throughput(self) -> dict[str, float]:
        """Rates of the run, as in `RunStatus.throughput`."""
        return self.status.throughput


def train(
    model: nn.Module,
    dataset: Any,
    loss_fn: LossFn,
    *,
    optimizer: torch.optim.Optimizer,
    budget: str | int = "1 epochs",
    batch_size: int = 8,
    grad_accum_steps: int = 1,
    lr_schedule: str | LRSchedule = "constant",
    max_grad_norm: float | None = None,
    max_skipped_steps: int = 10,
    precision: str = "auto",
    device: str = "auto",
    evaluation: Evaluation | None = None,
    random_streams: RandomStreams | None = None,
    loader: Loader | None = None,
    recording: Recording | None = None,
    checkpoint: Checkpoints | None = None,
    run_dir: str | Path | None = None,
    should_stop: ShouldStop = lambda: None,
) -> TrainResult:
    """Train `model` and record every step.

    model: plain, or wrapped by DistributedDataParallel or `fully_shard` where several processes train together.
    dataset: map-style.
    loss_fn: (model, batch) -> (sum of the losses of the batch's items, number of items). The loop divides by the number of
        items of the whole optimizer step, so that accumulation equals the big batch. Under autocast the passes of a step share
        the cast weights, so it must not change weights.
    optimizer: its learning rates are the peaks of the schedule.
    budget: optimizer steps (a bare number), or `500 steps`, `4096 samples`, `3 epochs`.
    batch_size: samples of one forward pass, over all processes.
    grad_accum_steps: forward passes per optimizer step.
    lr_schedule: a shape such as `constant`, `linear` or `cosine`, or an `LRSchedule` with a warm-up.
    max_grad_norm: gradients are clipped to this global norm; None never clips. The recorded norm is the one before clipping.
    max_skipped_steps: consecutive steps with non-finite gradients after which the run ends as `diverged`.
    precision, device: `auto`, or as in `Precision` and `pick_device`.
    evaluation: examples, metrics and cadence of the evaluations; None never evaluates.
    random_streams: seeds of order, augmentation and dropout. The initial weights are the caller's: build the model inside
        `RandomStreams.scope("init")`.
    loader: how batches are made and counted.
    recording: what is recorded besides the loss and the gradient norm of every step.
    checkpoint: when the run is saved in `run_dir`, and whether it resumes from there; None never saves.
    run_dir: where trace, evaluations and fingerprint are written; None keeps them in memory.
    should_stop: polled at every step and evaluation batch; a reason saves the run and ends it as `interrupted`. Several
        processes agree on it every 8 steps.

    Raises LoopError for a set-up that cannot train, before or at the first step. An error of `dataset` or `loss_fn` is raised
    again; the record is complete up to that step.
    """
    random_streams, loader, recording = random_streams or RandomStreams(), loader or Loader(), recording or Recording()
    schedule = LRSchedule(lr_schedule) if isinstance(lr_schedule, str) else lr_schedule
    on = pick_device(device)
    amp = Precision(precision, on)
    check_can_train(model, optimizer, dataset, max_grad_norm=max_grad_norm, batch_size=batch_size, lr_schedule=schedule,
                    grad_accum_steps=grad_accum_steps, recording=recording, checkpoint=checkpoint, run_dir=run_dir)  # fmt: skip
    ranks = Ranks(model)
    model = model if ranks.sharded else model.to(on)

    sizes = {"samples_per_step": batch_size * grad_accum_steps, "samples_per_epoch": len(dataset)}
    total_samples = parse_interval(budget, key="budget").samples(**sizes)
    total_steps = -(-total_samples // sizes["samples_per_step"])
    norms = GradNorms(ranks.bare, recording.grad_norm_groups, optimizer)
    ratios = UpdateRatios(norms) if recording.update_ratio else None
    order = SampleOrder(random_streams, loader.ids_of(dataset))
    batches = BatchStream(dataset=dataset, loader=loader, order=order, ranks=ranks, batch_size=batch_size,
                          grad_accum_steps=grad_accum_steps, total_samples=total_samples)  # fmt: skip
    items = fp.model_items(ranks.bare)
    items |= fp.setting_items(optimizer, amp, schedule=schedule, max_grad_norm=max_grad_norm, model=ranks.bare)
    setup = {
        "budget": f"{total_samples} samples", "batch_size": batch_size, "grad_accum_steps": grad_accum_steps,
        "random_streams": asdict(random_streams), "sample_ids": fp.ids_hash(order.ids), "groups": norms.groups,
        "update_ratio": recording.update_ratio, "noise_scale": recording.noise_scale, "facts": recording.facts,
        **{name: item for name, item in items.items() if name != "environment"},
    }  # fmt: skip
    checkpoints = CheckpointManager(
        checkpoint, run_dir, setup, ranks=ranks, optimizer=optimizer, scaler=amp.scaler, sizes=sizes
    )
    position, resumed = checkpoints.position, checkpoints.recorder_state
    learning_rate = LearningRate(optimizer, schedule, total_steps, device=on, on_device=skips_on_device(optimizer, on),
                                 applied_steps=resumed["applied_steps"] if resumed else 0)  # fmt: skip
    recorder = RunRecorder(
        Path(run_dir) if run_dir else None, ranks, norms, items=items | dict(recording.facts), device=on,
        learning_rate=learning_rate.at, flush_every=recording.flush_every, total_steps=total_steps,
        samples_per_epoch=len(dataset), peak_flops=recording.device_peak_flops or peak_flops(on, amp.name), resumed=resumed,
    )  # fmt: skip
    points = evaluation.points(total_samples, **sizes) if evaluation else []
    evaluator = Evaluator(evaluation, points, collate=loader.collate, precision=amp, ranks=ranks)
    evaluator.evaluated_at = checkpoints.evaluated_at
    checkpoints.load()
    if learning_rate.on_device:
        start_momentum(optimizer)
    recorder.replay_order(order.ids_before(position.samples), position)
    poll = StopPoll(should_stop, ranks)
    zero = torch.zeros((), device=on)

    def evaluate(interrupt: ShouldStop = lambda: None) -> None:
        recorder.flush(wait=True)
        final = position.step >= total_steps and run_dir is not None
        recorder.log_eval(position, evaluator.run(position.samples, interrupt, final=final))

    with recorder.recording(position), amp.device_settings():
        optimizer.zero_grad(set_to_none=True)
        if evaluator.is_due(position.samples):
            evaluate(poll.during_evaluation)
        request, diverged = poll.after_step(position.step)
        windows = batches.windows(position.samples)
        model.train()
        clock = StepClock(on)

        while position.step < total_steps and request is None and not diverged:
            # ---- one optimizer step ---------------------------------------------------------------------------
            window = next(windows)
            num_passes, num_counted, divisor = len(window.microbatches), 0, 0
            loss_sum, first_norm = zero, zero
            if window.num_items is not None:
                num_items, num_tokens = ranks.sum_counts(window.num_items, window.num_tokens)
                divisor = check_num_items(num_items)
            with amp.autocast():  # around all of them, so that each weight is cast once
                for micro, (batch, included) in enumerate(window.microbatches):
                    with (
                        random_streams.scope("dropout", position.step, micro, *ranks.key, device=on),
                        ranks.accumulate(last=micro == num_passes - 1),
                    ):
                        loss, num_here = loss_fn(model, to_device(batch, on))
                        if position.step == 0:
                            check_loss(
                                loss, num_here, None if loader.count_items is None else loader.count_items(batch)
                            )
                        # Where only the forward pass counts: a guess, exact unless passes hold unequal numbers of items.
                        divisor = divisor or (num_here * num_passes if ranks.size == 1 else 0) or len(window.sample_ids)
                        loss = loss if included else loss * 0
                        amp.backward(loss / (divisor / ranks.size))  # DDP and FSDP average over the processes
                    loss_sum, num_counted = loss_sum + loss.detach(), num_counted + num_here * included
                    if recording.noise_scale and micro == 0 and num_passes > 1:
                        first_norm = norms.measure_each()[0] * (divisor / max(num_here, 1)) / amp.scale()

            if window.num_items is None:
                num_items, num_tokens = ranks.sum_counts(num_counted, window.num_tokens)
            amp.unscale(optimizer)
            if num_items != divisor:
                norms.scale(divisor / check_num_items(num_items))
            grad_norm, each_norm = norms.measure_each()
            clip_coefficient = norms.clip(grad_norm, max_grad_norm)
            loss_scale = amp.scale()
            if ratios:
                ratios.before()
            learning_rate.set()
            applied = amp.step(optimizer, grad_norm, on_device=learning_rate.on_device)
            learning_rate.advance(applied)
            optimizer.zero_grad(set_to_none=True)
            position.add(samples=len(window.sample_ids), tokens=num_tokens)
            # ---- end of the step ------------------------------------------------------------------------------

            seconds = clock.stop()
            row = DeviceRow(
                loss=ranks.sum(loss_sum) / num_items, grad_norm=grad_norm, clip_coefficient=clip_coefficient,
                applied=applied, loss_scale=loss_scale, micro_grad_norm=first_norm,
                each_norm=each_norm, update_ratios=ratios.after() if ratios else each_norm[:0],
            )  # fmt: skip
            recorder.log_step(
                position, row, seconds=seconds,
                sample_ids=window.sample_ids, learning_rate=learning_rate.current,
                micro_samples=min(batch_size, len(window.sample_ids)) if recording.noise_scale and num_passes > 1 else 0,
                skipped=applied is False,
            )  # fmt: skip
            if evaluator.is_due(position.samples):
                evaluate(poll.during_evaluation)
            last, seen = position.step == total_steps, recorder.num_skipped >= max_skipped_steps
            request, diverged = poll.after_step(position.step, diverged=seen, last=last)
            if request or (not diverged and checkpoints.is_due(position, final=last)):
                checkpoints.save(position, recorder.state(), evaluated_at=evaluator.evaluated_at)
            clock.start()

        learning_rate.restore()
        if request is None and evaluation is not None and evaluator.evaluated_at != position.samples:
            evaluate()
        reason = StopReason.REQUESTED if request else StopReason.DIVERGED if diverged else StopReason.BUDGET
        status = recorder.finish(position, reason, request)
        if reason is not StopReason.REQUESTED:
            checkpoints.clear()
    return TrainResult(status, recorder.fingerprint, recorder)
