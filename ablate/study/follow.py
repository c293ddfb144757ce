"""The process that sends one run to W&B: `python -m ablate.study.follow <run folder> <online|offline> <pid of the run>`.

It reads what the run has written, every two seconds, and sends it as a batch; it ends when the run has an outcome or is
gone. Whatever goes wrong here is written to `tracker.log` and concerns nobody else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import yaml

from ablate.interval import parse_interval
from ablate.record.rundir import RunDir
from ablate.record.values import Outcome, read_outcome
from ablate.study.capture import captured
from ablate.study.tail import Tail
from ablate.study.track import LOG

if TYPE_CHECKING:
    import wandb

AXES = ("step", "samples", "epoch", "seconds")
"""What a chart can have as its x-axis; every row sent has all four. `seconds` is training time."""

_POLL_SECONDS = 2.0
_GRACE_SECONDS = 3.0  # for the outcome of a run whose process was killed, which its study writes
_FINISH_SECONDS = 600  # then an unreachable server is given up; `wandb sync` on the run's folder sends the rest
_LONGEST_TAG = 64

Row = dict[str, Any]
Mode = Literal["online", "offline"]


@dataclass(slots=True)
class Windows:
    """Steps of the trace as the rows that `observe.log_every` asks for.

    log_every: as typed. samples_per_step: to turn an interval in samples or epochs into steps.
    """

    log_every: str
    samples_per_step: int
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
        samples_per_epoch = round(step["samples"] / step["epoch"]) if step["epoch"] else 1
        interval = parse_interval(self.log_every, key="observe.log_every")
        return interval.steps(samples_per_step=self.samples_per_step, samples_per_epoch=samples_per_epoch)

    def _row(self) -> Row:
        """Mean loss of the window and the last step's other values; its largest norm too, so that no spike is lost."""
        steps, self.waiting = self.waiting, []
        end = steps[-1]
        self.seconds += sum(step["step_seconds"] for step in steps)
        row = {
            "step": end["step"],
            "samples": end["samples"],
            "epoch": end["epoch"],
            "seconds": self.seconds,
            "train/loss": sum(step["loss"] for step in steps) / len(steps),
            "train/grad_norm": end["grad_norm"],
            "train/clip_coefficient": end["clip_coefficient"],
            "train/learning_rate": end["learning_rate"],
            "train/skipped_steps": sum(not step["applied"] for step in steps),
        }
        return row if len(steps) == 1 else {**row, "train/grad_norm_max": max(step["grad_norm"] for step in steps)}


def eval_rows(rows: Sequence[Row]) -> list[Row]:
    """One row for each look, its metrics side by side: `eval/loss`, or `eval/<split>/loss` off the held-out examples."""
    looks: dict[int, Row] = {}
    for row in rows:
        axes = {"step": row["step"], "samples": row["samples"], "epoch": row["epoch"], "seconds": row["train_seconds"]}
        name = row["metric"] if row["split"] == "held_out" else f"{row['split']}/{row['metric']}"
        looks.setdefault(row["step"], axes)[f"eval/{name}"] = row["sum"] / max(row["count"], 1)
    return list(looks.values())


def describe(run: RunDir, config: dict[str, Any]) -> dict[str, Any]:
    """How W&B is to name and group the run: group = study, job type = arm, tags = axis and level."""
    arm = str(config["arm"])
    axis, _, level = arm.partition("=")
    return {
        "group": run.path.parent.parent.name,
        "job_type": arm[:_LONGEST_TAG],
        "name": f"{arm}/seed={config['seed']}",
        "tags": list(dict.fromkeys(tag[:_LONGEST_TAG] for tag in (axis, arm) if level)) or [axis[:_LONGEST_TAG]],
        "project": config["tracker"]["project"],
        "entity": config["tracker"]["entity"],
        "config": config,
    }


def follow(run: RunDir, mode: Mode, parent: int) -> None:
    """Send the run's rows until it ends. Raises whatever wandb raises."""
    _wait_for(run, parent)
    if not run.config.exists():
        print("the run ended before it had a config: nothing to send")
        return
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    tracked = _init(run, config, mode, parent)
    code = 1
    try:
        outcome = _send_all(run, config, tracked, parent)
        code = 0 if outcome is not None and outcome.status == "finished" else 1
    finally:
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(_FINISH_SECONDS)
        tracked.finish(exit_code=code)
        signal.alarm(0)


def _send_all(run: RunDir, config: dict[str, Any], tracked: wandb.Run, parent: int) -> Outcome | None:
    trace, evals = Tail(run.trace), Tail(run.evals)
    windows = Windows(config["observe"]["log_every"], config["data"]["batch_size"] * config["loop"]["accumulate"])
    sent = 0
    while True:
        # Asked before reading: what the run wrote before its outcome is then surely read in this round.
        over = _is_over(run, parent)
        for row in [*windows.rows(trace.new_rows(), last=over), *eval_rows(evals.new_rows())]:
            tracked.log(row)
            sent += 1
        if over:
            break
        time.sleep(_POLL_SECONDS)
    outcome = _last_outcome(run)
    if outcome is not None:
        tracked.summary.update({"outcome": outcome.status, "outcome_sentence": outcome.sentence, **outcome.throughput})
    print(f"sent {sent} rows; outcome: {outcome.status if outcome else 'none, the run was killed'}")
    return outcome


def _init(run: RunDir, config: dict[str, Any], mode: Mode, parent: int) -> wandb.Run:
    import wandb

    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        x_stats_pid=parent,  # the load of the run, not of this process
    )
    tracked = wandb.init(dir=run.path, mode=mode, settings=settings, **describe(run, config))
    for axis in AXES:
        tracked.define_metric(axis, hidden=True)
    # Samples by default: arms of different batch size are then read against what they have seen.
    for part in ("train/*", "eval/*"):
        tracked.define_metric(part, step_metric="samples")
    print(f"W&B {mode}: {tracked.url if mode == 'online' else run.path / 'wandb'}", flush=True)
    return tracked


def _wait_for(run: RunDir, parent: int) -> None:
    while not run.trace.exists() and not _is_over(run, parent):
        time.sleep(_POLL_SECONDS / 10)


def _is_over(run: RunDir, parent: int) -> bool:
    # The system hands an orphan to another process: the run is then gone, however it went.
    return run.outcome.exists() or os.getppid() != parent


def _last_outcome(run: RunDir) -> Outcome | None:
    deadline = time.monotonic() + _GRACE_SECONDS
    while not run.outcome.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return read_outcome(run)


def _give_up(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError(
        f"the server took more than {_FINISH_SECONDS} s; `wandb sync` on the folder wandb/ sends the rest"
    )


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when everything was sent."""
    folder, mode, parent = arguments
    # Behind the run itself, which may need every core.
    os.nice(10)
    with captured(Path(folder) / LOG):
        try:
            follow(RunDir(Path(folder)), "offline" if mode == "offline" else "online", int(parent))
        except Exception:
            # The boundary of this process: nobody waits for it, so its log is where a failure can be read.
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
