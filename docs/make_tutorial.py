"""Runs the tutorial's commands in an empty folder and writes what they print into it: `python docs/make_tutorial.py`.

A shell block of docs/tutorial.md that is followed by an output block is run, line by line, and the output block gets what was
printed; the blocks share one folder, as a reader's do. The comment between the two says what is shown of it:

    <!-- output -->                           all of it
    <!-- output from "TEXT" to "TEXT" -->     from the first line with the one text to the next line with the other
    <!-- output from "TEXT" before "TEXT" --> the same, less that line

It takes some minutes. On a CPU the figures are the same each time; the seconds are not.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent
TUTORIAL = DOCS / "tutorial.md"
_BLOCK = re.compile(
    r"(?P<head>```bash\n(?P<typed>(?:(?!```).)*)```\n\n"
    r'<!-- output(?: from "(?P<first>.*?)")?(?: (?P<how>to|before) "(?P<last>.*?)")? -->\n)'
    r"```text\n(?P<printed>(?:(?!```).)*)```\n",
    re.DOTALL,
)


_scripts = tempfile.TemporaryDirectory(prefix="ablate-")
"""Holds the command `ablate`, for as long as this process lives."""


@dataclass(frozen=True, slots=True)
class Block:
    """typed: the lines of a shell block. printed: what stands below it."""

    typed: tuple[str, ...]
    printed: str


def blocks(text: str) -> list[Block]:
    """Every shell block that has an output."""
    return [Block(lines(found["typed"]), found["printed"]) for found in _BLOCK.finditer(text)]


def lines(typed: str) -> tuple[str, ...]:
    """The commands of a shell block: a backslash joins two lines, what follows ` #` is said to the reader."""
    joined = typed.replace("\\\n", " ")
    commands = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in joined.splitlines())
    return tuple(" ".join(command.split()) for command in commands if command)


def remade(text: str, folder: Path) -> str:
    """The text with every output block made anew. Raises RuntimeError when a command fails."""

    def one(found: re.Match[str]) -> str:
        printed = "".join(run(command, folder) for command in lines(found["typed"]))
        kept = _part(printed, found["first"], found["how"], found["last"])
        return f"{found['head']}```text\n{kept}```\n"

    return _BLOCK.sub(one, text)


def run(command: str, folder: Path) -> str:
    """What a command prints on standard output, in a terminal of 80 columns without colours."""
    print(f"$ {command}", file=sys.stderr, flush=True)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(f"{command!r} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def environment() -> dict[str, str]:
    """`ablate` is the one of this checkout, whatever is installed."""
    here = Path(_scripts.name)
    if not (here / "ablate").exists():
        script = f'#!/bin/sh\nPYTHONPATH="{DOCS.parent}" exec "{sys.executable}" -m ablate.cli "$@"\n'
        (here / "ablate").write_text(script, encoding="utf-8")
        (here / "ablate").chmod(0o755)
    path = f"{here}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}


def _part(printed: str, first: str | None, how: str | None, last: str | None) -> str:
    kept = printed.splitlines(keepends=True)
    if first is not None:
        kept = kept[_place(kept, first) :]
    if last is not None:
        place = 1 + _place(kept[1:], last)
        kept = kept[: place + (how == "to")]
    return "".join(kept).rstrip("\n") + "\n"


def _place(kept: list[str], text: str) -> int:
    for place, line in enumerate(kept):
        if text in line:
            return place
    raise RuntimeError(f"no line of the output holds {text!r}:\n{''.join(kept)}")


def main() -> None:
    """Rewrite the tutorial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, default=[TUTORIAL], help="other pages with such blocks")
    parser.add_argument(
        "--in", dest="folder", type=Path, help="run here and keep what was run; else in a folder that goes"
    )
    asked = parser.parse_args()
    for page in asked.pages:
        with tempfile.TemporaryDirectory() as gone:
            folder = asked.folder or Path(gone)
            folder.mkdir(parents=True, exist_ok=True)
            page.write_text(remade(page.read_text(encoding="utf-8"), folder), encoding="utf-8")


if __name__ == "__main__":
    main()
