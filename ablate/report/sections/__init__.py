"""Sections of a report, in the order in which they are read. A new analysis adds its builder to `BUILDERS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ablate.report.section import Section
from ablate.report.sections import answers, checks, records, result
from ablate.report.view_model import View

Part = Literal["answer", "figures", "record"]
"""Position in a report: the answer, what it rests on, and the record of the study, which a page folds."""

Builder = Callable[[View, Path], Section | None]
Sections = Mapping[Part, Sequence[Section]]

BUILDERS: dict[Part, tuple[Builder, ...]] = {
    "answer": (
        answers.attribution,
        answers.mediation,
        answers.effects,
        answers.variance,
        result.result,
        answers.irregularity,
        checks.interim_analyses,
        result.findings,
    ),
    "figures": (result.effects_by_metric, checks.cadence, checks.imported, result.gradient_norms),
    "record": (
        checks.examples,
        result.metrics,
        records.controls,
        records.learning,
        records.config,
        records.fingerprints,
        records.throughput,
        records.runs,
        result.next_steps,
        records.reproduction,
    ),
}


def build(view: View, folder: Path, *parts: Part) -> dict[Part, list[Section]]:
    """Build every section that the study has.

    folder: the study directory, for the records of its runs.
    parts: of the report; all of them if none is given.
    """
    built = {part: [builder(view, folder) for builder in BUILDERS[part]] for part in parts or tuple(BUILDERS)}
    sections = {part: [section for section in found if section is not None] for part, found in built.items()}
    if "record" in sections:
        sections["record"] = [replace(section, folded=True) for section in sections["record"]]
    return sections
