"""The small files of a run that another loop makes: what it was set to, what it ran on, how far it is, how it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ablate.errors import RecordError
from ablate.loop.throughput import Session, throughput
from ablate.record.code import code_digest
from ablate.record.provenance import git_state, now, versions
from ablate.record.rundir import RunDir, StudyDir, safe_name, write_json, write_text
from ablate.record.values import Fingerprint, Manifest, Outcome, write_value

_PACKAGES = ("torch", "transformers", "lightning", "accelerate", "datasets", "numpy", "pyarrow", "torch-ablate")


class SmallFiles:
    """Manifest, config, fingerprint, progress and outcome of one run.

    run, arm, seed: as `place` gives them. config: nested settings. items: of the fingerprint. device: in words.
    writes: False in a process that does not record; nothing is written then.
    """

    def __init__(
        self,
        run: RunDir,
        arm: str,
        seed: int,
        *,
        config: Mapping[str, Any],
        items: dict[str, Any],
        device: str,
        writes: bool,
    ) -> None:
        self.run, self.writes = run, writes
        self.fingerprint = Fingerprint(items=items)
        self.manifest = Manifest(
            arm=arm, seed=seed, code_digest=code_digest(), git=git_state(), versions=versions(_PACKAGES), device=device,
            num_threads=torch.get_num_threads(), started=now(),
        )  # fmt: skip
        if not writes:
            return
        run.path.mkdir(parents=True, exist_ok=True)
        for stale in (run.outcome, run.trace, run.evals, run.predictions, run.progress):
            stale.unlink(missing_ok=True)
        write_text(run.config, yaml.safe_dump(plain(config), sort_keys=False))
        write_value(run, self.manifest)
        write_value(run, self.fingerprint)

    def add_item(self, name: str, value: Any) -> None:
        """One more item of the fingerprint."""
        self.fingerprint.items[name] = value
        if self.writes:
            write_value(self.run, self.fingerprint)

    def progress(self, last: Mapping[str, float], session: Session) -> None:
        """last: the newest row that has arrived; nothing is written before there is one."""
        if not self.writes or not last:
            return
        rates = throughput([session], flops_per_token=0.0, assumed_peak=None)
        value = {
            "pid": os.getpid(), "step": int(last["step"]), "total_steps": None, "samples": int(last["samples"]),
            "loss": last["loss"], "grad_norm": last["grad_norm"], "updated": now(),
            "samples_per_second": rates["train_samples_per_second"], "sessions": [session.to_json()],
        }  # fmt: skip
        write_json(self.run.progress, value, durable=False)

    def end(self, outcome: Outcome) -> None:
        """The last word."""
        self.manifest.ended = now()
        if self.writes:
            write_value(self.run, outcome)
            write_value(self.run, self.manifest)


def place(folder: Path, arm: str | None, seed: int | None) -> tuple[RunDir, str, int]:
    """The run's folder, its arm and its seed: the folder is the run's, `<arm>/seed=<n>`, or the study's where both are given.

    Raises RecordError for a folder from which they cannot be told.
    """
    if (arm is None) != (seed is None):
        raise RecordError(f"arm={arm!r} and seed={seed!r}: one of them is missing", "give both, or neither")
    if arm is not None and seed is not None:
        return StudyDir(folder).run(arm, seed), arm, seed
    name, number = folder.parent.name, re.fullmatch(r"seed=(0|[1-9]\d*)", folder.name)
    if number is None or not name or safe_name(name) != name:
        raise RecordError(
            f"{str(folder)!r} does not end in <arm>/seed=<n>, by which a report tells the runs of a study apart",
            f"'{folder}/baseline/seed=0', or the study's folder with arm= and seed=",
        )
    return RunDir(folder), name, int(number[1])


def plain(value: Any) -> Any:
    """Settings as YAML holds them; what it cannot hold, by its name or its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return value.tolist()
    if value is None or type(value) in (bool, int, float, str):
        return value
    # An address in a text would make two equal settings differ.
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", str(value))
