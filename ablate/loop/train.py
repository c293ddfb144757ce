"""The training loop: one page, no hooks. What happens, happens here, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import default_collate

from ablate.interval import parse_interval
from ablate.loop import fingerprint as fp
from ablate.loop.checks import check_can_train, check_loss
from ablate.loop.evaluate import Evaluation, to_device
from ablate.loop.grad_norm import GradNorms, Grouping, by_depth
from ablate.loop.observer import Observer
from ablate.loop.precision import Precision, pick_device
from ablate.loop.schedule import looks, step_factor
from ablate.loop.streams import SampleOrder, Streams
from ablate.record.reader import Evals, Trace
from ablate.record.values import Fingerprint, Outcome

Objective = Callable[[nn.Module, Any], tuple[torch.Tensor, int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a run gives back; with a folder, the same lies on disk."""

    outcome: Outcome
    trace: Trace
    evals: Evals
    fingerprint: Fingerprint


def train(
    model: nn.Module,
    examples: Any,
    objective: Objective,
    *,
    optimizer: torch.optim.Optimizer,
    budget: str | int = "1 epochs",
    batch_size: int = 8,
    accumulate: int = 1,
    schedule: str = "constant",
    warmup: float = 0.0,
    clip_norm: float | None = None,
    precision: str = "auto",
    device: str = "auto",
    evaluation: Evaluation | None = None,
    collate: Callable[[list[Any]], Any] = default_collate,
    num_tokens: Callable[[Any], int] = lambda _: 0,
    streams: Streams | None = None,
    ids: Sequence[int] | NDArray[np.int64] | None = None,
    grouping: Grouping | None = by_depth,
    folder: str | Path | None = None,
    facts: dict[str, Any] | None = None,
    flush_every: int = 32,
    max_skipped: int = 10,
    stop: Callable[[], str | None] = lambda: None,
) -> Result:
    """Train `model` and record every step.

    examples: a map-style data set; `collate` makes a batch of a list of them.
    objective(model, batch) -> (sum of the losses of the batch's items, number of items): the loop divides by the number of
        items of the whole optimizer step, so that accumulation equals the big batch.
    optimizer: its learning rates are the peak. schedule: `constant`, `linear` or `cosine`. warmup: fraction of `budget`.
    budget: optimizer steps (a bare number), or `500 steps`, `4096 samples`, `3 epochs`.
    clip_norm: largest global gradient norm that is applied; None never clips. The recorded norm is the one before clipping.
    precision, device: `auto`, or as in `Precision` and `pick_device`.
    num_tokens(batch): real tokens in a batch on the host, for the trace.
    streams: seeds of order and dropout. The model's initial weights are the caller's: build it inside `Streams.scope("init")`.
    ids: identity of each example in a pool that other arms share; None takes the position.
    folder: where trace, evaluations and fingerprint are written; None keeps them in memory.
    facts: further items for the fingerprint, such as hashes of the splits.
    max_skipped: consecutive steps with non-finite gradients after which the outcome is `diverged`.
    stop(): polled at every step and look; a reason ends the run as `interrupted`.

    Raises LoopError, before the first step, for a set-up that cannot train.
    """
    streams = streams or Streams()
    place = pick_device(device)
    amp = Precision(precision, place)
    check_can_train(model, optimizer, examples, clip_norm, batch_size, accumulate)
    model.to(place)

    samples_per_step = batch_size * accumulate
    budget_samples = parse_interval(budget, key="budget").samples(
        samples_per_step=samples_per_step, samples_per_epoch=len(examples)
    )
    total_steps = -(-budget_samples // samples_per_step)
    peak_rates = [group["lr"] for group in optimizer.param_groups]
    norms = GradNorms(model, grouping)
    order = SampleOrder(streams, np.arange(len(examples)) if ids is None else np.asarray(ids, dtype=np.int64))
    due = [] if evaluation is None else looks(
        every=parse_interval(evaluation.every, key="every"), spacing=evaluation.spacing, count=evaluation.num_looks,
        total_samples=budget_samples, samples_per_step=samples_per_step, samples_per_epoch=len(examples),
    )  # fmt: skip
    items = fp.model_items(model) | fp.setting_items(optimizer, amp, shape=schedule, warmup=warmup, clip_norm=clip_norm)
    observer = Observer(
        model, amp, evaluation, collate, norms.groups, items | (facts or {}), Path(folder) if folder else None,
        total_steps=total_steps, samples_per_epoch=len(examples), flush_every=flush_every,
    )  # fmt: skip

    step = samples = tokens = applied_steps = 0
    reason = stop()
    observer.look(step, samples, tokens)
    model.train()
    clock = time.perf_counter()

    while step < total_steps and reason is None:
        # ---- a single training step ---------------------------------------------------------------------------
        positions = order.take(samples, min(samples_per_step, budget_samples - samples))
        micro_batches = [positions[k : k + batch_size] for k in range(0, len(positions), batch_size)]
        loss_sum, num_items, divisor = torch.zeros((), device=place), 0, 0
        for micro, chosen in enumerate(micro_batches):
            batch = collate([examples[k] for k in chosen])
            tokens += num_tokens(batch)
            with streams.scope("dropout", step, micro, device=place):
                with amp.autocast():
                    micro_loss, micro_items = objective(model, to_device(batch, place))
                if step == 0:
                    check_loss(micro_loss, micro_items)
                divisor = divisor or micro_items * len(micro_batches)
                amp.backward(micro_loss / divisor)
            loss_sum, num_items = loss_sum + micro_loss.detach(), num_items + micro_items

        amp.unscale(optimizer)
        if num_items != divisor:  # micro-batches of unequal size: divide by what the step really held
            norms.scale(divisor / num_items)
        grad_norm, group_norms = norms.measure()
        clip_coefficient = norms.clip(grad_norm, clip_norm)

        factor = step_factor(min(applied_steps + 1, total_steps), total_steps, shape=schedule, warmup=warmup)
        for group, peak in zip(optimizer.param_groups, peak_rates, strict=True):
            group["lr"] = peak * factor
        loss_scale = amp.scale
        applied = amp.step(optimizer, grad_norm)
        known_applied = (place.type == "cuda" and amp.scaler is None) or bool(applied)
        if not known_applied:
            observer.name_culprit(norms.first_non_finite())
        applied_steps += known_applied
        optimizer.zero_grad(set_to_none=True)
        step, samples = step + 1, samples + len(positions)
        # ---- end of the step ----------------------------------------------------------------------------------

        now = time.perf_counter()
        observer.row(
            {
                "step": step, "epoch": samples / len(examples), "samples": samples, "tokens": tokens,
                "learning_rate": peak_rates[0] * factor, "loss_scale": loss_scale, "step_seconds": now - clock,
            },
            (loss_sum / num_items, grad_norm, clip_coefficient, applied), group_norms, order.ids[positions],
        )  # fmt: skip
        while due and samples >= due[0]:
            due.pop(0)
            if not (due and samples >= due[0]):
                observer.look(step, samples, tokens)
        reason = stop() or ("non-finite gradients" if observer.skipped >= max_skipped else None)
        clock = time.perf_counter()

    for group, peak in zip(optimizer.param_groups, peak_rates, strict=True):
        group["lr"] = peak
    outcome = observer.finish(step, samples, tokens, reason)
    return Result(outcome=outcome, trace=observer.trace(), evals=observer.evals(), fingerprint=observer.fingerprint)
