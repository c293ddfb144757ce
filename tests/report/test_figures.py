"""Figures for a paper: what is drawn, the same bytes twice, fonts inside, nothing global touched, any name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from ablate.analysis.analyse import analyse
from ablate.errors import ConfigError, StudyError
from ablate.report.curves import read_curves
from ablate.report.figures import (
    FIGURES,
    FORMATS,
    STYLES,
    WIDTHS,
    FigureStyle,
    draw,
    figure_style,
    rendered,
    write_figures,
)
from ablate.report.view_model import View, make_view
from tests.report.test_paper import hostile
from tests.synthetic import write_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, View]:
    folder = tmp_path_factory.mktemp("runs") / "drawn"
    write_study(folder, seeds=3)
    return folder, make_view(analyse(folder))


def test_a_study_has_its_four_figures(made: tuple[Path, View]) -> None:
    folder, view = made
    written = write_figures(view, folder, FigureStyle(), ["pdf"])
    assert [path.relative_to(folder).as_posix() for path in written] == [f"figures/{name}.pdf" for name in FIGURES]


def test_the_forest_plot_holds_effects_intervals_seeds_and_the_margin(made: tuple[Path, View]) -> None:
    folder, view = made
    figure = draw("forest", view, read_curves(view.analysis, folder), FigureStyle())
    assert figure is not None
    (axes,) = figure.axes
    lines = [line.get_xdata() for line in axes.lines]
    for row in view.primary:
        one = row.contrast
        assert any(np.array_equal(x, [one.low, one.high]) for x in lines)
        assert any(np.array_equal(x, [one.effect]) for x in lines)
        assert any(np.array_equal(x, one.differences) for x in lines)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "batch_size 8 → 64\nhurts, n = 3, LOW POWER"
    (band,) = axes.patches
    assert band.get_extents().width == pytest.approx(
        axes.transData.transform((0.01, 0))[0] - axes.transData.transform((-0.01, 0))[0]
    )
    low, high = axes.get_xlim()
    assert all(low < value < high for row in view.primary for value in (row.contrast.low, row.contrast.high))


@pytest.mark.parametrize("name", FIGURES)
def test_no_word_is_cut_off(made: tuple[Path, View], name: str) -> None:
    folder, view = made
    figure = draw(name, view, read_curves(view.analysis, folder), FigureStyle())
    assert figure is not None
    FigureCanvasAgg(figure).draw()
    page = figure.bbox
    texts = [one for one in figure.findobj(Text) if len(one.get_text()) > 6]  # no numbers of an axis
    assert texts
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 - 1 <= box.x0, text.get_text()
        assert box.x1 <= page.x1 + 1, text.get_text()


def test_a_spike_of_one_seed_is_in_the_band_of_the_gradient_norm(made: tuple[Path, View]) -> None:
    folder, view = made
    read = read_curves(view.analysis, folder)
    figure = draw("grad_norm", view, read, FigureStyle(unit="steps"))
    assert figure is not None
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    top = max(float(run.panels["grad_norm"].y.max()) for run in read if run.arm == "baseline")
    drawn = max(float(path.vertices[:, 1].max()) for band in axes.collections for path in band.get_paths())
    assert drawn == pytest.approx(max(top, drawn))
    assert drawn >= top
    assert all("$" not in text.get_text() for text in axes.get_yticklabels(which="both"))


def test_the_legend_says_n_and_what_the_band_is(made: tuple[Path, View]) -> None:
    folder, view = made
    figure = draw("curves", view, read_curves(view.analysis, folder), FigureStyle())
    assert figure is not None
    (legend,) = figure.legends
    assert "baseline (n = 3)" in [text.get_text() for text in legend.get_texts()]
    assert "lowest to highest" in legend.get_title().get_text()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_study_gives_the_same_bytes_and_no_clock_is_in_them(made: tuple[Path, View], format: str) -> None:
    folder, view = made
    read = read_curves(view.analysis, folder)
    first, second = (rendered(draw("forest", view, read, FigureStyle()), format, FigureStyle()) for _ in range(2))  # type: ignore[arg-type]
    assert first == second
    assert not re.search(rb"CreationDate|<dc:date>|Matplotlib v|tIME", first)


def test_letters_of_a_pdf_are_fonts_that_stand_in_it(made: tuple[Path, View]) -> None:
    folder, view = made
    pdf = rendered(draw("forest", view, read_curves(view.analysis, folder), FigureStyle()), "pdf", FigureStyle())  # type: ignore[arg-type]
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.slow
def test_nothing_global_is_touched(made: tuple[Path, View]) -> None:
    folder, _ = made
    code = f"""
