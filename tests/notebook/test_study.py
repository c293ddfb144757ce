"""`ablate.load`: the frames hold what the record and the analysis hold, whatever state the study is in."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ablate
from ablate.analysis.analyse import analyse
from ablate.errors import AblateError, ConfigError, StudyError
from ablate.notebook.frames import FRAMES, frames_page
from ablate.records.reader import read_evals, read_trace
from ablate.serialization import read_json
from tests.synthetic import write_study

ARMS = ("batch_size=64", "eval_every=256 samples", "eval_every=512 samples", "placebo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "reference"
    write_study(place, arms=ARMS, seeds=3)
    return place


@pytest.fixture(scope="module")
def study(folder: Path) -> ablate.Study:
    return ablate.load(folder)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of every kind that is not finished, and one whose trace is no table."""
    place = tmp_path_factory.mktemp("runs") / "broken"
    write_study(
        place, arms=("batch_size=64",), seeds=4, diverged=[("batch_size=64", 1)], failed=[("batch_size=64", 2)],
        missing=[("baseline", 3)], running=[("baseline", 2)],
    )  # fmt: skip
    (place / "batch_size=64/seed=3/trace.arrow").write_bytes(b"no table")
    return place


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_has_the_documented_columns_and_dtypes(study: ablate.Study, name: str) -> None:
    frame: pd.DataFrame = getattr(study, name)
    wanted = FRAMES[name][1]
    assert list(frame.columns)[: len(wanted)] == [column.name for column in wanted]
    assert {one.name: str(frame[one.name].dtype) for one in wanted} == {one.name: one.dtype for one in wanted}
    assert len(frame)
    assert list(frame["arm"].cat.categories) == list(study.arms)


@pytest.mark.parametrize("name", FRAMES)
def test_an_empty_frame_has_them_too(tmp_path: Path, name: str) -> None:
    """Before the first run has begun."""
    write_study(tmp_path / "s", arms=("batch_size=64",), seeds=1, missing=[("baseline", 0), ("batch_size=64", 0)])
    frame: pd.DataFrame = getattr(ablate.load(tmp_path / "s"), name)
    wanted = FRAMES[name][1]
    assert {one.name: str(frame[one.name].dtype) for one in wanted} == {one.name: one.dtype for one in wanted}
    assert (len(frame) > 0) is (name in ("runs", "contrasts"))
    assert name != "contrasts" or frame["effect"].isna().all()


def test_the_page_of_frames_is_what_the_code_says(repo: Path) -> None:
    page = (repo / "docs/reference/frames.md").read_text(encoding="utf-8")
    assert page == frames_page(), "run: python docs/make_reference.py"
    for _, columns in FRAMES.values():
        assert all(column.meaning and f"| `{column.name}` |" in page for column in columns)


def test_steps_are_the_traces_row_by_row(folder: Path, study: ablate.Study) -> None:
    for (arm, seed), mine in study.steps.groupby(["arm", "seed"], observed=True):
        trace = read_trace(folder / arm / f"seed={seed}" / "trace.arrow")
        for column in ("step", "loss", "grad_norm", "samples", "step_seconds", "applied"):
            np.testing.assert_array_equal(mine[column].to_numpy(np.float64), trace[column])
    assert len(study.steps) == 3 * (128 + 16 + 128)


def test_evals_are_the_looks_with_their_standard_errors(folder: Path, study: ablate.Study) -> None:
    for metric in ("loss", "accuracy"):
        mine = study.evals.query("arm == 'placebo' and seed == 2 and metric == @metric")
        curve = read_evals(folder / "placebo/seed=2/evals.arrow").curve(metric)
        np.testing.assert_array_equal(mine["samples"].to_numpy(np.int64), curve.samples)
        np.testing.assert_allclose(mine["value"], curve.value, rtol=1e-15)
        np.testing.assert_allclose(mine["standard_error"], curve.standard_error, rtol=1e-9, atol=1e-9)


