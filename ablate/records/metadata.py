"""The small files of a run folder as values: manifest, fingerprint, status; the origin of an imported run; provenance."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

from ablate.errors import RecordError
from ablate.records.layout import RunDir, is_inside, is_plain
from ablate.records.reader import is_closed
from ablate.serialization import built, fits, read_json, write_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """`origin` of a manifest.

    format: `trainer_state`, `tensorboard`, `wandb`, `wandb_table`, `lightning`, `table`. files: {name in the source: sha256}.
    names: {name in the source: ours}. left_out: names that were logged and are not ours; they are not in the record.
    step: the column that positions were read from. seed: where the run's number comes from, in words.
    samples: what a step was counted with, in words; '' where the source did not say, and then samples are null.
    samples_per_step: 0 where it is not known. total_steps: as planned by the source; 0 where it did not say.
    loss: what a row's training loss is, in words. averaged: whether rows are means over stretches of a chart.
    cadence: settings that only say when the run was evaluated and logged.
    settings: where the others come from, in words; '' for none.
    notes: what was left out or put together while it was read.
    """

    format: str
    files: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    step: str = ""
    seed: str = ""
    samples: str = ""
    samples_per_step: int = 0
    total_steps: int = 0
    loss: str = ""
    averaged: bool = False
    cadence: dict[str, Any] = field(default_factory=dict)
    settings: str = ""
    notes: tuple[str, ...] = ()


def origin_of(value: Mapping[str, Any]) -> Origin | None:
    """Return the origin in a manifest; None for a run that was recorded. Raises ValueError for an invalid one."""
    if not value:
        return None
    origin: Origin = built(Origin, value)
    return origin


Status = Literal["finished", "diverged", "failed", "interrupted"]


@dataclass(kw_only=True, slots=True)
class Manifest:
    """Settings of a run and where it ran; written before the first step, `ended` after the last."""

    arm: str
    seed: int
    overrides: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    """Of config, seed, data and code: runs of equal digest have equal results."""
    request: str = ""
    """The digest less the code."""
    data: str = ""
    """Digest of the pool that the run read; empty where it is unknown."""
    code_digest: str = ""
    code: dict[str, str] = field(default_factory=dict)
    """{file: sha256} of the source that the code digest is made of, the user's own modules included."""
    imported: dict[str, str] = field(default_factory=dict)
    """{file: sha256} of the user's modules that the run had really imported when it ended."""
    hub: dict[str, dict[str, str]] = field(default_factory=dict)
    """{"model" or "data": {"name", "revision"}} of what came from a hub: the commit that was loaded."""
    sessions: list[dict[str, str]] = field(default_factory=list)
    """One entry for each process that worked on the run: `started`, and the `code_digest` of the code that it ran."""
    attempts: list[dict[str, str]] = field(default_factory=list)
    """One entry for each earlier attempt without a result: its `started`, and the `reason` and `message` of its end."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Of an imported run: `Origin` as JSON. Empty for a run that was recorded."""
    shared_from: str | None = None
    """`<study>/<arm>/seed=<n>` of the run whose result was reused, because their digests are equal."""
    git: str | None = None
    """Commit of the working directory, with `+dirty` when it had changes; None outside a repository."""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    num_threads: int = 0
    precision: str = ""
    """`fp32`, `tf32`, `bf16` or `fp16`: what `train.precision` became on the device."""
    padding: str = ""
    """What the model did with padding: `left out` (of the last layer perhaps more), or `kept: ` and why."""
    started: str = ""
    """UTC, ISO 8601."""
    ended: str | None = None


@dataclass(kw_only=True, slots=True)
class Fingerprint:
    """Properties that must be equal between arms, read from the live objects.

    `items` keys, the vocabulary of an axis's `may_change` and `must_match`:
    data         {"source": digest of the pool on disk, whatever part of it is used}; under `data.label_noise` also
                 {"label_noise": its share, "wrong_labels": hash of the ids in the pool that it is wrong for}
    parameters   {"count": int, "trainable": int, "shapes": {name: "384x384"}}
    init         {module name: hash of its initial weights and buffers}
    hooks        {module, parameter or "optimizer": kinds of its hooks}
    order        {"8": hash of the first 8 sample ids fed, "16": ..., doubling}
    splits       {"train": hash of ids, "held_out": hash of ids}
    eval_set     {"ids": hash, "count": int}
    optimizer    {"name", "group 0": {"lr", "weight_decay", ..., "params": how many, "names": hash of their names}, ...}
    schedule     {"shape", "warmup", "min_lr_ratio", "0.00": factor, "0.25", "0.50", "0.75", "1.00"}: of the rate, by done
    precision    {"autocast": dtype name or "off", "scaler": bool, "matmul": dtype that a product gives, "weights": dtypes, ...}
    max_grad_norm    {"max": float or None}
    grad_noise   {"of": samples of each step that update, "drawn": hash of their positions in the first step}; only under
                 `train.noise_batch_size`
    dropout      {module, or attribute of one: probability}
    loss_at_start {"<metric>": value of the evaluation before training}
    first_step   {"loss", "grad_norm"} of the first row of the trace
    rates        {"<step>": learning rate that the first group really had}: at five steps, compared with the run's own trace
    tokens_seen  int: real tokens that training has seen
    flops        float: what training them has cost, by the count of `train_flops_per_second`
    environment  {"device", "torch", "num_threads", "deterministic", ...}
    """

    items: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class RunStatus:
    """How a run ended. Failure is a value with a message."""

    status: Status
    step: int = 0
    """Optimizer steps taken."""
    reason: str = ""
    """One word or exception name: `budget`, `non-finite gradients`, `SIGKILL`, `ValueError`."""
    message: str = ""
    """One sentence for the user."""
    weights_sha256: str | None = None
    """Hash of the final weights; equal hashes mean the same trajectory, bit for bit."""
    best: dict[str, Any] = field(default_factory=dict)
    """{metric: {"value", "step"}}: best evaluation of each metric whose name says which side is better."""
    gradient: dict[str, Any] = field(default_factory=dict)
    """`spikes` (number of steps), `vanished` (groups), `exploded`: signs of trouble, as in `record.gradient_flags`."""
    throughput: dict[str, float] = field(default_factory=dict)
    """train_samples_per_second, train_tokens_per_second, train_steps_per_second (over all sessions, the first three steps of
    each left out), eval_samples_per_second, train_seconds, eval_seconds, peak_memory_bytes, train_flops_per_second, and where
    the device's peak is known mfu and device_peak_flops. Evaluation is not part of training."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each process that worked on the run, with its counts: a run that was interrupted has several."""
    files: dict[str, str] = field(default_factory=dict)
    """{name: sha256} of config, fingerprint, tables and returned values when the run had its result; empty without one."""


