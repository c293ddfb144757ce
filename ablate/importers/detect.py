"""Whose log it is that lies somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ablate.errors import ConfigError, RecordError, nearest
from ablate.importers import csv_logger as lightning
from ablate.importers import tables, tensorboard, wandb_run, wandb_table
from ablate.importers import transformers as trainer_state
from ablate.importers.source import Source

Found = Callable[[Path], bool]
Read = Callable[[Path, str | None], Source]

FORMATS: dict[str, tuple[str, Found, Read]] = {
    "trainer_state": (
        "trainer_state.json of Hugging Face's Trainer, there or in checkpoint-*", trainer_state.found,
        lambda path, _: trainer_state.read(path),
    ),
    "tensorboard": ("TensorBoard's *tfevents* files", tensorboard.found, lambda path, _: tensorboard.read(path)),
    "wandb": ("a run-*.wandb of W&B", wandb_run.found, wandb_run.read),
    "lightning": ("metrics.csv of Lightning's CSVLogger", lightning.found, lambda path, _: lightning.read(path)),
    "wandb_table": ("a CSV that W&B exported, with columns `run - metric`", wandb_table.found, wandb_table.read),
    "table": (f"a table ({', '.join(tables.ENDINGS)})", tables.found, tables.read),
}  # fmt: skip
"""{name: (what is looked for, whether it lies there, its reader)}, the surest signs first."""


def read_source(path: Path, *, kind: str | None = None, step_column: str | None = None) -> Source:
    """The run that a path holds. kind: of `FORMATS`, where the user has said it.

    Raises RecordError where nothing or more than one thing is found there.
    """
    if kind is not None and kind not in FORMATS:
        raise ConfigError(
            f"--format {kind!r} is no format; {nearest(kind, FORMATS)}", f"--format {next(iter(FORMATS))}"
        )
    there = [name for name, (_, found, _) in FORMATS.items() if found(path)]
    if "table" in there and len(there) > 1:
        there.remove("table")  # the others are tables of a known kind
    if kind is not None and kind not in there and not path.is_file():
        raise RecordError(
            f"{path} holds no {FORMATS[kind][0]}", f"without --format: {_listed(there) or 'nothing known'} is there"
        )
    if kind is None and len(there) > 1:
        raise RecordError(
            f"{path} holds the logs of {len(there)} loggers: {_listed(there)}",
            f"--format {there[0]}, or --format {there[1]}",
        )
    if kind is None and not there:
        beside = sorted(one.name for one in path.iterdir())[:8] if path.is_dir() else []
        holds = f"; it holds {', '.join(beside)}" if beside else ""
        raise RecordError(
            f"{path} is no log that is known here{holds}. Looked for: {_listed(FORMATS)}", "another folder, or --format"
        )
    name = kind or there[0]
    try:
        return FORMATS[name][2](path, step_column)
    except (OSError, RecursionError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from None


def _listed(names: Iterable[str]) -> str:
    return "; ".join(FORMATS[name][0] for name in names)
