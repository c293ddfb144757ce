"""Text for LaTeX: anything that a config, an arm or an error contains stays text, and compiles."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from ablate import formatting as fmt
from ablate.redact import visible

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
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
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
_LETTERS_A_TO_M, _LETTERS_N_TO_W = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu",
    "nu xi pi rho sigma tau upsilon phi chi psi omega",
)
_GREEK = dict(zip("αβγδεζηθικλμ", (rf"$\{name}$" for name in _LETTERS_A_TO_M.split()), strict=True))
_GREEK |= dict(zip("νξπρστυφχψω", (rf"$\{name}$" for name in _LETTERS_N_TO_W.split()), strict=True))
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030c": "v", "\u0327": "c"}
_LETTERS = {"ß": r"{\ss}", "ø": r"{\o}", "Ø": r"{\O}", "æ": r"{\ae}", "Æ": r"{\AE}", "å": r"{\aa}", "Å": r"{\AA}"}
_LETTERS |= {"ł": r"{\l}", "Ł": r"{\L}"}


def tex(text: str) -> str:
    """The text, escaped, in ASCII: it compiles without a package for any encoding. A character without LaTeX letter becomes its
    code point, `[U+4F60]`; a line break is a space."""
    shown = ""
    for before, mark in pairwise(["", *visible(text)]):
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
    if text == fmt.DASH:
        return "--"
    shown = text.replace(fmt.MINUS, "-").replace(",", "{,}").replace("< ", "<")
    return f"${shown}$" if any(figure.isdigit() for figure in shown) else tex(text)


def tex_interval(text: str) -> str:
    """`[$-0.021$, $0.015$]`."""
    if text == fmt.DASH:
        return "--"
    low, high = (tex_number(end) for end in text.strip("[]").split(", "))
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
