"""What `ablate bundle` and `ablate verify` print."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from ablate.bundle.verify import Verification
from ablate.bundle.write import Bundle
from ablate.report import digits
from ablate.report.pen import say, whole_line

_STYLES = {"fits": "green", "does not fit": "bold red", "not checked": "yellow"}
_MOST = 8
"""Findings of one check that are printed; `--json` has all of them."""


def print_bundle(made: Bundle, console: Console) -> None:
    """Where the archive is and what to publish with it."""
    whole_line(console, str(made.path) + ("" if made.fresh else "  (the very same archive was there already)"))
    runs = digits.counted(made.runs, "run")
    say(
        console,
        f"{digits.counted(made.files, 'file')} of {runs}, {_size(made.bytes)}; made anew in it: analysis, tables and page",
        indent=4,
    )
    count, size = made.checkpoints
    if count:
        say(console, f"left out: checkpoints of {digits.counted(count, 'run')}, {_size(size)}", indent=4)
    if not made.complete:
        say(console, "INCOMPLETE: some runs have no end yet, and the archive says so", "yellow", indent=4)
    whole_line(console, f"sha256  {made.sha256}")
    say(console, "publish this hash: whoever has it knows that the archive was not rewritten since", "dim", indent=4)


def print_verification(found: Verification, console: Console) -> None:
    """Check by check, then what could not be checked."""
    whole_line(console, found.archive)
    about = f"{found.study or 'an unknown study'}: {digits.counted(found.files, 'file')} of {digits.counted(found.runs, 'run')}"
    say(
        console,
        f"{about}, {_size(found.bytes)}{'' if found.complete else '; INCOMPLETE: some runs have no end yet'}",
        indent=4,
    )
    whole_line(console, f"sha256  {found.sha256}")
    console.print()
    for check in found.checks:
        say(console, f"{check.status:12}  {check.name}: {check.about}", _STYLES[check.status])
        for finding in check.findings[:_MOST]:
            say(console, finding, indent=14)
        if len(check.findings) > _MOST:
            say(console, f"... and {len(check.findings) - _MOST} more: --json", indent=14)
    if found.here:
        console.print()
        say(console, "this machine is another", "dim")
    for line in found.here:
        say(console, line, indent=4)
    console.print()
    say(console, "cannot be told from an archive", "dim")
    for line in found.beyond:
        say(console, line, indent=4)
    console.print()
    if found.verified:
        say(console, "verified: all that follows from something else in the archive does follow", "bold green")
    else:
        wrong = [check.name for check in found.checks if check.status != "fits"]
        say(console, f"NOT verified: {', '.join(wrong)}", "bold red")


def print_verification_json(found: Verification) -> None:
    """For a program to read."""
    print(json.dumps({"verified": found.verified, **asdict(found)}, indent=2))


def _size(count: int) -> str:
    return f"{count:,} bytes" if count < 1024 else digits.size(count)
