"""TensorBoard: an event file in the directory of each run, so that `tensorboard --logdir runs/STUDY` overlays arms and seeds.

Written by tensorboard's own writer, without torch and tensorflow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ablate.tracking.describe import RunEnd, RunInfo, StudyInfo, markdown
from ablate.tracking.rows import AXES, Row

SUFFIX = ".ablate"
"""Suffix of our event files. A resumed run replaces its own."""

STUDY_RUN = "contrasts"
"""Directory of a study's conclusions."""


class Run:
    """One run. The step of a row is `tracker.x_axis`, and `Relative` time is training time."""

    def __init__(self, info: RunInfo) -> None:
        from tensorboard.plugins.hparams import summary_v2

        self._info = info
        self._writer = _writer(info.run.path)
        hparams = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in info.hparams.items()
        }
        summary = summary_v2.hparams_pb(hparams, trial_id=info.id, start_time_secs=info.started)
        self._writer.add_event(_event(info.started, 0, summary))
        # Indented, so that TensorBoard's Markdown keeps the lines.
        lines = yaml.safe_dump(info.config, sort_keys=False).splitlines()
        self._add_text("config", "".join(f"    {line}\n" for line in lines))
        print(f"TensorBoard: {info.run.path}", flush=True)

    def send(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._writer.add_event(_event(self._info.time(row), self._info.x(row), _scalars(row)))
        self._writer.flush()

    def end(self, end: RunEnd) -> None:
        self._add_text("status", f"{end.status}: {end.message}")
        self._writer.close()

    def _add_text(self, name: str, text: str) -> None:
        self._writer.add_event(_event(self._info.started, 0, _text(name, text)))


def send_study(info: StudyInfo) -> None:
    """Write conclusions and contrasts as text, effects as scalars."""
    writer = _writer(info.folder / STUDY_RUN)
    now = time.time()
    writer.add_event(_event(now, 0, _text("contrasts", markdown(info))))
    for name, value in info.numbers.items():
        writer.add_event(_event(now, 0, _scalars({name: value})))
    writer.close()


def _writer(folder: Path) -> Any:
    """Return a writer, after removing our earlier files."""
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    return EventFileWriter(str(folder), filename_suffix=SUFFIX)


def _event(wall_time: float, step: int, summary: Any) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=wall_time, step=step, summary=summary)


def _scalars(row: Row) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    tags = {name: f"axis/{name}" if name in AXES else name for name in row}
    return Summary(value=[Summary.Value(tag=tags[name], simple_value=value) for name, value in row.items()])


def _text(name: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.text import metadata
    from tensorboard.util import tensor_util

    value = Summary.Value(
        tag=f"{name}/text_summary",
        metadata=metadata.create_summary_metadata(display_name=name, description=""),
        tensor=tensor_util.make_tensor_proto(text.encode(), dtype="string"),
    )
    return Summary(value=[value])
