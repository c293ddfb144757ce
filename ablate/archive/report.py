"""Terminal output of `ablate bundle` and `ablate verify`."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from ablate import formatting as digits
from ablate.archive.bundle import Bundle
from ablate.archive.verify import Verification
from ablate.redact import redact
from ablate.report.console import columns, say, whole_line, words

_STYLES = {"passed": "green", "failed": "bold red", "not checked": "yellow"}
_MAX_FINDINGS = 8
"""Findings of one check that are printed; `--json` prints all."""


def print_bundle(bundle: Bundle, console: Console) -> None:
    """Print the archive's path, contents and hash."""
    whole_line(console, str(bundle.path) + ("" if bundle.fresh else "  (the identical archive already existed)"))
    files, runs = digits.counted(bundle.files, "file"), digits.counted(bundle.runs, "run")
    say(console, f"{files} of {runs}, {_size(bundle.bytes)}; rebuilt inside it: analysis, tables and page", indent=4)
    count, size = bundle.checkpoints
    if count:
        say(console, f"left out: checkpoints of {digits.counted(count, 'run')}, {_size(size)}", indent=4)
    if not bundle.complete:
        say(console, "INCOMPLETE: some runs have not ended, and the archive says so", "yellow", indent=4)
    whole_line(console, f"sha256  {bundle.sha256}")


def print_verification(result: Verification, console: Console) -> None:
    """Print the verdict last, after each check and what could not be checked."""
    whole_line(console, result.archive)
    files, runs = digits.counted(result.files, "file"), digits.counted(result.runs, "run")
    about = f"{_printable(result.study) or 'unknown study'}: {files} of {runs}, {_size(result.bytes)}"
    say(console, about + ("" if result.complete else "; INCOMPLETE: some runs have not ended"), indent=4)
    whole_line(console, f"sha256  {result.sha256}")
    console.print()
    for check in result.checks:
        _row(console, check.status, _STYLES[check.status], f"{check.name}: {check.about}")
        more = len(check.findings) - _MAX_FINDINGS
        for finding in (*check.findings[:_MAX_FINDINGS], *([f"... and {more} more: --json"] if more > 0 else [])):
            _row(console, "", "", finding)
    for head, lines in (
        ("differences to this machine", result.machine_differences),
        ("not provable from an archive", result.limitations),
    ):
        if lines:
            console.print()
            say(console, head, "dim")
        for line in lines:
            say(console, _printable(line), indent=4)
    console.print()
    if result.verified:
        say(console, "verified: everything that can be derived from the records matches", "bold green")
    else:
        failed = [check.name for check in result.checks if check.status != "passed"]
        say(console, f"NOT verified: {', '.join(failed)}", "bold red")


def print_verification_json(result: Verification) -> None:
    """Print the result as JSON."""
    print(redact(json.dumps({"verified": result.verified, **asdict(result)}, indent=2)))


def _row(console: Console, status: str, style: str, text: str) -> None:
    grid = columns()
    grid.add_column(width=12, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(words(status, console, style), words(_printable(text), console))
    console.print(grid)


def _printable(text: str) -> str:
    """Replace control characters, which could move the cursor of the terminal."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _size(count: int) -> str:
    return f"{count:,} bytes" if count < 1024 else digits.size(count)
