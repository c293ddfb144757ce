"""Notebook display of a study: the answer, the contrasts, and what changes the reading of either."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablate import formatting as fmt
from ablate.analysis.results import Analysis
from ablate.report.html import environment
from ablate.report.view_model import make_view

if TYPE_CHECKING:
    from ablate.notebook.study import Study


def card(analysis: Analysis) -> str:
    """Return the card of a study. All text is escaped: a run named `<script>` stays a name."""
    ended = sum(run.status in ("finished", "diverged") for run in analysis.runs)
    return environment().get_template("card.html").render(view=make_view(analysis), ended=ended)


def run_card(study: Study) -> str:
    """Return the card of one run: how it ended, and its metrics."""
    row = study.runs.iloc[0]
    values = {name: row[name] for name in study.runs.attrs["units"] if row[name] == row[name] and row[name] is not None}
    return environment().get_template("run_card.html").render(
        study=study,
        status=row["status"],
        sentence=fmt.typeset(str(row["sentence"])),
        metrics={name: fmt.figure(float(value), 4) for name, value in values.items()},
    )  # fmt: skip
