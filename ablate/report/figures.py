"""Figures for a paper, with matplotlib: forest plot, curves with bands, gradient norm, cadence. PDF, SVG or PNG.

The same study gives the same bytes: no file contains a time or a random name. No global state changes: no pyplot, and
every setting is local to `rc_context`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ablate import formatting as fmt
from ablate.analysis.analyse import named as file_named
from ablate.analysis.resample import curve_name
from ablate.analysis.results import ResampledCadence
from ablate.design.axis import show
from ablate.errors import ConfigError, StudyError, nearest
from ablate.redact import redact
from ablate.report.console import folded
from ablate.report.curves import RunCurves, band, read_curves, thin
from ablate.report.forest import scale
from ablate.report.view_model import NOISE_FLOOR, ArmView, View, interval_head, named
from ablate.stats.verdicts import LOW_POWER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["pdf", "svg", "png"]
FORMATS: tuple[Format, ...] = ("pdf", "svg", "png")

WIDTHS = {"column": 3.25, "text": 5.5, "page": 6.75}
"""Inches: one column of two, the text of a one-column page, and both columns."""

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito, safe for colour-blind readers; the baseline is black. Line styles distinguish arms in print."""
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

_STYLES: dict[str, dict[str, Any]] = {
    "paper": {
        "font.size": 8.0, "axes.labelsize": 8.0, "xtick.labelsize": 7.0, "ytick.labelsize": 7.0, "legend.fontsize": 7.0,
        "axes.linewidth": 0.6, "lines.linewidth": 1.1, "font.family": "DejaVu Serif", "mathtext.fontset": "dejavuserif",
    },
    "slides": {
        "font.size": 12.0, "axes.labelsize": 12.0, "xtick.labelsize": 10.0, "ytick.labelsize": 10.0, "legend.fontsize": 10.0,
        "axes.linewidth": 1.0, "lines.linewidth": 2.0, "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans",
    },
}  # fmt: skip
STYLES = tuple(_STYLES)

_ALWAYS: dict[str, Any] = {
    "pdf.fonttype": 42,  # embedded fonts, not outlines of type 3
    "ps.fonttype": 42,
    "svg.fonttype": "path",  # needs no font where it is shown
    "svg.hashsalt": "ablate",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "text.parse_math": False,  # a dollar sign in an arm's name stays one
    "legend.frameon": False,
    "path.simplify": False,
    "figure.dpi": 100.0,
    "savefig.dpi": 300.0,
}
_MOST_POINTS = 1200
_LEGEND_UP_TO = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureStyle:
    """Format of the figures. width: inches."""

    theme: str = "paper"
    width: float = WIDTHS["column"]
    unit: str = "samples"
    names: tuple[str, ...] = ()


def figure_style(style: str, width: str, unit: str, names: Sequence[str]) -> FigureStyle:
    """Build the style from command-line values. Raises ConfigError for an unknown style, width or figure."""
    if style not in _STYLES:
        raise ConfigError(f"--style: expected {', '.join(_STYLES)}, got {style!r}", nearest(style, _STYLES))
    for name in names:
        if name not in FIGURES:
            raise ConfigError(f"--only: expected {', '.join(FIGURES)}, got {name!r}", nearest(name, FIGURES))
    inches = WIDTHS.get(width)
    if inches is None:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(in|cm|mm)", width)
        if found is None:
            raise ConfigError(f"--width: expected {', '.join(WIDTHS)} or a length, got {width!r}", "--width 8.5cm")
        inches = float(found[1]) / {"in": 1.0, "cm": 2.54, "mm": 25.4}[found[2]]
    if not 1.0 <= inches <= 30.0:
        raise ConfigError(f"--width: expected 1 to 30 inches, got {inches:.2f} ({width!r})", "--width column")
    return FigureStyle(theme=style, width=inches, unit=unit, names=tuple(names))


def write_figures(view: View, folder: Path, style: FigureStyle, formats: Sequence[Format]) -> list[Path]:
    """Write `figures/<name>.<format>` into a study directory and return the files. Raises StudyError if there is none."""
    read = read_curves(view.analysis, folder)
    wanted = style.names or tuple(FIGURES)
    into = folder / file_named(view.analysis, "figures.d").removesuffix(".d")
    written = []
    for name in wanted:
        made = draw(name, view, read, style)
        if made is None:
            continue
        for format in formats:
            path = into / f"{name}.{format}"
            _write(path, rendered(made, format, style))
            written.append(path)
    if not written:
        raise StudyError(
            f"{folder}: nothing to draw for {fmt.joined(wanted)}: {_why_not(wanted, view)}",
            f"ablate status {folder}",
        )
    return written


def _write(path: Path, content: bytes) -> None:
    """Write atomically, and through no link."""
    if path.parent.is_symlink():
        path.parent.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _why_not(wanted: Sequence[str], view: View) -> str:
    if not any(run.status == "finished" for run in view.analysis.runs):
        return "no run has finished"
    return "the study has no observation axis" if list(wanted) == ["cadence"] else "no run has recorded such a curve"


