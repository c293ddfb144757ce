"""Plotly figures of a study, made from its data frames alone."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ablate import formatting as fmt
from ablate.analysis.resample import resample
from ablate.design.axis import show
from ablate.errors import ConfigError, StudyError, nearest
from ablate.report.curves import thin
from ablate.report.view_model import make_view, named

if TYPE_CHECKING:
    from ablate.notebook.study import Study

X = Literal["samples", "step", "tokens", "epoch", "train_seconds"]
_X = {
    "samples": "samples",
    "step": "optimizer steps",
    "tokens": "tokens",
    "epoch": "epochs",
    "train_seconds": "seconds of training",
}

BASELINE, PLACEBO = "#45433e", "#a09c92"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#c98a00", "#56b4e9")
"""Colours of the page; safe for colour-blind readers."""

_MOST_POINTS = 2000
"""Points of one run in a figure; no spike is lost."""

_LAYOUT: dict[str, Any] = {
    "template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 50, "b": 50}, "hovermode": "closest",
    "font": {"size": 13}, "legend": {"orientation": "h", "y": -0.2, "traceorder": "reversed"},
}  # fmt: skip


class Plots:
    """Figures of `study.plot`. Every method returns a Plotly figure to show, change or write."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def forest(self, metric: str | None = None) -> go.Figure:
        """Return effect and interval of every variant on one metric, a dot per seed; shaded: the smallest effect of interest.

        metric: None takes the primary one.
        """
        analysis = self._study.analysis
        metric = metric or analysis.metric
        rows = self._study.contrasts[self._study.contrasts["metric"] == metric]
        if not len(rows):
            known = list(dict.fromkeys(self._study.contrasts["metric"]))
            raise ConfigError(f"no contrast was made on {metric!r}", nearest(metric, known))
        info = next(one for one in analysis.metrics if one.name == metric)
        changes = {arm.name: arm.change for arm in make_view(analysis).arms}
        line = {"size": 11, "symbol": "line-ns-open", "color": BASELINE}
        labels = [_text(changes[arm]) for arm in rows["arm"]]
        pairs = self._study.differences[self._study.differences["metric"] == metric]
        figure = go.Figure()
        figure.add_scatter(
            x=rows["effect"], y=labels, mode="markers", name="effect", marker=line,
            error_x={"array": rows["high"] - rows["effect"], "arrayminus": rows["effect"] - rows["low"], "color": BASELINE},
            customdata=[_text(sentence) for sentence in rows["sentence"]], hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=pairs["difference"], y=[_text(changes[arm]) for arm in pairs["arm"]], mode="markers", name="one seed",
            marker={"size": 7, "opacity": 0.6, "color": [self._colour(arm) for arm in pairs["arm"]]},
            customdata=pairs["seed"], hovertemplate="seed %{customdata}: %{x:.4g}<extra></extra>",
        )  # fmt: skip
        if metric == analysis.metric:
            small = analysis.smallest_effect
            figure.add_vrect(x0=-small, x1=small, fillcolor=BASELINE, opacity=0.1, line_width=0, layer="below")
        figure.add_vline(x=0, line={"color": BASELINE, "dash": "dot", "width": 1})
        level = fmt.per_cent(float(rows["confidence"].iloc[0]))
        title = f"{_text(named(info))}: variant minus baseline, {level} intervals"
        figure.update_layout(**_LAYOUT, title=title, height=150 + 46 * len(rows), showlegend=False)
        figure.update_yaxes(autorange="reversed", automargin=True)
        return figure.update_xaxes(title=_text(f"difference in {named(info)}"), automargin=True)

    def curves(
        self,
        y: str = "eval_loss",
        x: X = "samples",
        *,
        arms: Sequence[str] | None = None,
        mean: bool = True,
        log: bool = False,
    ) -> go.Figure:
        """Return a thin curve per run, and the mean over an arm's finished seeds in bold.

        y: `eval_<metric>`, or a column of `steps` such as `loss`. x: horizontal axis. arms: None shows all.
        """
        return self._drawn(self._frame(y, x), y, x, arms, mean=mean, log=log)

    def grad_norm(self, x: X = "step", *, arms: Sequence[str] | None = None, log: bool = True) -> go.Figure:
        """Return the gradient norm of every step of every run, before clipping. Not averaged, because a mean hides spikes."""
        return self._drawn(self._frame("grad_norm", x), "grad_norm", x, arms, mean=False, log=log)

    def cadence(self, *every: str, of: Literal["eval_loss", "loss"] = "eval_loss") -> go.Figure:
        """Return the baseline as recorded, and as runs that are evaluated less often would have shown it.

        every: intervals such as `256 samples` or `50 steps`; without any, those of the study's observation axes. of: the eval
        loss at evaluations, or the training loss at log rows. Raises ConfigError for an interval that the record cannot show.
        """
        key = "eval.every" if of == "eval_loss" else "tracker.log_every"
        levels = every or self._declared(key)
        baseline = self._study.plan.baseline.name
        figure = self._drawn(self._frame(of, "samples"), of, "samples", [baseline], mean=True, log=False)
        for number, level in enumerate(resample(self._study.folder, key, levels)):
            most = min((len(curve) for curve in level.curve), default=0)
            points = np.asarray([curve[:most] for curve in level.curve], dtype=np.float64).mean(axis=0)
            share = fmt.percent(level.share_decrease_before_first_eval)
            name = f"every {_text(show(level.value))}: {share} before the first evaluation"
            figure.add_scatter(
                x=points[:, 1], y=points[:, 2], mode="lines+markers", name=name,
                line={"color": COLOURS[number % len(COLOURS)], "width": 2}, hovertemplate="%{y:.4g} at %{x:,} samples",
            )  # fmt: skip
        return figure.update_layout(title=f"{_text(of)} of the baseline, evaluated less often")

    def _declared(self, key: str) -> tuple[str, ...]:
        levels = [show(arm.value) for arm in self._study.plan.arms if arm.replayed and key in arm.changes]
        if not levels:
            raise ConfigError(
                f"the study has no observation axis on {key}", "plot.cadence('256 samples', '512 samples')"
            )
        return tuple(levels)

    def _frame(self, y: str, x: str) -> pd.DataFrame:
        """Return the rows of a curve: arm, seed, x and y. Without samples on record, as in an imported log, x is the step."""
        if x not in _X:
            raise ConfigError(f"x: expected {', '.join(_X)}, got {x!r}", nearest(x, _X))
        if y.startswith("eval_"):
            evals = self._study.evals
            known = [f"eval_{name}" for name in evals["metric"].cat.categories]
            if y not in known:
                nothing = "no run has evaluated anything: study.plot.forest() shows what they have"
                raise ConfigError(f"no run has evaluated {y[5:]!r}", nearest(y, known) if known else nothing)
            rows = evals[(evals["metric"] == y[5:]) & (evals["split"] == "held_out")]
            values, place = rows["value"], rows[x]
        else:
            timed = x == "train_seconds"
            rows = self._study.read_steps(list(dict.fromkeys([y, "step_seconds" if timed else x])))
            seconds = rows.groupby(["arm", "seed"], observed=True)["step_seconds"] if timed else None
            values, place = rows[y], rows[x] if seconds is None else seconds.cumsum()
        shown = place.fillna(rows["step"]) if x == "samples" else place
        found = pd.DataFrame({"arm": rows["arm"], "seed": rows["seed"], "x": shown, "y": values})
        found.attrs["without_samples"] = bool(place.isna().any())
        return found

    def _drawn(
        self, frame: pd.DataFrame, y: str, x: str, arms: Sequence[str] | None, *, mean: bool, log: bool
    ) -> go.Figure:
        self._study.check_arms(arms)
        frame = frame.dropna()
        if not len(frame):
            raise StudyError(f"no run in {self._study.folder} has recorded {y} yet", "study.reload() once a run has")
        statuses = self._study.runs.set_index(["arm", "seed"])["status"].to_dict()
        traces = list[go.Scatter]()
        shown = [arm for arm in self._study.arms if (arms is None or arm in arms) and (frame["arm"] == arm).any()]
        for arm in reversed(shown):
            name, colour = _text(arm), self._colour(arm)
            runs = list(frame[frame["arm"] == arm].groupby("seed"))
            whole = [run for seed, run in runs if statuses.get((arm, seed)) == "finished"]
            bold = mean and len(whole) > 1
            for number, (seed, run) in enumerate(runs):
                style = {"showlegend": not bold and number == 0, "opacity": 0.35 if bold else 0.8}
                traces.append(_line(run, x, f"{name}, seed {seed}", colour, 1, name=name, legendgroup=name, **style))
            if bold:
                label = f"{name} (mean of {len(whole)})"
                traces.append(_line(_mean(whole), x, f"{name}, mean", colour, 2.5, name=label, legendgroup=name))
        figure = go.Figure(traces)
        unit = {"loss": "nats", "eval_loss": "nats", "grad_norm": "L2 norm, before clipping"}.get(y, "")
        figure.update_layout(**_LAYOUT, title=_text(f"{y} ({unit})" if unit else y), height=430)
        ticks = {"type": "log", "dtick": "D2", "tickformat": "~g"} if log else {}
        figure.update_yaxes(automargin=True, **ticks)
        without_samples = x == "samples" and frame.attrs.get("without_samples", False)
        title = "optimizer steps (the logs have no samples)" if without_samples else _X[x]
        return figure.update_xaxes(title=title, automargin=True)

    def _colour(self, arm: str) -> str:
        """The baseline and the placebo are grey; variants have the page's colours in plan order."""
        kinds = {} if len(self._study.arms) == 1 else {one.name: one.kind for one in self._study.plan.arms}
        if kinds.get(arm) in ("placebo", "rerun"):
            return PLACEBO
        variants = [name for name, kind in kinds.items() if kind not in (None, "placebo", "rerun", "observation")]
        return COLOURS[variants.index(arm) % len(COLOURS)] if arm in variants else BASELINE


def _line(points: pd.DataFrame, x: str, hover: str, colour: str, width: float, **more: Any) -> go.Scatter:
    kept = points.iloc[thin(points["y"].to_numpy(np.float64), _MOST_POINTS)]
    return go.Scatter(
        x=kept["x"], y=kept["y"], mode="lines", line={"color": colour, "width": width},
        hovertemplate=f"%{{y:.4g}} at %{{x:,}} {_X[x]}<extra>{hover}</extra>", **more,
    )  # fmt: skip


def _mean(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean at the positions that all runs have; a run that stopped early would show as a jump."""
    whole = pd.concat([run[["x", "y"]].drop_duplicates("x") for run in runs])
    found = whole.groupby("x")["y"].agg(["mean", "size"])
    common = found[found["size"] == len(runs)]
    return pd.DataFrame({"x": common.index.to_numpy(), "y": common["mean"].to_numpy()})


def _text(text: str) -> str:
    """Escape a name: Plotly interprets a small HTML dialect."""
    return html.escape(text, quote=False)
