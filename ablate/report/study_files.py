"""Files of a study's runs, read for a report; a file that cannot be read is left out, and so is a run outside of the study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ablate.analysis.results import Analysis, RunReading
from ablate.config.flatten import leaves
from ablate.errors import AblateError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_fingerprint, read_manifest
from ablate.serialization import read_yaml

Read = TypeVar("Read")
_NOT_SETTINGS = ("seed", "arm")


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """The runs of an analysis in a study directory."""

    analysis: Analysis
    folder: Path

    def config(self, arm: str) -> dict[str, Any]:
        """Return the config of the first run of an arm that has one, by dotted key; empty for none."""
        return next(self._of(arm, _config), {})

    def fingerprint(self, arm: str) -> Mapping[str, Any] | None:
        """Return the fingerprint items of the first run of an arm that has them."""
        return next(self._of(arm, _fingerprint), None)

    def manifest(self, reading: RunReading) -> Manifest | None:
        """Return the manifest of a run."""
        return self._read(reading, lambda run: read_manifest(run) if run.manifest.exists() else None)

    def manifests(self) -> tuple[Manifest, ...]:
        """Return the manifests of all runs that have one."""
        found = [self.manifest(reading) for reading in self.analysis.runs]
        return tuple(manifest for manifest in found if manifest is not None)

    def _of(self, arm: str, read: Callable[[RunDir], Read | None]) -> Iterator[Read]:
        for reading in self.analysis.runs:
            if reading.arm == arm and (found := self._read(reading, read)) is not None:
                yield found

    def _read(self, reading: RunReading, read: Callable[[RunDir], Read | None]) -> Read | None:
        run = RunDir(self.folder / reading.folder)
        with suppress(AblateError, OSError, TypeError, ValueError, yaml.YAMLError):
            return None if run.leads_out() else read(run)
        return None


def _config(run: RunDir) -> dict[str, Any] | None:
    read = read_yaml(run.config)
    if not isinstance(read, Mapping):
        return None
    plain = leaves({str(key): value for key, value in read.items()})
    return {key: value for key, value in plain.items() if key not in _NOT_SETTINGS}


def _fingerprint(run: RunDir) -> Mapping[str, Any] | None:
    fingerprint = read_fingerprint(run)
    return None if fingerprint is None else fingerprint.items
