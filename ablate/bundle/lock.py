"""`lock.txt`: the versions of all that a report is made with here, in the form that `pip install -r` reads."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_READS = ("numpy", "scipy", "pyarrow", "plotly", "matplotlib", "pyyaml")
"""What a report is computed and drawn with: another version of it may change a digit or the page."""


@cache
def lock() -> str:
    """`torch-ablate` and all that it requires, at any depth, as far as it is installed; extras are left out."""
    waiting, found = ["torch-ablate"], dict[str, str]()
    seen = set[str]()
    while waiting:
        name = _plain(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = there.version
        for text in there.requires or ():
            needed, _, condition = text.partition(";")
            if "extra" not in condition and (match := _NAME.match(needed)):
                waiting.append(match[0])
    head = f"# The report in this archive was made with Python {sys.version.split()[0]} and these.\n"
    return head + "".join(f"{name}=={found[name]}\n" for name in sorted(found))


def others(locked: str) -> list[str]:
    """What a report is made with and has another version here: `numpy 2.4.6 there, 2.3.0 here`."""
    there, here = _read(locked), _read(lock())
    return [
        f"{name} {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in ("Python", *_READS)
        if there.get(name) != here.get(name)
    ]


def _read(text: str) -> dict[str, str]:
    found = dict(line.split("==", 1) for line in text.splitlines() if "==" in line and not line.startswith("#"))
    python = re.search(r"Python ([\d.]+\w*)", text.partition("\n")[0])
    return found | ({"Python": python[1]} if python else {})


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
