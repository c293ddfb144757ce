"""What goes into a paper: table.tex, table.csv, the methods paragraph, its bibliography; and that LaTeX takes all of it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from ablate.analysis.results import Analysis
from ablate.report.figures import FigureStyle, write_figures
from ablate.report.latex import COLUMNS, table_csv
from ablate.report.latex_text import tex
from ablate.report.methods import PROGRAM, Methods, Sentence, methods, short, works
from ablate.report.view_model import View, make_view
from ablate.stats.verdicts import BY_STEPS
from tests.report.conftest import Study
from tests.report.made_up import contrast
from tests.report.test_tables import latex, renamed
from tests.synthetic import crossed_cells, write_crossed, write_study

HOSTILE = "a_b%$#&~^\\{}[x]*<|>`\"' --no é你\t\x07→−"


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, View]:
    folder = tmp_path_factory.mktemp("runs") / "paper"
    write_study(folder, arms=("batch_size=64", "train_test_ratio=4", "eval_every=256 samples", "placebo"), seeds=5)
    return folder, make_view(analyse(folder))


def hostile(analysis: Analysis) -> Analysis:
    return replace(renamed(analysis, "batch_size=64", HOSTILE), study=f"st{HOSTILE}", question=HOSTILE, command=HOSTILE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b%$#&", r"a\_b\%\$\#\&"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("[zero:pooler]*", r"{[}zero:pooler{]}{*}"),
        ("--json", r"-{}-json"),
        ("a---b", r"a-{}-{}-b"),
        ("é ß 你", r"\'{e} {\ss} {[}U+4F60{]}"),
        ("β\t\n\x00", r"$\beta$  \textbackslash{}x00"),
        ("1 – 2 − 3", "1 -- 2 $-$ 3"),
    ],
)
def test_whatever_a_name_holds_stays_text_and_is_ascii(text: str, shown: str) -> None:
    assert tex(text) == shown
    assert tex(text).isascii()


def test_the_verdict_is_marked_and_every_mark_is_explained_below(study: Study) -> None:
    text = latex(make_view(study.analysis))
    assert re.search(r"batch\\_size 8 .* & \$0\.68\d+ \\pm 0\.000\d+\$\\textsuperscript\{\*\}", text)
    assert r"\textsuperscript{*}~Differs from the baseline: 95\% simultaneous intervals over 2 variants" in text
    assert r"LOW POWER: fewer than five seeds." in text
    used = set(re.findall(r"\\textsuperscript\{(.*?)\}(?!~)", text)) - {""}
    explained = "".join(re.findall(r"\\textsuperscript\{(.*?)\}~", text))
    assert all(mark in explained for marks in used for mark in re.findall(r"\$\\dagger\$|.", marks))


def test_a_table_without_a_decided_variant_explains_no_star(study: Study) -> None:
    still = contrast("batch_size=64", verdict="inconclusive", seeds_needed=12, labels=(BY_STEPS,))
    text = latex(make_view(replace(study.analysis, contrasts=(still,))))
    assert "{*}~" not in text
    assert "STEP-DOWN: significant by the step-down procedure" in text


def test_csv_holds_every_contrast_with_all_its_digits(study: Study) -> None:
    rows = list(csv.DictReader(io.StringIO(table_csv(make_view(study.analysis)))))
    assert len(rows) == len(study.analysis.contrasts)
    assert tuple(rows[0]) == COLUMNS
    for row, one in zip(rows, study.analysis.contrasts, strict=True):
        assert (row["arm"], row["metric"], row["verdict"]) == (one.arm, one.metric, one.verdict)
        assert (float(row["effect"]) if row["effect"] else None) == one.effect
        assert [float(value) for value in row["differences"].split()] == list(one.differences)
    assert rows[0]["primary"] == "true"


def test_csv_takes_any_name(study: Study) -> None:
    odd = 'a,"b"\nc'
    rows = list(csv.DictReader(io.StringIO(table_csv(make_view(renamed(study.analysis, "batch_size=64", odd))))))
    assert odd in {row["arm"] for row in rows}


def test_a_factorial_study_has_a_table_of_its_effects_too(tmp_path: Path) -> None:
    folder = tmp_path / "crossed"
    write_crossed(
        folder, crossed_cells("factorial", ("batch_size", "train_test_ratio")), {"batch_size=64": 0.05}, seeds=3
    )
    text = latex(make_view(analyse(folder)))
    assert text.count(r"\begin{table}") == 2
    assert r"\label{tab:crossed-effects}" in text
    said = methods(make_view(analyse(folder)), folder).plain()
    assert "all 4 combinations (2 x 2) of batch_size and train_test_ratio" in said
    assert "Main effects and interactions are contrasts of the 4 arms' means" in said


def test_methods_say_what_was_done(analysed: tuple[Path, View]) -> None:
    folder, view = analysed
    said = methods(view, folder).plain()
    for part in (
        "Two changes were each made alone to one baseline (batch_size 8 → 64; train_test_ratio 1 → 4)",
        "with 5 seeds (0 to 4)",
        "A placebo arm repeats the baseline",
        "the primary metric is eval_loss (nats), lower is better",
        "by default, before the first run: this metric and 0.01 as the smallest effect of interest",
        "Dunnett's, simultaneous over 2 variants (Dunnett 1955)",
        "two one-sided tests",
        "of 20 runs 20 finished",
        "eval_every (256 samples) was resampled from the dense record",
        "sampling of its examples is not part of the intervals",
        "one variable 4/4 checked",
    ):
        assert part.lower() in said.lower(), part
    for absent in ("Holm", "sign-flip", "interim", "the power is low", "diverg", "not complete", "rerun arm"):
        assert absent not in said, absent


def test_methods_name_as_a_default_what_nobody_declared(tmp_path: Path) -> None:
    folder = tmp_path / "declared"
    write_study(folder, arms=("batch_size=64",), seeds=3)
    plan = json.loads((folder / "plan.json").read_text())
    plan["command"] = "ablate -m axis=batch_size optim.lr=5e-5 study.smallest_effect=0.01"
    (folder / "plan.json").write_text(json.dumps(plan))
    said = methods(make_view(analyse(folder)), folder).plain()
    assert "(rate 5e-05; by default: optimizer adamw, weight decay 0.01," in said
    assert (
        "Declared before the first run: 0.01 as the smallest effect of interest; by default, before the first run: this metric."
        in said
    )


def test_methods_cite_what_was_used_and_nothing_else(analysed: tuple[Path, View]) -> None:
    folder, view = analysed
    made = methods(view, folder)
    entries = set(re.findall(r"@\w+\{([\w-]+),", made.bib()))
    assert entries == set(made.cited) == set(",".join(re.findall(r"\\cite\{(.*?)\}", made.latex())).split(","))
    assert {"dunnett1955", "dunnetttamhane1991", "lakens2017", "shallue2019", "torch-ablate"} <= entries
    assert not {"holm1979", "fieller1954", "colas2018", "yates1940"} & entries


def test_methods_of_three_seeds_with_losses_say_all_that_went_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "worse"
    write_study(
        folder,
        arms=("batch_size=64", "max_grad_norm=10", "learning_rate=0.0001"),
        seeds=3,
        diverged=[("batch_size=64", 1)],
        failed=[("max_grad_norm=10", 2)],
        missing=[("max_grad_norm=10", 0)],
        contaminated="learning_rate=0.0001",
    )
    made = methods(make_view(analyse(folder)), folder)
    said = made.plain()
    for part in (
        "Of 12 runs 9 finished, 1 diverged, 1 failed, 1 missing",
        "Divergence is a separate outcome",
        "Control not passed: matched failed: contaminated: learning_rate=0.0001",
        "the power is low",
        "The study is not complete",
    ):
        assert part in said, part
    assert {"clopperpearson1934", "yates1940", "colas2018"} <= set(made.cited)
    assert "dunnetttamhane1991" in made.cited


def test_methods_of_a_folder_without_a_plan_declare_nothing_beforehand(tmp_path: Path) -> None:
    folder = tmp_path / "adopted"
    write_study(folder, arms=("batch_size=64",), seeds=3)
    (folder / "plan.json").unlink()
    said = methods(make_view(analyse(folder)), folder).plain()
    assert "No plan was written before the runs" in said
    assert "Chosen in the analysis" in said
    assert "Declared before" not in said
    assert "what the seeds hold equal is not known" in said


def test_every_work_has_what_a_bibliography_needs() -> None:
    for key, entry in works().items():
        kind = re.findall(r"@(\w+)\{", entry)[0]
        year = re.findall(r"year = \{(\d{4})\}", entry)[0]
        assert key.endswith(year)
        assert short(entry).endswith(year)
        needs = {"article": {"journal", "volume", "pages"}, "misc": {"eprint"}}.get(kind, set())
        assert needs | {"author", "title"} <= set(re.findall(r"^  (\w+) = ", entry, re.M)), key
    text = Methods((Sentence("All.", (*works(), PROGRAM)),), "1.0").bib()
    assert text.isascii()
    assert text.count("{") == text.count("}")
    assert text.count("\n@") == len(works())


def test_a_work_is_named_by_its_authors() -> None:
    named = {short(entry) for entry in works().values()}
    assert {"Dunnett 1955", "Dunnett and Tamhane 1991", "Shallue et al. 2019", "Bouthillier et al. 2021"} <= named


def test_the_same_study_gives_the_same_bytes(analysed: tuple[Path, View]) -> None:
    folder, view = analysed
    again = make_view(analyse(folder))
    assert (latex(view), table_csv(view)) == (latex(again), table_csv(again))
    assert methods(view, folder).bib() == methods(again, folder).bib()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed: texlive-latex-base")
@pytest.mark.parametrize("kind", ["plain", "hostile"])
def test_latex_takes_table_methods_and_figure(analysed: tuple[Path, View], tmp_path: Path, kind: str) -> None:
    """booktabs and graphicx alone; any arm's name, and any study's."""
    folder, view = analysed
    if kind == "hostile":
        view = make_view(hostile(view.analysis))
    made = methods(view, folder)
    (figure, *_) = write_figures(view, folder, FigureStyle(names=("forest",)), ["pdf"])
    (tmp_path / "table.tex").write_text(latex(view), encoding="utf-8")
    (tmp_path / "methods.tex").write_text(made.latex(), encoding="utf-8")
    (tmp_path / "references.bib").write_text(made.bib(), encoding="utf-8")
    shutil.copy(figure, tmp_path / "forest.pdf")
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
        r"\input{methods}\input{table}\includegraphics{forest}"
        r"\bibliographystyle{plain}\bibliography{references}\end{document}",
        encoding="utf-8",
    )

    def ran(*command: str) -> None:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
        assert done.returncode == 0, done.stdout[-2500:]

    ran("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper")
    if shutil.which("bibtex"):
        ran("bibtex", "paper")
        for _ in range(2):
            ran("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper")
        log = (tmp_path / "paper.log").read_text(errors="replace")
        assert "undefined" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


def test_a_plan_that_holds_nonsense_still_gets_its_paragraph(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    write_study(folder, arms=("batch_size=64",), seeds=2)
    plan = json.loads((folder / "plan.json").read_text())
    plan["arms"][0]["config"]["optim"] |= {"lr": "fast", "warmup": None}
    (folder / "plan.json").write_text(json.dumps(plan))
    assert "rate fast" in methods(make_view(analyse(folder)), folder).plain()
