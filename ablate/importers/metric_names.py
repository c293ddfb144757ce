"""Map the metric names of loggers to the columns of a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ablate.errors import ConfigError, nearest

TRACE = ("loss", "grad_norm", "learning_rate", "tokens")
"""Columns of a trace that a log can contain, apart from `epoch`."""

STEPS = (
    "step", "train/global_step", "trainer/global_step", "global_step", "train/step", "iteration", "iter",
    "num_updates", "update", "_step", "Step",
)  # fmt: skip
"""Columns of steps, most reliable first: `_step` of W&B counts calls of `log`."""

_PLAIN = {
    "loss": "loss", "train_loss": "loss", "training_loss": "loss", "loss_train": "loss", "train_loss_step": "loss",
    "loss_step": "loss", "grad_norm": "grad_norm", "train_grad_norm": "grad_norm", "gradient_norm": "grad_norm",
    "train_gradient_norm": "grad_norm", "global_grad_norm": "grad_norm", "grad_norm_total": "grad_norm",
    "grad_2_0_norm_total": "grad_norm", "epoch": "epoch", "train_epoch": "epoch", "tokens": "tokens",
    "num_input_tokens_seen": "tokens", "train_num_input_tokens_seen": "tokens", "tokens_seen": "tokens",
}  # fmt: skip
_RATE = re.compile(r"(train_)?(learning_rate|lr)(_(adam|adamw|sgd))?(_pg1)?")
_EVAL = re.compile(r"(?:eval|val|valid|validation)_(.+)")
_EVAL_LAST = re.compile(r"(loss|accuracy|acc)_(?:eval|val|valid|validation)")
_METRICS = {"acc": "accuracy", "loss_epoch": "loss", "acc_epoch": "accuracy", "accuracy_epoch": "accuracy"}

# Left out without a note: clocks, throughput, and means over the whole run that loggers write at its end.
_IGNORED = re.compile(
    r"(train_)?global_step|trainer_global_step|step|.*_(per_second|preparation_time|compilation_time)|"
    r"(train_)?train_(runtime|loss)|train_runtime|(train_)?total_flos|(?:eval|val|valid|validation)_(epoch|step)|hp_metric"
)


def column_name(name: str) -> str | None:
    """Return `loss`, `grad_norm`, `learning_rate`, `epoch`, `tokens`, `eval_seconds` or `eval_<metric>`; None for any other.

    `eval_<metric>::<split>` is a metric of another evaluation set.
    """
    head, other, split = name.partition("::")
    if other:
        column = column_name(head)
        return f"{column}::{split}" if column is not None and column.startswith("eval_") else None
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
    if plain in _PLAIN:
        return _PLAIN[plain]
    if _RATE.fullmatch(plain):
        return "learning_rate"
    if is_ignored(name):
        return None
    match = _EVAL.fullmatch(plain) or _EVAL_LAST.fullmatch(plain)
    if match is None:
        return None
    if match[1] == "runtime":
        return "eval_seconds"
    # The metric keeps its spelling, without the prefix of an evaluation.
    metric = re.sub(r"^[^/_.\- ]+[/_.\- ]", "", name) if match.re is _EVAL else match[1]
    return f"eval_{_METRICS.get(match[1], metric)}"


def is_epoch(name: str) -> bool:
    """Return whether a column counts epochs."""
    return _PLAIN.get(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")) == "epoch"


def is_ignored(name: str) -> bool:
    """Return whether a name is left out without a note."""
    return _IGNORED.fullmatch(re.sub(r"[^a-z0-9]+", "_", name.lower())) is not None or name.startswith("_")


def map_columns(names: Iterable[str], renames: Mapping[str, str], where: str) -> dict[str, str]:
    """Return {logged name: column}. renames: the user's choices, which take precedence.

    Raises ConfigError if two names map to one column and neither was chosen.
    """
    columns: dict[str, str] = {name: renames[name] for name in names if name in renames}
    chosen = set(columns.values())
    for name in names:
        column = column_name(name)
        if name in columns or column is None or column in chosen:
            continue
        other = next((other for other, known in columns.items() if known == column), None)
        if other is not None:
            problem = f"{where}: expected one name for the column {column}, got {other!r} and {name!r}"
            raise ConfigError(problem, f"--rename {other}={column}, or {name}={column}")
        columns[name] = column
    return columns


def parse_renames(arguments: Iterable[str]) -> dict[str, str]:
    """Parse `--rename val_nll=eval_loss` to {logged name: column}. Raises ConfigError for an unknown column."""
    renames: dict[str, str] = {}
    known = (*TRACE, "epoch", "eval_seconds", "eval_<metric>")
    for text in arguments:
        name, equals, column = text.rpartition("=")
        if not equals or not name or not (column in known[:-1] or re.fullmatch(r"eval_[\w./@-]+", column)):
            problem = f"--rename {text!r}: expected NAME=COLUMN with a column of {', '.join(known)}, got {column!r}; "
            raise ConfigError(problem + nearest(column, known), "--rename val_nll=eval_loss")
        if column in renames.values():
            raise ConfigError(
                f"--rename {text!r}: {column} is already the target of another name", "one --rename per column"
            )
        renames[name] = column
    return renames
