"""Detect the format of a log, and read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ablate.errors import ConfigError, RecordError, nearest
from ablate.importers import lightning, tables, tensorboard, transformers, wandb
from ablate.importers.source import Source

Reader = Callable[[Path, str | None], Source]

FORMATS: dict[str, tuple[str, Callable[[Path], bool], Reader]] = {
    "trainer_state": (
        "trainer_state.json of Hugging Face's Trainer, there or in checkpoint-*", transformers.matches,
        lambda path, _: transformers.read(path),
    ),
    "tensorboard": ("TensorBoard's *tfevents* files", tensorboard.matches, lambda path, _: tensorboard.read(path)),
    "wandb": ("run-*.wandb of W&B", wandb.matches, wandb.read),
    "lightning": ("metrics.csv of Lightning's CSVLogger", lightning.matches, lambda path, _: lightning.read(path)),
    "wandb_table": ("CSV exported by W&B, with columns `run - metric`", wandb.is_export, wandb.read_export),
    "table": (f"table ({', '.join(tables.SUFFIXES)})", tables.matches, tables.read),
}  # fmt: skip
"""{format: (description, whether a path contains it, reader)}, most specific first."""


def read_source(path: Path, *, format: str | None = None, step_column: str | None = None) -> Source:
    """Read the run that a path contains. format: of `FORMATS`; detected by default.

    Raises ConfigError for an unknown format, RecordError if the path contains no log or several.
    """
    if format is not None and format not in FORMATS:
        problem = f"--format: expected one of {', '.join(FORMATS)}, got {format!r}; {nearest(format, FORMATS)}"
        raise ConfigError(problem, f"--format {next(iter(FORMATS))}")
    matching = [name for name, (_, matches, _) in FORMATS.items() if matches(path)]
    if "table" in matching and len(matching) > 1:
        matching.remove("table")  # the others are tables of a known kind
    if format is None:
        if len(matching) > 1:
            problem = f"{path}: expected the log of one logger, got {len(matching)}: {_descriptions(matching)}"
            raise RecordError(problem, f"--format {matching[0]}, or --format {matching[1]}")
        if not matching:
            names = sorted(file.name for file in path.iterdir())[:8] if path.is_dir() else []
            content = f" with {', '.join(names)}" if names else ""
            problem = f"expected one of: {_descriptions(FORMATS)}; got {path}{content}"
            raise RecordError(problem, "name another directory, or the format: --format")
        format = matching[0]
    elif format not in matching and not path.is_file():
        problem = f"{path}: expected {FORMATS[format][0]}, got {_descriptions(matching) or 'no known log'}"
        raise RecordError(problem, "remove --format")
    try:
        return FORMATS[format][2](path, step_column)
    except (OSError, RecursionError) as error:
        raise RecordError(f"cannot read {path}: {error}") from None


def _descriptions(names: Iterable[str]) -> str:
    return "; ".join(FORMATS[name][0] for name in names)
