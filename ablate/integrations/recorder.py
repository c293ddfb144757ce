"""The same record from a loop that is not ours: every step's norms before clipping, looks, fingerprint and outcome."""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
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
from ablate.records.gradient_health import COLUMNS, flags_of_trace
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Fingerprint, Manifest, RunStatus, Status, write_value
from ablate.records.provenance import git_state, now, versions
from ablate.records.schema import EVALS, TRACE
from ablate.records.source_code import code_digest
from ablate.serialization import write_json, write_text
from ablate.training.distributed import Ranks
from ablate.training.evaluation import Best, Measured, sums_of
from ablate.training.fingerprint import OrderHash, environment, model_items, weights_hash
from ablate.training.grad_norms import GradNorms, Grouping, by_depth
from ablate.training.predictions import Kept, write_predictions
from ablate.training.state import Position
from ablate.training.throughput import Session, model_flops, peak_memory_bytes, throughput
from ablate.training.trace_buffer import DeviceRow, Sink, TraceRows, open_sink

# The small files of a run that another loop makes: what it was set to, what it ran on, how far it is, how it
# ended.

_PACKAGES = ("torch", "transformers", "lightning", "accelerate", "datasets", "numpy", "pyarrow", "torch-ablate")


class SmallFiles:
    """Manifest, config, fingerprint, progress and outcome of one run.

    run, arm, seed: as `place` gives them. config: nested settings. items: of the fingerprint. device: in words.
    writes: False in a process that does not record; nothing is written then.
    """

    def __init__(
        self,
        run: RunDir,
        arm: str,
        seed: int,
        *,
        config: Mapping[str, Any],
        items: dict[str, Any],
        device: str,
        writes: bool,
    ) -> None:
        self.run, self.writes = run, writes
        self.fingerprint = Fingerprint(items=items)
        self.manifest = Manifest(
            arm=arm, seed=seed, code_digest=code_digest(), git=git_state(), versions=versions(_PACKAGES), device=device,
            num_threads=torch.get_num_threads(), started=now(),
        )  # fmt: skip
        if not writes:
            return
        run.path.mkdir(parents=True, exist_ok=True)
        for stale in (run.status, run.trace, run.evals, run.predictions, run.progress):
            stale.unlink(missing_ok=True)
        write_text(run.config, yaml.safe_dump(plain(config), sort_keys=False))
        write_value(run, self.manifest)
        write_value(run, self.fingerprint)

    def add_item(self, name: str, value: Any) -> None:
        """One more item of the fingerprint."""
        self.fingerprint.items[name] = value
        if self.writes:
            write_value(self.run, self.fingerprint)

    def progress(self, last: Mapping[str, float], session: Session) -> None:
        """last: the newest row that has arrived; nothing is written before there is one."""
        if not self.writes or not last:
            return
        rates = throughput([session], flops_per_token=0.0, assumed_peak=None)
        value = {
            "pid": os.getpid(), "step": int(last["step"]), "total_steps": None, "samples": int(last["samples"]),
            "loss": last["loss"], "grad_norm": last["grad_norm"], "updated": now(),
            "samples_per_second": rates["train_samples_per_second"], "sessions": [session.to_json()],
        }  # fmt: skip
        write_json(self.run.progress, value, durable=False)

    def end(self, outcome: RunStatus) -> None:
        """The last word."""
        self.manifest.ended = now()
        if self.writes:
            write_value(self.run, outcome)
            write_value(self.run, self.manifest)


def place(folder: Path, arm: str | None, seed: int | None) -> tuple[RunDir, str, int]:
    """The run's folder, its arm and its seed: the folder is the run's, `<arm>/seed=<n>`, or the study's where both are given.

    Raises RecordError for a folder from which they cannot be told.
    """
    if (arm is None) != (seed is None):
        raise RecordError(f"arm={arm!r} and seed={seed!r}: one of them is missing", "give both, or neither")
    if arm is not None and seed is not None:
        return StudyDir(folder).run(arm, seed), arm, seed
    name, number = folder.parent.name, re.fullmatch(r"seed=(0|[1-9]\d*)", folder.name)
    if number is None or not name or safe_name(name) != name:
        raise RecordError(
            f"{str(folder)!r} does not end in <arm>/seed=<n>, by which a report tells the runs of a study apart",
            f"'{folder}/baseline/seed=0', or the study's folder with arm= and seed=",
        )
    return RunDir(folder), name, int(number[1])


