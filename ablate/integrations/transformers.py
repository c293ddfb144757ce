"""Hugging Face's Trainer: a row for every optimizer step, with the norms before clipping, and its evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from math import nan
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from ablate.errors import LoopError
from ablate.importers.hyperparameters import BOOKKEEPING
from ablate.integrations._common import Step, TrainerTrace, length_of
from ablate.integrations.recorder import Gradient
from ablate.training.evaluation import MetricSum
from ablate.training.grad_norms import Grouping, by_layer

_NO_SETTING = (*BOOKKEEPING, "logging_", "log_", "do_")
"""Prefixes of the arguments that are not settings of the run."""

_TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "jit_compilation_time")


class TraceCallback(TrainerTrace, TrainerCallback):
    """Attaches itself: one line between making the Trainer and training, for one run.

        trainer = Trainer(model=model, args=args, train_dataset=train, eval_dataset=held_out)
        TraceCallback(trainer, "runs/mine/baseline/seed=0")
        trainer.train()

    run_dir, arm, seed, grad_norm_groups, facts: as in `Recorder`.
    config: None takes the Trainer's arguments and the model's config.
    num_samples(batch): None takes the length of the first tensor.

    Clipping comes before every event, so the norms are measured where Accelerate has unscaled the gradients and not yet
    clipped them: while `train` runs, the Trainer's `training_step` and its accelerator's `unscale_gradients` are wrapped, and
    afterwards they are as before. Of an evaluation the Trainer tells means only: `sum` is mean * count, `sum_squares` is nan.
    `train` raises LoopError where the gradients cannot be seen unclipped (DeepSpeed), and where it resumes from a checkpoint.
    """

    def __init__(
        self,
        trainer: Trainer,
        run_dir: str | Path,
        *,
        config: Mapping[str, Any] | None = None,
        arm: str | None = None,
        seed: int | None = None,
        grad_norm_groups: Grouping | None = by_layer,
        facts: Mapping[str, Any] | None = None,
        num_samples: Callable[[Any], int] | None = None,
    ) -> None:
        super().__init__(run_dir, config, arm, seed, grad_norm_groups, facts, num_samples)
        self.trainer: Any = trainer
        self._tokens = 0
        self._whole, self._inside = ExitStack(), ExitStack()
        # The Trainer has no event for a failure, and a record that does not say how its run ended is half a record.
        self._whole.enter_context(wrapped(trainer, "train", self._train))

    # ---- around the whole of training --------------------------------------------------------------------------

    def _train(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One run: a second `train` does not replace its record."""
        if self not in self.trainer.callback_handler.callbacks:
            self.trainer.add_callback(self)
        try:
            output = original(*args, **kwargs)
        except BaseException as error:
            self._close(error)
            raise
        finally:
            self._whole.close()
            self.trainer.remove_callback(self)
        self._close(None)
        return output

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **__: Any) -> None:
        """The model is on its device, wrapped, and has not moved: the record begins."""
        if state.global_step:
            raise LoopError(
                f"the Trainer goes on at step {state.global_step}, and a trace begins at step 1",
                "trainer.train() without resume_from_checkpoint",
            )
        self._close(LoopError("the Trainer began again"))  # auto_find_batch_size, after it ran out of memory
        trainer = self.trainer
        precision = "fp16" if args.fp16 else "bf16" if args.bf16 else "fp32"
        optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        self._open(
            trainer.model_wrapped, trainer.model, optimizer, precision=precision, max_grad_norm=args.max_grad_norm or None,
            dataset=trainer.train_dataset, settings=_settings(trainer, state.train_batch_size),
        )  # fmt: skip
        self._tokens = 0
        self._inside.enter_context(wrapped(trainer, "training_step", self._training_step))
        self._inside.enter_context(wrapped(trainer.accelerator, "unscale_gradients", self._unscale_gradients))

    def _close(self, error: BaseException | None) -> None:
        """Restore the Trainer's methods, and end the record."""
        self._inside.close()
        super()._close(error)

    # ---- in every step -----------------------------------------------------------------------------------------

    def _training_step(
        self, original: Callable[..., torch.Tensor], model: Any, inputs: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """What it returns is divided already, so that the forward passes of a step add up to the step's loss."""
        step = self._step
        step.samples += self.num_samples(inputs)
        loss = original(model, inputs, *args, **kwargs)
        step.loss = step.loss + loss.detach()
        return loss

    def _unscale_gradients(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Accelerate unscales once per step, right before it clips."""
        original(*args, **kwargs)
        if self.trainer.accelerator.sync_gradients and self._step.gradient is None:
            self._step.gradient = self._measure()

    def _measure(self) -> Gradient:
        assert self._run is not None
        return self._run.measure(self.trainer.args.max_grad_norm or None, clips_itself=True)

    def on_pre_optimizer_step(self, args: TrainingArguments, state: TrainerState, *_: Any, **kwargs: Any) -> None:
        """The step's row: its loss is known, and its rate is not yet the next one's."""
        if self._run is None:
            return
        step, self._step = self._step, Step()
        scaler = getattr(self.trainer.accelerator, "scaler", None)
        if step.gradient is None and (args.max_grad_norm or scaler is not None):
            raise LoopError(
                "the gradients of this Trainer were clipped where they cannot be measured before",
                "TrainingArguments(max_grad_norm=0), or train without DeepSpeed",
            )
        tokens = int(state.num_input_tokens_seen) if args.include_num_input_tokens_seen == "non_padding" else 0
        self._run.log_step(
            step.loss,
            samples=step.samples,
            tokens=tokens - self._tokens if self._run.ranks.records else 0,  # they are those of all processes already
            learning_rate=kwargs["optimizer"].param_groups[0]["lr"],
            loss_scale=1.0 if scaler is None else scaler.scale(torch.ones((), device=self._run.device)),
            applied=True if scaler is None else None,  # without a scaler the Trainer applies whatever there is
            gradient=step.gradient or self._measure(),
        )
        self._tokens = tokens

    # ---- evaluations -------------------------------------------------------------------------------------------

    def on_evaluate(self, *_: Any, **kwargs: Any) -> None:
        """`eval_loss` becomes `loss` of the split `held_out`; `eval_other_loss` becomes `loss` of the split `other`."""
        metrics: Mapping[str, Any] = kwargs.get("metrics") or {}
        timing = next((key for key in metrics if key.endswith("_runtime")), None)
        if self._run is None or timing is None:
            return
        prefix = timing.removesuffix("_runtime")
        # Where the length is not known, 1 leaves the mean right.
        count = length_of(getattr(kwargs.get("eval_dataloader"), "dataset", None)) or 1
        found = {
            key.removeprefix(f"{prefix}_"): MetricSum(float(value) * count, nan, count)
            for key, value in metrics.items()
            if key.startswith(f"{prefix}_") and isinstance(value, int | float)
        }
        split = "held_out" if prefix == "eval" else prefix.removeprefix("eval_")
        self._run.log_eval({name: one for name, one in found.items() if name not in _TIMINGS}, split=split)


@contextmanager
def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Replace the method `name` of one object by `around(original, ...)`; restore it afterwards."""
    original, own = getattr(owner, name), vars(owner).get(name)
    setattr(owner, name, wraps(original)(partial(around, original)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


_WRITTEN_BY_MODEL = ("problem_type", "transformers_version", "_name_or_path", "architectures")
"""Keys of a model's config that the library sets by itself, some in the first forward pass."""


def _settings(trainer: Any, batch_size: int | None) -> dict[str, Any]:
    """The Trainer's arguments and what the model's config has of its own.

    batch_size: in force on one process, which `auto_find_batch_size` makes smaller than the argument.
    """
    settings = {key: value for key, value in trainer.args.to_dict().items() if not key.startswith(_NO_SETTING)}
    if batch_size is not None and "per_device_train_batch_size" in settings:
        settings["per_device_train_batch_size"] = batch_size // max(1, trainer.args.n_gpu)
    config: Any = getattr(trainer.model, "config", None)
    own = config.to_diff_dict() if hasattr(config, "to_diff_dict") else {"class": type(trainer.model).__name__}
    return {"trainer": settings, "model": {key: value for key, value in own.items() if key not in _WRITTEN_BY_MODEL}}
