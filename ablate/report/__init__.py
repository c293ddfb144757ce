"""Reports of an `Analysis`: terminal, HTML page, Markdown, LaTeX, figures. No statistic is computed here.

A section (`sections/`) is built once from the analysis; the renderers know `section.Section` and nothing of analyses.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "build_report": "build",
    "print_json": "json",
    "print_shares_json": "json",
    "print_report": "terminal",
    "print_adequacy": "terminal",
    "print_replay": "terminal",
    "print_plan": "plan",
    "print_axes": "axes",
    "print_axis": "axes",
    "print_state": "status",
    "print_power": "power",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ablate.report.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
