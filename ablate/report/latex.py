"""`table.tex` and `table.csv`: the result for a paper, and for further computation."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ablate import formatting as fmt
from ablate.analysis.contrasts import COLLAPSED_RUNS, PLACEBO_DIFFERS
from ablate.analysis.results import UNVERIFIED, Analysis, Contrast
from ablate.design.axis import show
from ablate.errors import ConfigError, nearest
from ablate.redact import visible
from ablate.report.console import folded
from ablate.report.latex_text import label_of, table_environment, tex, tex_interval, tex_lines, tex_number
from ablate.report.section import Cell, Section, Table, cells
from ablate.report.sections import Sections
from ablate.report.view_model import OutcomeView, View, floors_sentence, interval_head, named
from ablate.stats.verdicts import BY_STEPS, LOW_POWER
from ablate.units import END

_NAME = 22
"""Letters per line of a name."""

SIGNIFICANT_MARK = "*"

_MEANS = {
    LOW_POWER: "fewer than five seeds",
    BY_STEPS: "significant by the step-down procedure; the interval, which is not step-down, still contains zero",
    COLLAPSED_RUNS: "runs far worse than the others of their arm: equivalence is not claimed",
    PLACEBO_DIFFERS: "an A/A arm that differs significantly: something besides the varied setting may differ between arms",
    UNVERIFIED: "that only one variable changed could not be checked",
    "MISSING SEEDS": "runs of this arm or of the baseline are missing: computed from the others",
}
"""Meaning of a label, for a reader who has only the table."""

COLUMNS = (
    "study", "metric", "unit", "primary", "arm", "change", "axis", "baseline_value", "value", "seeds", "effect", "low",
    "high", "confidence", "p_adjusted", "p_by_steps", "p_own_pairs", "p_sign_flip", "hedges_g", "beats", "baseline_mean",
    "arm_mean", "residual_sd", "df", "rho", "method", "family", "verdict", "seeds_needed", "floor", "labels", "differences",
)  # fmt: skip
"""Columns of `table.csv`. seeds: with a value in both arms; differences: one per seed; both joined by spaces."""
_FIELDS = {"p_adjusted": "p_value", "p_by_steps": "step_p", "p_own_pairs": "own_p", "p_sign_flip": "signflip_p"}


def latex(view: View, sections: Sections, metrics: Sequence[str] = (), *, effects: bool = False) -> str:
    """Return `table.tex`: the table of arms, and the tables of a design that has more to answer. Needs booktabs alone."""
    answers = [
        _plain_table(section, table, view)
        for section in sections["answer"]
        for table in section.tables[:1]
        if section.key != "result"
    ]
    arms = _arms(view, paper_table(view, metrics, effects=effects))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(table for table in (arms, *answers) if table)


def table_csv(view: View) -> str:
    """Return `table.csv`: every contrast with all digits, the primary metric first; missing values are empty."""
    changes = {arm.name: arm.change for arm in view.arms}
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in view.analysis.contrasts:
        table.writerow([_csv_cell(value) for value in _values(view.analysis, one, changes[one.arm])])
    return out.getvalue()


def _values(analysis: Analysis, one: Contrast, change: str) -> list[Any]:
    own = {
        "study": analysis.study,
        "change": change,
        "baseline_value": _shown(one.baseline_value),
        "value": _shown(one.value),
        "labels": "; ".join(one.labels),
    }
    return [own[name] if name in own else getattr(one, _FIELDS.get(name, name)) for name in COLUMNS]


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, float) else show(value)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def _csv_cell(value: Any) -> str:
    """A text that a spreadsheet would compute gets an apostrophe, which it shows as text; a number stays a number."""
    text = visible(_plain(value))
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _plain(value: Any) -> str:
    """All digits of a number, `true`, or an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


# The table of arms.


def paper_table(view: View, metrics: Sequence[str] = (), *, effects: bool = False) -> Table:
    """Return arms by metrics as papers print them: mean and sd over seeds, the baseline first, significant ones marked.

    metrics: names; none takes the primary one and up to two more. effects: add effect and interval of every metric.
    Raises ConfigError for a metric that the study does not have.
    """
    chosen = [_outcome(view, name) for name in metrics or (view.metric.name, *(one.info.name for one in view.further))]
    arrows = {None: "", True: " ↓", False: " ↑"}
    head = ["Arm"]
    for one in chosen:
        head += [f"{named(one.info)}{arrows[one.info.lower_is_better]}"]
        head += ["Effect", interval_head(view).capitalize()] if effects else []
    rows = []
    for arm in view.compared:
        row = [Cell(text=arm.change)]
        for one in chosen:
            mean, sd = one.of(arm.name)
            contrast = one.rows.get(arm.name)
            row.append(Cell(text=mean, detail=sd, strong=contrast is not None and contrast.significant))
            if effects:
                row += cells(*((contrast.effect, contrast.interval) if contrast is not None else ("", "")))
        rows.append(tuple(row))
    return Table(head=tuple(head), rows=tuple(rows))


