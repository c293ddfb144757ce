"""Typed configuration, and the directory of its files."""

from pathlib import Path


def conf_dir() -> Path:
    """Return the directory of the config files: `ablate/conf` in an installed package, `conf` next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())