import sys, matplotlib
settings = lambda: {{key: repr(value) for key, value in dict.items(matplotlib.rcParams)}}  # asking for one may load pyplot
before = settings()
from pathlib import Path
from ablate.analysis.analyse import analyse
from ablate.report.view_model import make_view
from ablate.report.figures import FigureStyle, write_figures
folder = Path({str(folder)!r})
write_figures(make_view(analyse(folder)), folder, FigureStyle(theme="slides", names=("forest",)), ["png"])
after = settings()
print([key for key in before if before[key] != after[key]], [name for name in ("matplotlib.pyplot", "torch")
      if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[] []\n"), done.stderr


@pytest.mark.parametrize("style", STYLES)
def test_a_name_of_anything_is_drawn_as_text(made: tuple[Path, View], style: str) -> None:
    folder, view = made
    view = make_view(hostile(view.analysis))
    for name in FIGURES:
        figure = draw(name, view, read_curves(view.analysis, folder), FigureStyle(theme=style))
        if figure is not None:
            assert rendered(figure, "svg", FigureStyle(theme=style))
    forest = draw("forest", view, (), FigureStyle())
    assert forest is not None
    shown = "".join(text.get_text() for text in forest.axes[0].get_yticklabels()).replace("\n", "")
    assert "a_b%$#&~^" in shown
    assert "[U+4F60]" in shown


def test_a_width_is_a_name_or_a_length() -> None:
    assert figure_style("paper", "column", "samples", ()).width == WIDTHS["column"]
    assert figure_style("paper", "8.5cm", "samples", ()).width == pytest.approx(3.346, abs=1e-3)


@pytest.mark.parametrize(
    ("style", "width", "names", "quoted", "fix"),
    [
        ("papr", "column", (), "'papr'", "did you mean 'paper'?"),
        ("paper", "wide", (), "'wide'", "--width 8.5cm"),
        ("paper", "1km", (), "'1km'", "8.5cm"),
        ("paper", "900cm", (), "'900cm'", "--width column"),
        ("paper", "column", ("forrest",), "'forrest'", "did you mean 'forest'?"),
    ],
)
def test_what_cannot_be_is_quoted(style: str, width: str, names: tuple[str, ...], quoted: str, fix: str) -> None:
    with pytest.raises(ConfigError) as error:
        figure_style(style, width, "samples", names)
    assert quoted in error.value.problem
    assert fix in (error.value.fix or "")


def test_a_study_without_a_finished_run_says_why_nothing_is_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "waiting"
    write_study(folder, arms=("batch_size=64",), seeds=1, missing=[("baseline", 0), ("batch_size=64", 0)])
    with pytest.raises(StudyError, match="no run has finished"):
        write_figures(make_view(analyse(folder)), folder, FigureStyle(), ["pdf"])
    assert not (folder / "figures").exists()


def test_a_link_in_the_place_of_the_folder_is_not_written_through(made: tuple[Path, View], tmp_path: Path) -> None:
    folder, view = made
    (folder / "figures.bak").mkdir()
    before = folder / "figures"
    if before.exists():
        before.rename(folder / "figures.bak" / "figures")
    before.symlink_to(tmp_path)
    write_figures(view, folder, FigureStyle(names=("forest",)), ["svg"])
    assert list(tmp_path.iterdir()) == []
    assert (folder / "figures" / "forest.svg").exists()
