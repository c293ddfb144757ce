"""Run the command line as a user does, and compare two studies run by run: weights, fingerprints, every column but time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import read_fingerprint, read_status
from ablate.records.reader import read_evals, read_trace

ABLATE = [sys.executable, "-c", "import sys; from ablate.cli import main; sys.exit(main())"]
STUDY = ["-m", "axis=batch_size", "debug=quick", "study.seeds=2", "study.share_prefix=false"]


def started(*arguments: str, cwd: Path, env: Mapping[str, str] = {}) -> subprocess.Popen[str]:
    cwd.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [*ABLATE, *arguments], cwd=cwd, env={**os.environ, **env}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def ablate(*arguments: str, cwd: Path, env: Mapping[str, str] = {}) -> tuple[int, str]:
    """(exit code, what it printed)."""
    process = started(*arguments, cwd=cwd, env=env)
    printed, _ = process.communicate(timeout=240)
    return process.returncode, printed


def kill_owner(run: Path) -> None:
    """SIGKILL to the process that makes this run now, as its claim names it."""
    digest = json.loads((run / "manifest.json").read_text())["digest"]
    owner = json.loads((run.parents[2] / ".claims" / digest).read_text())
    os.kill(owner["pid"], signal.SIGKILL)


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two study folders; empty when they are equal bit for bit."""
    runs = [run.path.relative_to(one) for run in StudyDir(one).runs()]
    found = [] if runs else ["no runs"]
    if runs != [run.path.relative_to(other) for run in StudyDir(other).runs()]:
        return ["not the same runs"]
    for run in runs:
        left, right = RunDir(one / run), RunDir(other / run)
        outcomes = read_status(left), read_status(right)
        if None in outcomes or outcomes[0].status != "finished" or outcomes[1].status != "finished":  # type: ignore[union-attr]
            found.append(f"{run}: not both finished")
            continue
        if outcomes[0].weights_sha256 != outcomes[1].weights_sha256:  # type: ignore[union-attr]
            found.append(f"{run}: weights")
        if read_fingerprint(left) != read_fingerprint(right):
            found.append(f"{run}: fingerprint")
        traces = read_trace(left.trace), read_trace(right.trace)
        columns = [field.name for field in traces[0].table.schema if not pa.types.is_list(field.type)]
        names = [name for name in columns if not name.endswith("seconds")]
        found += [] if _same(traces[0].group_norms(), traces[1].group_norms()) else [f"{run}: group_norms"]
        found += [f"{run}: {name}" for name in names if not _same(traces[0][name], traces[1][name])]
        looks = read_evals(left.evals).curve("loss"), read_evals(right.evals).curve("loss")
        found += [f"{run}: evals"] if not _same(looks[0].value, looks[1].value) else []
    return found


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()