def test_runs_and_contrasts_are_the_analysis(folder: Path, study: ablate.Study) -> None:
    analysis = analyse(folder)
    runs = study.runs.set_index(["arm", "seed"])
    for one in analysis.runs:
        row = runs.loc[one.arm, one.seed]
        assert row["status"] == one.status
        for name, value in one.values.items():
            assert (value is None and np.isnan(row[name])) or row[name] == value
    assert study.runs.attrs["units"] == {info.name: info.unit for info in analysis.metrics}
    for one, (_, row) in zip(analysis.contrasts, study.contrasts.iterrows(), strict=True):
        assert (row["arm"], row["metric"], row["verdict"]) == (one.arm, one.metric, one.verdict)
        assert row["effect"] == one.effect or (one.effect is None and np.isnan(row["effect"]))
        assert row["num_seeds"] == len(one.seeds)
    primary = study.contrasts.query("primary and arm == 'batch_size=64'").iloc[0]
    pairs = study.differences.query("metric == @study.metric and arm == 'batch_size=64'")
    assert pairs["difference"].mean() == pytest.approx(primary["effect"])


def test_some_columns_of_some_runs_are_read_alone(study: ablate.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def watched(path: Path, columns: Any) -> Any:
        read.append((path.parent.name, tuple(columns)))
        return read_trace(path, columns)

    monkeypatch.setattr("ablate.notebook.frames.read_trace", watched)
    found = study.read_steps(["grad_norm"], arms=["placebo"], seeds=[1])
    assert read == [("seed=1", ("step", "grad_norm"))]
    assert list(found.columns) == ["arm", "seed", "step", "grad_norm"]
    assert len(found) == 128


def test_nothing_is_read_before_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.notebook.study.analyse", lambda *_: pytest.fail("it was analysed"))
    monkeypatch.setattr("ablate.notebook.frames.read_trace", lambda *_: pytest.fail("a trace was read"))
    study = ablate.load(folder)
    assert study.arms[0] == "baseline"
    assert len(study.evals)


@pytest.mark.slow
def test_pandas_is_loaded_with_the_first_frame_and_torch_never(folder: Path, repo: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(repo)!r}); import ablate; s = ablate.load({str(folder)!r}); "
        "assert not {'pandas', 'plotly', 'torch'} & sys.modules.keys(); s.evals; "
        "assert 'pandas' in sys.modules; assert not {'plotly', 'torch'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_study_in_any_state_is_read_as_far_as_it_is(broken: Path) -> None:
    study = ablate.load(broken)
    status = study.runs.set_index(["arm", "seed"])["status"]
    assert status["baseline", 2] == "running"
    assert status["baseline", 3] == "missing"
    assert status["batch_size=64", 1] == "diverged"
    assert status["batch_size=64", 2] == "failed"
    assert status["batch_size=64", 3] == "unreadable"
    assert set(study.steps.query("arm == 'baseline'")["seed"]) == {0, 1, 2}
    assert set(study.steps.query("arm == 'batch_size=64'")["seed"]) == {0, 1, 2}
    assert pd.isna(study.runs.query("arm == 'baseline' and seed == 2")["eval_loss"].iloc[0])
    shown = study._repr_html_()
    assert "NOT COMPLETE" in shown
    assert study.plot.curves().data
    assert study.plot.grad_norm().data


def test_reload_sees_what_a_running_study_has_done_since(tmp_path: Path, broken: Path) -> None:
    folder = Path(shutil.copytree(broken, tmp_path / "broken"))
    study = ablate.load(folder)
    before = len(study.runs.query("status == 'finished'"))
    place = folder / "baseline/seed=3"
    shutil.copytree(folder / "baseline/seed=0", place)
    manifest = read_json(place / "manifest.json")
    planned = next(run for run in study.plan.runs if (run.arm, run.seed) == ("baseline", 3))
    (place / "manifest.json").write_text(json.dumps({**manifest, "seed": 3, "digest": planned.digest}))
    assert len(study.runs.query("status == 'finished'")) == before
    assert len(study.reload().runs.query("status == 'finished'")) == before + 1


