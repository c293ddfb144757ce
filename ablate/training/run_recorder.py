"""The loop's notebook: rows, looks, fingerprint, outcome. It watches the training and never touches it."""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ablate.errors import AblateError, LoopError
from ablate.records.gradient_health import COLUMNS, flags_of_trace
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint, RunStatus, Status, write_value
from ablate.records.provenance import now
from ablate.records.reader import Evals, Trace
from ablate.records.schema import EVALS, TRACE
from ablate.serialization import read_json, write_json
from ablate.training.distributed import Ranks
from ablate.training.evaluation import Best, Evaluation, Measured, Stop, evaluate
from ablate.training.fingerprint import FRACTIONS, OrderHash, weights_hash
from ablate.training.grad_norms import GradNorms
from ablate.training.precision import Precision
from ablate.training.predictions import Kept, write_predictions
from ablate.training.state import Position
from ablate.training.throughput import Session, peak_memory_bytes, read_sessions, throughput
from ablate.training.trace_buffer import DeviceRow, TraceRows, open_sink

DIVERGED = "non-finite gradients"

_PROGRESS_SECONDS = 1.0
_FLUSH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the notebook has to know of the run. looks: samples at which to evaluate, rising; 0 comes on top of them.

    rate: of the schedule, by the number of applied steps. rate_set: the one that the optimizer's first group has now.
    """

    folder: Path | None
    total_steps: int
    samples_per_epoch: int
    looks: Sequence[int]
    flush_every: int
    norms: GradNorms
    rate: Callable[[int], float]
    rate_set: Callable[[], float | torch.Tensor]
    flops_per_token: float
    assumed_peak: float | None


class Observer:
    """Records one run, to a folder or in memory. resumed: what `state` gave when the checkpoint was made."""

    def __init__(
        self,
        setting: Setting,
        ranks: Ranks,
        precision: Precision,
        evaluation: Evaluation | None,
        collate: Callable[[list[Any]], Any],
        items: dict[str, Any],
        resumed: dict[str, Any] | None = None,
    ) -> None:
        self.setting, self.ranks, self.precision = setting, ranks, precision
        self.evaluation, self.collate = evaluation, collate
        self.fingerprint = Fingerprint(items=items)
        self.session = Session(environment=items.get("environment", {}))
        self._run = RunDir(setting.folder) if setting.folder is not None and ranks.records else None
        self._earlier = self._open_folder(resumed)
        self._order = OrderHash()
        self._fed: list[NDArray[np.int64]] = []
        self._train_seconds, self._tokens, self._looked_at = 0.0, 0, -1
        self._best = Best(resumed["best"] if resumed else None)
        self._rates: dict[int, float | torch.Tensor] = {}
        self._rated = {max(1, math.ceil(part * setting.total_steps)) for part in FRACTIONS}
        self._replayed: dict[str, str] = resumed["order"] if resumed else {}
        extents = resumed["extents"] if resumed else {}
        metadata = {"groups": "\n".join(setting.norms.groups)}
        self._trace = open_sink(
            setting.folder, "trace", TRACE, metadata, keep=ranks.records, resume_at=extents.get("trace")
        )
        self._evals = open_sink(setting.folder, "evals", EVALS, keep=ranks.records, resume_at=extents.get("evals"))
        applied_steps = resumed["applied_steps"] if resumed else 0
        self._rows = TraceRows(
            self._trace, setting.flush_every, rate=setting.rate, norms=setting.norms, applied_steps=applied_steps
        )
        if resumed:
            self._go_on(resumed)
        self._wrote_progress = self._flushed = time.monotonic()

    # ---- what the loop tells -----------------------------------------------------------------------------------

    def row(
        self,
        at: Position,
        seconds: float,
        micro_samples: int,
        device: DeviceRow,
        ids: NDArray[np.int64],
        *,
        known: bool,
    ) -> None:
        """Keep one step's row; write the block when it is full, or where that costs no wait and somebody may be watching.

        known: whether the host knows already that the step was not applied, and why matters now.
        """
        self._train_seconds += seconds
        self.session.step(seconds, len(ids), at.tokens - self._tokens)
        self._tokens = at.tokens
        self._fed.append(ids)
        if at.step in self._rated:
            rate = self.setting.rate_set()
            self._rates[at.step] = rate.detach().clone() if isinstance(rate, torch.Tensor) else rate
        epoch = at.samples / self.setting.samples_per_epoch
        full = self._rows.add((at.step, epoch, at.samples, at.tokens, seconds, micro_samples), device)
        on_cpu = self.precision.device.type == "cpu"
        if full or known or (on_cpu and time.monotonic() - self._flushed > _FLUSH_SECONDS):
            self.flush(wait=False)

    def look_if_due(self, at: Position, stop: Stop) -> None:
        """Evaluate where a look is due: before training, and wherever one was passed since the last."""
        following = bisect_right(self.setting.looks, self._looked_at)
        passed = following < len(self.setting.looks) and self.setting.looks[following] <= at.samples
        if passed or self._looked_at < 0:
            self.look(at, stop)

    def look(self, at: Position, stop: Stop = lambda: None) -> None:
        """Evaluate and write one row per metric; nothing, when `stop` has a reason on the way."""
        if self.evaluation is None or at.samples == self._looked_at:
            return
        self.flush(wait=True)
        if self.precision.device.type == "cuda":
            torch.cuda.synchronize(self.precision.device)  # so that queued training is not billed to evaluation
        began = time.perf_counter()
        final = at.step >= self.setting.total_steps and self.setting.folder is not None
        kept = Kept() if final and self.evaluation.keep_examples else None
        measured = evaluate(self.evaluation, self.collate, self.precision, self.ranks, stop, kept)
        if measured is None:
            return
        examples = None if kept is None else kept.columns(self.ranks, self.evaluation.ids, self.evaluation.groups)
        seconds = time.perf_counter() - began
        self._looked_at = at.samples
        self.session.look(seconds, len(self.evaluation.examples))
        self._write_look(at, seconds, measured)
        if examples is not None and self._run is not None:
            write_predictions(self._run.predictions, examples, step=at.step, split=self.evaluation.split)
        means = {metric: one.mean for metric, one in measured.items()}
        self._best.update(means, at.step)
        if at.step == 0:
            self.fingerprint.items["loss_at_start"] = means
            self._write_fingerprint()

    @property
    def skipped(self) -> int:
        """Consecutive steps not applied, as far as is known without waiting for the device."""
        return self._rows.skipped

    def flush(self, *, wait: bool) -> None:
        """Hand the rows on to the trace; with `wait`, all of them."""
        self._rows.flush(wait=wait)
        if self._fed:
            self._order.add(np.concatenate(self._fed))
            self._fed = []
        self._flushed = time.monotonic()
        if self._flushed - self._wrote_progress > _PROGRESS_SECONDS or wait or self._rows.last.get("step", 0) < 2:
            self._write_progress()

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs to go on with this record; every row is on disk afterwards."""
        self.flush(wait=True)
        return {
            "extents": {"trace": self._trace.extent(), "evals": self._evals.extent()},
            "applied_steps": self._rows.applied_steps,
            "skipped": self._rows.skipped,
            "culprit": self._rows.culprit,
            "largest_norm": self._rows.largest_norm,
            "train_seconds": self._train_seconds,
            "looked_at": self._looked_at,
            "best": self._best.values,
            "order": self._order.rungs,
            "rates": self._rates_set(),
            "loss_at_start": self.fingerprint.items.get("loss_at_start"),
        }

    @contextmanager
    def recording(self, at: Position) -> Iterator[None]:
        """Whatever ends the loop, what it has recorded is kept: an exception becomes the run's outcome and goes on."""
        try:
            yield
        except Exception as error:
            sentence = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            self._end("failed", at, type(error).__name__, sentence)
            raise
        except KeyboardInterrupt:
            self._end("interrupted", at, "KeyboardInterrupt", self._how_far(at, "KeyboardInterrupt"))
            raise

    def finish(self, at: Position, reason: str | None) -> RunStatus:
        """Last look, last block, final hashes. The final evaluation always takes place unless the run was interrupted."""
        diverged = reason == DIVERGED
        if reason is None or diverged:
            self.look(at)
        self.flush(wait=True)
        self.fingerprint.items |= {"order": self._order.rungs, "rates": self._rates_set()} | self._spent(at)
        self._write_fingerprint()
        weights = weights_hash(self.ranks.bare.state_dict().items())
        status: Status = "finished" if reason is None else "diverged" if diverged else "interrupted"
        return self._end(status, at, reason or "budget", self._sentence(at, reason), weights)

    def _spent(self, at: Position) -> dict[str, Any]:
        """`first_step`, `tokens_seen` and `flops` of the fingerprint, from the record: a run in several sessions has one."""
        filled = (block for block in self._trace.read(("loss", "grad_norm")) if len(block))
        first = next(filled, None)
        flops = self.setting.flops_per_token * (at.tokens or at.samples)
        return ({} if first is None else {"first_step": first.slice(0, 1).to_pylist()[0]}) | {
            "tokens_seen": at.tokens,
            "flops": flops,
        }

    def _read_rates(self) -> None:
        """A sibling has noted its rate where it matters to itself. Its rows hold it at the steps that matter here."""
        for block in self._trace.read(("step", "learning_rate")):
            steps, rates = block["step"].to_numpy(), block["learning_rate"].to_numpy()
            for place in np.flatnonzero(np.isin(steps, list(self._rated))):
                self._rates.setdefault(int(steps[place]), float(rates[place]))

    def _rates_set(self) -> dict[str, float]:
        return {str(step): float(rate) for step, rate in self._rates.items()}

    def trace(self) -> Trace:
        return Trace(self._trace.table())

    def evals(self) -> Evals:
        return Evals(self._evals.table())

    # ---- how it is kept ----------------------------------------------------------------------------------------

    def _open_folder(self, resumed: dict[str, Any] | None) -> list[Session]:
        """Make the folder ready; the sessions that this run has had before."""
        if self._run is None:
            return []
        self._run.path.mkdir(parents=True, exist_ok=True)
        self._run.status.unlink(missing_ok=True)
        if resumed is None:
            self._run.predictions.unlink(missing_ok=True)
        if resumed is None or not self._run.progress.exists():
            return []
        return read_sessions(read_json(self._run.progress))

    def _go_on(self, resumed: dict[str, Any]) -> None:
        self._train_seconds, self._looked_at = resumed["train_seconds"], resumed["looked_at"]
        self._rows.skipped, self._rows.culprit = resumed["skipped"], resumed["culprit"]
        self._rows.largest_norm = float(resumed["largest_norm"])
        self.session.prefix_from = resumed.get("prefix_from")
        self._rates = {int(step): float(rate) for step, rate in resumed["rates"].items() if int(step) in self._rated}
        if self.session.prefix_from:
            self._read_rates()
        if resumed["loss_at_start"]:
            loss = {name: float(value) for name, value in resumed["loss_at_start"].items()}
            self.fingerprint.items["loss_at_start"] = loss

    def replay_order(self, ids: Iterator[NDArray[np.int64]], at: Position) -> None:
        """Hash again the ids that an earlier session fed, and count on from there. Raises LoopError if they are other ones."""
        for some in ids:
            self._order.add(some)
        if self._order.rungs != self._replayed:
            raise LoopError(
                f"the order of the {at.samples} samples that were fed before the checkpoint is not the one it would be now",
                "another folder: the run cannot go on from there",
            )
        self._tokens = at.tokens
        self.session.first_step = at.step + 1

    def _end(self, status: Status, at: Position, reason: str, sentence: str, weights: str | None = None) -> RunStatus:
        self.flush(wait=True)
        self._trace.close()
        self._evals.close()
        sessions = [*self._earlier, self.session]
        outcome = RunStatus(
            status=status,
            step=at.step,
            reason=reason,
            message=sentence,
            weights_sha256=weights,
            best=self._best.values,
            gradient=flags_of_trace(self._trace.read(COLUMNS), self.setting.norms.groups),
            throughput=throughput(
                sessions, flops_per_token=self.setting.flops_per_token, assumed_peak=self.setting.assumed_peak
            ),
            sessions=[one.to_json() for one in sessions],
        )
        if self._run is not None:
            write_value(self._run, outcome)
        return outcome

    def _write_look(self, at: Position, seconds: float, measured: dict[str, Measured]) -> None:
        assert self.evaluation is not None
        epoch = at.samples / self.setting.samples_per_epoch
        rows = [
            (at.step, epoch, at.samples, at.tokens, self._train_seconds, seconds, self.evaluation.split, metric,
             one.total, one.count, one.sum_squares)
            for metric, one in measured.items()
        ]  # fmt: skip
        self._evals.write(dict(zip(EVALS.names, (list(column) for column in zip(*rows, strict=True)), strict=True)))

    def _write_progress(self) -> None:
        self.session.peak_memory_bytes = peak_memory_bytes(self.precision.device)
        if self._run is None or not (last := self._rows.last):
            return
        self._wrote_progress = time.monotonic()
        rates = throughput([self.session], flops_per_token=self.setting.flops_per_token, assumed_peak=None)
        progress = {
            "pid": os.getpid(),
            "step": int(last["step"]),
            "total_steps": self.setting.total_steps,
            "samples": int(last["samples"]),
            "loss": last["loss"],
            "grad_norm": last["grad_norm"],
            "samples_per_second": rates["train_samples_per_second"],
            "updated": now(),
            "sessions": [one.to_json() for one in (*self._earlier, self.session)],
        }
        write_json(self._run.progress, progress, durable=False)

    def _write_fingerprint(self) -> None:
        if self._run is not None:
            write_value(self._run, self.fingerprint)

    def _sentence(self, at: Position, reason: str | None) -> str:
        if reason is None:
            return f"finished after {at.step} steps"
        if reason == DIVERGED:
            where = f", first in {self._rows.culprit}" if self._rows.culprit else ""
            return f"diverged at step {at.step}: the last {self.skipped} gradients were not finite{where}"
        return self._how_far(at, reason)

    def _how_far(self, at: Position, reason: str) -> str:
        return f"interrupted after {at.step} of {self.setting.total_steps} steps: {reason}"
