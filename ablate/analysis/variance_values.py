"""What a study of two streams of chance says, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class VariancePart:
    """One source. variance, low, high: in the squared unit of the outcome, the estimate not clipped at 0. share, share_low,
    share_high: of all variance between runs. p_value: F test that a stream adds nothing; None for the rest."""

    name: str
    variance: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    p_value: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceOf:
    """One outcome. sd: of single runs, all sources together. parts: the two streams, then both together. shown: the stream that
    is shown to add variance, the larger one where both are; None where none is."""

    metric: str
    unit: str
    sd: float
    parts: tuple[VariancePart, ...]
    shown: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VarianceStudy:
    """streams: names of the two factors. held: streams that no run varied. of: the primary metric first. refused: why nothing
    is divided, or ''. seen_from: share from which a stream is shown in four of five studies. sentence: the answer; advice: what
    follows from it."""

    streams: tuple[str, ...]
    draws: int
    held: tuple[str, ...]
    of: tuple[VarianceOf, ...]
    refused: str
    seen_from: float
    sentence: str
    advice: str
