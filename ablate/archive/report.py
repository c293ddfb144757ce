"""What `ablate bundle` and `ablate verify` print."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console

from ablate import formatting as digits
from ablate.archive.bundle import Bundle
from ablate.archive.verify import Verification
from ablate.report.console import columns, say, whole_line, words

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
    files, runs = digits.counted(found.files, "file"), digits.counted(found.runs, "run")
    about = f"{_plain(found.study) or 'an unknown study'}: {files} of {runs}"
    say(
        console,
        f"{about}, {_size(found.bytes)}{'' if found.complete else '; INCOMPLETE: some runs have no end yet'}",
        indent=4,
    )
    whole_line(console, f"sha256  {found.sha256}")
    console.print()
    for check in found.checks:
        more = len(check.findings) - _MOST
        _check(console, check.status, _STYLES[check.status], f"{check.name}: {check.about}")
        for finding in (*check.findings[:_MOST], *([f"... and {more} more: --json"] if more > 0 else [])):
            _check(console, "", "", finding)
    if found.here:
        console.print()
        say(console, "this machine is another", "dim")
    for line in found.here:
        say(console, _plain(line), indent=4)
    console.print()
    say(console, "cannot be told from an archive", "dim")
    for line in found.beyond:
        say(console, _plain(line), indent=4)
    console.print()
    if found.verified:
        say(console, "verified: all that follows from something else in the archive does follow", "bold green")
    else:
        wrong = [check.name for check in found.checks if check.status != "fits"]
        say(console, f"NOT verified: {', '.join(wrong)}", "bold red")


def print_verification_json(found: Verification) -> None:
    """For a program to read."""
    print(json.dumps({"verified": found.verified, **asdict(found)}, indent=2))


def _check(console: Console, status: str, style: str, text: str) -> None:
    grid = columns()
    grid.add_column(width=12, no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(words(status, console, style), words(_plain(text), console))
    console.print(grid)


def _plain(text: str) -> str:
    """What was sent may hold codes that move the cursor over what is printed here."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _size(count: int) -> str:
    return f"{count:,} bytes" if count < 1024 else digits.size(count)
