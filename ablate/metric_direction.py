"""The better side of a metric, from the words of its name: the loop, the analysis and the importers all use this definition."""

from __future__ import annotations

import re

LOWER = ("loss", "nll", "perplexity", "entropy", "error", "mae", "mse", "rmse", "wer", "cer", "ece", "brier")
"""Words of metrics that are better when lower."""
HIGHER = ("accuracy", "f1", "precision", "recall", "auc", "auroc", "ndcg", "bleu", "rouge", "mcc", "r2", "score")
"""Words of metrics that are better when higher."""


def lower_is_better(metric: str) -> bool | None:
    """Return the better side of a metric; None where its name has no such word, or words of both sides.

    metric: name under which it is recorded, such as `token_error` or `top5-accuracy`.
    """
    words = re.split(r"[^a-z0-9]+", metric.lower())
    low, high = (any(word in side for word in words) for side in (LOWER, HIGHER))
    return low if low != high else None
