"""Checks of a set-up before and at the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ablate.errors import LoopError, nearest
from ablate.training.checkpoint import Checkpoints
from ablate.training.distributed import is_sharded
from ablate.training.lr_schedule import DECAYING, SHAPES, LRSchedule
from ablate.training.run_recorder import Recording


def check_can_train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Any,
    *,
    batch_size: int,
    grad_accum_steps: int,
    lr_schedule: LRSchedule,
    max_grad_norm: float | None,
    recording: Recording,
    checkpoint: Checkpoints | None,
    run_dir: object,
) -> None:
    """Raise LoopError for a set-up with which no step can be taken or recorded."""
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not trainable:
        raise LoopError(
            f"no parameter of {type(model).__name__} requires a gradient", "unfreeze some: p.requires_grad_(True)"
        )
    if not trainable & owned:
        raise LoopError(
            f"the optimizer owns none of the {len(trainable)} trainable parameters of {type(model).__name__}",
            "build the optimizer from this model's parameters",
        )
    if len(dataset) == 0:
        raise LoopError(
            "expected at least one training example, got an empty dataset", "check how the training set is made"
        )
    for name, value in (("batch_size", batch_size), ("grad_accum_steps", grad_accum_steps)):
        if value < 1:
            raise LoopError(f"expected {name} of at least 1, got {name}={value}", f"{name}=1")
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise LoopError(f"max_grad_norm={max_grad_norm} would apply no gradient", "max_grad_norm=None never clips")
    if lr_schedule.shape not in SHAPES:
        raise LoopError(
            f"lr_schedule={lr_schedule.shape!r}: {nearest(lr_schedule.shape, SHAPES)}", "lr_schedule='constant'"
        )
    if lr_schedule.min_lr_ratio and lr_schedule.shape not in DECAYING:
        raise LoopError(
            f"expected min_lr_ratio=0 with the schedule {lr_schedule.shape!r}, got {lr_schedule.min_lr_ratio:g}: only "
            f"{' and '.join(DECAYING)} decay to it",
            "min_lr_ratio=0",
        )
    if not 0 <= lr_schedule.min_lr_ratio <= 1:
        raise LoopError(f"expected min_lr_ratio from 0 to 1, got {lr_schedule.min_lr_ratio:g}", "min_lr_ratio=0")
    if recording.noise_scale and (
        grad_accum_steps < 2 or isinstance(model, DistributedDataParallel) or is_sharded(model)
    ):
        where = "several processes" if grad_accum_steps > 1 else "one pass"
        raise LoopError(
            f"noise_scale=True compares the gradient of one forward pass with that of the whole step, and with "
            f"grad_accum_steps={grad_accum_steps} in {where} there is nothing to compare",
            f"batch_size={max(1, batch_size // 2)}, grad_accum_steps=2 is the same step in two passes; one process",
        )
    if checkpoint is not None and run_dir is None:
        raise LoopError("checkpoints need a directory, and run_dir=None", "run_dir='runs/mine'")
    if checkpoint is not None and checkpoint.keep < 1:
        raise LoopError(f"keep={checkpoint.keep} would leave no checkpoint", "keep=1, or checkpoint=None")


def check_loss(loss: torch.Tensor, num_items: int, expected_items: int | None) -> None:
    """Raise LoopError where the loss function did not return (sum of losses, number of items).

    expected_items: as `Loader.count_items` counts them; None without it.
    """
    if loss.dim() != 0:
        raise LoopError(
            f"the loss function returned a loss of shape {tuple(loss.shape)}, expected a sum over the batch's items, shape ()",
            "return loss.sum(), loss.numel()",
        )
    if not loss.requires_grad:
        raise LoopError(
            "the loss function returned a loss that no gradient can flow through",
            "remove detach() or no_grad() from it",
        )
    if not bool(torch.isfinite(loss.detach())):
        raise LoopError(
            f"the first loss is {float(loss.detach())}, before a single update: the data, the model or the loss function "
            "gives numbers that are not finite",
            "check the first batch and the initial weights; in fp16, try precision='bf16' or 'fp32'",
        )
    if expected_items is not None and expected_items != num_items:
        raise LoopError(
            f"the loss function counted {num_items} items in the first batch, and Loader.count_items counts {expected_items}",
            "count the same items in both, or Loader(count_items=None)",
        )


def check_num_items(num_items: int) -> int:
    """Return the number of items of a step. Raises LoopError where there are none to divide the loss by."""
    if num_items < 1:
        raise LoopError(f"the loss function counted {num_items} items in the batch", "return loss.sum(), loss.numel()")
    return num_items
