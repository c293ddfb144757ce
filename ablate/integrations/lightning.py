"""Lightning's Trainer: a row for every optimizer step, with the norms before clipping, and its validations."""

# ruff: noqa: ARG002 - Lightning hands every event all it has.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import torch

from ablate.errors import LoopError
from ablate.integrations._common import Step, TrainerTrace
from ablate.training.evaluation import MetricSum
from ablate.training.grad_norms import Grouping, by_layer

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.model_helpers import is_overridden
except ImportError as missing:
    raise LoopError(
        f"ablate.integrations.lightning needs the package lightning: {missing}", "pip install lightning"
    ) from missing

_PREFIXES = ("val_", "val/")
_NAMES = {"16": "fp16", "bf16": "bf16"}


class TraceCallback(TrainerTrace, Callback):
    """One run of a LightningModule with automatic optimization.

        Trainer(callbacks=[TraceCallback("runs/mine/baseline/seed=0")]).fit(module, train_loader, val_loader)

    run_dir, arm, seed, grad_norm_groups, facts: as in `Recorder`.
    config: None takes the hyperparameters that the module and the data
        module saved, and the Trainer's settings that change a step.
    metrics: {name given to `self.log`: name in the record}; None takes `val_loss` and `val/loss` as `loss`, and so on.
    num_samples(batch): None takes the length of the first tensor.

    The norms are measured in `on_before_optimizer_step`: after the gradients are unscaled, before they are clipped. A full
    sanity check (`num_sanity_val_steps=-1`) is the evaluation before training. Lightning reports only the means of a
    validation: `sum` is mean * count, `sum_squares` is nan. Raises LoopError for manual optimization, whose clipping is hidden,
    for a fused optimizer under fp16, which unscales inside itself, and for a run that goes on from a checkpoint.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        config: Mapping[str, Any] | None = None,
        arm: str | None = None,
        seed: int | None = None,
        grad_norm_groups: Grouping | None = by_layer,
        facts: Mapping[str, Any] | None = None,
        metrics: Mapping[str, str] | None = None,
        num_samples: Callable[[Any], int] | None = None,
    ) -> None:
        super().__init__(run_dir, config, arm, seed, grad_norm_groups, facts, num_samples)
        self.metrics, self._num_evaluated = metrics, 0

    # ---- from beginning to end ---------------------------------------------------------------------------------

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first moment at which the model is where it will be trained."""
        self._begin(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, where there is no sanity check."""
        self._begin(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finished."""
        self._close(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Failed, or interrupted."""
        self._close(exception)

    def _begin(self, trainer: Trainer, module: LightningModule) -> None:
        if self._run is not None:
            return
        if trainer.global_step:
            raise LoopError(
                f"the Trainer goes on at step {trainer.global_step}, and a trace begins at step 1",
                "trainer.fit(...) without ckpt_path",
            )
        if not module.automatic_optimization:
            raise LoopError(
                f"{type(module).__name__} optimizes manually: its gradients are clipped before any event tells of them",
                "with Recorder(run_dir, module) as recorder: ..., and recorder.log_step(loss, samples=...) before clipping",
            )
        name = _NAMES.get(str(trainer.precision).partition("-")[0], "fp32")
        (optimizer,) = trainer.optimizers
        model = trainer.strategy.model
        assert model is not None
        self._open(
            model, module, optimizer, precision=name, max_grad_norm=_max_grad_norm(trainer, module),
            dataset=getattr(trainer.train_dataloader, "dataset", None), settings=_settings(trainer, module),
        )  # fmt: skip

    # ---- in every step -----------------------------------------------------------------------------------------

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure; the loss is known later."""
        if self._run is None or all(p.grad is None for p in pl_module.parameters()):
            return  # `training_step` returned None: nothing to apply
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise LoopError(
                f"{type(optimizer).__name__} unscales the gradients inside its own step: the norms would be wrong",
                f"{type(optimizer).__name__}(..., fused=False), or precision='bf16-mixed'",
            )
        max_grad_norm = _max_grad_norm(trainer, pl_module)
        gradient = self._run.measure(max_grad_norm, clips_itself=True)
        if max_grad_norm is None and _clips_otherwise(trainer, pl_module):
            gradient = replace(gradient, clip_coefficient=torch.full_like(gradient.norm, nan))
        if scaler is not None:
            self._step.loss_scale = scaler.scale(torch.ones_like(gradient.norm))
        self._step.gradient, self._step.learning_rate = gradient, optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """`outputs["loss"]` is divided already, so that the forward passes of a step add up to the step's loss."""
        if self._run is None:
            return
        step = self._step
        step.samples += self.num_samples(batch)
        step.loss = step.loss + outputs["loss"].detach() if outputs else step.loss
        if step.gradient is None:
            return
        self._step = Step()
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._run.log_step(
            step.loss,
            samples=step.samples,
            learning_rate=step.learning_rate,
            loss_scale=step.loss_scale,
            applied=None if scaled else True,  # without a scaler Lightning applies whatever there is
            gradient=step.gradient,
        )

    # ---- validations -------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new count."""
        self._num_evaluated = 0

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any,
                                batch_idx: int, dataloader_idx: int = 0) -> None:  # fmt: skip
        """Count the evaluated examples: limits and samplers change their number."""
        self._num_evaluated += self.num_samples(batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record one evaluation; a sanity check counts if it covered everything."""
        if self._run is None or (trainer.sanity_checking and trainer.num_sanity_val_steps != inf):
            return
        (count,) = self._run.ranks.sum_counts(self._num_evaluated)
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._run.log_eval(
            {
                self._name(name): MetricSum(value * count, nan, count)
                for name, value in logged.items()
                if self._name(name)
            }
        )

    def _name(self, logged: str) -> str:
        """Of a metric in the record; empty for one that is none of the validation's."""
        if self.metrics is not None:
            return self.metrics.get(logged, "")
        return next((logged.removeprefix(start) for start in _PREFIXES if logged.startswith(start)), "")


def _max_grad_norm(trainer: Trainer, module: LightningModule) -> float | None:
    """Largest global norm, where that is how Lightning clips."""
    by_norm = str(trainer.gradient_clip_algorithm or "norm") in ("norm", "GradClipAlgorithmType.NORM")
    own = is_overridden("configure_gradient_clipping", module)
    return float(trainer.gradient_clip_val) if trainer.gradient_clip_val and by_norm and not own else None


def _clips_otherwise(trainer: Trainer, module: LightningModule) -> bool:
    """By value, or in the module's own way: there is no one factor."""
    return bool(trainer.gradient_clip_val) or is_overridden("configure_gradient_clipping", module)


def _settings(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    names = ("precision", "max_epochs", "max_steps", "accumulate_grad_batches", "gradient_clip_val")
    data = getattr(trainer, "datamodule", None)
    return {
        "trainer": {name: getattr(trainer, name) for name in names}
        | {"gradient_clip_algorithm": str(trainer.gradient_clip_algorithm or "norm")},
        "model": dict(module.hparams) | {"class": type(module).__name__},
        "data": dict(data.hparams) if data is not None else {},
    }
