"""`ablate.load`: a directory of runs as data frames, an analysis and figures. Everything is read when first used."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.analysis.analyse import analyse
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.load import common_evaluations, read_plan, reading
from ablate.analysis.results import Analysis
from ablate.design.plan import Plan
from ablate.errors import ConfigError, StudyError
from ablate.metrics.custom import EVERY, custom_metrics
from ablate.metrics.metric import MetricInfo
from ablate.metrics.registry import METRICS
from ablate.notebook.frames import RecordedRun, recorded_runs
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.records.run_files import read_single_run

if TYPE_CHECKING:
    import pandas as pd

    from ablate.report.plotly_figures import Plots


def load(
    folder: str | Path,
    *,
    metric: str | None = None,
    smallest_effect: float | None = None,
    accepts: Sequence[str] = (),
    run_custom_metric: bool = False,
) -> Study:
    """Load a study directory, a directory of recorded or imported runs, or one run directory.

    metric, smallest_effect, accepts: of a folder without a plan, as for `ablate report`. Runs may be missing, going on or
    broken. run_custom_metric: run the custom metric of the study, a function in the working directory that its plan names;
    otherwise no code is run, and that metric has no values.
    Raises StudyError for a folder that holds neither a study nor a run.
    """
    path = Path(folder)
    plan_options = PlanOptions(metric=metric, smallest_effect=smallest_effect, accepts=tuple(accepts))
    if path.is_file():
        what = f"tar xf {path}, and load the directory" if path.suffix == ".tar" else "pass the study directory"
        raise StudyError(f"expected a study directory, got the file {str(folder)!r}", what)
    if not path.is_dir():
        studies = sorted(found.parent.name for found in path.parent.glob("*/plan.json"))
        known = (
            f"studies in {path.parent}: {', '.join(studies)}" if studies else f"the working directory is {Path.cwd()}"
        )
        raise StudyError(f"directory {str(folder)!r} does not exist", known)
    if (path / "manifest.json").exists():
        return Study(path, plan_options, single=read_manifest(RunDir(path)))
    study = Study(path, plan_options, run_custom_metric=run_custom_metric)
    study.plan  # noqa: B018 - raise immediately for any other directory
    return study


class Study:
    """Records of a study as data frames, and its analysis as values. `repr` and a notebook show the answer.

    Everything is read when first used, and cached; `reload()` clears the cache, for a study that is still running.
    """

    def __init__(
        self,
        folder: Path,
        plan_options: PlanOptions | None = None,
        *,
        single: Manifest | None = None,
        run_custom_metric: bool = False,
    ) -> None:
        self.folder = folder
        typed = (plan_options.metric or "",) if plan_options else ()
        self._may_run = (EVERY,) if run_custom_metric else typed
        self._plan_options = plan_options or PlanOptions()
        self._single = single

    @cached_property
    def plan(self) -> Plan:
        """The frozen plan; inferred from the runs for a directory without one."""
        self._check_whole("plan")
        with custom_metrics(*self._may_run):
            return read_plan(self.folder, self._plan_options)

    @cached_property
    def analysis(self) -> Analysis:
        """Everything that the report shows, as dataclasses: controls, contrasts, noise floor, conclusions."""
        self._check_whole("analysis")
        with custom_metrics(*self._may_run):
            return analyse(self.folder, self._plan_options)

    @property
    def name(self) -> str:
        return f"{self._single.arm}/seed={self._single.seed}" if self._single else self.plan.study

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.plan.metric

    @property
    def arms(self) -> tuple[str, ...]:
        """Names, the baseline first."""
        return (self._single.arm,) if self._single else tuple(arm.name for arm in self.plan.arms)

    @property
    def seeds(self) -> tuple[int, ...]:
        return (self._single.seed,) if self._single else self.plan.seeds

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run: status, device, speed, and its value of every metric."""
        from ablate.notebook.frames import runs_frame

        if self._single is not None:
            run = read_single_run(RunDir(self.folder))
            returned = [MetricInfo(name=name, unit="", definition="As returned by the app.", lower_is_better=None)
                        for name in run.returned or ()]  # fmt: skip
            infos = [*(metric.info for metric in METRICS.values()), *returned]
            one = reading(run, self.folder.parents[1], common_evaluations([run]))
            return runs_frame([one], self._recorded, [{"name": self._single.arm}], infos)
        return runs_frame(self.analysis.runs, self._recorded, self.analysis.arms, self.analysis.metrics)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per optimizer step of every run: loss, gradient norm, learning rate, time. See also `read_steps`."""
        return self.read_steps()

    @cached_property
    def evals(self) -> pd.DataFrame:
        """One row per evaluation, split and metric of every run."""
        from ablate.notebook.frames import evals_frame

        return evals_frame(self._recorded, self.arms)

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """One row per variant and metric: effect, interval, verdict. Empty for a single run."""
        from ablate.notebook.frames import CONTRASTS, contrasts_frame, framed

        return framed([], CONTRASTS, self.arms) if self._single else contrasts_frame(self.analysis)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """One row per variant, metric and seed: the differences behind the contrasts. Empty for a single run."""
        from ablate.notebook.frames import DIFFERENCES, differences_frame, framed

        return framed([], DIFFERENCES, self.arms) if self._single else differences_frame(self.analysis)

    @property
    def plot(self) -> Plots:
        """Plotly figures: `forest()`, `curves()`, `grad_norm()`, `cadence()`."""
        from ablate.report.plotly_figures import Plots

        return Plots(self)

    def read_steps(
        self,
        columns: Sequence[str] | None = None,
        *,
        arms: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return `steps` of some columns, arms and seeds alone.

        Raises ConfigError for an unknown column or arm.
        """
        from ablate.notebook.frames import steps_frame

        self.check_arms(arms)
        wanted = [
            recorded
            for recorded in self._recorded
            if (arms is None or recorded.arm in arms) and (seeds is None or recorded.seed in seeds)
        ]
        return steps_frame(wanted, self.arms, columns)

    def check_arms(self, arms: Sequence[str] | None) -> None:
        """Raise ConfigError for an unknown arm."""
        for arm in arms or ():
            if arm not in self.arms:
                raise ConfigError(f"unknown arm {arm!r} in {self.folder}", f"arms: {', '.join(self.arms)}")

    def report(self) -> Path:
        """Rebuild tables and page, as `ablate report` does, and return the path of the page."""
        from ablate.report import build_report

        self._check_whole("report")
        with custom_metrics(*self._may_run):
            build_report(self.folder, self._plan_options)
        return self.folder / "report.html"

    def reload(self) -> Study:
        """Clear the cache, so that everything is read again."""
        for name in ("plan", "analysis", "runs", "steps", "evals", "contrasts", "differences", "_recorded"):
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def _recorded(self) -> list[RecordedRun]:
        if self._single is not None:
            return [RecordedRun(self._single.arm, self._single.seed, RunDir(self.folder))]
        return list(recorded_runs(self.folder, self.plan))

    def _check_whole(self, what: str) -> None:
        if self._single is not None:
            raise StudyError(
                f"{str(self.folder)!r} is a single run, which has no {what}",
                f"ablate.load({str(self.folder.parents[1])!r}) is its study",
            )

    def __repr__(self) -> str:
        if self._single is not None:
            return f"<ablate run {self.name} in {self.folder}>"
        from ablate.report.view_model import make_view

        view = make_view(self.analysis)
        return "\n".join([f"<ablate study {self.name}: {view.heading}>", *([view.headline] if view.headline else [])])

    def _repr_html_(self) -> str:
        """Return the answer and the contrasts, or the metrics of one run; all text is escaped."""
        from ablate import formatting as fmt
        from ablate.report.html import environment
        from ablate.report.view_model import make_view

        if self._single is None:
            ended = sum(run.status in ("finished", "diverged") for run in self.analysis.runs)
            return environment().get_template("card.html").render(view=make_view(self.analysis), ended=ended)
        row = self.runs.iloc[0]
        values = {name: row[name] for name in self.runs.attrs["units"]}
        return environment().get_template("run_card.html").render(
            study=self,
            status=row["status"],
            sentence=fmt.typeset(str(row["sentence"])),
            metrics={name: fmt.figure(float(value), 4) for name, value in values.items() if value == value},
        )  # fmt: skip
