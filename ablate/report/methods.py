"""The methods paragraph of a paper, from the plan, the analysis and the manifests.

Every sentence describes what the study did. What was not proven, not declared or not finished is named too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from ablate import formatting as fmt
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.load import read_plan
from ablate.records.layout import StudyDir
from ablate.report.latex_text import tex
from ablate.report.methods_text import PROGRAM, Description, Sentence
from ablate.report.run_files import RunFiles
from ablate.report.view_model import View

BIB = "references.bib"


@dataclass(frozen=True, slots=True)
class Methods:
    """The paragraph. version: of the program that made the runs, according to their manifests."""

    sentences: tuple[Sentence, ...]
    version: str = ""

    @property
    def cited(self) -> tuple[str, ...]:
        return tuple(sorted({key for one in self.sentences for key in one.cites}))

    def plain(self) -> str:
        """Return the paragraph with authors and years in parentheses."""
        return " ".join(_with(one, _named(one.cites)) for one in self.sentences)

    def latex(self) -> str:
        r"""Return the paragraph with `\cite`, for a bibliography from `references.bib`; needs no package."""
        lines = [
            tex(fmt.typeset(one.text.removesuffix(".")))
            + (rf"~\cite{{{','.join(one.cites)}}}" if one.cites else "")
            + "."
            for one in self.sentences
        ]
        return f"% cites {BIB}\n" + "\n".join(lines) + "\n"

    def bib(self) -> str:
        """Return the entries of the cited works, and of the program."""
        return "\n".join([*(works()[key] for key in self.cited if key != PROGRAM), _program(self.version)])


def methods(view: View, folder: Path, options: PlanOptions | None = None) -> Methods:
    """Return the methods of a study directory. options: for a directory without a plan.json, as in `read_plan`."""
    plan = read_plan(folder, options)
    manifests = RunFiles(view.analysis, folder).manifests()
    description = Description(view, plan, manifests, frozen=StudyDir(folder).plan.exists())
    made_by = {one.versions.get(PROGRAM, "") for one in manifests} - {""}
    return Methods(tuple(description.sentences()), version=fmt.joined(sorted(made_by)) or _installed())


def _with(one: Sentence, named: str) -> str:
    return f"{fmt.typeset(one.text.removesuffix('.'))}{f' ({named})' if named else ''}."


def _named(cites: tuple[str, ...]) -> str:
    return "; ".join(PROGRAM if key == PROGRAM else short(works()[key]) for key in cites)


@lru_cache(maxsize=1)
def works() -> dict[str, str]:
    """Return the works that a paragraph may cite: their BibTeX entries by key."""
    text = (files("ablate.report") / "static" / BIB).read_text(encoding="ascii")
    return {re.findall(r"@\w+\{(\w+),", entry)[0]: f"{entry.rstrip()}\n" for entry in text.split("\n\n")}


def short(entry: str) -> str:
    """Return `Dunnett and Tamhane 1991`, for a text without a bibliography."""
    author, year = (re.findall(rf"  {field} = \{{(.*)\}},", entry)[0] for field in ("author", "year"))
    names = [name.partition(",")[0] for name in author.split(" and ")]
    several = len(names) > 2 or "others" in names
    return f"{f'{names[0]} et al.' if several else ' and '.join(names)} {year}"


def _program(version: str) -> str:
    lines = [f"@misc{{{PROGRAM},", f"  title = {{{{{PROGRAM}}}: one-variable experiments for PyTorch}},"]
    lines += [f"  key = {{{PROGRAM}}},"]
    lines += [f"  note = {{Version {tex(version)}}},"] if version else []
    return "\n".join([*lines, "}", ""])


def _installed() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return ""
