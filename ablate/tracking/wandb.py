"""W&B. A run is `<arm>/seed=<n>` in the group of its study, and its steps are optimizer steps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.config.schema import TrackerConfig
from ablate.errors import AblateError
from ablate.redact import redact
from ablate.serialization import read_text
from ablate.tracking.describe import COLUMNS, Mode, RunEnd, RunInfo, StudyInfo, has_no_secret
from ablate.tracking.rows import AXES, Row

if TYPE_CHECKING:
    import wandb

_MAX_JOB_TYPE_LENGTH = 64
_SYNC_SECONDS = 1800  # of `wandb sync` for one run; it keeps trying a server that cannot be reached


class Run:
    """One run: rows as history, its end as summary, and the whole trace as an artifact."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._run = _init(
            info.run.path, info.id, info.tracker, info.mode, pid=info.pid or os.getpid(), group=info.study,
            job_type=info.arm[:_MAX_JOB_TYPE_LENGTH], name=info.name, tags=list(info.tags), config=info.config,
        )  # fmt: skip
        for axis in AXES:
            self._run.define_metric(axis, hidden=True)
        for part in ("train/*", "eval/*"):
            self._run.define_metric(part, step_metric=info.tracker.x_axis)
        shown = self._run.url if info.mode == "online" else info.run.path / "wandb"
        print(f"W&B {info.mode}: {shown}", flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        # A resumed run sends all rows again. W&B ignores steps that it has already.
        for row in rows:
            self._run.log(row, step=row["step"])

    def end(self, end: RunEnd) -> None:
        with _finishing(self._run, success=end.status == "finished"):
            self._run.summary.update({"status": end.status, "status_message": end.message, **end.numbers})
            if end.files:
                _log_artifact(self._run, f"trace-{self._info.id}", "trace", end.files)


def send_study(info: StudyInfo) -> None:
    """Send a run of job type `study`: contrasts as a table, conclusions, page and files."""
    run = _init(
        info.folder, info.id, info.tracker, info.mode, pid=os.getpid(), group=info.study, job_type="study", name=info.study,
        tags=["study"], config={"study": info.study, "question": info.question},
    )  # fmt: skip
    with _finishing(run, success=True):
        import wandb

        table = wandb.Table(columns=list(COLUMNS), data=[_typed(row) for row in info.rows], allow_mixed_types=True)
        logged: dict[str, Any] = {"contrasts": table}
        if info.page is not None:
            logged["report"] = wandb.Html(info.page.read_text(encoding="utf-8"), inject=False)
        run.log(logged)
        run.summary.update({"conclusions": "\n".join(info.conclusions), **info.words, **info.numbers})
        if info.files:
            _log_artifact(run, f"report-{info.id}", "report", info.files)


def _init(folder: Path, id: str, tracker: TrackerConfig, mode: Mode, *, pid: int, **named: Any) -> wandb.Run:
    _check_server()
    # W&B's error reports to its makers stay off unless the user turns them on.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    if mode == "offline":
        remove_offline(folder, id)
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True,
        x_stats_pid=pid,  # system metrics of the run, not of this process
    )  # fmt: skip
    return wandb.init(
        id=id, dir=str(folder), project=tracker.project, entity=tracker.entity, mode=mode,
        resume="allow" if mode == "online" else None, settings=settings, **named,
    )  # fmt: skip


def _check_server() -> None:
    """Raise AblateError where a file in the working directory, which may have been received, names the server."""
    settings = Path("wandb", "settings")
    try:
        lines = read_text(settings).splitlines()
    except (OSError, ValueError):
        return
    named = [line.partition("=")[2].strip() for line in lines if line.replace(" ", "").startswith("base_url=")]
    if named and os.environ.get("WANDB_BASE_URL") != named[0]:
        raise AblateError(
            f"{settings} in the working directory names the server {named[0]}, which would receive your login",
            f"WANDB_BASE_URL={named[0]}, if it is yours; or remove {settings}",
        )


@contextmanager
def _finishing(run: wandb.Run, *, success: bool) -> Iterator[None]:
    """Finish the run in any case: with exit code 0 if it succeeded and all was sent."""
    code = 1
    try:
        yield
        code = 0 if success else 1
    finally:
        run.finish(exit_code=code)


def offline_runs(folder: Path, id: str = "*") -> list[Path]:
    """Return the directories of runs that W&B has stored and not sent, oldest first."""
    return sorted(folder.glob(f"wandb/offline-run-*-{id}"))


def remove_offline(folder: Path, id: str) -> None:
    """Remove what an earlier process stored of the same run: each process stores it completely, so no row appears twice."""
    for old in offline_runs(folder, id):
        shutil.rmtree(old)


def upload_offline(folder: Path, tracker: TrackerConfig) -> None:
    """Run `wandb sync`. It exits with 0 even if nothing was sent, so the `.synced` file that it writes is checked."""
    _check_server()
    chosen = {"--project": tracker.project, "--entity": tracker.entity}
    arguments = [word for option, value in chosen.items() if value for word in (option, value)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "wandb", "sync", *arguments, str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SYNC_SECONDS,
    )  # fmt: skip
    output = redact(done.stdout + done.stderr)
    print(output)
    if done.returncode or not any(folder.glob("*.wandb.synced")):
        lines = [line for line in output.splitlines() if line.strip()]
        raise AblateError(f"`wandb sync` has not sent {folder.name}: {lines[-1] if lines else 'no output'}")


def _log_artifact(run: wandb.Run, name: str, kind: str, files: Sequence[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    for file in files:
        if has_no_secret(file):
            # Without a copy, which would double the disk space of every trace: a record does not change any more.
            artifact.add_file(str(file), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def _typed(row: Sequence[Any]) -> list[Any]:
    """Return a row whose values of an axis are text, because a column of W&B has one type."""
    return [str(cell) if name in ("value", "baseline_value") else cell for name, cell in zip(COLUMNS, row, strict=True)]
