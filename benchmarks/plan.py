"""How long planning takes: `ablate plan` for 20 arms x 50 seeds, from the command to its last line.

The whole command is timed, imports included: with every run done, and with half of them done, when the rest is estimated from
those. The runs' folders are made up; nothing is trained. Beside it the parts, in a process that has imported much already.
Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import _shared

EXAMPLES = """\
  python -m benchmarks.plan
  python -m benchmarks.plan --arms 5 --seeds 10
  python -m benchmarks.plan --quick
"""
STUDY = "planned"


class _Spent(NamedTuple):
    """Seconds by the clock, and on a core: on a machine that does other things as well, the second says more."""

    wall: float
    cpu: float


def main(argv: list[str] | None = None) -> int:
    """Measure and report."""
    parser = _shared.parser(__doc__, EXAMPLES)
    parser.add_argument("--arms", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.arms, arguments.seeds, arguments.rounds = 3, 2, 1
    typed = _typed(arguments.arms, arguments.seeds)
    seconds: dict[str, list[_Spent]] = {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for share in (1.0, 0.5):
                parts = _prepare(typed, share)
                for _ in range(arguments.rounds):
                    seconds.setdefault(f"whole command, {share:.0%} of the runs done", []).append(_command(typed))
        finally:
            os.chdir(here)
    seconds |= {name: [spent] for name, spent in parts.items()}
    _shared.finish(arguments, *_report(arguments, seconds))
    return 0


def _typed(arms: int, seeds: int) -> list[str]:
    rates = ",".join(f"{(k + 1) * 1e-5:g}" for k in range(arms + 1) if k != 4)  # 5e-05 is the baseline's own
    return [f"optim.lr={rates.rpartition(',')[0]}", f"study.seeds={seeds}", f"study.name={STUDY}"]


def _command(typed: list[str]) -> _Spent:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": str(_shared.ROOT)}
    command = [sys.executable, "-m", "ablate.cli", "plan", *typed]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Spent(time.perf_counter() - began, cpu)


def _prepare(typed: list[str], share: float) -> dict[str, _Spent]:
    """Freeze the plan and leave results of so large a share of its runs. Returns the seconds of the parts of planning."""
    from ablate.planning.compose import opened
    from ablate.planning.planner import make_plan
    from ablate.runner.run_study import freeze, pending

    seconds: dict[str, _Spent] = {}
    with opened() as composer:
        prepared = _timed(seconds, "make the plan", lambda: make_plan(composer, composer.parse(typed), command=""))
    plan, folder = prepared.plan, prepared.folder
    folder.mkdir(parents=True, exist_ok=True)
    _timed(seconds, "write it", lambda: freeze(plan, folder))
    for number, run in enumerate(plan.runs):
        _leave(folder, plan, run, number if number < share * len(plan.runs) else None)
    _timed(seconds, "check which runs are done", lambda: pending(plan, folder))
    return seconds


def _leave(folder: Path, plan: Any, run: Any, number: int | None) -> None:
    """The result of a run, made one after the other; none where `number` is None."""
    from ablate.records.layout import StudyDir
    from ablate.records.metadata import Manifest, RunStatus

    place = StudyDir(folder).run(run.arm, run.seed)
    if number is None:
        place.status.unlink(missing_ok=True)
        return
    # As many at a time as there are cores, so that the estimate is made from them.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=60 * (number // cores))
    rates = {"train_samples_per_second": 50.0, "eval_samples_per_second": 200.0}
    manifest = Manifest(
        arm=run.arm,
        seed=run.seed,
        digest=run.digest,
        request=run.request,
        code_digest=plan.code_digest,
        started=start.isoformat(),
        ended=(start + timedelta(seconds=60)).isoformat(),
    )
    place.path.mkdir(parents=True, exist_ok=True)
    place.manifest.write_text(json.dumps(asdict(manifest)), encoding="utf-8")
    place.status.write_text(json.dumps(asdict(RunStatus(status="finished", throughput=rates))), encoding="utf-8")


def _timed(seconds: dict[str, _Spent], name: str, call: Callable[[], Any]) -> Any:
    began, cpu = time.perf_counter(), time.process_time()
    found = call()
    seconds[name] = _Spent(time.perf_counter() - began, time.process_time() - cpu)
    return found


def _report(arguments: argparse.Namespace, seconds: dict[str, list[_Spent]]) -> tuple[str, dict[str, Any]]:
    device = _shared.device_name(_shared.pick_device("cpu"))
    runs = arguments.arms * arguments.seeds
    rows = [
        (name, *(f"{statistics.median(values):.2f}" for values in zip(*spent, strict=True)))
        for name, spent in seconds.items()
    ]
    text = "\n".join(
        [
            f"## Planning {runs:,} runs: {arguments.arms} arms x {arguments.seeds} seeds",
            "",
            f"On {device}.",
            "",
            _shared.table(["what", "s", "of them on a core"], rows),
            "",
        ]
    )
    return text, {
        "benchmark": "plan",
        "device": device,
        "arms": arguments.arms,
        "seeds": arguments.seeds,
        "seconds": seconds,
    }


if __name__ == "__main__":
    raise SystemExit(main())
