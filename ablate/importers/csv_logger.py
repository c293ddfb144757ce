"""Lightning's CSVLogger: `metrics.csv`, whose columns are sparse, and `hparams.yaml` beside it."""

from __future__ import annotations

from pathlib import Path

from ablate.errors import RecordError
from ablate.importers._files import below, inside
from ablate.importers.hyperparameters import read_settings, settings_of
from ablate.importers.source import Source, merged
from ablate.importers.tables import rows_of_csv

NAME = "metrics.csv"
_WHERE = (NAME, f"version_*/{NAME}", f"lightning_logs/version_*/{NAME}")

COUNTS_FROM_0 = 1
"""Lightning's loggers are told how many steps came before; that step is the next one."""


def found(path: Path) -> bool:
    """Whether a CSVLogger has written there."""
    return any(any(path.glob(where)) for where in _WHERE) if path.is_dir() else path.name == NAME


def read(path: Path) -> Source:
    """One version's metrics. Raises RecordError where there are several."""
    files = [file for where in _WHERE for file in below(path, where)] if path.is_dir() else [path]
    if len(files) != 1:
        raise RecordError(
            f"{path} holds {len(files)} runs: {', '.join(str(file.parent) for file in files)}",
            f"name each: {files[0].parent if files else path}",
        )
    (file,) = files
    table = rows_of_csv(file)
    if "step" not in table.names:
        raise RecordError(f"{file} has no column step; columns: {', '.join(table.names)}")
    source = Source(
        format="lightning", path=str(path), files=(file,), shift=COUNTS_FROM_0,
        rows=merged(table.by_step("step"), str(file), "remove the folder before a run is made again in it"),
        loss="what the module logged: of one step, or a mean", notes=table.notes,
    )  # fmt: skip
    add_hparams(source, file.parent)
    return source


def add_hparams(source: Source, folder: Path) -> None:
    """The hyperparameters that were saved beside the log, where there are any."""
    path = folder / "hparams.yaml"
    if not path.is_file():
        return
    settings = settings_of(read_settings(inside(folder, path)))
    source.config, source.looking, source.settings = settings.config, settings.looking, "hparams.yaml"
    source.seed, source.seed_from = settings.seed, settings.seed_from
    source.samples_per_step, source.samples_from = settings.batch, _batch(settings.batch_from)


def _batch(said: str) -> str:
    return f"{said}; that there was one process without accumulation is not on record" if said else ""
