"""Works that a methods paragraph may cite, as BibTeX. Only those that a study uses are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ablate.report.latex_text import tex


@dataclass(frozen=True, slots=True)
class Work:
    """short: for a text without a bibliography, `Dunnett 1955`. Fields are plain text, escaped when written."""

    kind: str
    short: str
    author: str
    title: str
    year: int
    more: Mapping[str, str]


def _paper(short: str, author: str, title: str, year: int, journal: str, volume: str, pages: str, **more: str) -> Work:
    return Work("article", short, author, title, year, {"journal": journal, "volume": volume, "pages": pages} | more)


WORKS: dict[str, Work] = {
    "dunnett1955": _paper(
        "Dunnett 1955", "Dunnett, Charles W.",
        "A Multiple Comparison Procedure for Comparing Several Treatments with a Control", 1955,
        "Journal of the American Statistical Association", "50", "1096--1121", number="272",
    ),
    "dunnetttamhane1991": _paper(
        "Dunnett and Tamhane 1991", "Dunnett, Charles W. and Tamhane, Ajit C.",
        "Step-Down Multiple Tests for Comparing Treatments with a Control in Unbalanced One-Way Layouts", 1991,
        "Statistics in Medicine", "10", "939--947", number="6", doi="10.1002/sim.4780100614",
    ),
    "bartlett1937": _paper(
        "Bartlett 1937", "Bartlett, M. S.", "Properties of Sufficiency and Statistical Tests", 1937,
        "Proceedings of the Royal Society A", "160", "268--282", number="901", doi="10.1098/rspa.1937.0109",
    ),
    "holm1979": _paper(
        "Holm 1979", "Holm, Sture", "A Simple Sequentially Rejective Multiple Test Procedure", 1979,
        "Scandinavian Journal of Statistics", "6", "65--70", number="2",
    ),
    "yates1940": _paper(
        "Yates 1940", "Yates, Frank",
        "The Recovery of Inter-Block Information in Balanced Incomplete Block Designs", 1940,
        "Annals of Eugenics", "10", "317--325",
    ),
    "hedges1981": _paper(
        "Hedges 1981", "Hedges, Larry V.",
        "Distribution Theory for Glass's Estimator of Effect Size and Related Estimators", 1981,
        "Journal of Educational Statistics", "6", "107--128", number="2",
    ),
    "lakens2017": _paper(
        "Lakens 2017", "Lakens, Daniël",
        "Equivalence Tests: A Practical Primer for t Tests, Correlations, and Meta-Analyses", 2017,
        "Social Psychological and Personality Science", "8", "355--362", number="4",
    ),
    "clopperpearson1934": _paper(
        "Clopper and Pearson 1934", "Clopper, C. J. and Pearson, E. S.",
        "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", 1934,
        "Biometrika", "26", "404--413", number="4",
    ),
    "fieller1954": _paper(
        "Fieller 1954", "Fieller, E. C.", "Some Problems in Interval Estimation", 1954,
        "Journal of the Royal Statistical Society: Series B", "16", "175--185", number="2",
    ),
    "shaffer1986": _paper(
        "Shaffer 1986", "Shaffer, Juliet Popper", "Modified Sequentially Rejective Multiple Test Procedures", 1986,
        "Journal of the American Statistical Association", "81", "826--831", number="395",
    ),
    "landemets1983": _paper(
        "Lan and DeMets 1983", "Lan, K. K. Gordon and DeMets, David L.",
        "Discrete Sequential Boundaries for Clinical Trials", 1983, "Biometrika", "70", "659--663", number="3",
    ),
    "jennisonturnbull1989": _paper(
        "Jennison and Turnbull 1989", "Jennison, Christopher and Turnbull, Bruce W.",
        "Interim Analyses: The Repeated Confidence Interval Approach", 1989,
        "Journal of the Royal Statistical Society: Series B", "51", "305--361", number="3",
    ),
    "weerahandi1993": _paper(
        "Weerahandi 1993", "Weerahandi, Samaradasa", "Generalized Confidence Intervals", 1993,
        "Journal of the American Statistical Association", "88", "899--905", number="423",
    ),
    "shallue2019": _paper(
        "Shallue et al. 2019",
        "Shallue, Christopher J. and Lee, Jaehoon and Antognini, Joseph and Sohl-Dickstein, Jascha and Frostig, Roy and "
        "Dahl, George E.",
        "Measuring the Effects of Data Parallelism on Neural Network Training", 2019,
        "Journal of Machine Learning Research", "20", "1--49", number="112",
    ),
    "fisher1935": Work(
        "book", "Fisher 1935", "Fisher, Ronald A.", "The Design of Experiments", 1935,
        {"publisher": "Oliver and Boyd", "address": "Edinburgh"},
    ),
    "shapley1953": Work(
        "incollection", "Shapley 1953", "Shapley, Lloyd S.", "A Value for n-Person Games", 1953,
        {"booktitle": "Contributions to the Theory of Games II", "publisher": "Princeton University Press",
         "pages": "307--317"},
    ),
    "colas2018": Work(
        "misc", "Colas et al. 2018", "Colas, Cédric and Sigaud, Olivier and Oudeyer, Pierre-Yves",
        "How Many Random Seeds? Statistical Power Analysis in Deep Reinforcement Learning Experiments", 2018,
        {"eprint": "1806.08295", "archiveprefix": "arXiv"},
    ),
    "bouthillier2021": Work(
        "inproceedings", "Bouthillier et al. 2021", "Bouthillier, Xavier and others",
        "Accounting for Variance in Machine Learning Benchmarks", 2021,
        {"booktitle": "Proceedings of Machine Learning and Systems", "volume": "3", "eprint": "2103.03098",
         "archiveprefix": "arXiv"},
    ),
}  # fmt: skip


def bibtex(keys: Iterable[str], version: str = "") -> str:
    """Return the entries of these works in alphabetical order, and of the program. version: of the program."""
    entries = [_entry(key, WORKS[key]) for key in sorted(set(keys))]
    return "\n".join([*entries, _program(version)])


PROGRAM = "torch-ablate"


def _entry(key: str, work: Work) -> str:
    fields = {"author": work.author, "title": f"{{{work.title}}}", "year": str(work.year), **work.more}
    lines = [f"  {name} = {{{_field(name, text)}}}," for name, text in fields.items()]
    return "\n".join([f"@{work.kind}{{{key},", *lines, "}", ""])


def _field(name: str, text: str) -> str:
    if name == "title":  # braces keep its capitals
        return f"{{{tex(text[1:-1])}}}"
    return text if name in ("pages", "doi", "eprint") else tex(text)


def _program(version: str) -> str:
    lines = [f"@misc{{{PROGRAM},", f"  title = {{{{{PROGRAM}}}: one-variable experiments for PyTorch}},"]
    lines += [f"  key = {{{PROGRAM}}},"]
    lines += [f"  note = {{Version {tex(version)}}},"] if version else []
    return "\n".join([*lines, "}", ""])
