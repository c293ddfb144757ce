"""The end of every study and of `ablate report`: the report is made, printed, and becomes an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ablate.cli.parse import console

if TYPE_CHECKING:
    from ablate.analysis.adopt import Asked


def conclude(folder: Path, asked: Asked | None = None, *, at: str | None = None, show: str = "") -> int:
    """Make the report of a study and print it. 1 when a run or a control failed, or runs are missing.

    at: compare the arms there. show: print for a program to read instead: `print_json` all of it, `print_shares_json` the
    shares of a study between two configs.
    """
    from ablate import report
    from ablate.report import build_report, print_report

    analysis = build_report(folder, asked, at)
    if show:
        getattr(report, show)(analysis)
    else:
        print_report(analysis, folder, console())
    failed = any(run.status in ("failed", "interrupted") for run in analysis.runs)
    return int(failed or not analysis.complete or any(control.status == "failed" for control in analysis.controls))