def _outcome(view: View, name: str) -> OutcomeView:
    found = view.outcome(name)
    if found is None:
        known = [one.info.name for one in view.outcomes]
        raise ConfigError(f"--metrics {name}: {view.analysis.study} has no metric of that name", nearest(name, known))
    return found


def _arms(view: View, table: Table) -> str:
    if not view.outcomes or not view.primary:
        return ""
    rows = [[tex_lines(folded(row[0].text, _NAME)), *(_value(cell) for cell in row[1:])] for row in table.rows]
    return table_environment(
        columns="l" + "r" * (len(table.head) - 1),
        head=[tex(text) for text in table.head],
        rows=rows,
        caption=caption(view),
        label=label_of(view.analysis.study),
        notes=_notes(view, any(cell.strong for row in table.rows for cell in row)),
    )


def _value(cell: Cell) -> str:
    shown = tex_number(f"{cell.text} {cell.detail}").replace("±", r"\pm") if cell.detail else _cell(cell.text)
    return shown + (rf"\textsuperscript{{{SIGNIFICANT_MARK}}}" if cell.strong else "")


def _notes(view: View, marked: bool) -> list[str]:
    """Meaning of the mark, and every label of a primary contrast with its arms."""
    found = (
        [rf"\textsuperscript{{{SIGNIFICANT_MARK}}}~Differs from the baseline: {tex(view.method)}."] if marked else []
    )
    labels = dict.fromkeys(label for row in view.primary for label in row.contrast.labels)
    for label in labels:
        arms = [row.arm.change for row in view.primary if label in row.contrast.labels]
        whose = "" if label in view.shared_labels else f"{fmt.joined(arms)}: "
        found.append(tex(f"{whose}{': '.join(filter(None, (label, _MEANS.get(label))))}."))
    return found


def caption(view: View) -> str:
    """Return the caption in LaTeX: n, test, correction, smallest effect of interest, budget, noise floor."""
    analysis = view.analysis
    text = (
        f"Mean and sd of every arm, n = {'at most ' if analysis.interim else ''}{fmt.counted(len(analysis.seeds), 'seed')}; "
        f"primary metric {view.metric.name} ({view.direction}); {view.method}; a placebo is judged alone. "
        f"Smallest effect of interest: {analysis.smallest_effect:g}.{_budget(view)}"
    )
    if analysis.budgets is not None and analysis.budgets.unit != END:
        text += f" {view.question} {' '.join(view.budget_cautions)}".rstrip()
    if view.floors:
        text += f" {floors_sentence(view)}"
    if not analysis.complete:
        text += " Not complete: some runs of the plan have no result yet."
    return tex(fmt.typeset(text))


def _budget(view: View) -> str:
    derived: Mapping[str, float] = view.arms[0].derived
    if "samples_seen" not in derived:
        return ""
    text = f" Budget: {fmt.plain(derived['samples_seen'])} samples"
    return text + (
        f" ({fmt.plain(derived['total_steps'])} steps at the baseline)." if "total_steps" in derived else "."
    )


def _plain_table(section: Section, table: Table, view: View) -> str:
    """The first column and words flush left, numbers flush right."""
    seeds = f" n = {section.num_seeds} seeds." if section.num_seeds else ""
    return table_environment(
        columns="l" + "".join("l" if number in table.words else "r" for number in range(1, len(table.head))),
        head=[tex(text[:1].upper() + text[1:]) for text in table.head],
        rows=[[tex_lines(folded(row[0], _NAME)), *(_cell(text) for text in row[1:])] for row in table.texts()],
        caption=tex(f"{section.title}. {section.reading}{seeds}"),
        label=f"{label_of(view.analysis.study)}-{section.key}",
    )


def _cell(text: str) -> str:
    ends = text.strip("[]").split(", ")
    if text.startswith("[") and len(ends) == 2 and all(_number(end) for end in ends):
        return tex_interval(text)
    return tex_number(text) if _number(text) else tex(text)


def _number(text: str) -> bool:
    try:
        float(text.replace(fmt.MINUS, "-").replace(",", ""))
    except ValueError:
        return False
    return True
