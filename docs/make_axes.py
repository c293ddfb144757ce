"""Writes a page for every standard ablation, and their index: `python docs/make_axes.py`.

All of it comes from the files of `conf/axis/`: what an axis moves, holds and accepts is read by the study, and its `about`,
which is written by hand, by people alone. `ablate axes NAME` shows the same text. A test runs this and compares.
"""

from __future__ import annotations

import re
from pathlib import Path

from ablate.design.axis import Axis
from ablate.planning.compose import opened
from ablate.report.axes import KINDS, facts_of, grouped

AXES = Path(__file__).parent / "axes"

_INDEX = """\
# Standard ablations

Each is one file of `conf/axis/`, and the file is the whole ablation: the question, the one thing that it moves, its levels,
what may come with the change and what must not. `ablate axes` lists them, `ablate axes NAME` shows one, and
`make ablate-NAME` runs it from a checkout. `make ablate-all` runs every one at debug size and checks what the controls say
([measured](../benchmarks/2-cpu-cores/axes.md)).

What is *held* is proven, on paper before the first run and from the record afterwards; a variant in which it differs gets no
verdict.
What *comes along* is expected to differ, and the table shows by how much.

An axis of your own is a file of the same form in `axis/` of a folder that `--config-dir` names.
These pages are made from the files by `docs/make_axes.py`.
"""
_LABELS = {
    "moves": "What moves",
    "levels": "Levels",
    "held": "What is held",
    "comes along": "What comes with the change",
    "expected": "Expected picture",
    "source": "Paper",
}


def pages() -> dict[str, str]:
    """{file name: text}."""
    with opened() as composer:
        axes = composer.axes()
    return {"index.md": index(axes)} | {f"{axis.name}.md": page(axis) for axis in axes}


def index(axes: list[Axis]) -> str:
    """The text of index.md."""
    lines = [_INDEX]
    for kind, mine in grouped(axes):
        lines += [f"## {kind.capitalize()}: {KINDS[kind]}", "", "| axis | question | moves |", "| --- | --- | --- |"]
        moved = {axis.name: ", ".join(f"`{key}`" for key in axis.moves) for axis in mine}
        lines += [f"| [{axis.name}]({axis.name}.md) | {axis.question} | {moved[axis.name]} |" for axis in mine]
        lines.append("")
    return "\n".join(lines)


def page(axis: Axis) -> str:
    """The text of one axis's page."""
    lines = [f"# {axis.name}", "", f"**{axis.question}** Kind: {axis.kind}, {KINDS[axis.kind]}.", ""]
    lines += ["```bash", axis.command, f"make ablate-{axis.name}", "```", ""]
    for paragraph in filter(None, axis.about.split("\n\n")):
        lines += [" ".join(paragraph.split()), ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {_LABELS[label]} | {_linked(text)} |" for label, text in facts_of(axis)]
    return "\n".join([*lines, "", f"The file: `conf/axis/{axis.name}.yaml`.", ""])


def _linked(text: str) -> str:
    return re.sub(r"https?://[^\s;,]+", r"<\g<0>>", text).replace("|", "\\|")


def main() -> None:
    """Write the pages, and remove those of axes that are gone."""
    AXES.mkdir(exist_ok=True)
    made = pages()
    for old in AXES.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (AXES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
