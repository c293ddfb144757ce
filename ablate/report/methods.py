"""The methods paragraph of a paper, from the plan, the analysis and the manifests.

Every sentence describes what the study did. What was not proven, not declared or not finished is named too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ablate import formatting as fmt
from ablate.analysis.infer_plan import Asked
from ablate.analysis.load import read_plan
from ablate.analysis.results import Analysis
from ablate.errors import AblateError
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.report.bibliography import PROGRAM, WORKS, bibtex
from ablate.report.latex_text import tex
from ablate.report.methods_text import Description, Sentence
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
        return bibtex((key for key in self.cited if key != PROGRAM), self.version)


def methods(view: View, folder: Path, arguments: Asked | None = None) -> Methods:
    """Return the methods of a study directory. arguments: for a directory without a plan.json, as in `read_plan`."""
    plan = read_plan(folder, arguments)
    manifests = tuple(_manifests(view.analysis, folder))
    description = Description(view, plan, manifests, frozen=StudyDir(folder).plan.exists())
    made_by = {one.versions.get(PROGRAM, "") for one in manifests} - {""}
    return Methods(tuple(description.sentences()), version=fmt.joined(sorted(made_by)) or _installed())


def _with(one: Sentence, named: str) -> str:
    return f"{fmt.typeset(one.text.removesuffix('.'))}{f' ({named})' if named else ''}."


def _named(cites: tuple[str, ...]) -> str:
    return "; ".join(PROGRAM if key == PROGRAM else WORKS[key].short for key in cites)


def _installed() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return ""


def _manifests(analysis: Analysis, folder: Path) -> Iterator[Manifest]:
    """Manifests that can be read; a link that leads out of the study is not followed."""
    for run in analysis.runs:
        run_dir = RunDir(folder / run.folder)
        if run.status != "missing" and run_dir.manifest.exists() and not run_dir.leads_out():
            with suppress(AblateError):
                yield read_manifest(run_dir)
