"""Kept examples for the runs of a made-up study, which add up to the evaluations that the study has on disk already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ablate.hashing import digest_of
from ablate.records.layout import StudyDir
from ablate.records.metadata import read_manifest
from ablate.records.reader import read_evals
from ablate.training.predictions import write_predictions


def keep_examples(
    study: Path,
    *,
    own: Mapping[str, float] | None = None,
    chance: float = 0.02,
    ids: Mapping[str, int] | None = None,
    groups: int | None = None,
    seed: int = 0,
) -> None:
    """Write predictions.arrow into every finished run.

    own: arm -> sd of what its examples have to themselves in every seed, beside what they share with the baseline's: it moves
    the contrast from evaluation set to evaluation set. chance: sd of an example in one run. ids: arm -> its first example's id.
    groups: that the examples are drawn in, in order; None draws each by itself.
    """
    for run in StudyDir(study).runs():
        if not run.status.exists():
            continue
        manifest, evals = read_manifest(run), read_evals(run.evals)
        loss, accuracy = evals.curve("loss"), evals.curve("accuracy")
        count = int(loss.count[-1])
        shared = np.random.default_rng(seed).normal(size=count)
        arm = np.random.default_rng([seed, int(digest_of(manifest.arm)[:8], 16)]).normal(size=groups or count)
        cell = np.random.default_rng([seed, manifest.seed, int(digest_of([manifest.arm])[:8], 16)]).normal(size=count)
        group = np.arange(count) * (groups or count) // count
        drawn = 0.5 * shared + (own or {}).get(manifest.arm, 0.0) * arm[group] + chance * cell
        values = loss.value[-1] + drawn - drawn.mean()
        right = np.zeros(count)
        right[np.argsort(values)[: round(accuracy.value[-1] * count)]] = 1.0
        first = (ids or {}).get(manifest.arm, 0)
        columns = {"id": first + np.arange(count), "group": first + group, "items": np.ones(count, dtype=np.int64)}
        write_predictions(
            run.predictions, columns | {"loss": values, "accuracy": right}, step=int(loss.step[-1]), split="held_out"
        )
