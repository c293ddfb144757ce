"""`table.tex` and `table.csv`: the result for a paper, and for whoever computes with it."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ablate import formatting as digits
from ablate.analysis.contrasts import NOT_BEYOND, ONE_SIDED, WITHIN_FLOOR
from ablate.analysis.results import UNVERIFIED, Analysis, Contrast
from ablate.design.axis import show
from ablate.report import attribution, budgets, effects, mediation, variance
from ablate.report.console import folded
from ablate.report.view import Row, View, floors_sentence, interval_head
from ablate.stats.verdicts import BY_STEPS, DECIDED, LOW_POWER, LOW_POWER_POOLED_ONLY, OWN_VARIANCE, POOLED_ONLY
from ablate.units import END

# Text for LaTeX: whatever a config, an arm or an error holds stays text, and compiles.

_MARKS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\char34{}",
    # After the end of a table's row these two would be read as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "→": r"$\rightarrow$",
    "−": r"$-$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "\N{NO-BREAK SPACE}": "~",
}
_GREEK = {
    letter: rf"$\{name}$"
    for letter, name in zip(
        "αβγδεζηθικλμνξπρστυφχψω",
        (
            "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu",
            "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
        ),
        strict=True,
    )
}  # fmt: skip
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v", "\u0327": "c"}
_LETTERS = {"ß": r"{\ss}", "ø": r"{\o}", "Ø": r"{\O}", "æ": r"{\ae}", "Æ": r"{\AE}", "å": r"{\aa}", "Å": r"{\AA}"}
_LETTERS |= {"ł": r"{\l}", "Ł": r"{\L}"}


def tex(text: str) -> str:
    """The text, escaped, in ASCII: it compiles without a package for any encoding. What LaTeX has no letter for is told by its
    number, `[U+4F60]`; a line break is a space."""
    shown = ""
    for before, mark in pairwise(["", *list(text)]):
        shown += ("{}" if before == mark == "-" else "") + _mark(mark)  # two hyphens of an option are no dash
    return shown


def _mark(mark: str) -> str:
    known = _MARKS.get(mark) or _LETTERS.get(mark) or _GREEK.get(mark)
    if known is not None:
        return known
    if mark.isascii():
        return mark if mark.isprintable() else " "
    base, *accents = list(unicodedata.normalize("NFD", mark))
    if len(accents) == 1 and base.isascii() and base.isalpha() and accents[0] in _ACCENTS:
        return rf"\{_ACCENTS[accents[0]]}{{{base}}}"
    return f"{{[}}U+{ord(mark):04X}{{]}}"


def tex_number(text: str) -> str:
    """A shown number in mathematics, with a real minus sign; a dash where there is none."""
    if text == digits.DASH:
        return "--"
    shown = text.replace(digits.MINUS, "-").replace(",", "{,}").replace("< ", "<")
    return f"${shown}$" if any(figure.isdigit() for figure in shown) else tex(text)


def tex_interval(text: str) -> str:
    """`[$-0.021$, $0.015$]`."""
    if text == digits.DASH:
        return "--"
    low, high = (tex_number(end) for end in text.split(" … "))
    return f"[{low}, {high}]"


def tex_lines(text: str, behind: str = "") -> str:
    """A text that has line breaks, one line above the other in its cell. behind: LaTeX after the first line."""
    first, *rest = [tex(line.strip()) for line in text.split("\n")]
    lines = [first + behind, *rest]
    if len(lines) == 1:
        return lines[0]
    stacked = " \\\\ ".join(lines)
    return rf"\begin{{tabular}}[t]{{@{{}}l@{{}}}}{stacked}\end{{tabular}}"


def label_of(study: str) -> str:
    """A study's name as part of a `\\label`: letters, figures and hyphens."""
    return "".join(mark if mark.isascii() and mark.isalnum() else "-" for mark in study)


