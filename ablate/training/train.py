"""The training loop: one page, no hooks. What happens, happens here, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import default_collate

from ablate.records.metadata import Fingerprint, RunStatus
from ablate.records.reader import Evals, Trace
from ablate.training import fingerprint as fp
from ablate.training.checkpoint_manager import Checkpoints, Saver
from ablate.training.data_loading import Augment, Feed
from ablate.training.distributed import Ranks
from ablate.training.evaluation import Evaluation, Stop, to_device
from ablate.training.grad_norms import GradNorms, Grouping, UpdateRatios, by_depth
from ablate.training.gradient_noise import GradNoise, SampleLosses
from ablate.training.lr_schedule import Schedule, looks
from ablate.training.optimizer_step import Update
from ablate.training.precision import Precision, pick_device
from ablate.training.random_streams import SampleOrder, Streams
from ablate.training.run_recorder import DIVERGED, Observer, Setting
from ablate.training.throughput import model_flops, peak_flops
from ablate.training.trace_buffer import DeviceRow
from ablate.training.validation import check_can_draw, check_can_train, check_loss
from ablate.units import parse_interval

Objective = Callable[[nn.Module, Any], tuple[torch.Tensor, int]]


@dataclass(frozen=True)
class Result:
    """What a run gives back; with a folder, the same lies on disk. trace and evals are read when they are first asked for."""

    outcome: RunStatus
    fingerprint: Fingerprint
    _observer: Observer

    @cached_property
    def trace(self) -> Trace:
        """One row per optimizer step; in the first process only, where there are several."""
        return self._observer.trace()

    @cached_property
    def evals(self) -> Evals:
        """One row per evaluation and metric."""
        return self._observer.evals()

    @property
    def throughput(self) -> dict[str, float]:
        """As in `RunStatus.throughput`."""
        return self.outcome.throughput


def train(
    model: nn.Module,
    examples: Any,
    objective: Objective,
    *,
    optimizer: torch.optim.Optimizer,
    budget: str | int = "1 epochs",
    batch_size: int = 8,
    grad_accum_steps: int = 1,
    schedule: str = "constant",
    warmup: float = 0.0,
    max_grad_norm: float | None = None,
    noise_batch_size: int | None = None,
    sample_losses: SampleLosses | None = None,
    precision: str = "auto",
    device: str = "auto",
    evaluation: Evaluation | None = None,
    collate: Callable[[list[Any]], Any] = default_collate,
    num_tokens: Callable[[Any], int] = lambda _: 0,
    augment: Augment | None = None,
    num_workers: int = 0,
    streams: Streams | None = None,
    ids: Sequence[int] | NDArray[np.int64] | None = None,
    grouping: Grouping | None = by_depth,
    update_ratio: bool = False,
    noise_scale: bool = False,
    folder: str | Path | None = None,
    checkpoints: Checkpoints | None = None,
    facts: dict[str, Any] | None = None,
    flush_every: int = 64,
    max_skipped_steps: int = 10,
    assumed_peak: float | None = None,
    stop: Stop = lambda: None,
) -> Result:
    """Train `model` and record every step.

    model: plain, or wrapped by DistributedDataParallel or `fully_shard` where several processes train together.
    examples: a map-style data set; `collate` makes a batch of a list of them. augment(example, generator) changes one as it
        is fed. num_workers: processes that make the batches; 0 makes them here. The batches are the same.
    objective(model, batch) -> (sum of the losses of the batch's items, number of items): the loop divides by the number of
        items of the whole optimizer step, so that accumulation equals the big batch.
    optimizer: its learning rates are the peak. schedule: `constant`, `linear` or `cosine`. warmup: fraction of `budget`.
    budget: optimizer steps (a bare number), or `500 steps`, `4096 samples`, `3 epochs`.
    batch_size: samples of one forward pass, over all processes. accumulate: forward passes per optimizer step.
    max_grad_norm: largest global gradient norm that is applied; None never clips. The recorded norm is the one before clipping.
    noise_batch_size: samples of each step, drawn from the `noise` stream, that update the weights: the gradient is then as noisy
        as that of a batch of so many. None takes them all. It needs sample_losses(model, batch) -> (sum of the losses of each
        sample's items [samples], number of items of each sample, on the host), with the same sum as the objective's.
    precision, device: `auto`, or as in `Precision` and `pick_device`.
    num_tokens(batch): real tokens in a batch on the host, for the trace.
    streams: seeds of order, augmentation, dropout and noise. The model's initial weights are the caller's: build it inside
        `Streams.scope("init")`.
    ids: identity of each example in a pool that other arms share; None takes the position.
    grouping: a parameter's name -> its group, for norms per group. update_ratio: record how far each step moves the weights
        (see `UpdateRatios` for its cost). noise_scale: record the norm of the first forward pass's gradient too, from which
        the gradient noise scale is estimated; needs `accumulate` >= 2.
    folder: where trace, evaluations and fingerprint are written; None keeps them in memory.
    checkpoints: when the run is saved in `folder`, and whether it goes on from there; None never saves.
    facts: further items for the fingerprint, such as hashes of the splits.
    max_skipped_steps: consecutive steps with non-finite gradients after which the outcome is `diverged`.
    assumed_peak: of the device in FLOP/s, for the model FLOPs utilisation; None looks the device up.
    stop(): polled at every step and evaluation batch; a reason saves the run and ends it as `interrupted`.

    Raises LoopError for a set-up that cannot train, before or at the first step. What `examples` or `objective` raise is
    passed on; the record is whole up to there.
    """
    streams = streams or Streams()
    place = pick_device(device)
    amp = Precision(precision, place)
    check_can_train(model, optimizer, examples, max_grad_norm=max_grad_norm, batch_size=batch_size, grad_accum_steps=grad_accum_steps,
                    schedule=schedule, noise_scale=noise_scale, checkpoints=checkpoints, folder=folder)  # fmt: skip
    if noise_batch_size is not None:
        check_can_draw(
            noise_batch_size, sample_losses, samples_per_step=batch_size * grad_accum_steps, noise_scale=noise_scale
        )
    ranks = Ranks(model)
    model = model if ranks.sharded else model.to(place)

    sizes = {"samples_per_step": batch_size * grad_accum_steps, "samples_per_epoch": len(examples)}
    total_samples = parse_interval(budget, key="budget").samples(**sizes)
    plan = Schedule(schedule, warmup, total_steps=-(-total_samples // (batch_size * grad_accum_steps)))
    norms = GradNorms(ranks.bare, grouping)
    ratios = UpdateRatios(norms) if update_ratio else None
    order = SampleOrder(streams, np.arange(len(examples)) if ids is None else np.asarray(ids, dtype=np.int64))
    feed = Feed(examples=examples, collate=collate, order=order, ranks=ranks, batch_size=batch_size,
                grad_accum_steps=grad_accum_steps, total_samples=total_samples, augment=augment, num_workers=num_workers)  # fmt: skip
    noise = GradNoise(noise_batch_size, sample_losses, streams) if noise_batch_size and sample_losses else None
    items = fp.model_items(ranks.bare) | fp.setting_items(optimizer, amp, schedule=plan, max_grad_norm=max_grad_norm,
                                                          model=ranks.bare)  # fmt: skip
    items |= noise.items(sizes["samples_per_step"]) if noise else {}
    setup = {
        "budget": f"{total_samples} samples", "batch_size": batch_size, "grad_accum_steps": grad_accum_steps,
        "streams": asdict(streams), "examples": fp.ids_hash(order.ids), "groups": norms.groups,
        "update_ratio": update_ratio, "noise_scale": noise_scale, "facts": facts or {},
        **{name: item for name, item in items.items() if name != "environment"},
    }  # fmt: skip
    saver = Saver(checkpoints, folder, setup, ranks=ranks, optimizer=optimizer, scaler=amp.scaler, sizes=sizes)
    at, resumed = saver.position, saver.observer_state
    update = Update(optimizer, amp, plan, applied_steps=resumed["applied_steps"] if resumed else 0)
    observer = Observer(
        Setting(
            folder=Path(folder) if folder else None, total_steps=plan.total_steps, samples_per_epoch=len(examples),
            looks=() if evaluation is None else looks(
                every=parse_interval(evaluation.every, key="every"), spacing=evaluation.spacing,
                count=evaluation.num_evaluations, total_samples=total_samples, **sizes),
            flush_every=flush_every, norms=norms,
            rate=lambda step: update.peaks[0] * plan.step_factor(step), rate_set=lambda: optimizer.param_groups[0]["lr"],
            flops_per_token=model_flops(ranks.bare), assumed_peak=assumed_peak or peak_flops(place, amp.name),
        ),
        ranks, amp, evaluation, collate, items | (facts or {}), resumed,
    )  # fmt: skip
    saver.load()
    observer.replay_order(order.ids_before(at.samples), at)
    stop = _sticky(stop)
    none = torch.zeros((), device=place)

    with observer.recording(at), amp.matrix_products():
        optimizer.zero_grad(set_to_none=True)
        observer.look_if_due(at, stop)
        reason = ranks.agree(stop())
        steps = feed.steps(at.samples)
        model.train()
        clock = time.perf_counter()

        while at.step < plan.total_steps and reason is None:
            # ---- a single training step -----------------------------------------------------------------------
            given = next(steps)
            loss_sum, micro_norm = none, none
            micro_samples = num_items = num_used = num_step_tokens = divisor = 0
            kept = noise.drawn(at.step, len(given.ids)).tolist() if noise else []
            for micro, (batch, counts) in enumerate(given.batches):
                num_step_tokens += num_tokens(batch) * counts
                with (
                    streams.scope("dropout", at.step, micro, *ranks.key, device=place),
                    ranks.accumulating(last=micro == given.num_micro - 1),
                ):
                    with amp.autocast():
                        if noise is None:
                            loss, items_here = used, used_here = objective(model, to_device(batch, place))
                        else:
                            kept_here, _ = ranks.share(kept[micro * batch_size : (micro + 1) * batch_size])
                            loss, items_here, used, used_here = noise(model, to_device(batch, place), kept_here)
                    if at.step == 0:
                        check_loss(loss, items_here)
                    # The guess is exact unless passes hold unequal numbers of items; DDP and FSDP average over processes.
                    divisor = divisor or (items_here * given.num_micro if ranks.size == 1 else len(given.ids))
                    if noise and micro == 0:
                        divisor = max(1, divisor * sum(kept) // len(kept))
                    loss, used = (loss, used) if counts else (loss * 0, used * 0)
                    amp.backward(used / (divisor / ranks.size))
                loss_sum, num_items = loss_sum + loss.detach(), num_items + items_here * counts
                num_used += used_here * counts
                if noise_scale and micro == 0 and given.num_micro > 1:
                    micro_norm = norms.measure_each()[0] * (divisor / items_here) / amp.scale()
                    micro_samples = min(batch_size, len(given.ids))

            num_items, num_used, num_step_tokens = ranks.add_counts(num_items, num_used, num_step_tokens)
            amp.unscale(optimizer)
            if num_used != divisor:
                norms.scale(divisor / num_used)
            grad_norm, each_norm = norms.measure_each()
            clip_coefficient = norms.clip(grad_norm, max_grad_norm)
            loss_scale = amp.scale()
            if ratios:
                ratios.before()
            applied = update(grad_norm)
            optimizer.zero_grad(set_to_none=True)
            at.step, at.samples, at.tokens = at.step + 1, at.samples + len(given.ids), at.tokens + num_step_tokens
            # ---- end of the step ------------------------------------------------------------------------------

            now = time.perf_counter()
            row = DeviceRow(
                loss=ranks.add(loss_sum) / num_items, grad_norm=grad_norm, clip_coefficient=clip_coefficient,
                applied=applied, loss_scale=loss_scale, micro_grad_norm=micro_norm,
                each_norm=each_norm, update_ratios=ratios.after() if ratios else each_norm[:0],
            )  # fmt: skip
            observer.row(at, now - clock, micro_samples, row, given.ids, known=update.waits and not bool(applied))
            observer.look_if_due(at, stop)
            reason = ranks.agree(stop()) or (DIVERGED if observer.skipped >= max_skipped_steps else None)
            if reason != DIVERGED:
                if reason or saver.is_due(at, final=at.step == plan.total_steps):
                    saver.save(at, observer.state())
                saver.lend_if_due(at, observer.state)
            clock = time.perf_counter()

        update.restore_peaks()
        outcome = observer.finish(at, reason)
        if outcome.status != "interrupted":
            saver.clear()
    return Result(outcome, observer.fingerprint, observer)


def _sticky(stop: Stop) -> Stop:
    """The first reason that `stop` gives stays its reason: the loop hears what a look has heard."""
    reasons: list[str] = []

    def asked() -> str | None:
        if not reasons and (reason := stop()) is not None:
            reasons.append(reason)
        return reasons[0] if reasons else None

    return asked
