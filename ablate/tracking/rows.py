"""Rows that a tracker gets: the steps and evaluations of a run, each once, in the order of the steps; their names and units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.config.flatten import leaves
from ablate.records.reader import Tail
from ablate.tracking.describe import RunInfo
from ablate.units import parse_interval

Row = dict[str, Any]

_MAX_ROWS = 1000
"""Steps that are read before they are sent."""

AXES = {
    "step": ("optimizer steps", "taken, this one included"),
    "samples": ("samples", "that training has seen"),
    "tokens": ("tokens", "real ones that training has seen"),
    "epoch": ("epochs", "passes over the training set"),
    "seconds": ("seconds", "of training, evaluation apart"),
}
"""Possible x-axes of a chart; every row has all that are known."""

TRAIN = {
    "train/loss": ("the loss's own", "mean of the steps since the row before"),
    "train/grad_norm": ("L2 norm", "of the row's last step: fp32, unscaled, before clipping"),
    "train/grad_norm_max": ("L2 norm", "largest since the row before; only where rows are further apart than a step"),
    "train/clip_coefficient": ("factor", "by which clipping multiplied the last step's gradient"),
    "train/learning_rate": ("rate", "of the last step, first parameter group"),
    "train/loss_scale": ("factor", "of the gradient scaler"),
    "train/skipped_steps": ("steps", "since the row before whose gradient was not finite"),
    "train/step_seconds": ("seconds", "of a step, mean since the row before"),
    "train/group_norm/<group>": ("L2 norm", "of the last step, per parameter group"),
    "train/update_ratio/<group>": ("ratio", "of the weights' change to the weights; with record.update_ratio"),
    "train/micro_samples": ("samples", "of the first forward pass; with record.grad_noise_scale"),
    "train/micro_grad_norm": ("L2 norm", "of the first forward pass alone; with record.grad_noise_scale"),
}

EVAL = {
    "eval/<metric>": ("the metric's own", "mean over the held-out examples"),
    "eval/<split>/<metric>": ("the metric's own", "the same over another split"),
    "eval/seconds": ("seconds", "wall time of the evaluation"),
}

STUDY = {
    "contrasts": ("table", "every contrast: effect, interval, p, seeds, verdict, sentence"),
    "conclusions": ("text", "the verdict sentences, most important first"),
    "effect/<arm>": ("the metric's own", "of the primary metric, with `low/<arm>` and `high/<arm>`, its 95% interval"),
    "verdict/<arm>": ("word", "`helps`, `hurts`, `equivalent`, `inconclusive`, ..."),
    "report": ("page", "report.html"),
}
"""Conclusions of a study, in a run of its own."""


class RecordRows:
    """Rows of a run's tables, from where they were read last."""

    def __init__(self, info: RunInfo) -> None:
        self._config = info.config
        self._trace, self._evals, self._merge = Tail(info.run.trace), Tail(info.run.evals), MergeBySteps()
        self._windows: LogWindows | None = None
        self._newest = 0

    def rows(self, *, ended: bool) -> Iterator[list[Row]]:
        """Yield new rows in pieces of bounded size. ended: whether no more rows will follow."""
        # Evaluations first: the steps of an evaluation that was read can then be read as well.
        evaluations = eval_rows(self._evals.new_rows())
        more = True
        while more:
            steps = self._trace.new_rows(_MAX_ROWS)
            more = len(steps) >= _MAX_ROWS
            if steps:
                self._newest = steps[-1]["step"]
                self._windows = self._windows or self._make_windows(steps[0])
            last = ended and not more
            trained = list(self._windows.rows(steps, last=last)) if self._windows else []
            yield self._merge.rows(trained, evaluations, self._newest, ended=last)
            evaluations = []

    def _make_windows(self, first: Row) -> LogWindows:
        """Every step is a row of a run whose loop has no such settings."""
        settings = leaves(self._config)
        log_every, batch = settings.get("tracker.log_every", "1 steps"), settings.get("data.batch_size")
        accumulated = settings.get("train.grad_accum_steps", 1)
        samples = batch * accumulated if isinstance(batch, int) else first["samples"] or 1
        return LogWindows(log_every, max(int(samples), 1), self._trace.groups)


