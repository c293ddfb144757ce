"""TensorBoard's event files, read by the package `tensorboard`, which is an extra of ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.errors import RecordError
from ablate.importers._files import below_any_depth
from ablate.importers.csv_logger import COUNTS_FROM_0, add_hparams
from ablate.importers.hyperparameters import settings_of
from ablate.importers.source import Source, merged, step_of

PATTERN = "*tfevents*"
_TEXTS = {"args/text_summary": "trainer", "model_config/text_summary": "model"}
"""Tags under which Hugging Face's Trainer writes its arguments and the model's config, as JSON."""


def found(path: Path) -> bool:
    """Whether there is an event file, in the folder or up to four levels down."""
    return next(below_any_depth(path, PATTERN), None) is not None if path.is_dir() else "tfevents" in path.name


def read(path: Path) -> Source:
    """The scalars of one run, tag by tag. Raises RecordError where several folders hold some: each is a run to TensorBoard."""
    files = list(below_any_depth(path, PATTERN)) if path.is_dir() else [path]
    scalars: dict[Path, list[tuple[int, dict[str, float]]]] = {}
    texts: dict[str, Any] = {}
    torn = []
    for file in files:
        events, whole = _events(file)
        torn += [] if whole else [f"{file.name} breaks off; what is whole was read"]
        for step, tag, value in events:
            if isinstance(value, float):
                scalars.setdefault(file, []).append((step_of(step, f"{file}, {tag}"), {tag: value}))
            elif tag in _TEXTS:
                texts |= {_TEXTS[tag]: value}
    folders = list(dict.fromkeys(file.parent for file in scalars))
    if len(folders) > 1:
        raise RecordError(
            f"{path} holds {len(folders)} runs: {', '.join(map(str, folders[:6]))}", f"name each: {folders[0]}"
        )
    if not scalars:
        raise RecordError(f"{path} holds {len(files)} event files, and no scalar in them")
    twice = f"name one file: {next(iter(scalars))}" if len(scalars) > 1 else "a folder of its own for each run"
    source = Source(
        format="tensorboard", path=str(path), files=tuple(scalars),
        rows=merged((row for rows in scalars.values() for row in rows), str(path), twice),
        loss="what was logged: of one step, or a mean", notes=torn,
    )  # fmt: skip
    if texts:
        settings = settings_of({name: value for name, value in texts.items() if isinstance(value, dict)})
        source.config, source.looking = settings.config, settings.looking
        source.settings = "the Trainer's arguments in the event file"
        source.seed, source.seed_from = settings.seed, settings.seed_from
        source.samples_per_step, source.loss = settings.batch, "the mean since the row before"
        source.samples_from = (
            f"{settings.batch_from}; that there was one process is not on record" if settings.batch else ""
        )
    elif (folders[0] / "hparams.yaml").is_file():
        source.shift = COUNTS_FROM_0
        add_hparams(source, folders[0])
    return source


def _events(path: Path) -> tuple[list[tuple[int, str, Any]], bool]:
    """((step, tag, number or text's JSON), ...), and whether the file is whole."""
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise RecordError(
            f"{path} is an event file of TensorBoard, which is read by the package tensorboard: {error}",
            "pip install 'torch-ablate[tensorboard]'",
        ) from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    found: list[tuple[int, str, Any]] = []
    if not path.is_file():
        raise RecordError(f"{path} is no file")
    try:
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found += _scalar(event.step, value, tensor_util)
    except (DecodeError, ValueError, TypeError) as error:
        raise RecordError(f"{path} is no event file: {' '.join(str(error).split())[:200]}") from None
    whole = _is_whole(path)
    if not found and not whole:
        raise RecordError(f"{path} is no event file, or broke off before its first value")
    return found, whole


def _scalar(step: int, value: Any, tensor_util: Any) -> Iterator[tuple[int, str, Any]]:
    plugin = value.metadata.plugin_data.plugin_name
    if plugin == "scalars" and value.HasField("tensor"):
        array = tensor_util.make_ndarray(value.tensor)
        if array.size == 1:
            yield step, value.tag, float(array.reshape(()))
    elif value.tag in _TEXTS and value.HasField("tensor") and len(value.tensor.string_val):
        try:
            yield step, value.tag, json.loads(value.tensor.string_val[0])
        except (ValueError, RecursionError):
            return


def _is_whole(path: Path) -> bool:
    """Whether the last record ends with the file: the loader stops at a torn one without a word. Lengths alone are followed."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            at += int.from_bytes(file.read(8), "little") + 16
    return at == size and size > 0
