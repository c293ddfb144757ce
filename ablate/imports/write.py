"""A source as a run folder: ordinary tables and small files, in which what the source did not say is null or absent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from ablate.errors import RecordError
from ablate.imports.names import TRACE as TRACE_NAMES
from ablate.imports.names import is_silent
from ablate.imports.values import LARGEST, Source
from ablate.record.columns import EVALS, TRACE
from ablate.record.origin import Origin
from ablate.record.rundir import RunDir, write_text
from ablate.record.values import Manifest, Outcome, write_value
from ablate.record.writer import TableWriter

Row = dict[str, Any]


def write_run(run: RunDir, source: Source, names: Mapping[str, str], *, arm: str, seed: int, seed_said: str) -> Origin:
    """Write one run. names: {name in the log: ours}. seed_said: where the seed is from.

    Raises RecordError for a log without any number that has a place in a record.
    """
    shift = _train_shift(source, names)
    trace = [row for step, values in source.rows.items() if (row := _trace_row(step + shift, values, names, source))]
    evals = [
        row for step, values in source.rows.items() for row in _eval_rows(step + source.shift, values, names, source)
    ]
    if not trace and not evals:
        raise RecordError(
            f"{source.path} logs nothing that is known here: {', '.join(source.names()) or 'no number at all'}",
            "--rename my_loss=loss --rename my_val_loss=eval_loss",
        )
    if shift != source.shift:
        source.notes.append(
            "training steps are counted from 0, so one was added to them; whether a look at step 0 was before the first update "
            "is not on record"
        )
    origin = _origin(source, names, seed_said)
    run.path.mkdir(parents=True)
    _table(run.trace, TRACE, trace)
    _table(run.evals, EVALS, evals)
    write_text(run.config, yaml.safe_dump(source.config, sort_keys=False, allow_unicode=True), hide=True)
    write_value(run, Manifest(arm=arm, seed=seed, origin=asdict(origin)))
    last = max([row["step"] for row in (*trace, *evals)])
    write_value(run, _outcome(source, last))
    return origin


def _train_shift(source: Source, names: Mapping[str, str]) -> int:
    """A training row at step 0 says that the loop counts its updates from 0."""
    ours = [name for name, own in names.items() if own in ("loss", "grad_norm")]
    from_0 = any(name in source.rows.get(0, {}) for name in ours)
    return max(source.shift, int(from_0))


def _origin(source: Source, names: Mapping[str, str], seed_said: str) -> Origin:
    left = [name for name in source.names() if name not in names and not is_silent(name)]
    return Origin(
        format=source.format, files=source.digests(), names=dict(names), left_out=tuple(left), step=source.step, seed=seed_said,
        samples=source.samples_from, samples_per_step=source.samples_per_step or 0, total_steps=source.total_steps,
        loss=source.loss, averaged=source.averaged, looking=source.looking, settings=source.settings, notes=tuple(source.notes),
    )  # fmt: skip


def _trace_row(step: int, values: Mapping[str, float], names: Mapping[str, str], source: Source) -> Row | None:
    """None where the step logged nothing of training. Whether an update was applied is told by its norm, as in `Recorder`."""
    found = _ours(values, names)
    if not any(name in found for name in TRACE_NAMES):
        return None
    norm = found.get("grad_norm")
    return _position(step, found, source) | {
        "loss": found.get("loss"), "grad_norm": norm, "learning_rate": found.get("learning_rate"),
        "applied": None if norm is None else math.isfinite(norm), "group_norms": [], "update_ratios": [],
    }  # fmt: skip


def _eval_rows(step: int, values: Mapping[str, float], names: Mapping[str, str], source: Source) -> Iterable[Row]:
    """A mean alone is known: it is the sum of one, and has no standard error."""
    found = _ours(values, names)
    for name, value in found.items():
        head, _, split = name.partition("::")
        if head.startswith("eval_") and head != "eval_seconds":
            seconds = found.get(f"eval_seconds::{split}" if split else "eval_seconds")
            yield _position(step, found, source) | {
                "eval_seconds": seconds, "split": split or "held_out", "metric": head.removeprefix("eval_"), "sum": value,
                "count": 1, "sum_squares": math.nan,
            }  # fmt: skip


def _ours(values: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    return {names[name]: value for name, value in values.items() if name in names}


def _position(step: int, found: Mapping[str, float], source: Source) -> Row:
    size, tokens = source.samples_per_step, found.get("tokens")
    samples = step * size if size else None
    if max(step, samples or 0) > LARGEST:
        raise RecordError(
            f"{source.path}: step {step} at {size} samples each is beyond any table", "--samples-per-step 8"
        )
    whole = tokens is not None and math.isfinite(tokens) and 0 <= tokens <= LARGEST // 2
    return {
        "step": step,
        "epoch": found.get("epoch"),
        "samples": samples,
        "tokens": int(tokens or 0) if whole else None,
    }


def _table(path: Any, schema: Any, rows: list[Row]) -> None:
    with TableWriter(path, schema) as table:
        if rows:
            table.write({name: [row.get(name) for row in rows] for name in schema.names})


def _outcome(source: Source, last: int) -> Outcome:
    if source.ended is False:
        return Outcome(status="interrupted", step=last, reason="source", sentence=source.sentence)
    unsaid = f"the log ends at step {last}, and does not say whether the run did"
    return Outcome(status="finished", step=last, reason="source", sentence=source.sentence or unsaid)
