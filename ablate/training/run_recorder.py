"""The record of one run: a row per optimizer step, evaluations, fingerprint, progress and how it ended."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.errors import AblateError, LoopError
from ablate.records.gradient_health import COLUMNS, flags_of_trace
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint, RunStatus, Status, now, write_value
from ablate.records.reader import Evals, Trace
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import TableWriter
from ablate.serialization import read_json, write_json
from ablate.training.checkpoint import Position
from ablate.training.distributed import Ranks
from ablate.training.evaluation import Best, EvalResult
from ablate.training.fingerprint import FRACTIONS, OrderHash, weights_hash
from ablate.training.grad_norms import GradNorms, Grouping, by_layer
from ablate.training.predictions import write_predictions
from ablate.training.throughput import Seconds, Session, model_flops, peak_memory_bytes, throughput
from ablate.training.trace_buffer import DeviceRow, TraceRows

_PROGRESS_SECONDS = 1.0
_FLUSH_SECONDS = 2.0


class StopReason(Enum):
    """Why a run ended."""

    BUDGET = "budget"
    DIVERGED = "non-finite gradients"
    REQUESTED = "requested"
    """`should_stop` gave a reason."""


_STATUSES: dict[StopReason, Status] = {
    StopReason.BUDGET: "finished",
    StopReason.DIVERGED: "diverged",
    StopReason.REQUESTED: "interrupted",
}

_FRESH: dict[str, Any] = {
    "extents": {}, "applied_steps": 0, "skipped": 0, "culprit": None, "train_seconds": 0.0, "best": {}, "order": {},
    "rates": {}, "loss_at_start": None,
}  # fmt: skip
"""`RunRecorder.state` of a run that begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What is recorded of a run besides the loss and the gradient norm of every step.

    grad_norm_groups: parameter name -> its group, for gradient norms per group; None records the global norm only.
    update_ratio: record how far each step moves the weights; see `UpdateRatios` for its cost.
    noise_scale: record the norm of the first forward pass's gradient too, from which the gradient noise scale is estimated;
        needs `grad_accum_steps` of at least 2.
    flush_every: optimizer steps between two writes of the trace.
    device_peak_flops: peak of the device in FLOP/s, for the model FLOPs utilisation; None takes the known peak of the device.
    facts: further items of the fingerprint, such as hashes of the splits.
    """

    grad_norm_groups: Grouping | None = by_layer
    update_ratio: bool = False
    noise_scale: bool = False
    flush_every: int = 64
    device_peak_flops: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class RunRecorder:
    """Records one run, to a directory or in memory. It observes the training and never changes it.

    run_dir: None keeps the tables in memory.
    norms: whose groups are recorded.
    items: of the fingerprint.
    device: of the model.
    learning_rate: number of applied steps, this one included -> learning rate of the step.
    total_steps: None where it is not known.
    samples_per_epoch: None leaves the column `epoch` nan.
    resumed: what `state` gave when the checkpoint was made.
    """

    def __init__(
        self,
        run_dir: Path | None,
        ranks: Ranks,
        norms: GradNorms,
        *,
        items: dict[str, Any],
        device: torch.device,
        learning_rate: Callable[[int], float],
        flush_every: int,
        total_steps: int | None = None,
        samples_per_epoch: int | None = None,
        peak_flops: float | None = None,
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.ranks, self.norms, self.device = ranks, norms, device
        self.total_steps, self.samples_per_epoch = total_steps, samples_per_epoch
        self.flops_per_token, self.peak_flops = model_flops(ranks.bare), peak_flops
        self.fingerprint = Fingerprint(items=items)
        self.session = Session(environment=items.get("environment", {}))
        self._run = RunDir(run_dir) if run_dir is not None and ranks.records else None
        self._earlier = self._open_run_dir(resumed)
        resumed = resumed or _FRESH
        self._order, self._fed = OrderHash(), list[NDArray[np.int64]]()
        self._resumed_order: dict[str, str] = resumed["order"]
        self._train_seconds, self._samples, self._tokens = resumed["train_seconds"], 0, 0
        self._eval_loss: float | None = None
        self._best = Best(resumed["best"])
        self._rate_steps = {max(1, math.ceil(part * total_steps)) for part in FRACTIONS} if total_steps else set()
        rates = {int(step): float(rate) for step, rate in resumed["rates"].items()}
        self._rates: dict[int, float | torch.Tensor] = {s: rate for s, rate in rates.items() if s in self._rate_steps}
        if resumed["loss_at_start"]:
            items["loss_at_start"] = {name: float(value) for name, value in resumed["loss_at_start"].items()}
        self._trace, self._evals = (
            TableWriter(getattr(self._run, name, None), schema, metadata=metadata,
                        resume_at=resumed["extents"].get(name), keep=ranks.records)
            for name, schema, metadata in (("trace", TRACE, {"groups": "\n".join(norms.groups)}), ("evals", EVALS, None))
        )  # fmt: skip
        self._rows = TraceRows(
            self._trace, flush_every, rate=learning_rate, norms=norms, applied_steps=resumed["applied_steps"],
            count=self._count,
        )  # fmt: skip
        self._rows.skipped, self._rows.culprit = resumed["skipped"], resumed["culprit"]
        self._wrote_progress = self._flushed = time.monotonic()

    # ---- recording ---------------------------------------------------------------------------------------------

    def log_step(
        self,
        position: Position,
        row: DeviceRow,
        *,
        seconds: Seconds,
        sample_ids: NDArray[np.int64] | None = None,
        micro_samples: int = 0,
        learning_rate: Callable[[], float | torch.Tensor] | None = None,
        skipped: bool = False,
    ) -> None:
        """Record one optimizer step; write the block when it is full, or where writing costs no wait for the device.

        position: after the step.
        seconds: of the step, as `StepClock` gives them.
        sample_ids: identities of the samples of all processes, in order.
        micro_samples: samples behind `row.micro_grad_norm`; 0 where it was not measured.
        learning_rate: reads the rate that the optimizer has, called at a few steps only.
        skipped: the host knows that the step was not applied, and the trace should say why now.
        """
        if sample_ids is not None:
            self._fed.append(sample_ids)
        if learning_rate is not None and position.step in self._rate_steps:
            self._rates[position.step] = learning_rate()
        host = (position.step, self._epoch(position), position.samples, position.tokens, seconds, micro_samples)
        full = self._rows.add(host, row)
        on_cpu = self.device.type == "cpu"
        if full or skipped or (on_cpu and time.monotonic() - self._flushed > _FLUSH_SECONDS):
            self.flush(wait=False)

    def log_eval(self, position: Position, result: EvalResult | None, *, update_best: bool = True) -> None:
        """Record one evaluation, one row per metric; nothing for one that was stopped before its end.

        update_best: the metrics count for `best`, and before training for `loss_at_start` of the fingerprint.
        """
        if result is None:
            return
        self.session.add_eval(result.seconds, result.num_samples)
        epoch = self._epoch(position)
        rows = [
            (position.step, epoch, position.samples, position.tokens, self._train_seconds, result.seconds, result.split,
             metric, summed.total, summed.count, summed.sum_squares)
            for metric, summed in result.metrics.items()
        ]  # fmt: skip
        if rows:
            self._evals.write(dict(zip(EVALS.names, map(list, zip(*rows, strict=True)), strict=True)))
        if result.predictions is not None and self._run is not None:
            write_predictions(self._run.predictions, result.predictions, step=position.step, split=result.split)
        if update_best:
            means = {metric: summed.mean for metric, summed in result.metrics.items()}
            self._best.update(means, position.step)
            self._eval_loss = means.get("loss")
            if position.step == 0:
                self.add_item("loss_at_start", means)

    @property
    def num_skipped(self) -> int:
        """Consecutive steps not applied, as far as is known without waiting for the device."""
        return self._rows.skipped

    def flush(self, *, wait: bool) -> None:
        """Hand the rows on to the trace; with `wait`, all of them."""
        self._rows.flush(wait=wait)
        self._hash_order()
        self._flushed = time.monotonic()
        if self._flushed - self._wrote_progress > _PROGRESS_SECONDS or wait or self._rows.last.get("step", 0) < 2:
            self._write_progress()

    def add_item(self, name: str, value: Any) -> None:
        """Add an item to the fingerprint."""
        self.fingerprint.items[name] = value
        if self._run is not None:
            write_value(self._run, self.fingerprint)

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue this record; every row is on disk afterwards."""
        self.flush(wait=True)
        return {
            "extents": {"trace": self._trace.extent(), "evals": self._evals.extent()},
            "applied_steps": self._rows.applied_steps,
            "skipped": self._rows.skipped,
            "culprit": self._rows.culprit,
            "train_seconds": self._train_seconds,
            "best": self._best.values,
            "order": self._order.rungs,
            "rates": self._rates_set(),
            "loss_at_start": self.fingerprint.items.get("loss_at_start"),
        }

    def replay_order(self, ids: Iterator[NDArray[np.int64]], position: Position) -> None:
        """Hash again the ids that an earlier session fed. Raises LoopError if they are different ones now."""
        for some in ids:
            self._order.add(some)
        if self._order.rungs != self._resumed_order:
            raise LoopError(
                f"the order of the {position.samples} samples before the checkpoint is not the one it would be now",
                "another run_dir: the run cannot be resumed from this checkpoint",
            )
        self._samples, self._tokens = position.samples, position.tokens
        self.session.first_step = position.step + 1

    # ---- the end of a run --------------------------------------------------------------------------------------

    @contextmanager
    def recording(self, position: Position) -> Iterator[None]:
        """Keep the record of a run that an exception ends: it becomes the run's status and is raised again."""
        try:
            yield
        except Exception as error:
            message = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            self.end("failed", position, type(error).__name__, message)
            raise
        except KeyboardInterrupt:
            self.end("interrupted", position, "KeyboardInterrupt", self._interrupted(position, "KeyboardInterrupt"))
            raise

    def finish(self, position: Position, reason: StopReason, request: str | None = None) -> RunStatus:
        """Write the last block and the final hashes. request: the reason that `should_stop` gave."""
        self.flush(wait=True)
        self.fingerprint.items |= {"order": self._order.rungs, "rates": self._rates_set()}
        if first := self._first_row():
            self.fingerprint.items["first_step"] = first
        flops = self.flops_per_token * (position.tokens or position.samples)
        self.fingerprint.items["tokens_seen"] = position.tokens
        self.add_item("flops", flops)
        weights = weights_hash(self.ranks.bare.state_dict().items())
        if reason is StopReason.BUDGET:
            message = f"finished after {position.step} steps"
        elif reason is StopReason.DIVERGED:
            where = f", first in {self._rows.culprit}" if self._rows.culprit else ""
            message = f"diverged at step {position.step}: the last {self.num_skipped} gradients were not finite{where}"
        else:
            message = self._interrupted(position, str(request))
        return self.end(_STATUSES[reason], position, request or reason.value, message, weights)

    def end(
        self, status: Status, position: Position, reason: str, message: str, weights: str | None = None
    ) -> RunStatus:
        """Close the tables and write how the run ended. weights: hash of the final weights."""
        # A device that has failed must not hide why, nor keep the status from being written.
        with suppress(RuntimeError) if status == "failed" else nullcontext():
            self.flush(wait=True)
        self._trace.close()
        self._evals.close()
        sessions = [*self._earlier, self.session]
        run_status = RunStatus(
            status=status,
            step=position.step,
            reason=reason,
            message=message,
            weights_sha256=weights,
            best=self._best.values,
            gradient=flags_of_trace(self._trace.read(COLUMNS), self.norms.groups),
            throughput=throughput(sessions, flops_per_token=self.flops_per_token, assumed_peak=self.peak_flops),
            sessions=[asdict(session) for session in sessions],
        )
        if self._run is not None:
            write_value(self._run, run_status)
        return run_status

    def trace(self) -> Trace:
        """Read the trace back."""
        return Trace(self._trace.table())

    def evals(self) -> Evals:
        """Read the evaluations back."""
        return Evals(self._evals.table())

    def order_hashes(self) -> dict[str, str]:
        """Return the hashes of the sample order so far."""
        self._hash_order()
        return self._order.rungs

    # ---- details -----------------------------------------------------------------------------------------------

    def _open_run_dir(self, resumed: dict[str, Any] | None) -> Sequence[Session]:
        """Make the directory ready; return the sessions that this run has had before."""
        if self._run is None:
            return []
        self._run.path.mkdir(parents=True, exist_ok=True)
        self._run.status.unlink(missing_ok=True)
        if resumed is None:
            self._run.predictions.unlink(missing_ok=True)
        if resumed is None or not self._run.progress.exists():
            return []
        return [Session(**session) for session in read_json(self._run.progress).get("sessions", ())]

    def _count(self, host: NDArray[Any]) -> None:
        """Count the steps of a block that has arrived."""
        for samples, tokens, seconds in host[["samples", "tokens", "step_seconds"]].tolist():
            self.session.step(seconds, samples - self._samples, tokens - self._tokens)
            self._train_seconds += seconds
            self._samples, self._tokens = samples, tokens

    def _epoch(self, position: Position) -> float:
        return position.samples / self.samples_per_epoch if self.samples_per_epoch else math.nan

    def _hash_order(self) -> None:
        if self._fed:
            self._order.add(np.concatenate(self._fed))
            self._fed = []

    def _first_row(self) -> dict[str, float] | None:
        """Loss and gradient norm of the first step, from the trace: a run in several sessions has one first step."""
        first = next((block for block in self._trace.read(("loss", "grad_norm")) if len(block)), None)
        return None if first is None else dict(first.slice(0, 1).to_pylist()[0])

    def _rates_set(self) -> dict[str, float]:
        return {str(step): float(rate) for step, rate in self._rates.items()}

    def _write_progress(self) -> None:
        self.session.peak_memory_bytes = peak_memory_bytes(self.device)
        if self._run is None or not (last := self._rows.last):
            return
        self._wrote_progress = time.monotonic()
        rates = throughput([self.session], flops_per_token=self.flops_per_token, assumed_peak=None)
        progress = {
            "pid": os.getpid(),
            "step": int(last["step"]),
            "total_steps": self.total_steps,
            "samples": int(last["samples"]),
            "loss": last["loss"],
            "grad_norm": last["grad_norm"],
            "samples_per_second": rates["train_samples_per_second"],
            "updated": now(),
            **({"eval_loss": self._eval_loss} if self._eval_loss is not None else {}),
            "sessions": [asdict(session) for session in (*self._earlier, self.session)],
        }
        write_json(self._run.progress, progress, durable=False)

    def _interrupted(self, position: Position, reason: str) -> str:
        return f"interrupted after {position.step} of {self.total_steps} steps: {reason}"
