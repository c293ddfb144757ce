"""Record a training loop that is not ours: norms before clipping of every step, evaluations, fingerprint and status."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from ablate.errors import AblateError, LoopError, RecordError
from ablate.records.divergence import divergence
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, Status, git_state, now, versions, write_value
from ablate.records.source_code import code_digest
from ablate.serialization import write_text
from ablate.training.checkpoint import Position
from ablate.training.distributed import Ranks
from ablate.training.evaluation import EvalResult, MetricSum, sums_of
from ablate.training.fingerprint import environment, model_items, weights_hash
from ablate.training.grad_norms import GradNorms, Grouping, by_layer
from ablate.training.predictions import Columns, Predictions
from ablate.training.run_recorder import RunRecorder
from ablate.training.throughput import StepClock, read_seconds
from ablate.training.trace_buffer import DeviceRow

_PACKAGES = ("torch", "transformers", "lightning", "accelerate", "datasets", "numpy", "pyarrow", "torch-ablate")


def run_identity(run_dir: Path, arm: str | None, seed: int | None) -> tuple[RunDir, str, int]:
    """Return the run directory, the arm and the seed.

    run_dir: of the run, `<arm>/seed=<n>`; or of the study, where `arm` and `seed` are given.
    Raises RecordError for a directory whose name gives no arm and seed.
    """
    if (arm is None) != (seed is None):
        raise RecordError(f"arm={arm!r} and seed={seed!r}: one of them is missing", "give both, or neither")
    if arm is not None and seed is not None:
        return StudyDir(run_dir).run(arm, seed), arm, seed
    name, number = run_dir.parent.name, re.fullmatch(r"seed=(0|[1-9]\d*)", run_dir.name)
    if number is None or not name or safe_name(name) != name:
        raise RecordError(
            f"expected a directory that ends in <arm>/seed=<n>, got {str(run_dir)!r}",
            f"'{run_dir}/baseline/seed=0', or the study directory with arm= and seed=",
        )
    return RunDir(run_dir), name, int(number[1])


def plain(value: Any) -> Any:
    """Convert settings to what YAML holds; other values become their name or text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    if value is None or type(value) in (bool, int, float, str):
        return value
    # An address in a text would make two equal settings differ.
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", str(value))


@dataclass(frozen=True, slots=True)
class Gradient:
    """Measurements of a step's gradient, on its device: norm [], clip_coefficient [], each_norm [parameters]."""

    norm: torch.Tensor
    clip_coefficient: torch.Tensor
    each_norm: torch.Tensor


