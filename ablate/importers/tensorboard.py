"""TensorBoard's event files, read by the optional package `tensorboard`."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers.hyperparameters import settings_of
from ablate.importers.lightning import STEP_SHIFT, use_hparams
from ablate.importers.source import Rows, Source, files_at_any_depth, step_of

PATTERN = "*tfevents*"
_TEXTS = {"args/text_summary": "trainer", "model_config/text_summary": "model"}
"""Tags under which Hugging Face's Trainer writes its arguments and the model's config, as JSON."""


def matches(path: Path) -> bool:
    """Return whether a path is an event file, or contains one up to four levels down."""
    return next(files_at_any_depth(path, PATTERN), None) is not None if path.is_dir() else "tfevents" in path.name


def read(path: Path) -> Source:
    """Read the scalars of one run. Raises RecordError if several directories contain some: each is a run to TensorBoard."""
    files = list(files_at_any_depth(path, PATTERN)) if path.is_dir() else [path]
    scalars: dict[Path, list[tuple[int, dict[str, float]]]] = {}
    texts: dict[str, Any] = {}
    notes = []
    for file in files:
        logged, whole = _read_file(file, texts)
        notes += [] if whole else [f"{file.name} is truncated; its complete part was read"]
        if logged:
            scalars[file] = logged
    folders = list(dict.fromkeys(file.parent for file in scalars))
    if len(folders) > 1:
        shown = ", ".join(map(str, folders[:6]))
        problem = f"{path}: expected the log of one run, got {len(folders)} runs: {shown}"
        raise RecordError(problem, f"name each: {folders[0]}")
    if not scalars:
        raise RecordError(f"{path}: expected scalars, got {len(files)} event files without any")
    fix = f"name one file: {next(iter(scalars))}" if len(scalars) > 1 else "a directory of its own for each run"
    rows = Rows((row for logged in scalars.values() for row in logged), str(path), fix)
    source = Source(format="tensorboard", path=str(path), files=tuple(scalars), rows=rows, notes=notes)
    if texts:
        settings = settings_of({name: value for name, value in texts.items() if isinstance(value, dict)})
        source.use_settings(settings, "the Trainer's arguments in the event file")
        source.loss = "mean since the row before"
    elif (folders[0] / "hparams.yaml").is_file():
        source.shift = STEP_SHIFT
        use_hparams(source, folders[0])
    return source


def _read_file(path: Path, texts: dict[str, Any]) -> tuple[list[tuple[int, dict[str, float]]], bool]:
    """Return the scalars, and whether the file is complete; add the Trainer's settings to `texts`."""
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        problem = f"reading the event file {path} requires the package tensorboard: {error}"
        raise RecordError(problem, "pip install 'torch-ablate[tensorboard]'") from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    logged: list[tuple[int, dict[str, float]]] = []
    if not path.is_file():
        raise RecordError(f"{path} is not a regular file")
    try:
        # The loader turns scalars of every age into tensors.
        for event in EventFileLoader(str(path)).Load():
            for value in (value for value in event.summary.value if value.HasField("tensor")):
                if value.metadata.plugin_data.plugin_name == "scalars":
                    array = make_ndarray(value.tensor)
                    if array.size == 1:
                        logged.append(
                            (step_of(event.step, f"{path}, {value.tag}"), {value.tag: float(array.reshape(()))})
                        )
                elif value.tag in _TEXTS and len(value.tensor.string_val):
                    with suppress(ValueError, RecursionError):
                        texts[_TEXTS[value.tag]] = json.loads(value.tensor.string_val[0])
    except (DecodeError, ValueError, TypeError) as error:
        raise RecordError(f"cannot read {path} as an event file: {' '.join(str(error).split())[:200]}") from None
    whole = _is_complete(path)
    if not logged and not whole:
        raise RecordError(f"{path}: expected an event file, got another file or one truncated before its first value")
    return logged, whole


def _is_complete(path: Path) -> bool:
    """Return whether the last record ends with the file: the loader stops silently at a truncated one."""
    size, position = path.stat().st_size, 0
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            position += int.from_bytes(file.read(8), "little") + 16
    return position == size and size > 0