@dataclass(slots=True)
class LogWindows:
    """Rows at the interval of `tracker.log_every`, each for the steps since the row before."""

    log_every: str
    samples_per_step: int
    """Converts an interval in samples or epochs to steps."""
    groups: Sequence[str] = ()
    """Names of the gradient norm groups."""
    pending: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    def rows(self, steps: Sequence[Row], *, last: bool = False) -> Iterator[Row]:
        """Yield a row for each complete window; with `last`, also for the remaining steps."""
        for step in steps:
            self.pending.append(step)
            if step["step"] % self._length(step) == 0:
                yield self._row()
        if last and self.pending:
            yield self._row()

    def _length(self, step: Row) -> int:
        samples, epoch = step["samples"] or 0, step["epoch"]
        interval = parse_interval(self.log_every, key="tracker.log_every")
        return interval.steps(
            samples_per_step=self.samples_per_step, samples_per_epoch=round(samples / epoch) if epoch else 1
        )

    def _row(self) -> Row:
        """Return the window's mean loss, its largest norm (so that no spike is lost) and the last step's other values."""
        steps, self.pending = self.pending, []
        last = steps[-1]
        step_seconds = _values(steps, "step_seconds")
        self.seconds += sum(step_seconds)
        row = {
            "step": last["step"],
            "samples": last["samples"],
            "tokens": last["tokens"],
            "epoch": last["epoch"],
            "seconds": self.seconds,
            "train/loss": _mean(_values(steps, "loss")),
            "train/grad_norm": last["grad_norm"],
            "train/grad_norm_max": max(_values(steps, "grad_norm"), default=None) if len(steps) > 1 else None,
            "train/clip_coefficient": last["clip_coefficient"],
            "train/learning_rate": last["learning_rate"],
            "train/loss_scale": last["loss_scale"],
            "train/skipped_steps": sum(step["applied"] is False for step in steps),
            "train/step_seconds": _mean(step_seconds),
            **self._by_group("train/group_norm", last["group_norms"]),
            **self._by_group("train/update_ratio", last["update_ratios"]),
            "train/micro_samples": last["micro_samples"] or None,
            "train/micro_grad_norm": last["micro_grad_norm"],
        }
        return {name: value for name, value in row.items() if value is not None}

    def _by_group(self, name: str, values: Sequence[float] | None) -> Row:
        """Name values by group; by number if the trace does not name its groups."""
        values = values or []
        groups = self.groups if len(self.groups) == len(values) else range(len(values))
        return {f"{name}/{group}": value for group, value in zip(groups, values, strict=True)}


def eval_rows(rows: Sequence[Row]) -> list[Row]:
    """Return one row per evaluation: `eval/loss`, or `eval/<split>/loss` of another split than the held-out examples."""
    evaluations: dict[int, Row] = {}
    for row in rows:
        position = {name: row[name] for name in ("step", "samples", "tokens", "epoch")}
        position |= {"seconds": row["train_seconds"], "eval/seconds": row["eval_seconds"]}
        known = {name: value for name, value in position.items() if value is not None}
        name = row["metric"] if row["split"] == "held_out" else f"{row['split']}/{row['metric']}"
        evaluations.setdefault(row["step"], known)[f"eval/{name}"] = row["sum"] / max(row["count"], 1)
    return list(evaluations.values())


@dataclass(slots=True)
class MergeBySteps:
    """Merge training rows and evaluations of the same step into one row.

    The newest row is held back until the next one is written, because the evaluation at its step may still follow.
    """

    _pending: dict[int, Row] = field(default_factory=dict)

    def rows(self, trained: Sequence[Row], evaluated: Sequence[Row], newest: int, *, ended: bool = False) -> list[Row]:
        """Return rows before which no other row can come. newest: last step of the trace on disk."""
        for row in [*evaluated, *trained]:
            self._pending.setdefault(row["step"], {}).update(row)
        ready = sorted(step for step in self._pending if ended or step < newest)
        return [self._pending.pop(step) for step in ready]


def _values(steps: Sequence[Row], column: str) -> list[float]:
    """Return a column without the nulls of an imported run."""
    return [step[column] for step in steps if step[column] is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