class Recorder:
    """Writes a run directory from any training loop; two lines in the loop are enough.

        with Recorder("runs/mine/baseline/seed=0", model, config=settings) as recorder:
            for batch in loader:
                loss = ...
                loss.backward()
                recorder.log_step(loss, samples=len(batch))
                optimizer.step()
                optimizer.zero_grad()
            recorder.log_eval({"loss": loss_of_each_example})

    run_dir: of the run, `<study>/<arm>/seed=<n>`; or of the study, where `arm` and `seed` are given. An earlier run in the same
        directory is replaced.
    model: with the weights it starts from, on its device; wrapped by DDP or `fully_shard` where several processes train.
    config: the settings of the run, nested as you like; arms are compared by its leaves.
    samples_per_epoch: for the column `epoch`, which is nan without it.
    grad_norm_groups: parameter name -> its group, for norms per group.
    facts: further items for the fingerprint, such as hashes of the splits.
    flush_every: steps that stay on the device before they are written.

    It draws from no generator, leaves the optimizer alone, and in `log_step` the host never waits for the device.
    Inside `with`, an exception becomes the run's status and is raised again.
    Raises RecordError for a directory that names no arm and seed.
    """

    def __init__(
        self,
        run_dir: str | Path,
        model: nn.Module,
        *,
        config: Mapping[str, Any] | None = None,
        arm: str | None = None,
        seed: int | None = None,
        samples_per_epoch: int | None = None,
        grad_norm_groups: Grouping | None = by_layer,
        facts: Mapping[str, Any] | None = None,
        flush_every: int = 64,
    ) -> None:
        self._run, arm, seed = run_identity(Path(run_dir), arm, seed)
        self.config, self.facts = dict(config or {}), dict(facts or {})
        self.samples_per_epoch, self.grad_norm_groups, self.flush_every = (
            samples_per_epoch,
            grad_norm_groups,
            flush_every,
        )
        self.ranks = Ranks(getattr(model, "_orig_mod", model))  # `torch.compile` prefixes every parameter's name
        self.position = Position()
        self._manifest = Manifest(arm=arm, seed=seed)
        self._opened = False

    def __enter__(self) -> Self:
        bare = self.ranks.bare
        self.norms = GradNorms(bare, self.grad_norm_groups)
        if not self.norms.parameters:
            raise LoopError(f"no parameter of {type(bare).__name__} requires a gradient", "p.requires_grad_(True)")
        self.device = self.norms.parameters[0].device
        items = model_items(bare) | {"environment": environment(self.device)} | self.facts
        self._write_manifest(str(items["environment"]["device"]))
        self._rates = deque[float]()  # of the rows that have not been written yet, in their order
        self._recorder = RunRecorder(
            self._run.path, self.ranks, self.norms, items=items, device=self.device, flush_every=self.flush_every,
            learning_rate=lambda _: self._rates.popleft(), samples_per_epoch=self.samples_per_epoch,
        )  # fmt: skip
        if self.ranks.records:
            write_value(self._run, self._recorder.fingerprint)
        self._zero = torch.zeros((), device=self.device)
        self._opened = True
        self._clock = StepClock(self.device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finished; failed where an exception ended the run; interrupted by anything else, such as Ctrl-C."""
        if not self._opened:
            return
        reason, step = type(error).__name__, self.position.step
        if error is None and step:
            self._end("finished", "end", f"finished after {step} steps")
        elif error is None:
            self._end("failed", "no step", "no step was recorded: call log_step(...) after every backward pass")
        elif isinstance(error, Exception):
            self._end("failed", reason, error.problem if isinstance(error, AblateError) else f"{reason}: {error}")
        else:
            self._end("interrupted", reason, f"interrupted after {step} steps: {reason}")

    # ---- recording ---------------------------------------------------------------------------------------------

    def log_step(
        self,
        loss: torch.Tensor | float,
        *,
        samples: int,
        tokens: int = 0,
        learning_rate: float = math.nan,
        max_grad_norm: float | None = None,
        loss_scale: torch.Tensor | float = 1.0,
        applied: torch.Tensor | bool | None = None,
        sample_ids: Sequence[int] | NDArray[np.int64] | None = None,
        gradient: Gradient | None = None,
    ) -> torch.Tensor:
        """Record one optimizer step. Returns the global gradient norm, fp32 [] on its device.

        Call it after backward, and after `scaler.unscale_(optimizer)` where there is a gradient scaler; before any clipping and
        before the optimizer's step.

        loss: the number whose gradient this is, mean over the step's items; [] on any device.
        samples, tokens: of this step, in this process.
        max_grad_norm: the gradients are clipped to this global norm here; None leaves them unchanged.
        loss_scale: the scaler's scale.
        applied: whether the step will be applied; None: where the norm is finite.
        sample_ids: identity of each sample, on the host, for the control that arms had the same order; of one process only.
        gradient: the result of `measure`, in a loop that knows the loss only after its optimizer's step.
        """
        self._check_open()
        if not isinstance(samples, int) or samples < 1:
            raise LoopError(
                f"log_step expected a whole number of samples from 1, got {samples!r}", "samples=len(batch)"
            )
        gradient = gradient or self.measure(max_grad_norm)
        ids = self._checked_ids(sample_ids, samples)
        samples, tokens = self.ranks.sum_counts(samples, tokens)
        row = DeviceRow(
            loss=self.ranks.sum(self._number(loss) / self.ranks.size),
            grad_norm=gradient.norm,
            clip_coefficient=gradient.clip_coefficient,
            applied=torch.isfinite(gradient.norm) if applied is None else self._number(applied),
            loss_scale=self._number(loss_scale),
            micro_grad_norm=self._zero,
            each_norm=gradient.each_norm,
            update_ratios=gradient.each_norm[:0],
        )
        self._rates.append(float(learning_rate))
        self.position.add(samples=samples, tokens=tokens)
        self._recorder.log_step(self.position, row, seconds=self._clock.stop(), sample_ids=ids)
        self._clock.start()
        return gradient.norm

    def measure(self, max_grad_norm: float | None = None, *, clips_itself: bool = False) -> Gradient:
        """Measure the gradients, then clip them.

        clips_itself: the loop clips to `max_grad_norm` afterwards: the coefficient is computed and nothing is scaled.
        """
        self._check_open()
        norm, each_norm = self.norms.measure_each()
        if clips_itself and max_grad_norm is not None:
            coefficient = torch.clamp(max_grad_norm / (norm + 1e-6), max=1.0)
        else:
            coefficient = self.norms.clip(norm, max_grad_norm)
        return Gradient(norm, coefficient, each_norm)

    def log_eval(
        self,
        metrics: Mapping[str, torch.Tensor | MetricSum],
        *,
        split: str = "held_out",
        sample_ids: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        """Record one evaluation, after the optimizer's step; one before the first step shows the whole decrease in loss.

        metrics: per example, {"loss": [examples], ...}: sum, sum of squares and count are recorded. `MetricSum` for sums that
            were made elsewhere; its `sum_squares` is nan where only a mean is known.
        sample_ids: identity of each example, the same in every arm: the metrics of each example are stored in
            predictions.arrow, in place of those of an earlier evaluation. Give them at the last evaluation at least, in each
            process for its own examples.

        The time since the last step or evaluation counts as evaluation and not as training.
        """
        self._check_open()
        sums = {name: self._sum(name, values) for name, values in metrics.items()}
        predictions = None if sample_ids is None else self._predictions(metrics, sample_ids)
        seconds = self._clock.stop()
        num_samples = max((summed.count for summed in sums.values()), default=0)
        self._recorder.flush(wait=True)
        self._recorder.log_eval(
            self.position, EvalResult(sums, read_seconds(seconds), num_samples, split, predictions),
            update_best=split == "held_out",
        )  # fmt: skip
        self._clock.start()

    # ---- details -----------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._opened:
            raise LoopError("this Recorder is not open", "with Recorder(run_dir, model) as recorder: ...")

    def _write_manifest(self, device: str) -> None:
        manifest = self._manifest
        manifest.code_digest, manifest.git, manifest.versions = code_digest(), git_state(), versions(_PACKAGES)
        manifest.device, manifest.num_threads, manifest.started = device, torch.get_num_threads(), now()
        if not self.ranks.records:
            return
        run = self._run
        run.path.mkdir(parents=True, exist_ok=True)
        for stale in (run.status, run.trace, run.evals, run.predictions, run.progress):
            stale.unlink(missing_ok=True)
        write_text(run.config, yaml.safe_dump(plain(self.config), sort_keys=False))
        write_value(run, manifest)

    def _number(self, value: torch.Tensor | float) -> torch.Tensor:
        """Return a scalar [] on the device, without its graph; no host sync."""
        if not isinstance(value, torch.Tensor):
            return torch.full((), float(value), device=self.device)
        if value.numel() != 1:
            raise LoopError(f"log_step expected one number, got a tensor of shape {tuple(value.shape)}", "loss.mean()")
        return value.detach().reshape(()).to(self.device, non_blocking=True)

    def _checked_ids(self, ids: Sequence[int] | NDArray[np.int64] | None, samples: int) -> NDArray[np.int64] | None:
        if ids is None or self.ranks.size > 1:
            return None
        if isinstance(ids, torch.Tensor) and ids.device.type != "cpu":
            raise LoopError(
                f"sample_ids are on {ids.device}: the host would have to wait for them", "sample_ids on the host"
            )
        known = np.asarray(ids, dtype=np.int64)
        if known.shape != (samples,):
            raise LoopError(
                f"log_step expected one id per sample, got sample_ids of shape {known.shape} and samples={samples}",
                "one id per sample",
            )
        return known

    def _sum(self, name: str, values: torch.Tensor | MetricSum) -> MetricSum:
        if isinstance(values, MetricSum):
            return values
        if not isinstance(values, torch.Tensor) or values.dim() == 0:
            raise LoopError(
                f"log_eval({{{name!r}: {values}}}) is one number, and a mean of batch means is not the mean",
                "one value per example: cross_entropy(..., reduction='none')",
            )
        return MetricSum.of(self.ranks.sum(sums_of(values)))

    def _predictions(
        self, metrics: Mapping[str, torch.Tensor | MetricSum], ids: Sequence[int] | NDArray[np.int64]
    ) -> Columns | None:
        values = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
        other = [f"{name} {tuple(value.shape)}" for name, value in values.items() if value.shape != (len(ids),)]
        if other or not values:
            raise LoopError(
                f"log_eval expected one value per id, got {len(ids)} sample_ids and "
                f"{', '.join(other) or 'no metric per example'}",
                "one id per example, in the order of the values",
            )
        predictions = Predictions()
        predictions.add([int(sample_id) for sample_id in ids], None, values)
        return predictions.columns(self.ranks)

    def _end(self, status: Status, reason: str, message: str) -> None:
        weights = weights_hash(self.ranks.bare.state_dict().items()) if status == "finished" else None
        self._opened = False
        if status == "finished":
            self._recorder.flush(wait=True)
            if self.ranks.records and (diverged := divergence(self._run)):
                status, reason, message = "diverged", "not finite", f"{diverged}; {message}"
        self._manifest.ended = now()
        if order := self._recorder.order_hashes():
            self._recorder.add_item("order", order)
        self._recorder.end(status, self.position, reason, message, weights)
        if self.ranks.records:
            write_value(self._run, self._manifest)