def plain(value: Any) -> Any:
    """Settings as YAML holds them; what it cannot hold, by its name or its text."""
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


_FLUSH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Gradient:
    """What was measured of a step's gradient, on its device: norm [], clip_coefficient [], each_norm [parameters]."""

    norm: torch.Tensor
    clip_coefficient: torch.Tensor
    each_norm: torch.Tensor


class Recorder:
    """Writes a run folder from any loop; two lines in it are enough.

        with Recorder("runs/mine/baseline/seed=0", model, config=settings) as run:
            for batch in loader:
                loss = ...
                loss.backward()
                run.step(loss, samples=len(batch))
                optimizer.step()
                optimizer.zero_grad()
            run.look({"loss": loss_of_each_example})

    folder: of the run, `<study>/<arm>/seed=<n>`; of the study, where `arm` and `seed` are given. What an earlier run left in
        the run's folder is replaced.
    model: with the weights it starts from, on its device; wrapped by DDP or `fully_shard` where several processes train.
    config: whatever settings the run has, nested as you like; arms are compared by its leaves.
    samples_per_epoch: for the column `epoch`, which is nan without it.
    grouping: a parameter's name -> its group, for norms per group.
    facts: further items for the fingerprint, such as hashes of the splits.
    flush_every: steps that are kept on the device before they are written.

    It draws from no generator, leaves the optimizer alone, and in `step` the host never waits for the device. Inside `with`,
    an exception becomes the run's outcome and goes on. Raises RecordError for a folder that names no arm and seed.
    """

    def __init__(
        self,
        folder: str | Path,
        model: nn.Module,
        *,
        config: Mapping[str, Any] | None = None,
        arm: str | None = None,
        seed: int | None = None,
        samples_per_epoch: int | None = None,
        grouping: Grouping | None = by_depth,
        facts: Mapping[str, Any] | None = None,
        flush_every: int = 64,
    ) -> None:
        self._place = place(Path(folder), arm, seed)
        self.config, self.facts = dict(config or {}), dict(facts or {})
        self.samples_per_epoch, self.grouping, self.flush_every = samples_per_epoch, grouping, flush_every
        self.ranks = Ranks(getattr(model, "_orig_mod", model))  # `torch.compile` prefixes every parameter's name
        self.at = Position()
        self._opened = False

    def __enter__(self) -> Self:
        bare, writes = self.ranks.bare, self.ranks.records
        self.norms = GradNorms(bare, self.grouping)
        if not self.norms.parameters:
            raise LoopError(f"no parameter of {type(bare).__name__} requires a gradient", "p.requires_grad_(True)")
        self.device = self.norms.parameters[0].device
        items = model_items(bare) | {"environment": environment(self.device)} | self.facts
        self.session, device = Session(), str(items["environment"]["device"])
        self._files = SmallFiles(*self._place, config=self.config, items=items, device=device, writes=writes)
        folder, groups = self._place[0].path, {"groups": "\n".join(self.norms.groups)}
        self._trace: Sink = open_sink(folder, "trace", TRACE, groups, keep=writes)
        self._evals: Sink = open_sink(folder, "evals", EVALS, keep=writes)
        rates = self._rates = deque[float]()  # of the rows that have not arrived yet, in their order
        self._rows = TraceRows(self._trace, self.flush_every, rate=lambda _: rates.popleft(), norms=self.norms)
        self._order, self._best = OrderHash(), Best()
        self._none = torch.zeros((), device=self.device)
        self._train_seconds = 0.0
        self._opened = True
        self._clock = self._flushed = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finished; failed where an exception ended it; interrupted by anything else, such as Ctrl-C."""
        if not self._opened:
            return
        reason = type(error).__name__
        if error is None and self.at.step:
            self._end("finished", "end", f"finished after {self.at.step} steps")
        elif error is None:
            self._end("failed", "no step", "no step was recorded: call run.step(...) after every backward pass")
        elif isinstance(error, Exception):
            self._end("failed", reason, error.problem if isinstance(error, AblateError) else f"{reason}: {error}")
        else:
            self._end("interrupted", reason, f"interrupted after {self.at.step} steps: {reason}")

    # ---- what the loop tells -----------------------------------------------------------------------------------

    def step(
        self,
        loss: torch.Tensor | float,
        *,
        samples: int,
        tokens: int = 0,
        learning_rate: float = math.nan,
        max_grad_norm: float | None = None,
        loss_scale: torch.Tensor | float = 1.0,
        applied: torch.Tensor | bool | None = None,
        ids: Sequence[int] | NDArray[np.int64] | None = None,
        gradient: Gradient | None = None,
    ) -> torch.Tensor:
        """One optimizer step: after backward, and after `scaler.unscale_(optimizer)` where there is a gradient scaler; before
        any clipping and before the optimizer's step. Returns the global gradient norm, fp32 [] on its device.

        loss: the number whose gradient this is, mean over the step's items; [] on any device.
        samples, tokens: of this step, in this process.
        max_grad_norm: largest global norm; the gradients are scaled down to it here. None leaves them as they are.
        loss_scale: the scaler's scale. applied: whether the step will be taken; None is told by a finite norm.
        ids: identity of each sample, on the host, for the control that arms saw the same order; of one process only.
        gradient: what `measure` gave, in a loop that knows the loss only after its optimizer's step.
        """
        self._check_open()
        if not isinstance(samples, int) or samples < 1:
            raise LoopError(f"step was given samples={samples!r}, expected a whole number from 1", "samples=len(batch)")
        gradient = gradient or self.measure(max_grad_norm)
        self._add_order(ids, samples)
        samples, tokens = self.ranks.add_counts(samples, tokens)
        row = DeviceRow(
            loss=self.ranks.add(self._number(loss) / self.ranks.size),
            grad_norm=gradient.norm,
            clip_coefficient=gradient.clip_coefficient,
            applied=torch.isfinite(gradient.norm) if applied is None else self._number(applied),
            loss_scale=self._number(loss_scale),
            micro_grad_norm=self._none,
            each_norm=gradient.each_norm,
            update_ratios=gradient.each_norm[:0],
        )
        self._rates.append(float(learning_rate))
        at = self.at
        at.step, at.samples, at.tokens = at.step + 1, at.samples + samples, at.tokens + tokens
        seconds = time.perf_counter() - self._clock
        self._train_seconds += seconds
        self.session.step(seconds, samples, tokens)
        full = self._rows.add((at.step, self._epoch(), at.samples, at.tokens, seconds, 0), row)
        if full or (self.device.type == "cpu" and time.perf_counter() - self._flushed > _FLUSH_SECONDS):
            self._flush(wait=False)
        self._clock = time.perf_counter()
        return gradient.norm

    def measure(self, max_grad_norm: float | None = None, *, clips_itself: bool = False) -> Gradient:
        """The gradients as they are now; then clipped.

        clips_itself: the loop clips to `max_grad_norm` after this: the coefficient is computed and nothing is scaled.
        """
        self._check_open()
        norm, each_norm = self.norms.measure_each()
        if clips_itself and max_grad_norm is not None:
            coefficient = torch.clamp(max_grad_norm / (norm + 1e-6), max=1.0)
        else:
            coefficient = self.norms.clip(norm, max_grad_norm)
        return Gradient(norm, coefficient, each_norm)

    def look(
        self,
        metrics: Mapping[str, torch.Tensor | Measured],
        *,
        split: str = "held_out",
        ids: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        """One evaluation, after the optimizer's step; and one before the first step, if the fall is to be seen whole.

        metrics: per example, {"loss": [examples], ...}: sum, sum of squares and count are kept. `Measured` for sums that were
            made elsewhere; its `sum_squares` is nan where only a mean is known.
        ids: identity of each example, the same in every arm: what this look gave of each is kept in predictions.arrow, in the
            place of what an earlier one gave. Name them at the last look at least, in each process for its own examples.
        The time since the last step, or since the last look, is the evaluation's and no training time.
        """
        self._check_open()
        measured = {name: self._sums(name, values) for name, values in metrics.items()}
        seconds = time.perf_counter() - self._clock
        self.session.look(seconds, max((one.count for one in measured.values()), default=0))
        self._flush(wait=True)
        at = self.at
        rows = [
            (at.step, self._epoch(), at.samples, at.tokens, self._train_seconds, seconds, split, name,
             one.total, one.count, one.sum_squares)
            for name, one in measured.items()
        ]  # fmt: skip
        if rows:
            self._evals.write(dict(zip(EVALS.names, map(list, zip(*rows, strict=True)), strict=True)))
        if ids is not None:
            self._keep(metrics, ids, split)
        if split == "held_out":
            means = {name: one.mean for name, one in measured.items()}
            self._best.update(means, at.step)
            if at.step == 0:
                self._files.add_item("loss_at_start", means)
        self._clock = time.perf_counter()

    # ---- how it is kept ----------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self._opened:
            raise LoopError("this Recorder is not open", "with Recorder(folder, model) as run: ...")

    def _epoch(self) -> float:
        return self.at.samples / self.samples_per_epoch if self.samples_per_epoch else math.nan

    def _number(self, value: torch.Tensor | float) -> torch.Tensor:
        """A scalar [] on the device, without its graph; no host sync."""
        if not isinstance(value, torch.Tensor):
            return torch.full((), float(value), device=self.device)
        if value.numel() != 1:
            raise LoopError(f"step was given {tuple(value.shape)} numbers where one belongs", "loss.mean()")
        return value.detach().reshape(()).to(self.device, non_blocking=True)

    def _add_order(self, ids: Sequence[int] | NDArray[np.int64] | None, samples: int) -> None:
        if ids is None or self.ranks.size > 1:
            return
        if isinstance(ids, torch.Tensor) and ids.device.type != "cpu":
            raise LoopError(f"ids lie on {ids.device}: the host would have to wait for them", "ids on the host")
        known = np.asarray(ids, dtype=np.int64)
        if known.shape != (samples,):
            raise LoopError(f"step was given ids of shape {known.shape} and samples={samples}", "one id per sample")
        self._order.add(known)

    def _sums(self, name: str, values: torch.Tensor | Measured) -> Measured:
        if isinstance(values, Measured):
            return values
        if not isinstance(values, torch.Tensor) or values.dim() == 0:
            raise LoopError(
                f"look({{{name!r}: {values}}}) is one number, and a mean of batch means is not the mean",
                "one value per example: cross_entropy(..., reduction='none')",
            )
        return Measured.of(self.ranks.add(sums_of(values)))

    def _keep(
        self, metrics: Mapping[str, torch.Tensor | Measured], ids: Sequence[int] | NDArray[np.int64], split: str
    ) -> None:
        values = {name: one for name, one in metrics.items() if isinstance(one, torch.Tensor)}
        other = [f"{name} {tuple(one.shape)}" for name, one in values.items() if one.shape != (len(ids),)]
        if other or not values:
            raise LoopError(
                f"look was given {len(ids)} ids and {', '.join(other) or 'no metric per example'}",
                "one id per example, in the order of the values",
            )
        kept = Kept()
        kept.add([int(one) for one in ids], None, values)
        columns = kept.columns(self.ranks)
        if columns is not None and self._files.writes:
            write_predictions(self._place[0].predictions, columns, step=self.at.step, split=split)

    def _flush(self, *, wait: bool) -> None:
        self._rows.flush(wait=wait)
        self._flushed = time.perf_counter()
        self.session.peak_memory_bytes = peak_memory_bytes(self.device)
        self._files.progress(self._rows.last, self.session)

    def _end(self, status: Status, reason: str, sentence: str) -> None:
        weights = weights_hash(self.ranks.bare.state_dict().items()) if status == "finished" else None
        # A device that has failed must not hide why, nor keep the outcome from being written.
        with suppress(RuntimeError) if status == "failed" else nullcontext():
            self._flush(wait=True)
        self._opened = False
        gradient = flags_of_trace(self._trace.read(COLUMNS), self.norms.groups)
        self._trace.close()
        self._evals.close()
        if self._order.rungs:
            self._files.add_item("order", self._order.rungs)
        flops = model_flops(self.ranks.bare)
        self._files.end(RunStatus(
            status=status, step=self.at.step, reason=reason, message=sentence, weights_sha256=weights,
            best=self._best.values, gradient=gradient, sessions=[self.session.to_json()],
            throughput=throughput([self.session], flops_per_token=flops, assumed_peak=None),
        ))  # fmt: skip