def test_runs_of_another_plan_in_a_folder_are_not_this_studys(tmp_path: Path, folder: Path) -> None:
    mine = Path(shutil.copytree(folder, tmp_path / "reference"))
    manifest = mine / "placebo/seed=1/manifest.json"
    manifest.write_text(json.dumps({**read_json(manifest), "digest": "0" * 64}))
    study = ablate.load(mine)
    assert study.runs.set_index(["arm", "seed"])["status"]["placebo", 1] == "missing"
    assert set(study.steps.query("arm == 'placebo'")["seed"]) == {0, 2}


def test_a_folder_without_a_plan_is_a_study_with_what_was_asked(tmp_path: Path, folder: Path) -> None:
    mine = Path(shutil.copytree(folder, tmp_path / "mine"))
    (mine / "plan.json").unlink()
    study = ablate.load(mine, metric="eval_accuracy")
    assert study.metric == "eval_accuracy"
    assert set(study.contrasts.query("primary")["metric"]) == {"eval_accuracy"}
    assert len(study.steps) == 3 * (128 + 16 + 128)
    with pytest.raises(ConfigError, match="has a plan"):
        ablate.load(folder, metric="eval_accuracy")


def test_an_imported_study_has_its_gaps_as_missing_values(tmp_path: Path) -> None:
    from ablate import cli

    for name, more in (("a", 0.0), ("b", 1.0)):
        rows = [f"{step},{1 / step:.3f},{1.1 / step + more:.3f}" for step in (10, 20, 30)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["step,loss,eval_loss", *rows]) + "\n")
    cli.main(
        ["import", f"baseline={tmp_path / 'a.csv'}", f"large={tmp_path / 'b.csv'}", "--output", str(tmp_path / "mine")]
    )
    study = ablate.load(tmp_path / "mine")
    assert list(study.steps["step"]) == [10, 20, 30] * 2
    assert study.steps["samples"].isna().all()
    assert study.steps["grad_norm"].isna().all()
    assert list(study.evals.query("arm == 'large'")["value"]) == pytest.approx([1.11, 1.055, 1.037])
    assert "IMPORTED" in study._repr_html_()
    assert study.plot.curves(x="step").data
    assert list(study.plot.curves().data[-1].x) == [10, 20, 30]
    assert study.plot.curves().layout.xaxis.title.text == "optimizer steps (the logs have no samples)"
    with pytest.raises(StudyError, match="has recorded grad_norm"):
        study.plot.grad_norm()


def test_the_folder_of_one_run_is_that_run(folder: Path, study: ablate.Study) -> None:
    one = ablate.load(folder / "batch_size=64/seed=1")
    assert (one.arms, one.seeds) == (("batch_size=64",), (1,))
    assert len(one.steps) == 16
    row = study.runs.query("arm == 'batch_size=64' and seed == 1").iloc[0]
    for name in ("eval_loss", "grad_norm_p95_p5", "train_seconds", "folder"):
        assert one.runs.iloc[0][name] == row[name]
    assert len(one.contrasts) == len(one.differences) == 0
    assert "batch_size=64/seed=1: finished" in one._repr_html_()
    assert one.plot.curves().data
    for ask in (lambda: one.analysis, lambda: one.plan, one.report, one.plot.forest, one.plot.cadence):
        with pytest.raises(StudyError, match="is a single run") as refused:
            ask()
        assert str(folder) in (refused.value.fix or "")


def test_a_single_run_that_is_going_on_or_broken_is_read_too(broken: Path) -> None:
    assert ablate.load(broken / "baseline/seed=2").runs["status"].iloc[0] == "running"
    assert ablate.load(broken / "batch_size=64/seed=3").runs["status"].iloc[0] == "unreadable"
    assert ablate.load(broken / "batch_size=64/seed=2").runs["status"].iloc[0] == "failed"


def test_a_run_of_an_app_has_what_its_main_returned(tmp_path: Path) -> None:
    from tests.archive.test_verify import of_an_app

    of_an_app(tmp_path / "study")
    study = ablate.load(tmp_path / "study")
    assert list(study.runs["returned"]) == pytest.approx([0.5, 0.6, 0.7, 0.8])
    one = ablate.load(tmp_path / "study" / "lr=0.5" / "seed=0")
    assert (one.runs["status"].iloc[0], one.runs["returned"].iloc[0]) == ("finished", pytest.approx(0.7))
    assert study.plot.forest().data
    with pytest.raises(ConfigError, match="no run has evaluated 'loss'"):
        study.plot.curves()


