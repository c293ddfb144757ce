"""MLflow: a run for each run, under one parent run for their study. Without a server, in files beside the studies."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.config.schema import TrackerConfig
from ablate.records.layout import StudyDir
from ablate.serialization import read_json
from ablate.tracking.describe import End, Mode, StudyTold, Told, flat, markdown, study_id
from ablate.tracking.rows import Row

ID = "ablate.id"
"""Tag by which a run is found again."""

STORE = "mlruns"
"""Of studies without a server, in `study.output_dir`."""

_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
_ENDED = {"finished": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


class MlflowRun:
    """A metric's step is `tracker.x_axis`; its time is the start of the run and the training since."""

    def __init__(self, told: Told) -> None:
        self._told = told
        uri = store_uri(told.tracker, told.mode, told.study_folder.parent)
        self._client = _client(uri)
        with _alone(told.study_folder.parent):
            experiment = _experiment(self._client, told.tracker.project)
            found = _find(self._client, experiment, told.id)
            if found is None:
                plan = StudyDir(told.study_folder).plan
                digest = str(read_json(plan)["digest"]) if plan.exists() else ""
                parent = _parent(
                    self._client, experiment, told.study, study_id(told.study_folder, digest), told.started
                )
                found = self._create(experiment, parent)
        self._id = found
        self._client.update_run(self._id, status="RUNNING")
        # A run that goes on in another process is sent what is not there yet.
        self._sent = {"train/": self._last("train/skipped_steps"), "eval/": self._last("eval/seconds")}
        print(f"MLflow: {uri}, run {self._id}", flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics: list[Any] = []
        for row in rows:
            x = int(row[self._told.tracker.x_axis if self._told.tracker.x_axis in row else "step"])
            at = int(1000 * (self._told.started + row.get("seconds", 0.0)))
            new = [part for part, last in self._sent.items() if x > last and any(name.startswith(part) for name in row)]
            axes = {name: value for name, value in row.items() if "/" not in name} if new else {}
            values = {name: value for name, value in row.items() if name.startswith(tuple(new))} if new else {}
            metrics += [Metric(_name(name), float(value), at, x) for name, value in {**axes, **values}.items()]
            self._sent |= dict.fromkeys(new, x)
        for piece in _pieces(metrics, _METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=piece)

    def end(self, end: End) -> None:
        for name, value in {"outcome": end.status, "outcome_sentence": end.message}.items():
            self._client.set_tag(self._id, name, value)
        for name, number in end.numbers.items():
            self._client.log_metric(self._id, _name(f"throughput/{name}"), number)
        self._client.set_terminated(self._id, _ENDED.get(end.status, "KILLED"))

    def _create(self, experiment: str, parent: str) -> str:
        from mlflow.entities import Param

        told = self._told
        tags = {
            "mlflow.runName": told.name, "mlflow.parentRunId": parent, ID: told.id, "study": told.study, "arm": told.arm,
            "axis": told.axis, "level": told.level, "seed": str(told.seed),
        }  # fmt: skip
        run = self._client.create_run(experiment, start_time=int(1000 * told.started), tags=tags)
        created: str = run.info.run_id
        settings = {**flat(told.config), **{f"moved/{key}": value for key, value in told.hparams.items()}}
        params = [Param(_name(key), str(value)) for key, value in settings.items()]
        for piece in _pieces(params, _PARAMS_AT_ONCE):
            self._client.log_batch(created, params=piece)
        return created

    def _last(self, metric: str) -> float:
        return max((one.step for one in self._client.get_metric_history(self._id, metric)), default=-1)


def begin(told: Told) -> MlflowRun:
    """Find the run, or make it."""
    return MlflowRun(told)


def send_study(told: StudyTold) -> None:
    """The parent run: effects and their intervals, sentences and table as its description, the page as an artifact."""
    root = told.folder.parent
    client = _client(store_uri(told.tracker, told.mode, root))
    with _alone(root):
        parent = _parent(
            client, _experiment(client, told.tracker.project), told.study, told.id, told.folder.stat().st_mtime
        )
    for name, number in told.numbers.items():
        client.log_metric(parent, _name(name), number)
    for name, word in told.words.items():
        client.set_tag(parent, _name(name), word)
    client.set_tag(parent, "mlflow.note.content", markdown(told))
    for file in told.files:
        client.log_artifact(parent, str(file))
    client.set_terminated(parent)


def store_uri(tracker: TrackerConfig, mode: Mode, root: Path) -> str:
    """The server, or files in `<root>/mlruns`: those whatever else is set where nothing may be sent."""
    asked = tracker.uri or os.environ.get("MLFLOW_TRACKING_URI")
    return asked if asked and mode == "online" else (root.resolve() / STORE).as_uri()


def _client(uri: str) -> Any:
    # MLflow wants to be told that its files are meant: it calls them finished, and points to a database.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    # It also reports its use to its makers, which nobody has asked for here.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time makes experiments and parents there; MLflow would make two of a name."""
    file = os.open(root / ".mlflow.lock", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _parent(client: Any, experiment: str, study: str, id: str, started: float) -> str:
    found = _find(client, experiment, id)
    if found is not None:
        return found
    tags = {"mlflow.runName": study, ID: id, "study": study}
    return str(client.create_run(experiment, start_time=int(1000 * started), tags=tags).info.run_id)


def _find(client: Any, experiment: str, id: str) -> str | None:
    found = client.search_runs([experiment], f"tags.`{ID}` = '{id}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _name(name: str) -> str:
    """What MLflow takes in a name: `effect/batch_size=64` is `effect/batch_size_64` there."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _pieces(items: Sequence[Any], length: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + length] for start in range(0, len(items), length))
