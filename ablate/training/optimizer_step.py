"""The optimizer's step: at the rate of the schedule, and not at all where a gradient is not finite."""

from __future__ import annotations

import torch

from ablate.training.lr_schedule import Schedule
from ablate.training.precision import Precision


class Update:
    """Applies the gradients. One inf in one gradient would make every weight nan through the clip coefficient, and AdamW's
    moments for good; and a step that is not applied must not advance the schedule.

    optimizer: its learning rates are the peak. applied_steps: by an earlier session of the run.
    waits: whether the host learns in each step if it was applied. On a CPU that costs nothing. On a GPU it would make the host
        wait for the device, so a fused optimizer decides there: its kernel skips where told to, and the rate is looked up on
        the device by the number of steps applied so far. None chooses by the device and the optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        schedule: Schedule,
        *,
        applied_steps: int = 0,
        waits: bool | None = None,
    ) -> None:
        self.optimizer, self.precision, self.schedule = optimizer, precision, schedule
        self._given = [group["lr"] for group in optimizer.param_groups]
        self.peaks = [float(rate) for rate in self._given]
        fused = all(group.get("fused") for group in optimizer.param_groups)
        self.waits = not (precision.device.type == "cuda" and fused) if waits is None else waits
        self._applied_steps = applied_steps
        if not self.waits:
            device = precision.device
            factors = [schedule.step_factor(step) for step in range(1, schedule.total_steps + 2)]
            self._factors = torch.tensor(factors, device=device, dtype=torch.float32)
            self._place = torch.tensor([applied_steps], device=device)

    def __call__(self, grad_norm: torch.Tensor) -> torch.Tensor:
        """Step. grad_norm: of the unscaled gradients, []. Returns whether it was applied, bool [] on its device."""
        applied = torch.isfinite(grad_norm)
        if self.waits:
            self._step_if(bool(applied))
        else:
            self._step_on_device(applied)
        if self.precision.scaler:
            self.precision.scaler.update()
        return applied

    def restore_peaks(self) -> None:
        """The caller's optimizer as it came."""
        for group, given in zip(self.optimizer.param_groups, self._given, strict=True):
            group["lr"] = given

    def _step_if(self, applied: bool) -> None:
        factor = self.schedule.step_factor(self._applied_steps + 1)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self._applied_steps += applied
        if self.precision.scaler:
            self.precision.scaler.step(self.optimizer)  # skips by itself, and has seen the same infinity
        elif applied:
            self.optimizer.step()

    def _step_on_device(self, applied: torch.Tensor) -> None:
        factor = self._factors.index_select(0, self._place)[0]
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self._place += applied
        if self.precision.scaler:
            self.precision.scaler.step(self.optimizer)
        else:
            self.optimizer.found_inf = (~applied).float()  # type: ignore[attr-defined]
            self.optimizer.step()
            del self.optimizer.found_inf  # type: ignore[attr-defined]
