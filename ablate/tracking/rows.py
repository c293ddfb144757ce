"""The rows that a tracker is sent: a run's steps and looks, each once, in the order of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ablate.units import parse_interval

Row = dict[str, Any]


@dataclass(slots=True)
class Windows:
    """Steps of the trace as the rows that `tracker.log_every` asks for.

    log_every: as typed. samples_per_step: to turn an interval in samples or epochs into steps. groups: names of the norms.
    """

    log_every: str
    samples_per_step: int
    groups: Sequence[str] = ()
    waiting: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    def rows(self, steps: Sequence[Row], *, last: bool = False) -> Iterator[Row]:
        """One row for each window that is complete now; with `last`, also for the steps left over at the end."""
        for step in steps:
            self.waiting.append(step)
            if step["step"] % self._length(step) == 0:
                yield self._row()
        if last and self.waiting:
            yield self._row()

    def _length(self, step: Row) -> int:
        samples, epoch = step["samples"] or 0, step["epoch"]
        interval = parse_interval(self.log_every, key="tracker.log_every")
        return interval.steps(
            samples_per_step=self.samples_per_step, samples_per_epoch=round(samples / epoch) if epoch else 1
        )

    def _row(self) -> Row:
        """Mean loss of the window and the last step's other values; its largest norm too, so that no spike is lost."""
        steps, self.waiting = self.waiting, []
        end = steps[-1]
        self.seconds += sum(_told(steps, "step_seconds"))
        row = {
            "step": end["step"],
            "samples": end["samples"],
            "tokens": end["tokens"],
            "epoch": end["epoch"],
            "seconds": self.seconds,
            "train/loss": _mean(_told(steps, "loss")),
            "train/grad_norm": end["grad_norm"],
            "train/grad_norm_max": max(_told(steps, "grad_norm"), default=None) if len(steps) > 1 else None,
            "train/clip_coefficient": end["clip_coefficient"],
            "train/learning_rate": end["learning_rate"],
            "train/loss_scale": end["loss_scale"],
            "train/skipped_steps": sum(step["applied"] is False for step in steps),
            "train/step_seconds": _mean(_told(steps, "step_seconds")),
            **self._by_group("train/group_norm", end["group_norms"]),
            **self._by_group("train/update_ratio", end["update_ratios"]),
            "train/micro_samples": end["micro_samples"] or None,
            "train/micro_grad_norm": end["micro_grad_norm"],
        }
        return {name: value for name, value in row.items() if value is not None}

    def _by_group(self, name: str, values: Sequence[float] | None) -> Row:
        """By the group's name; by its number in a trace that has named none, or another number of them."""
        values = values or []
        groups = self.groups if len(self.groups) == len(values) else range(len(values))
        return {f"{name}/{group}": value for group, value in zip(groups, values, strict=True)}


def eval_rows(rows: Sequence[Row]) -> list[Row]:
    """One row for each look, its metrics side by side: `eval/loss`, or `eval/<split>/loss` off the held-out examples."""
    looks: dict[int, Row] = {}
    for row in rows:
        look = {
            "step": row["step"],
            "samples": row["samples"],
            "tokens": row["tokens"],
            "epoch": row["epoch"],
            "seconds": row["train_seconds"],
            "eval/seconds": row["eval_seconds"],
        }
        here = looks.setdefault(row["step"], {name: value for name, value in look.items() if value is not None})
        name = row["metric"] if row["split"] == "held_out" else f"{row['split']}/{row['metric']}"
        here[f"eval/{name}"] = row["sum"] / max(row["count"], 1)
    return list(looks.values())


@dataclass(slots=True)
class Ordered:
    """Steps and looks in one sequence. A row of the trace and the look that follows it at once are one row.

    What a run has written last waits for what comes after it: the look at that step may not have been written yet.
    """

    _waiting: dict[int, Row] = field(default_factory=dict)

    def rows(self, trained: Sequence[Row], looked: Sequence[Row], newest: int, *, over: bool = False) -> list[Row]:
        """Rows that nothing can come before any more. newest: step up to which the trace is on disk."""
        for row in [*looked, *trained]:
            here = self._waiting.setdefault(row["step"], {})
            here.update(row)
        ready = sorted(step for step in self._waiting if over or step < newest)
        return [self._waiting.pop(step) for step in ready]


def _told(steps: Sequence[Row], column: str) -> list[float]:
    """Without the nulls of an imported run."""
    return [step[column] for step in steps if step[column] is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
