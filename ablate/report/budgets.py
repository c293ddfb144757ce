"""Which question was asked: at equal what the arms are compared. Said before anything else that the report says."""

from __future__ import annotations

import json

from rich.console import Console

from ablate import formatting as digits
from ablate.analysis.results import Analysis
from ablate.report.attribution import finite
from ablate.report.console import say
from ablate.report.markup import Markup, el, join


def question(analysis: Analysis) -> str:
    """`Compared at equal steps (16): ...`; '' where no run has finished."""
    about = analysis.budgets
    return f"Compared {digits.typeset(about.question)}." if about is not None and about.question else ""


def cautions(analysis: Analysis) -> list[str]:
    """What a reader has to know of it, a sentence each."""
    about = analysis.budgets
    return [] if about is None else [digits.typeset(f"{text[:1].upper()}{text[1:]}.") for text in about.cautions]


def print_budgets(analysis: Analysis, console: Console) -> None:
    """Below the head of the report."""
    if text := question(analysis):
        say(console, text)
    for caution in cautions(analysis):
        say(console, caution, "yellow")


def print_json(analysis: Analysis) -> None:
    """The whole analysis for a program to read, as in analysis.json; what is no number is null."""
    print(json.dumps(finite(analysis.to_json()), indent=2, sort_keys=True))


def budgets_line(analysis: Analysis) -> Markup | None:
    """On the page, under its head."""
    text = question(analysis)
    if not text:
        return None
    return join(el("p", text, class_="key"), *(el("p", caution, class_="alarm") for caution in cautions(analysis)))