def test_report_makes_the_page_and_says_where(tmp_path: Path, folder: Path) -> None:
    mine = Path(shutil.copytree(folder, tmp_path / "reference"))
    page = ablate.load(mine).report()
    assert page == mine / "report.html"
    assert page.exists()


def wrong(folder: Path, study: ablate.Study) -> Iterator[tuple[str, Any, str, str]]:
    yield "no folder", lambda: ablate.load(folder.parent / "nowhere"), "does not exist", "reference"
    yield "no study", lambda: ablate.load(folder.parent), "is not a study folder", ""
    yield "a file", lambda: ablate.load(folder / "plan.json"), "got the file", "study directory"
    yield "a column", lambda: study.read_steps(["gradnorm"]), "unknown column 'gradnorm'", "'grad_norm'"
    yield "an arm", lambda: study.read_steps(arms=["placeboo"]), "unknown arm 'placeboo'", "placebo"
    yield "an arm of curves", lambda: study.plot.curves(arms=["x"]), "unknown arm 'x'", "baseline"
    yield "a metric", lambda: study.plot.curves("eval_los"), "no run has evaluated 'los'", "eval_loss"
    yield "x", lambda: study.plot.curves(x="sample"), "got 'sample'", "samples"
    yield "x that is a column", lambda: study.plot.curves(x="arm"), "got 'arm'", ""
    yield "x of steps", lambda: study.plot.grad_norm(x="epochs"), "got 'epochs'", "epoch"
    yield "a column of curves", lambda: study.plot.curves("losss"), "unknown column 'losss'", "loss"
    yield "an outcome", lambda: study.plot.forest("eval_los"), "no contrast was made on 'eval_los'", "eval_loss"
    yield "a cadence", lambda: study.plot.cadence("100 samples"), "100 samples", ""
    yield (
        "a kind of cadence",
        lambda: study.plot.cadence(of="loss"),
        "no observation axis on tracker.log_every",
        "cadence(",
    )


def test_what_cannot_be_done_is_said_with_what_to_type(folder: Path, study: ablate.Study) -> None:
    for what, ask, says, fix in wrong(folder, study):
        with pytest.raises(AblateError) as refused:
            ask()
        assert says in refused.value.problem, what
        assert refused.value.fix, what
        assert fix in refused.value.fix, what


# ---- what is seen --------------------------------------------------------------------------------------------------


def test_a_notebook_shows_the_answer_and_every_contrast(study: ablate.Study) -> None:
    shown = html.unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", study._repr_html_()))
    assert "batch_size 8 → 64 hurts eval_loss" in shown
    assert "noise floor" in shown
    assert "eval_every : same training runs, recorded less often" in shown
    assert "9 of 9 runs ended" in shown
    assert repr(study).splitlines()[0].startswith("<ablate study reference: 2 arms + placebo × 3 seeds")


def test_text_of_a_study_stays_text(tmp_path: Path, folder: Path) -> None:
    mine = Path(shutil.copytree(folder, tmp_path / "reference"))
    script = "<script>alert(1)</script>"
    plan = (mine / "plan.json").read_text()
    (mine / "plan.json").write_text(plan.replace('"study": "reference"', f'"study": "{script}"'))
    manifest = mine / "placebo/seed=0/status.json"
    manifest.write_text(json.dumps({**read_json(manifest), "status": "failed", "sentence": script}))
    study = ablate.load(mine)
    assert study.name == script
    assert script not in study._repr_html_()
    assert "&lt;script&gt;" in study._repr_html_()


def test_a_failed_control_is_not_left_out(tmp_path: Path) -> None:
    write_study(tmp_path / "s", arms=("batch_size=64",), seeds=2, contaminated="batch_size=64")
    assert "contaminated" in ablate.load(tmp_path / "s")._repr_html_()