RESULTS = ("finished", "diverged")
"""Statuses that are results. Diverging is one; failing and being interrupted are not."""

_HASHED = ("config.yaml", "fingerprint.json", "trace.arrow", "evals.arrow", "predictions.arrow", "returned.json")


def write_value(run: RunDir, value: Manifest | Fingerprint | RunStatus) -> None:
    """Write `manifest.json`, `fingerprint.json` or `status.json`, whole or not at all. A result is written with `files`."""
    name = "status" if isinstance(value, RunStatus) else type(value).__name__.lower()
    if isinstance(value, RunStatus) and value.status in RESULTS:
        files = {name: _hash_of(run.path / name) for name in _HASHED if (run.path / name).is_file()}
        value = replace(value, files=files)
    write_json(getattr(run, name), asdict(value), hide=True, checksum=True)


def damage(run: RunDir, outcome: RunStatus) -> str:
    """Return what is wrong with the files of a run that has a result: `evals.arrow is missing`; '' where nothing is.

    Without hashes, which imported runs and earlier versions lack, a table that does not end as it was closed was cut off.
    """
    if outcome.status not in RESULTS:
        return ""
    for name, expected in outcome.files.items():
        path = run.path / name
        if name not in _HASHED or not path.is_file():
            return f"{name} is missing"
        if _hash_of(path) != expected:
            return f"{name} has other bytes than at the end of the run"
    tables = [] if outcome.files else [run.trace, run.evals]
    cut = next((path.name for path in tables if path.is_file() and not is_closed(path)), None)
    return f"{cut} was cut off" if cut else ""


def _hash_of(path: Path) -> str:
    state = path.stat()
    return _hash_of_state(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=50_000)
def _hash_of_state(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_manifest(run: RunDir) -> Manifest:
    """Read `manifest.json`. Raises RecordError when it is missing or unreadable."""
    return _read(run.manifest, Manifest)


def read_fingerprint(run: RunDir) -> Fingerprint | None:
    """Read `fingerprint.json`; None before the first step. Raises RecordError when it is unreadable."""
    return _read(run.fingerprint, Fingerprint) if run.fingerprint.exists() else None


def read_status(run: RunDir) -> RunStatus | None:
    """Read `status.json`; None while the run is going, or after it was killed. Raises RecordError when it is unreadable."""
    return _read(run.status, RunStatus) if run.status.exists() else None


Value = TypeVar("Value", Manifest, Fingerprint, RunStatus)


def _read(path: Path, kind: type[Value]) -> Value:
    """Read and check the types of a file of unknown origin."""
    try:
        value: Value = built(kind, read_json(path))
        if isinstance(value, Manifest):
            _check_manifest(value)
        elif isinstance(value, Fingerprint):
            _check_items(value.items)
        else:
            _check_status(value)
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}", "remove that run's folder and run the study again"
        ) from None
    return value


def _check_manifest(value: Manifest) -> None:
    """Raise ValueError for a time without a zone, and for what must not become the path of a file."""
    times = [value.started, value.ended, *(one.get("started") for one in (*value.sessions, *value.attempts))]
    for moment in filter(None, times):
        if datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError(f"expected a time with its zone, as 2026-01-31T12:00:00+00:00, got {moment!r}")
    for name in ("digest", "request", "code_digest"):
        if not is_plain(getattr(value, name)):
            raise ValueError(f"{name}: expected a hash, got {getattr(value, name)[:60]!r}")
    for name in (*value.code, *value.imported):
        if not is_inside(name):
            raise ValueError(f"expected the name of a source file in its folder, got {name[:60]!r}")
    origin_of(value.origin)


def _check_status(value: RunStatus) -> None:
    """Raise ValueError for numbers that no run has."""
    if value.step < 0:
        raise ValueError(f"step: expected a number from 0, got {value.step}")
    for name, number in value.throughput.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"throughput.{name}: expected a number from 0, got {number}")


def _check_items(items: dict[str, Any]) -> None:
    for name, item in items.items():
        if not fits(item, float if name in ("tokens_seen", "flops") else dict if name in _GROUPS else Any):
            raise ValueError(f"the item {name} cannot be {str(item)[:60]!r}")


_GROUPS = (
    "data", "components", "parameters", "init", "hooks", "order", "splits", "eval_set", "optimizer", "schedule", "precision",
    "max_grad_norm", "grad_noise", "dropout", "loss_at_start", "first_step", "rates", "environment",
)  # fmt: skip


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
