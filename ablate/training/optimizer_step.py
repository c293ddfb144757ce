"""The learning rate of every optimizer step, by the number of steps that were applied before it."""

from __future__ import annotations

import torch

from ablate.training.lr_schedule import LRSchedule


def skips_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Return whether the optimizer's kernel decides on the device if a step is applied.

    The fused optimizers of torch on a GPU do, so that the host need not wait for the gradient norm. On a CPU reading it costs
    nothing. A fused optimizer from elsewhere may ignore the decision and apply a gradient of nan. SGD with dampening takes its
    first gradient undamped, and which one is the first is known on the host only.
    """
    step = type(optimizer).step
    return (
        device.type == "cuda"
        and step.__module__.startswith("torch.optim.")
        and getattr(optimizer, "_step_supports_amp_scaling", False)
        and all(group.get("fused") and not group.get("dampening") for group in optimizer.param_groups)
    )


def start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Fill with zeros the momentum that fused SGD would make in its first step.

    Its kernel leaves that memory as it found it where the first step is skipped, and takes it for momentum in the second.
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if optimizer.state[p].get("momentum_buffer") is None:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)


class LearningRate:
    """Sets the learning rates of an optimizer's parameter groups: their peaks times the factor of the schedule.

    A skipped step does not advance the schedule: one non-finite gradient must not cost a step at the highest rate.

    optimizer: its learning rates are the peaks.
    applied_steps: number of steps that an earlier session of the run applied.
    on_device: count the applied steps and look up the rate on the device, without waiting for it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: LRSchedule,
        total_steps: int,
        *,
        device: torch.device,
        applied_steps: int = 0,
        on_device: bool = False,
    ) -> None:
        self.optimizer, self.schedule, self.total_steps, self.on_device = optimizer, schedule, total_steps, on_device
        self._original = [group["lr"] for group in optimizer.param_groups]
        self.peaks = [float(rate) for rate in self._original]
        self._applied_steps = applied_steps
        if on_device:
            factors = [schedule.step_factor(step, total_steps) for step in range(1, total_steps + 2)]
            self._factors = torch.tensor(factors, device=device, dtype=torch.float32)
            self._index = torch.tensor([applied_steps], device=device)

    def set(self) -> None:
        """Set the rates of the next step."""
        factor = (
            self._factors.index_select(0, self._index)[0]
            if self.on_device
            else self.schedule.step_factor(self._applied_steps + 1, self.total_steps)
        )
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def advance(self, applied: torch.Tensor | bool) -> None:
        """Count a step. applied: whether it was applied, bool [] on the device if `on_device`."""
        if self.on_device:
            self._index += applied
        else:
            self._applied_steps += bool(applied)

    def at(self, step: int) -> float:
        """Scheduled rate of the first group at the step-th applied step, counted from 1."""
        return self.peaks[0] * self.schedule.step_factor(step, self.total_steps)

    def current(self) -> float | torch.Tensor:
        """Rate that the first group of the optimizer has now."""
        rate = self.optimizer.param_groups[0]["lr"]
        return rate.detach().clone() if isinstance(rate, torch.Tensor) else rate

    def restore(self) -> None:
        """Give the optimizer the rates that it came with."""
        for group, rate in zip(self.optimizer.param_groups, self._original, strict=True):
            group["lr"] = rate
