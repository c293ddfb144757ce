"""Provenance of a run: commit, versions, time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "datasets", "numpy", "pyarrow", "torch-ablate")
"""Packages whose version can change a number of a run, or how it is read."""


def git_state() -> str | None:
    """Return the commit of the working directory, with +dirty; None outside a repository or without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=False, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of the installed ones of these packages."""
    installed = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def now() -> str:
    """Return the time in UTC, ISO 8601, to the millisecond: the cost of short runs is computed from it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