def draw(name: str, view: View, read: Sequence[RunCurves], style: FigureStyle) -> Figure | None:
    """Return a figure by its name; None if the study has no data for it."""
    from matplotlib import rc_context

    with rc_context(_settings(style)):
        return FIGURES[name](view, read, style)


def rendered(figure: Figure, format: Format, style: FigureStyle) -> bytes:
    """Return the bytes of a figure, without time, program version or random name."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas: Any = {"pdf": FigureCanvasPdf, "svg": FigureCanvasSVG, "png": FigureCanvasAgg}[format](figure)
    nothing: dict[str, Any] = {
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
        "svg": {"Date": None, "Creator": None},
        "png": {"Software": None},
    }[format]
    out = io.BytesIO()
    with rc_context(_settings(style)):
        canvas.print_figure(out, format=format, metadata=nothing)
    return out.getvalue()


def _settings(style: FigureStyle) -> Any:
    return {**_ALWAYS, **_STYLES[style.theme]}


def _figure(style: FigureStyle, height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    taller = _size(style) / 8.0  # heights are for letters of 8 points
    figure = Figure(figsize=(style.width, height * taller), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _text(text: str) -> str:
    """Return the text in letters of matplotlib's fonts, others as their number, and without secrets of the environment."""
    known = _letters()
    shown = (mark if ord(mark) in known else f"[U+{ord(mark):04X}]" for mark in redact(text))
    return "".join(" " if not mark.isprintable() else letter for mark, letter in zip(redact(text), shown, strict=True))


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset.intersection(
        *(frozenset(get_font(findfont(name)).get_charmap()) for name in ("DejaVu Serif", "DejaVu Sans"))
    )


