"""The columns of `trace.arrow`, `evals.arrow` and `predictions.arrow`, each with its unit. `docs/reference/record.md` is
tested against these."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

_TRACE = [
    ("step", pa.int64(), "optimizer steps taken, this one included: 1 .. total, never reset"),
    ("epoch", pa.float64(), "passes over the training set, this step included"),
    (
        "samples",
        pa.int64(),
        "training samples seen, this step included; null where an import does not know them, and read as one per step",
    ),
    ("tokens", pa.int64(), "real (unpadded) tokens seen, this step included; 0 where samples have no tokens"),
    ("loss", pa.float32(), "mean over the items of this step's batch, before the update, in nats for classification"),
    ("grad_norm", pa.float32(), "global L2 norm of the gradient of `loss`: fp32, unscaled, before clipping"),
    ("clip_coefficient", pa.float32(), "factor by which clipping multiplied the gradient; 1 where it did not bind"),
    ("applied", pa.bool_(), "False where a non-finite gradient made the step be skipped"),
    ("learning_rate", pa.float64(), "rate of this step, first parameter group"),
    ("loss_scale", pa.float32(), "gradient scaler's scale of this step; 1 without a scaler"),
    (
        "step_seconds",
        pa.float64(),
        "time since the end of the step before, on a GPU its own; evaluation and flushing excluded",
    ),
    ("group_norms", pa.list_(pa.float32()), "as `grad_norm`, per group; names under `groups` in the schema's metadata"),
    ("update_ratios", pa.list_(pa.float32()), "norm of the weights' change over their norm, per group, or empty"),
    ("micro_samples", pa.int64(), "samples of the first forward pass; 0 without `noise_scale`"),
    ("micro_grad_norm", pa.float32(), "as `grad_norm`, of the first forward pass alone, or null"),
]

_EVALS = [
    ("step", pa.int64(), "optimizer steps taken before this evaluation; 0 is before training"),
    ("epoch", pa.float64(), "passes over the training set before this evaluation"),
    ("samples", pa.int64(), "training samples seen before this evaluation; null as in the trace"),
    ("tokens", pa.int64(), "real tokens seen before this evaluation"),
    ("train_seconds", pa.float64(), "sum of `step_seconds` before this evaluation"),
    ("eval_seconds", pa.float64(), "wall time of this evaluation"),
    ("split", pa.string(), "name of the examples evaluated: `held_out`"),
    ("metric", pa.string(), "`loss` (nats) or `accuracy` (0 to 1), or the name your evaluation gave"),
    ("sum", pa.float64(), "sum of the metric over the examples; the metric is sum / count"),
    ("count", pa.int64(), "number of examples summed over; 1 where only the mean is known"),
    ("sum_squares", pa.float64(), "sum of the squared metric over the examples, for its standard error"),
]


_PREDICTIONS = [
    (
        "id",
        pa.int64(),
        "identity of the example in the whole pool, the same in every arm; its position where a task names none",
    ),
    (
        "group",
        pa.int64(),
        "examples that were drawn together, such as the pieces of one document, have one; else the id",
    ),
    ("items", pa.int64(), "values that are summed below: 1, or the predicted tokens of a piece"),
]


def _schema(rows: list[tuple[str, pa.DataType, str]]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, metadata={"meaning": meaning}) for name, kind, meaning in rows])


TRACE = _schema(_TRACE)
EVALS = _schema(_EVALS)
PREDICTIONS = _schema(_PREDICTIONS)
"""Columns of every `predictions.arrow`; one column for every metric follows."""


def with_metrics(metrics: Iterable[str]) -> pa.Schema:
    """Return the columns of a `predictions.arrow` that has these metrics."""
    more = [(name, pa.float64(), f"sum of `{name}` over the items of the example") for name in metrics]
    return pa.schema([*PREDICTIONS, *_schema(more)])


def meaning(field: pa.Field) -> str:
    """Return the sentence that documents a column."""
    return str((field.metadata or {})[b"meaning"], "utf-8")
