"""Where the numbers of an imported run come from, and what its source did not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.typed import built


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """`origin` of a manifest.

    format: `trainer_state`, `tensorboard`, `wandb`, `wandb_table`, `lightning`, `table`. files: {name in the source: sha256}.
    names: {name in the source: ours}. left_out: names that were logged and are not ours; they are not in the record.
    step: the column that positions were read from. seed: where the run's number comes from, in words.
    samples: what a step was counted with, in words; '' where the source did not say, and then samples are null.
    samples_per_step: 0 where it is not known. total_steps: as planned by the source; 0 where it did not say.
    loss: what a row's training loss is, in words. averaged: whether rows are means over stretches of a chart.
    looking: settings that only say when it was looked and logged. settings: where the others come from, in words; '' for none.
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
    looking: dict[str, Any] = field(default_factory=dict)
    settings: str = ""
    notes: tuple[str, ...] = ()


def origin_of(value: Mapping[str, Any]) -> Origin | None:
    """The origin that a manifest holds; None for a run that was recorded. Raises ValueError for one of another form."""
    if not value:
        return None
    found: Origin = built(Origin, value)
    return found
