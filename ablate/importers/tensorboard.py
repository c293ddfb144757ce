"""TensorBoard's event files, read by the optional package `tensorboard`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import LIGHTNING_SHIFT, WINDOW_LOSS, Rows, Source, parse_json, step_of

PATTERNS = tuple("*/" * depth + "*tfevents*" for depth in range(5))
"""Event files in a directory and up to four levels below."""

Logged = tuple[int, dict[str, float]]
"""Step and values."""

_TEXTS = {"args/text_summary": "trainer", "model_config/text_summary": "model"}
"""Tags under which Hugging Face's Trainer writes its arguments and the model's config, as JSON."""


def read(path: Path, files: Sequence[Path], _: str | None) -> Source:
    """Read the scalars of one run. Raises RecordError if several directories contain some: each is a run to TensorBoard."""
    scalars: dict[Path, list[Logged]] = {}
    texts: dict[str, Any] = {}
    used: list[Path] = []
    notes = []
    for file in files:
        logged = scalars.setdefault(file.parent, [])
        before = len(logged)
        if not _read_file(file, logged, texts):
            if not logged:
                problem = f"{file}: expected an event file, got another file or one truncated before its first value"
                raise RecordError(problem)
            notes.append(f"{file.name} is truncated; its complete part was read")
        used += [file] if len(logged) != before else []
    folders = [folder for folder, logged in scalars.items() if logged]
    if not folders:
        raise RecordError(f"{path}: expected scalars, got {len(files)} event files without any")
    curves = _added_scalars(path, scalars)
    if curves:
        notes.append(f"add_scalars wrote curves of their own folders: {', '.join(folder.name for folder in curves)}")
        scalars[path] = [*scalars.get(path, []), *(row for rows in curves.values() for row in rows)]
        folders = [path, *(folder for folder in folders if folder != path and folder not in curves)]
    if len(folders) > 1 and folders[0] != path:
        shown = ", ".join(map(str, folders[:6]))
        problem = f"{path}: expected the log of one run, got {len(folders)} runs: {shown}"
        raise RecordError(problem, f"name each: {folders[0]}")
    notes += [f"{folder} is another run to TensorBoard and is left out" for folder in folders[1:]]
    used = [file for file in used if file.parent == folders[0] or file.parent in curves]
    fix = f"name one file: {used[0]}" if len(used) > 1 else "a directory of its own for each run"
    rows = Rows(scalars[folders[0]], str(path), fix)
    source = Source(format="tensorboard", path=str(path), files=tuple(used), rows=rows, notes=notes)
    if texts:
        settings = settings_of({name: value for name, value in texts.items() if isinstance(value, dict)})
        source.use_settings(settings, "the Trainer's arguments in the event file")
        source.loss = WINDOW_LOSS
    elif (folders[0] / "hparams.yaml").is_file():
        source.shift = LIGHTNING_SHIFT
        source.use_hparams(folders[0])
    return source


def _added_scalars(path: Path, scalars: Mapping[Path, Sequence[Logged]]) -> dict[Path, list[Logged]]:
    """Return the curves of `add_scalars("loss", {"train": ...})`, which writes `loss` into the folder `loss_train`."""
    curves = {}
    for folder, logged in scalars.items():
        tags = {tag for _, values in logged for tag in values}
        tag = next(iter(tags), "")
        start = f"{tag.replace('/', '_')}_"
        if folder.parent == path and len(tags) == 1 and folder.name.startswith(start):
            name = f"{folder.name.removeprefix(start)}/{tag}"
            curves[folder] = [(step, {name: values[tag]}) for step, values in logged]
    return curves


def _read_file(path: Path, logged: list[Logged], texts: dict[str, Any]) -> bool:
    """Add a file's scalars to `logged`, and the Trainer's settings to `texts`. Return whether the file is complete."""
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        problem = f"reading the event file {path} requires the package tensorboard: {error}"
        raise RecordError(problem, "pip install 'torch-ablate[tensorboard]'") from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    try:
        # The loader turns scalars of every age into tensors.
        for event in EventFileLoader(str(path)).Load():
            if (
                event.session_log.status == SessionLog.START
            ):  # resumed: TensorBoard drops the rows from there on as well
                logged[:] = [(step, values) for step, values in logged if step < event.step]
            for value in (value for value in event.summary.value if value.HasField("tensor")):
                if value.metadata.plugin_data.plugin_name == "scalars":
                    array = make_ndarray(value.tensor)
                    if array.size == 1:
                        step = step_of(event.step, f"{path}, {value.tag}")
                        logged.append((step, {value.tag: float(array.reshape(()))}))
                elif value.tag in _TEXTS and len(value.tensor.string_val):
                    texts[_TEXTS[value.tag]] = parse_json(value.tensor.string_val[0].decode())
    except (DecodeError, ValueError, TypeError) as error:
        raise RecordError(f"cannot read {path} as an event file: {' '.join(str(error).split())[:200]}") from None
    return _is_complete(path)


def _is_complete(path: Path) -> bool:
    """Return whether the last record ends with the file: the loader stops silently at a truncated one."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            position += int.from_bytes(file.read(8), "little") + 16
    return position == size and size > 0
