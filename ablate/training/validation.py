"""Set-ups that cannot take a step, refused before or at the first one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ablate.errors import LoopError, nearest
from ablate.training.checkpoint_manager import Checkpoints
from ablate.training.distributed import is_sharded
from ablate.training.lr_schedule import SHAPES


def check_can_train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Any,
    *,
    max_grad_norm: float | None,
    batch_size: int,
    grad_accum_steps: int,
    schedule: str,
    noise_scale: bool,
    checkpoints: Checkpoints | None,
    folder: object,
) -> None:
    """Raise LoopError for a set-up in which no step could mean anything."""
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
    if len(examples) == 0:
        raise LoopError("there is no training example", "check how the training set is made")
    for name, value in (("batch_size", batch_size), ("grad_accum_steps", grad_accum_steps)):
        if value < 1:
            raise LoopError(f"{name}={value} is below 1", f"{name}=1")
    if max_grad_norm is not None and not max_grad_norm > 0:
        raise LoopError(f"max_grad_norm={max_grad_norm} would apply no gradient", "max_grad_norm=None never clips")
    if schedule not in SHAPES:
        raise LoopError(f"schedule={schedule!r}: {nearest(schedule, SHAPES)}", "schedule='constant'")
    if noise_scale and (grad_accum_steps < 2 or isinstance(model, DistributedDataParallel) or is_sharded(model)):
        raise LoopError(
            f"noise_scale=True compares the gradient of one forward pass with that of the whole step, and with "
            f"accumulate={grad_accum_steps} in {'several processes' if grad_accum_steps > 1 else 'one pass'} there is nothing to compare",
            f"batch_size={max(1, batch_size // 2)}, accumulate=2 is the same step in two passes; one process",
        )
    if checkpoints is not None and folder is None:
        raise LoopError("checkpoints need a place to lie in, and folder=None", "folder='runs/mine'")
    if checkpoints is not None and checkpoints.keep < 1:
        raise LoopError(f"keep={checkpoints.keep} would keep no checkpoint", "keep=1, or checkpoints=None")


def check_can_draw(
    of: int, sample_losses: Callable[..., object] | None, *, samples_per_step: int, noise_scale: bool
) -> None:
    """Raise LoopError where the gradient cannot be made as noisy as that of `of` samples."""
    if not 1 <= of < samples_per_step:
        raise LoopError(
            f"noise_batch_size={of}: a step has {samples_per_step} samples, and its gradient can be made as noisy as that of 1 to "
            f"{samples_per_step - 1} of them, not of {of}",
            f"noise_batch_size={max(1, samples_per_step // 2)}, or noise_batch_size=None",
        )
    if sample_losses is None:
        raise LoopError(
            f"noise_batch_size={of} needs the loss of each sample by itself, and the objective gives one sum",
            "sample_losses=..., an argument of train and of Task: (model, batch) -> (loss of each sample [samples], number "
            "of items of each sample)",
        )
    if noise_scale:
        raise LoopError(
            f"noise_batch_size={of} and noise_scale=True: the first forward pass of a step may hold none of the samples that are "
            "drawn, and then its gradient has no norm to compare",
            "noise_scale=False, or noise_batch_size=None",
        )


def check_loss(loss: torch.Tensor, num_items: int) -> None:
    """Raise LoopError when the objective did not give (sum of losses, number of items)."""
    if loss.dim() != 0:
        raise LoopError(
            f"the objective gave a loss of shape {tuple(loss.shape)}, expected the sum over the batch's items, shape ()",
            "return loss.sum(), loss.numel()",
        )
    if not loss.requires_grad:
        raise LoopError(
            "the objective gave a loss that no gradient can flow through", "remove detach() or no_grad() from it"
        )
    if not bool(torch.isfinite(loss.detach())):
        raise LoopError(
            f"the first loss is {float(loss.detach())}, before a single update: the data, the model or the objective "
            "gives numbers that are not finite",
            "look at the first batch and at the initial weights; in fp16, try precision='bf16' or 'fp32'",
        )
    if num_items < 1:
        raise LoopError(f"the objective counted {num_items} items in the batch", "return loss.sum(), loss.numel()")
