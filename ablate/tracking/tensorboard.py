"""TensorBoard: an event file in the folder of each run, so that `tensorboard --logdir runs/STUDY` lays arms and seeds over
each other. Written by tensorboard's own writer, without torch and tensorflow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.tracking.describe import End, StudyTold, Told, markdown
from ablate.tracking.metric_names import AXES
from ablate.tracking.rows import Row

SUFFIX = ".ablate"
"""Of the files that are ours: a run that goes on writes its own anew."""

STUDY_RUN = "contrasts"
"""Folder of the study's own text, beside the arms."""


class TensorboardRun:
    """A row's number is `tracker.x_axis`; its time is the start of the run and the training since, so `Relative` is that."""

    def __init__(self, told: Told) -> None:
        from tensorboard.plugins.hparams import summary_v2

        self._told = told
        self._writer = _writer(told.run.path)
        value = summary_v2.hparams_pb(
            {key: _plain(value) for key, value in told.hparams.items()}, trial_id=told.id, start_time_secs=told.started
        )
        self._writer.add_event(_event(told.started, 0, value))
        self._text("config", _listed(told.config))
        print(f"TensorBoard: {told.run.path}", flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        for row in rows:
            at = self._told.started + row.get("seconds", 0.0)
            summary = _scalars(row)
            self._writer.add_event(_event(at, int(row[self._axis(row)]), summary))
        self._writer.flush()

    def end(self, end: End) -> None:
        self._text("outcome", f"{end.status}: {end.message}")
        self._writer.close()

    def _axis(self, row: Row) -> str:
        return self._told.tracker.x_axis if self._told.tracker.x_axis in row else "step"

    def _text(self, name: str, text: str) -> None:
        self._writer.add_event(_event(self._told.started, 0, _text_of(name, text)))


def begin(told: Told) -> TensorboardRun:
    """Begin an event file."""
    return TensorboardRun(told)


def send_study(told: StudyTold) -> None:
    """Its sentences and its table as text."""
    writer = _writer(told.folder / STUDY_RUN)
    now = time.time()
    writer.add_event(_event(now, 0, _text_of("contrasts", markdown(told))))
    for name, value in told.numbers.items():
        writer.add_event(_event(now, 0, _scalars({name: value})))
    writer.close()


def _writer(folder: Path) -> Any:
    """Of a folder without an earlier file of ours."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    return EventFileWriter(str(folder), filename_suffix=SUFFIX)


def _event(at: float, step: int, summary: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=at, step=step, summary=summary)


def _scalars(row: Row) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=_tag(name), simple_value=value) for name, value in row.items()]
    return Summary(value=values)


def _tag(name: str) -> str:
    """The x-axes stand together."""
    return f"axis/{name}" if name in AXES else name


def _text_of(name: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.util import tensor_util

    value = Summary.Value(
        tag=f"{name}/text_summary",
        metadata=metadata.create_summary_metadata(display_name=name, description=""),
        tensor=tensor_util.make_tensor_proto(text.encode(), dtype="string"),
    )
    return Summary(value=[value])


def _plain(value: Any) -> Any:
    """A hyperparameter is a truth value, a number or a text."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _listed(config: dict[str, Any]) -> str:
    """As a list that TensorBoard's Markdown shows line by line."""
    import yaml

    return "".join(f"    {line}\n" for line in yaml.safe_dump(config, sort_keys=False).splitlines())