def table_environment(
    *,
    columns: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    label: str,
    notes: Sequence[str] = (),
) -> str:
    """A booktabs table. Every cell, the caption and the notes are LaTeX already. notes: in small print under the table."""
    lines = [
        r"\begin{table}",
        r"  \centering\small\setlength{\tabcolsep}{3.5pt}",
        rf"  \caption{{{caption}}}",
        rf"  \label{{tab:{label}}}",
        rf"  \begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(head)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    if notes:
        lines += [r"  \par\smallskip", r"  \begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [f"    {note}" for note in " \\\\\n".join(notes).split("\n")]
        lines += [r"  \end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


_NAME = 22
"""Letters of a name in one line of its cell."""

DECIDED_MARK, LOW_POWER_MARK = "*", r"$\dagger$"

_MEANS = {
    LOW_POWER_POOLED_ONLY: "decided by all arms together, not by its own pairs: no verdict",
    POOLED_ONLY: "decided by all arms together, not by its own pairs: no verdict",
    OWN_VARIANCE: "its spread, or the baseline's, is unlike the other arms': judged by its own pairs",
    BY_STEPS: "decided once the variants before it were; the interval, which knows no steps, still holds zero",
    NOT_BEYOND: "does not hold against the placebo: no verdict",
    WITHIN_FLOOR: "no larger than what runs differ by that nothing was done to: no verdict",
    ONE_SIDED: "the placebo lies always to the same side of the baseline",
    UNVERIFIED: "the runs were made elsewhere: that only one variable moved is not proven",
    "MISSING SEEDS": "runs of this arm or of the baseline were lost: the others speak",
}
"""What a label says, for a reader who has only the table."""

COLUMNS = (
    "study", "metric", "unit", "primary", "arm", "change", "axis", "baseline_level", "level", "seeds", "effect", "low",
    "high", "interval_level", "p_adjusted", "p_by_steps", "p_own_pairs", "p_sign_flip", "hedges_g", "beats", "baseline_mean",
    "arm_mean", "residual_sd", "df", "rho", "method", "family", "verdict", "seeds_needed", "floor", "labels", "differences",
)  # fmt: skip
"""Of `table.csv`. seeds: those with a value in both arms, and differences: one for each, joined by spaces."""


def latex(view: View) -> str:
    """`table.tex`: the contrasts, and the shares, effects or mediator of a study that asks for them. Needs booktabs alone."""
    tables = [_contrasts(view), *_others(view)]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(table for table in tables if table)


def table_csv(view: View) -> str:
    """`table.csv`: every contrast on every outcome with all digits, the primary outcome first; what is not there is empty."""
    changes = {arm.name: arm.change for arm in view.arms}
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for one in view.analysis.contrasts:
        table.writerow([_plain(value) for value in _values(view.analysis, one, changes[one.arm])])
    return out.getvalue()


def _values(analysis: Analysis, one: Contrast, change: str) -> tuple[Any, ...]:
    return (
        analysis.study, one.metric, one.unit, one.primary, one.arm, change, one.axis, _level(one.baseline_level),
        _level(one.level), one.seeds, one.effect, one.low, one.high, one.interval_level, one.p_value, one.step_p, one.own_p,
        one.signflip_p, one.hedges_g, one.beats, one.baseline_mean, one.arm_mean, one.residual_sd, one.df, one.rho,
        one.method, one.family, one.verdict, one.seeds_needed, one.floor, "; ".join(one.labels), one.differences,
    )  # fmt: skip


def _level(value: Any) -> str:
    return repr(value) if isinstance(value, float) else show(value)


def _plain(value: Any) -> str:
    """All digits of a number, `true`, and an empty cell for nothing."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def _contrasts(view: View) -> str:
    unit = f" ({view.metric.unit})" if view.metric.unit else ""
    head = ("Change", f"Effect{tex(unit)}", _head(interval_head(view)), "$n$", "$p$", "Verdict")
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
    """The marks behind a verdict, and what each of them means, in the order in which they first stand in the table."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}
        self._used: set[str] = set()

    def verdict(self, row: Row) -> str:
        marks, said = "", []
        if row.contrast.verdict in DECIDED:
            marks += self._use(DECIDED_MARK)
        if any(label.startswith(LOW_POWER) for label in row.contrast.labels):
            marks += self._use(LOW_POWER_MARK)
        for remark in row.remark.split(", ") if row.remark else ():
            if remark.startswith("about ") or remark[:1].isdigit():
                said.append(remark)
        for label in row.contrast.labels:
            if label != LOW_POWER and label not in said:
                marks += self._letters.setdefault(label, "abcdefghijklmnopqrstuvwxyz"[len(self._letters) % 26])
        below = f"\n({', '.join(said)})" if said else ""
        return tex_lines(f"{row.verdict}{below}", behind=rf"\textsuperscript{{{marks}}}" if marks else "")

    def _use(self, mark: str) -> str:
        self._used.add(mark)
        return mark

    def lines(self) -> list[str]:
        found = []
        if DECIDED_MARK in self._used:
            found.append((DECIDED_MARK, "differs from the baseline, at 5 % over all variants together"))
        if LOW_POWER_MARK in self._used:
            found.append((LOW_POWER_MARK, "LOW POWER: fewer than five seeds"))
        for label, letter in self._letters.items():
            means = _MEANS.get(label)
            found.append((letter, f"{label}: {means}" if means else label))
        return [rf"\textsuperscript{{{mark}}}~{tex(text)}." for mark, text in found]


def caption(view: View) -> str:
    """What the figures are: n, test, correction, smallest effect, budget, floors. LaTeX."""
    analysis = view.analysis
    text = (
        f"Effect of each change on {view.metric.name} ({view.direction}): variant minus baseline, "
        f"n = {'at most ' if analysis.looks else ''}{digits.counted(len(analysis.seeds), 'seed')}; {view.method}; p adjusted "
        f"in the same way; a placebo is judged by itself. "
        f"Smallest effect that matters: {analysis.smallest_effect:g}.{_budget(view)}"
    )
    if analysis.budgets is not None and analysis.budgets.unit != END:
        text += f" {budgets.question(analysis)} {' '.join(budgets.cautions(analysis))}".rstrip()
    if view.floors:
        text += f" {floors_sentence(view)}"
    if not analysis.complete:
        text += " Not complete: runs of the plan are missing."
    return tex(digits.typeset(text))


def _budget(view: View) -> str:
    derived: Mapping[str, float] = view.arms[0].derived
    if "samples_seen" not in derived:
        return ""
    text = f" Budget: {digits.plain(derived['samples_seen'])} samples"
    return text + (
        f" ({digits.plain(derived['total_steps'])} steps at the baseline)." if "total_steps" in derived else "."
    )


def _others(view: View) -> Iterator[str]:
    """Tables of a study that asks for more than contrasts with the baseline."""
    analysis = view.analysis
    label = label_of(analysis.study)
    if (shares := analysis.attribution) is not None and shares.total is not None:
        yield _plain_table(
            ("Key", "Alone", "95 % interval", "Share", "Divided evenly"),
            attribution.rows(shares),
            f"What makes the difference in {shares.metric}. {attribution.KEY} n = {len(shares.seeds)} seeds.",
            f"{label}-shares",
        )
    if (held := analysis.mediated) is not None and held.total is not None and held.held:
        yield _plain_table(
            tuple(text.capitalize() for text in mediation.HEAD),
            mediation.rows(held),
            f"What goes through the mediator, in {held.metric}. {mediation.KEY} n = {len(held.seeds)} seeds; intervals: "
            f"{mediation.INTERVALS}.",
            f"{label}-mediator",
        )
    if (crossed := analysis.effects) is not None and crossed.effects:
        parts = [effects.part_row(part) for part in crossed.parts]
        yield _plain_table(
            tuple(text.capitalize() for text in (effects.PART_HEAD if parts else effects.HEAD)),
            parts or [effects.row(one) for one in crossed.effects],
            f"{effects.title(crossed)} on {crossed.metric}. {effects.key(crossed)} n = {len(crossed.seeds)} seeds.",
            f"{label}-effects",
        )
    if (chance := analysis.variance) is not None and chance.of:
        yield _plain_table(
            tuple(text.capitalize() for text in variance.head(analysis)),
            variance.rows(analysis),
            f"Which chance makes runs differ. {variance.KEY}",
            f"{label}-variance",
        )


def _plain_table(head: tuple[str, ...], rows: list[tuple[str, ...]], says: str, label: str) -> str:
    """Cells of plain text: the first column flush left, words too, numbers flush right."""
    cells = [[tex_lines(folded(row[0], _NAME)), *(_cell(text) for text in row[1:])] for row in rows]
    columns = "l" + "".join("l" if _wordy(rows, place) else "r" for place in range(1, len(head)))
    return table_environment(
        columns=columns, head=[_head(text) for text in head], rows=cells, caption=tex(digits.typeset(says)), label=label
    )


def _wordy(rows: list[tuple[str, ...]], place: int) -> bool:
    return any(row[place][:1].isalpha() for row in rows)


def _cell(text: str) -> str:
    ends = text.split(" … ")
    if len(ends) == 2 and all(_number(end) for end in ends):
        return tex_interval(text)
    return tex_number(text) if _number(text) else tex(text)


def _number(text: str) -> bool:
    try:
        float(text.replace(digits.MINUS, "-").replace(",", ""))
    except ValueError:
        return False
    return True


def _head(text: str) -> str:
    """`95\\,\\% interval`."""
    return tex(text[:1].upper() + text[1:]).replace(r" \%", r"\,\%")
