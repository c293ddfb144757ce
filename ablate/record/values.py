"""The three small files of a run folder as values: manifest, fingerprint, outcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ablate.errors import RecordError
from ablate.record.rundir import RunDir, read_json, write_json

Status = Literal["finished", "diverged", "failed", "interrupted"]


@dataclass(kw_only=True, slots=True)
class Manifest:
    """What was asked for and where it ran; written before the first step, `ended` after the last."""

    arm: str
    seed: int
    overrides: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    code_digest: str = ""
    git: str | None = None
    """Commit of the working folder, with `+dirty` when it had changes; None outside a repository."""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    num_threads: int = 0
    padding: str = ""
    """What the model did with padding: `left out` (of the last layer perhaps more), or `kept: ` and why."""
    started: str = ""
    """UTC, ISO 8601."""
    ended: str | None = None


@dataclass(kw_only=True, slots=True)
class Fingerprint:
    """What must be equal between arms, read from the live objects.

    `items` keys, the vocabulary of an axis's `accepts` and `holds`:
    parameters   {"names": hash of names and shapes, "count": int, "trainable": int}
    init         {module name: hash of its initial weights}
    order        {"64": hash of the first 64 sample ids fed, "128": ..., doubling}
    splits       {"train": hash of ids, "held_out": hash of ids}
    eval_set     {"ids": hash, "count": int}
    optimizer    {"name", "lr", "weight_decay", ...} as set on the live groups
    schedule     {"0.00": factor, "0.25", "0.50", "0.75", "1.00"}: learning-rate factor at fractions of the budget
    precision    {"autocast": dtype name or "off", "scaler": bool}
    clip_norm    {"max": float or None}
    dropout      {"<p>": number of modules with that probability}
    loss_at_start {"<metric>": value of the evaluation before training}
    environment  {"device", "torch", "num_threads", "deterministic", ...}
    """

    items: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class Outcome:
    """How a run ended. Failure is a value with a sentence."""

    status: Status
    step: int = 0
    """Optimizer steps taken."""
    reason: str = ""
    """One word or exception name: `budget`, `non-finite gradients`, `SIGKILL`, `ValueError`."""
    sentence: str = ""
    weights_sha256: str | None = None
    """Hash of the final weights; equal hashes mean the same trajectory, bit for bit."""
    best: dict[str, Any] = field(default_factory=dict)
    """{metric: {"value", "step"}}: best evaluation, kept apart from the last one."""
    gradient: dict[str, Any] = field(default_factory=dict)
    """`spikes` (number of steps), `vanished` (groups), `exploded`: signs of trouble, as in `record.gradient_flags`."""
    throughput: dict[str, float] = field(default_factory=dict)
    """train_samples_per_second, train_tokens_per_second, train_steps_per_second (over all sessions, the first three steps of
    each left out), eval_samples_per_second, train_seconds, eval_seconds, peak_memory_bytes, train_flops_per_second, and where
    the device's peak is known mfu and assumed_peak_flops. Evaluation is not part of training."""
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """One entry for each process that worked on the run, with its counts: a run that was interrupted has several."""


def write_value(run: RunDir, value: Manifest | Fingerprint | Outcome) -> None:
    """Write `manifest.json`, `fingerprint.json` or `outcome.json`, whole or not at all."""
    write_json(getattr(run, type(value).__name__.lower()), asdict(value))


def read_manifest(run: RunDir) -> Manifest:
    """Raises RecordError when it is missing or unreadable."""
    return Manifest(**_read(run, "manifest"))


def read_fingerprint(run: RunDir) -> Fingerprint | None:
    """None while the run has not come as far as its first step."""
    return Fingerprint(**_read(run, "fingerprint")) if run.fingerprint.exists() else None


def read_outcome(run: RunDir) -> Outcome | None:
    """None while the run is going, or when it was killed."""
    return Outcome(**_read(run, "outcome")) if run.outcome.exists() else None


def _read(run: RunDir, name: str) -> dict[str, Any]:
    path = getattr(run, name)
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise RecordError(
            f"{path} cannot be read: {error}", "remove that run's folder and run the study again"
        ) from None
    assert isinstance(value, dict)
    return value
