"""Sections of a report, in the order in which they are read. A new analysis adds its builder to `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ablate.report.section import Section
from ablate.report.sections import answers, checks, records
from ablate.report.view_model import View

Part = Literal["answer", "check", "curves", "record"]
"""Position in a report: the answer of a design, checks of the verdicts, what the curves show, and the record of the study."""

Builder = Callable[[View, Path], Section | None]
Sections = Mapping[Part, Sequence[Section]]

BUILDERS: dict[Part, tuple[Builder, ...]] = {
    "answer": (answers.attribution, answers.mediation, answers.effects, answers.variance),
    "check": (checks.interim_analyses, checks.examples),
    "curves": (checks.observation_axes, checks.evaluation_cadence, checks.imported),
    "record": (
        records.gradient_norms,
        records.metrics,
        records.fingerprints,
        records.noise_floor,
        records.config,
        records.throughput,
        records.runs,
        records.environment,
        records.reproduction,
    ),
}


def build(view: View, folder: Path, *parts: Part) -> dict[Part, list[Section]]:
    """Build every section that the study has.

    folder: the study directory, for the records of its runs.
    parts: of the report; all of them if none is given.
    """
    found = {part: [builder(view, folder) for builder in BUILDERS[part]] for part in parts or tuple(BUILDERS)}
    return {part: [section for section in sections if section is not None] for part, sections in found.items()}