def _forest(view: View, _read: Sequence[RunCurves], style: FigureStyle) -> Figure | None:
    """Effects with their intervals, every seed as a dot, and the band of the smallest effect of interest."""
    rows = [row for row in view.primary if row.contrast.effect is not None]
    if not rows:
        return None
    lines = sum(2 + _fold(row.arm.change, 26).count("\n") for row in rows)
    figure, ((axes,),) = _figure(style, 0.62 + 0.16 * lines)
    margin = view.analysis.smallest_effect
    low, high = scale([row.contrast for row in rows])
    pad = 0.06 * (high - low)
    axes.axvspan(-margin, margin, color="#000000", alpha=0.07, linewidth=0)
    axes.axvline(0.0, color="#000000", linewidth=0.6)
    for index, row in enumerate(rows):
        one, colour = row.contrast, "#7F7F7F" if row.verdict == NOISE_FLOOR else "#000000"
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [index, index], color=colour, linewidth=1.3, solid_capstyle="butt", zorder=2)
        seeds = [value for value in one.differences if np.isfinite(value)]
        axes.plot(seeds, [index + 0.2] * len(seeds), "o", color=colour, markersize=3.2, markerfacecolor="#FFFFFF",
                  markeredgewidth=0.7, zorder=3)  # fmt: skip
        axes.plot([one.effect], [index], marker="D", color=colour, markersize=3.6, zorder=4)
    axes.set_xlim(min(low, -margin) - pad, max(high, margin) + pad)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [f"{_fold(row.arm.change, 26)}\n{_verdict(row)}" for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    fits = int(style.width * 115 / _size(style))  # letters that a line of the picture holds
    below = f"{_fold(f'variant minus baseline, {named(view.metric)}', fits)}\n{view.direction}; lines: {interval_head(view)}"
    figure.supxlabel(below, fontsize=_size(style))  # centred below the whole picture: the axes alone are too narrow
    return figure


def _verdict(row: Any) -> str:
    low = ", LOW POWER" if any(label.startswith(LOW_POWER) for label in row.contrast.labels) else ""
    return f"{row.verdict}, n = {len(row.contrast.seeds)}{low}"


def _panels(
    view: View, read: Sequence[RunCurves], style: FigureStyle, *, labels: Mapping[str, str], log: bool = False
) -> Figure | None:
    """Mean over seeds, and the range of the seeds as a band, of every curve that was recorded. labels: {curve: label}."""
    arms = [arm for arm in view.trained if any(run.arm == arm.name and run.status == "finished" for run in read)]
    panels = [(name, label) for name, label in labels.items() if any(len(run.panels[name]) for run in read)]
    if not panels or not arms:
        return None
    lines = min(len(arms), _LEGEND_UP_TO + 1)
    figure, grid = _figure(style, 1.75 * len(panels) + 0.15 * lines + 0.25, len(panels), 1, sharex=True)
    for axes, (panel, label) in zip(grid[:, 0], panels, strict=True):
        for index, arm in reversed(list(enumerate(arms))):
            _band(axes, index, arm, [run for run in read if run.arm == arm.name], panel, style)
        if log:
            _logarithmic(axes)
        axes.set_ylabel(label)
    grid[-1, 0].set_xlabel({"seconds": "seconds of training"}.get(style.unit, style.unit))
    _legend(figure, grid[0, 0], arms, read)
    return figure


def _logarithmic(axes: Axes) -> None:
    """Label a logarithmic axis with plain numbers, 0.5 and 20, if the range is short enough."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _band(axes: Axes, index: int, arm: ArmView, runs: Sequence[RunCurves], panel: str, style: FigureStyle) -> None:
    found = band(runs, panel)
    if found is None:
        return
    indices = thin(found.mean, _MOST_POINTS)
    x, colour = found.x[style.unit][indices], COLOURS[index % len(COLOURS)]
    axes.fill_between(x, found.low[indices], found.high[indices], color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, found.mean[indices], color=colour, linestyle=DASHES[index % len(DASHES)], label=arm.name)


def _legend(figure: Figure, axes: Axes, arms: Sequence[ArmView], read: Sequence[RunCurves]) -> None:
    """Add every arm with its number of seeds below the figure, and the meaning of the band."""
    handles, labels = axes.get_legend_handles_labels()
    by_name = dict(zip(labels, handles, strict=True))
    shown = [arm for arm in arms if arm.name in by_name][:_LEGEND_UP_TO]
    texts = []
    for arm in shown:
        seeds = sum(run.arm == arm.name and run.status == "finished" for run in read)
        texts.append(f"{_fold(arm.name, 40)} (n = {seeds})")
    left = len(arms) - len(shown)
    title = "mean over seeds; band: lowest to highest" + (f"; {left} more arms drawn" if left > 0 else "")
    made = figure.legend([by_name[arm.name] for arm in shown], texts, loc="outside lower center", title=title,
                         handlelength=2.6)  # fmt: skip
    made.get_title().set_fontsize("small")


def _cadence(view: View, read: Sequence[RunCurves], style: FigureStyle) -> Figure | None:
    """Curve of the baseline at each cadence, and as recorded."""
    axes_read = [(axis, levels) for axis, levels in view.replays.items() if any(level.curve for level in levels)]
    baseline = [run for run in read if run.arm == view.arms[0].name]
    if not axes_read:
        return None
    most = max(len(levels) for _, levels in axes_read)
    figure, grid = _figure(style, (1.55 + 0.17 * (most + 2)) * len(axes_read) + 0.2, len(axes_read), 1, sharex=True)
    for axes, (axis, levels) in zip(grid[:, 0], axes_read, strict=True):
        _levels(axes, axis, levels, baseline, view)
    grid[-1, 0].set_xlabel("samples")
    return figure


def _levels(
    axes: Axes, axis: str, levels: Sequence[ResampledCadence], baseline: Sequence[RunCurves], view: View
) -> None:
    key = next(iter(view.arm(levels[0].arm).changes), "")
    curve = curve_name(key) if key else "curve"
    dense = band(baseline, "eval_loss" if curve == "eval loss" else "loss")
    if dense is not None:
        indices = thin(dense.mean, _MOST_POINTS)
        x = dense.x["samples"][indices]
        axes.plot(x, dense.mean[indices], color="#BDBDBD", linewidth=0.9, label="as recorded", zorder=1)
    for index, level in enumerate(levels):
        count = min(len(seed) for seed in level.curve)
        points = np.asarray([seed[:count] for seed in level.curve], dtype=np.float64)  # [seeds, evaluations, 3]
        if not count:
            continue
        before = fmt.percent(level.share_decrease_before_first_eval)
        label = f"{show(level.value)}: first style after {before} of the fall"
        axes.plot(points[0, :, 1], points[:, :, 2].mean(axis=0), color=COLOURS[(index + 1) % len(COLOURS)],
                  linestyle=DASHES[(index + 1) % len(DASHES)], marker="os^Dv"[index % 5], markersize=2.8,
                  label=label)  # fmt: skip
    axes.set_ylabel(curve)
    made = axes.legend(
        title=_text(axis), loc="lower left", bbox_to_anchor=(0.0, 1.0), alignment="left", handlelength=2.6
    )
    made.get_title().set_fontsize("small")


def _fold(name: str, width: int) -> str:
    return folded(_text(name), width, 4)


def _size(style: FigureStyle) -> float:
    return float(_STYLES[style.theme]["font.size"])


Drawn = Callable[[View, Sequence[RunCurves], FigureStyle], "Figure | None"]
FIGURES: dict[str, Drawn] = {
    "forest": _forest,
    "curves": partial(_panels, labels={"eval_loss": "eval loss", "loss": "training loss"}),
    "grad_norm": partial(_panels, labels={"grad_norm": "gradient norm\nbefore clipping"}, log=True),
    "cadence": _cadence,
}
