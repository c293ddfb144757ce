"""`table.tex` and `table.csv`: the result for a paper, and for further computation."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from ablate import formatting as fmt
from ablate.analysis.contrasts import NOT_BEYOND, ONE_SIDED, WITHIN_FLOOR
from ablate.analysis.results import UNVERIFIED, Analysis, Contrast
from ablate.design.axis import show
from ablate.report.console import folded
from ablate.report.latex_text import label_of, table_environment, tex, tex_interval, tex_lines, tex_number
from ablate.report.section import Section, Table
from ablate.report.sections import Sections
from ablate.report.view_model import Row, View, floors_sentence, interval_head
from ablate.stats.verdicts import BY_STEPS, DECIDED, LOW_POWER, LOW_POWER_POOLED_ONLY, OWN_VARIANCE, POOLED_ONLY
from ablate.units import END

_NAME = 22
"""Letters per line of a name."""

DECIDED_MARK, LOW_POWER_MARK = "*", r"$\dagger$"

_MEANS = {
    LOW_POWER_POOLED_ONLY: "decided by all arms together, not by its own pairs: no verdict",
    POOLED_ONLY: "decided by all arms together, not by its own pairs: no verdict",
    OWN_VARIANCE: "its variance, or the baseline's, differs from the other arms': judged by its own pairs",
    BY_STEPS: "significant by the step-down procedure; the interval, which is not step-down, still contains zero",
    NOT_BEYOND: "not different from the placebo: no verdict",
    WITHIN_FLOOR: "not larger than what A/A runs differ by: no verdict",
    ONE_SIDED: "the placebo is always on the same side of the baseline",
    UNVERIFIED: "imported runs: that only one variable changed is not verified",
    "MISSING SEEDS": "runs of this arm or of the baseline are missing: computed from the others",
}
"""Meaning of a label, for a reader who has only the table."""

COLUMNS = (
    "study", "metric", "unit", "primary", "arm", "change", "axis", "baseline_value", "value", "seeds", "effect", "low",
    "high", "confidence", "p_adjusted", "p_by_steps", "p_own_pairs", "p_sign_flip", "hedges_g", "beats", "baseline_mean",
    "arm_mean", "residual_sd", "df", "rho", "method", "family", "verdict", "seeds_needed", "floor", "labels", "differences",
)  # fmt: skip
"""Columns of `table.csv`. seeds: with a value in both arms; differences: one per seed; both joined by spaces."""


def latex(view: View, sections: Sections) -> str:
    """Return `table.tex`: the contrasts, and the tables of a design that has more to answer. Needs booktabs alone."""
    answers = [_plain_table(section, table, view) for section in sections["answer"] for table in section.tables[:1]]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(table for table in (_contrasts(view), *answers) if table)


def table_csv(view: View) -> str:
    """Return `table.csv`: every contrast with all digits, the primary metric first; missing values are empty."""
    changes = {arm.name: arm.change for arm in view.arms}
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in view.analysis.contrasts:
        table.writerow([_plain(value) for value in _values(view.analysis, one, changes[one.arm])])
    return out.getvalue()


def _values(analysis: Analysis, one: Contrast, change: str) -> tuple[Any, ...]:
    return (
        analysis.study, one.metric, one.unit, one.primary, one.arm, change, one.axis, _value(one.baseline_value),
        _value(one.value), one.seeds, one.effect, one.low, one.high, one.confidence, one.p_value, one.step_p, one.own_p,
        one.signflip_p, one.hedges_g, one.beats, one.baseline_mean, one.arm_mean, one.residual_sd, one.df, one.rho,
        one.method, one.family, one.verdict, one.seeds_needed, one.floor, "; ".join(one.labels), one.differences,
    )  # fmt: skip


def _value(value: Any) -> str:
    return repr(value) if isinstance(value, float) else show(value)


def _plain(value: Any) -> str:
    """All digits of a number, `true`, or an empty cell for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _contrasts(view: View) -> str:
    unit = f" ({view.metric.unit})" if view.metric.unit else ""
    head = ("Change", f"Effect{tex(unit)}", tex(interval_head(view).capitalize()), "$n$", "$p$", "Verdict")
    notes = _Notes()
    rows = [
        (
            tex_lines(folded(row.arm.change, _NAME)),
            tex_number(row.effect),
            tex_interval(row.interval),
            str(len(row.contrast.seeds)),
            tex_number(row.p),
            notes.verdict(row),
        )
        for row in view.primary
    ]
    if not rows:
        return ""
    return table_environment(
        columns="lrrrrl",
        head=head,
        rows=rows,
        caption=caption(view),
        label=label_of(view.analysis.study),
        notes=notes.lines(),
    )


class _Notes:
    """Marks after a verdict, and the meaning of each, in the order of their first use in the table."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}
        self._used: set[str] = set()

    def verdict(self, row: Row) -> str:
        marks, remarks = "", []
        if row.contrast.verdict in DECIDED:
            marks += self._use(DECIDED_MARK)
        if any(label.startswith(LOW_POWER) for label in row.contrast.labels):
            marks += self._use(LOW_POWER_MARK)
        for remark in row.remark.split(", ") if row.remark else ():
            if remark.startswith("needs about ") or remark[:1].isdigit():
                remarks.append(remark)
        for label in row.contrast.labels:
            if label != LOW_POWER and label not in remarks:
                marks += self._letters.setdefault(label, "abcdefghijklmnopqrstuvwxyz"[len(self._letters) % 26])
        below = f"\n({', '.join(remarks)})" if remarks else ""
        return tex_lines(f"{row.verdict}{below}", behind=rf"\textsuperscript{{{marks}}}" if marks else "")

    def _use(self, mark: str) -> str:
        self._used.add(mark)
        return mark

    def lines(self) -> list[str]:
        found = []
        if DECIDED_MARK in self._used:
            found.append((DECIDED_MARK, "differs from the baseline, at 5% over all variants together"))
        if LOW_POWER_MARK in self._used:
            found.append((LOW_POWER_MARK, "LOW POWER: fewer than five seeds"))
        for label, letter in self._letters.items():
            means = _MEANS.get(label)
            found.append((letter, f"{label}: {means}" if means else label))
        return [rf"\textsuperscript{{{mark}}}~{tex(text)}." for mark, text in found]


def caption(view: View) -> str:
    """Return the caption in LaTeX: n, test, correction, smallest effect of interest, budget, noise floor."""
    analysis = view.analysis
    text = (
        f"Effect of each change on {view.metric.name} ({view.direction}): variant minus baseline, "
        f"n = {'at most ' if analysis.interim else ''}{fmt.counted(len(analysis.seeds), 'seed')}; {view.method}; p adjusted "
        f"in the same way; a placebo is judged alone. "
        f"Smallest effect of interest: {analysis.smallest_effect:g}.{_budget(view)}"
    )
    if analysis.budgets is not None and analysis.budgets.unit != END:
        text += f" {view.question} {' '.join(view.cautions)}".rstrip()
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
