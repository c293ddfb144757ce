"""Names under which loggers keep a loss, a rate, a norm, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ablate.errors import ConfigError, nearest

TRACE = ("loss", "grad_norm", "learning_rate", "tokens")
"""Columns of a trace that a log may hold, beside `epoch`."""

STEPS = (
    "step", "train/global_step", "trainer/global_step", "global_step", "train/step", "iteration", "iter", "_step", "Step",
)  # fmt: skip
"""Columns of positions, the surest first: `_step` of W&B counts calls of log."""

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

# Neither ours nor worth a word: clocks, rates of work, and means over the whole run that loggers write at its end.
_SILENT = re.compile(
    r"(train_)?global_step|trainer_global_step|step|.*_(per_second|preparation_time|compilation_time)|"
    r"(train_)?train_(runtime|loss)|train_runtime|(train_)?total_flos|(?:eval|val|valid|validation)_(epoch|step)|hp_metric"
)


def own_name(name: str) -> str | None:
    """`loss`, `grad_norm`, `learning_rate`, `epoch`, `tokens`, `eval_seconds` or `eval_<metric>`; None for any other.

    `eval_<metric>::<split>` is one of another evaluation set.
    """
    head, other, split = name.partition("::")
    if other:
        ours = own_name(head)
        return f"{ours}::{split}" if ours is not None and ours.startswith("eval_") else None
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower())
    if plain in _PLAIN:
        return _PLAIN[plain]
    if _RATE.fullmatch(plain):
        return "learning_rate"
    if is_silent(name):
        return None
    found = _EVAL.fullmatch(plain) or _EVAL_LAST.fullmatch(plain)
    if found is None:
        return None
    if found[1] == "runtime":
        return "eval_seconds"
    # The metric by its own spelling, less what says that it is one of an evaluation.
    metric = re.sub(r"^[^/_.\- ]+[/_.\- ]", "", name) if found.re is _EVAL else found[1]
    return f"eval_{_METRICS.get(found[1], metric)}"


def is_silent(name: str) -> bool:
    """Whether a name is left out without a word."""
    return _SILENT.fullmatch(re.sub(r"[^a-z0-9]+", "_", name.lower())) is not None or name.startswith("_")


def mapping(names: Iterable[str], renamed: Mapping[str, str], where: str) -> dict[str, str]:
    """{name in the log: ours} of those that have one. renamed: by the user, who has the last word.

    Raises ConfigError where two names would be one column, and neither was chosen.
    """
    found: dict[str, str] = {name: renamed[name] for name in names if name in renamed}
    chosen = set(found.values())
    for name in names:
        ours = own_name(name)
        if name in found or ours is None or ours in chosen:
            continue
        other = next((one for one, known in found.items() if known == ours), None)
        if other is not None:
            raise ConfigError(
                f"{where} logs {other!r} and {name!r}, and both would be {ours}",
                f"--rename {other}={ours}, or {name}={ours}",
            )
        found[name] = ours
    return found


def read_renames(typed: Iterable[str]) -> dict[str, str]:
    """`--rename val_nll=eval_loss`: {name in the log: ours}. Raises ConfigError for what is no name of ours."""
    renamed: dict[str, str] = {}
    known = (*TRACE, "epoch", "eval_seconds", "eval_<metric>")
    for text in typed:
        name, equals, ours = text.rpartition("=")
        if not equals or not name or not (ours in known[:-1] or re.fullmatch(r"eval_[\w./@-]+", ours)):
            raise ConfigError(
                f"--rename {text!r}: {ours!r} is no name of a record; {nearest(ours, known)}",
                "--rename val_nll=eval_loss",
            )
        if ours in renamed.values():
            raise ConfigError(
                f"--rename {text!r}: {ours} is taken by another name", "one --rename for each name of ours"
            )
        renamed[name] = ours
    return renamed
