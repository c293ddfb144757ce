"""Reports of an `Analysis`: terminal, HTML page, Markdown, LaTeX, figures. No statistic is computed here.

A section (`sections/`) is built once from the analysis; the renderers know `section.Section` and nothing of analyses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablate.report.axes import print_axes as print_axes
    from ablate.report.axes import print_axis as print_axis
    from ablate.report.build import build_report as build_report
    from ablate.report.json import print_json as print_json
    from ablate.report.json import print_power_json as print_power_json
    from ablate.report.json import print_shares_json as print_shares_json
    from ablate.report.plan import print_plan as print_plan
    from ablate.report.power import print_power as print_power
    from ablate.report.status import print_state as print_state
    from ablate.report.terminal import print_adequacy as print_adequacy
    from ablate.report.terminal import print_replay as print_replay
    from ablate.report.terminal import print_report as print_report

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
    "print_power_json": "json",
}
__all__ = [
    "build_report",
    "print_adequacy",
    "print_axes",
    "print_axis",
    "print_json",
    "print_plan",
    "print_power",
    "print_power_json",
    "print_replay",
    "print_report",
    "print_shares_json",
    "print_state",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ablate.report.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
