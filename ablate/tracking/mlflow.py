"""MLflow: a run for each run, under a parent run for the study. Without a server, in files next to the studies."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.config.flatten import leaves
from ablate.config.schema import TrackerConfig
from ablate.errors import RecordError
from ablate.redact import redact
from ablate.serialization import open_own
from ablate.tracking.describe import Mode, RunEnd, RunInfo, StudyInfo, markdown, study_id
from ablate.tracking.rows import Row

ID = "ablate.id"
"""Tag by which a run is found."""

STORE = "mlruns"
"""Directory of runs without a server, in `study.output_dir`."""

_MAX_METRICS, _MAX_PARAMS = 1000, 100
"""MLflow's limits of one request."""
_STATUS = {"finished": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


class Run:
    """One run. The step of a metric is `tracker.x_axis`, and its relative time is training time."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        root = info.study_folder.parent
        uri = store_uri(info.tracker, info.mode, root)
        self._client = _client(uri)
        with _lock(root):
            experiment = _experiment(self._client, info.tracker.project)
            self._id = _find(self._client, experiment, info.id) or self._create(experiment)
        self._client.update_run(self._id, status="RUNNING")
        # A resumed run sends all rows again: those up to the last step that MLflow has are left out.
        self._last_x = {"train/": self._last("train/skipped_steps"), "eval/": self._last("eval/seconds")}
        print(redact(f"MLflow: {uri}, run {self._id}"), flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics: list[Any] = []
        for row in rows:
            x, milliseconds = self._info.x(row), int(1000 * self._info.time(row))
            parts = [
                part for part, last in self._last_x.items() if x > last and any(name.startswith(part) for name in row)
            ]
            if parts:
                new = {name: value for name, value in row.items() if "/" not in name or name.startswith(tuple(parts))}
                metrics += [Metric(_name(name), float(value), milliseconds, x) for name, value in new.items()]
                self._last_x |= dict.fromkeys(parts, x)
        for start in range(0, len(metrics), _MAX_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MAX_METRICS])

    def end(self, end: RunEnd) -> None:
        for name, value in {"status": end.status, "status_message": end.message}.items():
            self._client.set_tag(self._id, name, value)
        for name, number in end.numbers.items():
            self._client.log_metric(self._id, _name(f"throughput/{name}"), number)
        self._client.set_terminated(self._id, _STATUS.get(end.status, "KILLED"))

    def _create(self, experiment: str) -> str:
        from mlflow.entities import Param

        info = self._info
        parent = _parent(self._client, experiment, info.study, study_id(info.study_folder), info.started)
        tags = {
            "mlflow.runName": info.name, "mlflow.parentRunId": parent, ID: info.id, "study": info.study, "arm": info.arm,
            "axis": info.axis, "level": info.level, "seed": str(info.seed),
        }  # fmt: skip
        run = self._client.create_run(experiment, start_time=int(1000 * info.started), tags=tags)
        created: str = run.info.run_id
        settings = {**leaves(info.config), **{f"varied/{key}": value for key, value in info.hparams.items()}}
        params = [Param(_name(key), str(value)) for key, value in settings.items()]
        for start in range(0, len(params), _MAX_PARAMS):
            self._client.log_batch(created, params=params[start : start + _MAX_PARAMS])
        return created

    def _last(self, metric: str) -> float:
        return max((value.step for value in self._client.get_metric_history(self._id, metric)), default=-1)


def send_study(info: StudyInfo) -> None:
    """Send conclusions and contrasts as description of the parent run, effects as metrics, files as artifacts."""
    root = info.folder.parent
    uri = store_uri(info.tracker, info.mode, root)
    client = _client(uri)
    with _lock(root):
        experiment = _experiment(client, info.tracker.project)
        parent = _parent(client, experiment, info.study, info.id, info.folder.stat().st_mtime)
    for name, number in info.numbers.items():
        client.log_metric(parent, _name(name), number)
    for name, word in info.words.items():
        client.set_tag(parent, _name(name), word)
    client.set_tag(parent, "mlflow.note.content", markdown(info))
    _check_inside(client, parent, uri)
    for file in info.files:
        client.log_artifact(parent, str(file))
    client.set_terminated(parent)


def store_uri(tracker: TrackerConfig, mode: Mode, root: Path) -> str:
    """Return the server, or `<root>/mlruns` without one and in offline mode."""
    server = tracker.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return server if server and mode == "online" else (root.resolve() / STORE).as_uri()


def _check_inside(client: Any, run: str, uri: str) -> None:
    """Raise RecordError where a store of files, which may have been received, puts the files of a run outside of itself."""
    place = str(client.get_run(run).info.artifact_uri)
    if uri.startswith("file:") and not place.startswith(f"{uri}/"):
        raise RecordError(f"expected the files of an MLflow run in {uri}, got {place}", "remove that mlruns folder")


def _client(uri: str) -> Any:
    # MLflow discourages its file store, and refuses it without this variable.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    # Its usage reports stay off unless the user turns them on.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Let one process at a time create experiments and parent runs: MLflow accepts two of the same name."""
    file = open_own(root / ".mlflow.lock", 0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _experiment(client: Any, name: str) -> str:
    existing = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if existing is None else existing.experiment_id)


def _parent(client: Any, experiment: str, study: str, id: str, started: float) -> str:
    tags = {"mlflow.runName": study, ID: id, "study": study}
    existing = _find(client, experiment, id)
    return existing or str(client.create_run(experiment, start_time=int(1000 * started), tags=tags).info.run_id)


def _find(client: Any, experiment: str, id: str) -> str | None:
    runs = client.search_runs([experiment], f"tags.`{ID}` = '{id}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _name(name: str) -> str:
    """Replace characters that MLflow does not accept: `effect/batch_size=64` becomes `effect/batch_size_64`."""
    return re.sub(r"[^\w\-. /]", "_", name)
