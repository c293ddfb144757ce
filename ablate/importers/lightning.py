"""Lightning's CSVLogger: `metrics.csv` with sparse columns, and `hparams.yaml`."""

from __future__ import annotations

from pathlib import Path

from ablate.errors import RecordError
from ablate.importers.hyperparameters import read_settings, settings_of
from ablate.importers.source import Rows, Source, check_inside, has_file, numbers, only_file
from ablate.importers.tables import read_csv

NAME = "metrics.csv"
_PATTERNS = (NAME, f"version_*/{NAME}", f"lightning_logs/version_*/{NAME}")

STEP_SHIFT = 1
"""Lightning's loggers get the number of steps before the current one."""


def matches(path: Path) -> bool:
    """Return whether a path is, or contains, the file of a CSVLogger."""
    return has_file(path, _PATTERNS) or (path.name == NAME and not path.is_dir())


def read(path: Path) -> Source:
    """Read the metrics of one version."""
    file = only_file(path, _PATTERNS)
    table = read_csv(file)
    if "step" not in table.names:
        raise RecordError(f"{file}: expected a column step, got {', '.join(table.names)}")
    rows = Rows(numbers(table.rows, "step", str(file)), str(file), "remove the directory before running again into it")
    source = Source(
        format="lightning", path=str(path), files=(file,), shift=STEP_SHIFT, rows=rows, notes=table.notes,
        loss="as logged by the module: of one step, or a mean",
    )  # fmt: skip
    use_hparams(source, file.parent)
    return source


def use_hparams(source: Source, folder: Path) -> None:
    """Use the hyperparameters that were saved with the log, if there are any."""
    path = folder / "hparams.yaml"
    if path.is_file():
        settings = settings_of(read_settings(check_inside(folder, path)))
        source.use_settings(settings, path.name, "the number of processes and accumulation steps is not recorded")