def test_the_forest_holds_effects_intervals_and_seeds(study: ablate.Study) -> None:
    figure = study.plot.forest()
    effects, seeds = figure.data
    rows = study.contrasts.query("primary")
    np.testing.assert_array_equal(effects.x, rows["effect"])
    np.testing.assert_allclose(np.asarray(effects.x) + np.asarray(effects.error_x.array), rows["high"])
    np.testing.assert_allclose(np.asarray(effects.x) - np.asarray(effects.error_x.arrayminus), rows["low"])
    assert len(seeds.x) == 6
    assert {seeds.y[0], seeds.y[-1]} == {"batch_size 8 → 64", "placebo"}
    assert study.plot.forest("grad_norm_p95_p5").data


def test_curves_are_the_runs_and_their_mean(study: ablate.Study) -> None:
    figure = study.plot.curves(arms=["baseline", "batch_size=64"])
    bold = [trace for trace in figure.data if "mean" in trace.name]
    assert [trace.name for trace in bold] == ["batch_size=64 (mean of 3)", "baseline (mean of 3)"]
    looks = study.evals.query("arm == 'baseline' and metric == 'loss'").pivot(
        index="samples", columns="seed", values="value"
    )
    np.testing.assert_allclose(bold[1].y, looks.mean(axis=1))
    assert len(figure.data) == 8
    np.testing.assert_allclose(figure.data[-2].y, looks[2])


def test_seconds_are_the_sum_of_steps(study: ablate.Study) -> None:
    figure = study.plot.curves("loss", x="train_seconds", arms=["batch_size=64"], mean=False)
    mine = study.steps.query("arm == 'batch_size=64' and seed == 0")
    np.testing.assert_allclose(figure.data[0].x, mine["step_seconds"].cumsum())


def test_no_spike_of_the_gradient_is_lost_in_a_long_run(tmp_path: Path, folder: Path) -> None:
    import pyarrow as pa

    from ablate.records.schema import TRACE
    from ablate.records.writer import write_table

    mine = Path(shutil.copytree(folder, tmp_path / "reference"))
    path = mine / "baseline/seed=0/trace.arrow"
    row = read_trace(path).table.slice(0, 1)
    long = pa.concat_tables([row] * 20_000)
    norms = np.ones(20_000, dtype=np.float32)
    norms[[7_777, 15_001]] = 500.0
    columns = {name: long[name].combine_chunks() for name in TRACE.names}
    write_table(path, columns | {"step": np.arange(1, 20_001), "grad_norm": norms}, TRACE)
    figure = ablate.load(mine).plot.grad_norm(arms=["baseline"])
    trace = next(trace for trace in figure.data if len(trace.x) > 128)
    assert len(trace.x) <= 2000
    assert [int(step) for step, norm in zip(trace.x, trace.y, strict=True) if norm == 500.0] == [7_778, 15_002]


def test_a_cadence_shows_what_was_missed(study: ablate.Study) -> None:
    declared = study.plot.cadence()
    names = [trace.name for trace in declared.data if "before the first evaluation" in trace.name]
    assert [name.partition(":")[0] for name in names] == ["every 256 samples", "every 512 samples"]
    dense = study.evals.query("arm == 'baseline' and metric == 'loss'")
    rare = study.plot.cadence("512 samples").data[-1]
    wanted = dense.groupby("samples")["value"].mean().loc[[0, 512, 1024]]
    np.testing.assert_allclose(rare.y, wanted)


def test_names_are_text_in_figures(tmp_path: Path, folder: Path) -> None:
    from ablate.records.layout import safe_name

    mine = Path(shutil.copytree(folder, tmp_path / "reference"))
    name = "<b>bold</b>"
    (mine / "plan.json").write_text((mine / "plan.json").read_text().replace('"batch_size=64"', f'"{name}"'))
    (mine / "batch_size=64").rename(mine / safe_name(name))
    figure = ablate.load(mine).plot.curves()
    assert "&lt;b&gt;bold&lt;/b&gt; (mean of 3)" in [trace.name for trace in figure.data]


def test_the_how_to_runs_as_it_is_written(
    repo: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repo / "docs/how-to/notebook.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 7
    shutil.copytree(folder, tmp_path / "runs" / "reference")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert len(names["norms"]) == 256
    assert list((tmp_path / "runs" / "reference").glob("report.html")) == []
