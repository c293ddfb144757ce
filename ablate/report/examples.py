"""Which verdicts hold for new examples as well: the same table on the page and in Markdown, sentences in a terminal."""

from __future__ import annotations

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.results import Analysis
from ablate.report.console import labelled
from ablate.report.markup import Markup, el, figures_row, table_of
from ablate.report.view import View

HEAD = (
    "change", "effect", "95 % over seeds", "95 % over seeds and examples", "the verdict holds for", "examples' share",
    "only baseline right", "only this arm right", "exact p",
)  # fmt: skip

KEY = (
    "The second interval is about new seeds and new examples of this kind; a verdict is about the evaluation set that the "
    "study had. Examples' share: of the second interval's squared error. Only right: examples per seed that one arm gets right "
    "and the other does not; p: exact over the examples, of these runs."
)


def print_examples(analysis: Analysis, console: Console) -> None:
    """A sentence for each contrast that has an interval over examples; nothing where no run has kept any."""
    for one in analysis.examples.contrasts if analysis.examples else ():
        if one.low is not None:
            labelled(console, "•", digits.typeset(one.sentence) + ".", width=2)


def scope(view: View) -> str:
    """What the claims are about, as a sentence."""
    about = view.analysis.examples
    return "" if about is None else digits.typeset(f"{about.scope[:1].upper()}{about.scope[1:]}.")


def rows(view: View) -> list[tuple[str, ...]]:
    """One for each contrast of the primary metric; a dash where there is none of a figure."""
    about = view.analysis.examples
    found = []
    for row in view.primary:
        one = about.of(row.contrast.arm) if about else None
        if one is None:
            continue
        effect = row.contrast.effect
        decimals = digits.effect_decimals(effect or 0.0, one.low, one.high)
        paired = one.paired
        counts = (paired.only_baseline, paired.only_arm) if paired else (None, None)
        found.append((
            row.arm.change, row.effect, row.interval,
            digits.interval(one.low, one.high, decimals) if one.low is not None else one.refused,
            one.holds or digits.DASH, digits.percent(one.example_share),
            *(digits.figure(count) for count in counts), digits.p_value(paired.p_value if paired else None),
        ))  # fmt: skip
    return found


def examples_section(view: View) -> Markup | None:
    """On the page, below the contrasts."""
    about = view.analysis.examples
    if about is None or not about.contrasts:
        return None
    made = table_of(HEAD, map(figures_row, rows(view)))
    return el(
        "section",
        el("h2", "For new examples as well?"),
        el("p", scope(view)),
        el("div", made, class_="wide", tabindex="0", role="region", aria_label="For new examples as well?"),
        el("p", KEY, class_="key"),
        id="examples",
    )
