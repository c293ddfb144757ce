"""The loop's notebook: rows, looks, fingerprint, outcome. It watches the training and never touches it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ablate.loop.evaluate import Evaluation, evaluate
from ablate.loop.fingerprint import OrderHash, weights_hash
from ablate.loop.precision import Precision
from ablate.loop.rows import TraceRows, as_table, open_sink
from ablate.record.columns import EVALS, TRACE
from ablate.record.reader import Evals, Trace
from ablate.record.rundir import RunDir, write_json
from ablate.record.values import Fingerprint, Outcome, write_value

LOWER_IS_BETTER = {"loss": True}
"""For keeping the best look; a metric that is not named here is better when higher."""


class Observer:
    """Records one run, to a folder or in memory."""

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        evaluation: Evaluation | None,
        collate: Callable[[list[Any]], Any],
        groups: Sequence[str],
        items: dict[str, Any],
        folder: Path | None,
        *,
        total_steps: int,
        samples_per_epoch: int,
        flush_every: int,
    ) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.model, self.precision, self.evaluation, self.collate = model, precision, evaluation, collate
        self.folder, self.total_steps, self.samples_per_epoch = folder, total_steps, samples_per_epoch
        self.fingerprint = Fingerprint(items=items)
        self._order = OrderHash()
        self._trace = open_sink(folder, "trace", TRACE, {"groups": "\n".join(groups)})
        self._evals = open_sink(folder, "evals", EVALS)
        self._rows = TraceRows(self._trace, flush_every)
        self._culprit: str | None = None
        self._best: dict[str, dict[str, float]] = {}
        self._train_seconds = self._eval_seconds = 0.0
        self._num_evaluated = 0
        self._last_flush = time.monotonic()
        self._looked_at = -1

    @property
    def skipped(self) -> int:
        """Consecutive steps not applied, as far as is known without waiting for the device."""
        return self._rows.skipped

    def row(
        self, host: dict[str, float], scalars: Sequence[torch.Tensor], group_norms: torch.Tensor, ids: NDArray[np.int64]
    ) -> None:
        """Keep one step's row; write the block when it is full, or when somebody may be watching (every 2 seconds)."""
        self._train_seconds += host["step_seconds"]
        self._order.add(ids.tolist())
        full = self._rows.add(host, scalars, group_norms)
        on_cpu = scalars[0].device.type == "cpu"  # where a flush waits for nothing
        if full or (on_cpu and (self._culprit or time.monotonic() - self._last_flush > 2.0)):
            self._flush()

    def name_culprit(self, parameter: str | None) -> None:
        """Remember the first parameter whose gradient was not finite."""
        self._culprit = self._culprit or parameter or "unknown"

    def look(self, step: int, samples: int, tokens: int) -> None:
        """Evaluate and write one row per metric."""
        if self.evaluation is None or step == self._looked_at:
            return
        self._flush()
        if self.precision.device.type == "cuda":
            torch.cuda.synchronize(self.precision.device)  # so that queued training is not billed to evaluation
        began = time.perf_counter()
        measured = evaluate(self.model, self.evaluation, self.collate, self.precision)
        seconds = time.perf_counter() - began
        self._looked_at, self._eval_seconds = step, self._eval_seconds + seconds
        self._num_evaluated += len(self.evaluation.examples)
        rows = [
            (step, samples / self.samples_per_epoch, samples, tokens, self._train_seconds, seconds,
             self.evaluation.split, metric, total, count)
            for metric, (total, count) in measured.items()
        ]  # fmt: skip
        self._evals.write(dict(zip(EVALS.names, (list(column) for column in zip(*rows, strict=True)), strict=True)))
        for metric, (total, count) in measured.items():
            self._keep_best(metric, total / max(count, 1), step)
        if step == 0:
            self.fingerprint.items["loss_at_start"] = {m: total / max(n, 1) for m, (total, n) in measured.items()}
            self._write_fingerprint()

    def finish(self, step: int, samples: int, tokens: int, reason: str | None) -> Outcome:
        """Last look, last block, final hashes. The final evaluation always takes place unless the run was interrupted."""
        diverged = reason == "non-finite gradients"
        if reason is None or diverged:
            self.look(step, samples, tokens)
        self._flush()
        self._trace.close()
        self._evals.close()
        self.fingerprint.items["order"] = self._order.rungs
        self._write_fingerprint()
        outcome = Outcome(
            status="finished" if reason is None else "diverged" if diverged else "interrupted",
            step=step,
            reason=reason or "budget",
            sentence=self._sentence(step, reason),
            weights_sha256=weights_hash(self.model.state_dict().items()),
            best=self._best,
            throughput=self._throughput(step, samples, tokens),
        )
        if self.folder is not None:
            write_value(RunDir(self.folder), outcome)
        return outcome

    def trace(self) -> Trace:
        return Trace(as_table(self._trace, self.folder, "trace"))

    def evals(self) -> Evals:
        return Evals(as_table(self._evals, self.folder, "evals"))

    def _flush(self) -> None:
        self._rows.flush()
        self._last_flush = time.monotonic()
        if self.folder is None or not self._rows.last:
            return
        last = self._rows.last
        write_json(
            RunDir(self.folder).progress,
            {
                "pid": os.getpid(),
                "step": int(last["step"]),
                "total_steps": self.total_steps,
                "samples": int(last["samples"]),
                "loss": last["loss"],
                "grad_norm": last["grad_norm"],
                "samples_per_second": last["samples"] / max(self._train_seconds, 1e-9),
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )

    def _write_fingerprint(self) -> None:
        if self.folder is not None:
            write_value(RunDir(self.folder), self.fingerprint)

    def _keep_best(self, metric: str, value: float, step: int) -> None:
        lower = LOWER_IS_BETTER.get(metric, False)
        best = self._best.get(metric)
        if best is None or (value < best["value"] if lower else value > best["value"]):
            self._best[metric] = {"value": value, "step": step}

    def _throughput(self, step: int, samples: int, tokens: int) -> dict[str, float]:
        train, evaluating = max(self._train_seconds, 1e-9), max(self._eval_seconds, 1e-9)
        return {
            "train_samples_per_second": samples / train,
            "train_tokens_per_second": tokens / train,
            "train_steps_per_second": step / train,
            "eval_samples_per_second": self._num_evaluated / evaluating,
            "train_seconds": self._train_seconds,
            "eval_seconds": self._eval_seconds,
        }

    def _sentence(self, step: int, reason: str | None) -> str:
        if reason is None:
            return f"finished after {step} steps"
        if reason == "non-finite gradients":
            where = f", first in {self._culprit}" if self._culprit else ""
            return f"diverged at step {step}: the last {self.skipped} gradients were not finite{where}"
        return f"interrupted after {step} of {self.total_steps} steps: {reason}"
