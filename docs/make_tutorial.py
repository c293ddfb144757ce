"""Run the tutorial's commands in an empty folder and insert what they print: `python docs/make_tutorial.py`.

A shell block of docs/tutorial.md that is followed by an output block is run line by line, and the output block is replaced by
what was printed. All blocks share one folder. The comment between the two selects the part to show:

    <!-- output -->                           everything
    <!-- output from "TEXT" to "TEXT" -->     from the first line with one text to the next line with the other
    <!-- output from "TEXT" before "TEXT" --> the same without that last line

It takes some minutes. On a CPU the figures are the same each time; the durations are not.
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
    r"(?P<head>```bash\n(?P<commands>(?:(?!```).)*)```\n\n"
    r'<!-- output(?: from "(?P<first>.*?)")?(?: (?P<how>to|before) "(?P<last>.*?)")? -->\n)'
    r"```text\n(?P<output>(?:(?!```).)*)```\n",
    re.DOTALL,
)


_scripts = tempfile.TemporaryDirectory(prefix="ablate-")
"""Contains the command `ablate` while this process runs."""


@dataclass(frozen=True, slots=True)
class Block:
    """A shell block and the output block below it."""

    commands: tuple[str, ...]
    output: str


def blocks(text: str) -> list[Block]:
    """Return every shell block that has an output block."""
    return [Block(lines(match["commands"]), match["output"]) for match in _BLOCK.finditer(text)]


def lines(block: str) -> tuple[str, ...]:
    """Return the commands of a shell block: a backslash joins two lines, and ` #` begins a comment."""
    joined = block.replace("\\\n", " ")
    commands = (re.sub(r"(^|\s+)#.*$", "", line).strip() for line in joined.splitlines())
    return tuple(" ".join(command.split()) for command in commands if command)


def with_output(text: str, folder: Path) -> str:
    """Return the text with every output block replaced. Raises RuntimeError when a command fails."""

    def run_block(match: re.Match[str]) -> str:
        printed = "".join(run(command, folder) for command in lines(match["commands"]))
        part = _part(printed, match["first"], match["how"], match["last"])
        return f"{match['head']}```text\n{part}```\n"

    return _BLOCK.sub(run_block, text)


def run(command: str, folder: Path) -> str:
    """Return what a command prints to standard output, in a terminal of 80 columns without colours."""
    print(f"$ {command}", file=sys.stderr, flush=True)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise RuntimeError(f"{command!r} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def environment() -> dict[str, str]:
    """Return an environment in which `ablate` is the one of this checkout, whatever is installed."""
    here = Path(_scripts.name)
    if not (here / "ablate").exists():
        script = f'#!/bin/sh\nPYTHONPATH="{DOCS.parent}" exec "{sys.executable}" -m ablate.cli "$@"\n'
        (here / "ablate").write_text(script, encoding="utf-8")
        (here / "ablate").chmod(0o755)
    path = f"{here}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}


def _part(printed: str, first: str | None, how: str | None, last: str | None) -> str:
    part = printed.splitlines(keepends=True)
    if first is not None:
        part = part[_index(part, first) :]
    if last is not None:
        end = 1 + _index(part[1:], last)
        part = part[: end + (how == "to")]
    return "".join(part).rstrip("\n") + "\n"


def _index(printed: list[str], text: str) -> int:
    for index, line in enumerate(printed):
        if text in line:
            return index
    raise RuntimeError(f"expected a line of the output with {text!r}, got:\n{''.join(printed)}")


def main() -> None:
    """Rewrite the tutorial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, default=[TUTORIAL], help="other pages with such blocks")
    parser.add_argument("--in", dest="folder", type=Path, help="folder to run in; default is a temporary one")
    args = parser.parse_args()
    for page in args.pages:
        with tempfile.TemporaryDirectory() as temporary:
            folder = args.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            page.write_text(with_output(page.read_text(encoding="utf-8"), folder), encoding="utf-8")


if __name__ == "__main__":
    main()
