"""Write a page for every standard ablation, and their index: `python docs/make_axes.py`.

Everything comes from the files in `conf/axis/`; a study reads the same fields. `ablate axes NAME` prints the same text.
A test runs this script and compares.
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

```bash
ablate axes                      # list the standard axes
ablate axes batch_size           # show one
ablate -m axis=batch_size        # run it
```

Each axis is one file in `conf/axis/`, and the file is the whole ablation: the question, the keys that it varies, their values,
what may change with them and what must match. In a checkout, `make ablate-NAME` runs one, and `make ablate-all` runs all of
them at debug size and checks their controls ([results](../benchmarks/2-cpu-cores/axes.md)).

What *must match* is checked twice: when the plan is made, and in the recorded runs. A variant that differs there gets no
verdict. What *may change* is expected to differ, and the report shows by how much.

A custom axis is a file of the same form in the folder `axis/` below the folder that `--config-dir` names.
`docs/make_axes.py` generates these pages from the files.
"""
_LABELS = {
    "keys": "Varied keys",
    "values": "Values",
    "must match": "Must match",
    "may change": "May change",
    "hypothesis": "Hypothesis",
    "reference": "Reference",
}


def pages() -> dict[str, str]:
    """Return {file name: text} of all pages."""
    with opened() as composer:
        axes = composer.axes()
    return {"index.md": index(axes)} | {f"{axis.name}.md": page(axis) for axis in axes}


def index(axes: list[Axis]) -> str:
    """Return the text of index.md."""
    lines = [_INDEX]
    for kind, mine in grouped(axes):
        lines += [
            f"## {kind.capitalize()}: {KINDS[kind]}",
            "",
            "| axis | question | varied keys |",
            "| --- | --- | --- |",
        ]
        moved = {axis.name: ", ".join(f"`{key}`" for key in axis.keys) for axis in mine}
        lines += [f"| [{axis.name}]({axis.name}.md) | {axis.question} | {moved[axis.name]} |" for axis in mine]
        lines.append("")
    return "\n".join(lines)


def page(axis: Axis) -> str:
    """Return the page of one axis."""
    lines = [f"# {axis.name}", "", f"**{axis.question}** Kind: {axis.kind}, {KINDS[axis.kind]}.", ""]
    lines += ["```bash", axis.command, f"make ablate-{axis.name}", "```", ""]
    for paragraph in filter(None, axis.notes.split("\n\n")):
        lines += [" ".join(paragraph.split()), ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {_LABELS.get(label, label.capitalize())} | {_linked(text)} |" for label, text in facts_of(axis)]
    return "\n".join([*lines, "", f"The file: `conf/axis/{axis.name}.yaml`.", ""])


def _linked(text: str) -> str:
    return re.sub(r"https?://[^\s;,]+", r"<\g<0>>", text).replace("|", "\\|")


def main() -> None:
    """Write the pages, and remove those of axes that no longer exist."""
    AXES.mkdir(exist_ok=True)
    made = pages()
    for old in AXES.glob("*.md"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (AXES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
