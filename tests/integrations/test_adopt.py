"""A folder of runs that another loop recorded is read as a study; what cannot be known is said."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from ablate import Recorder, cli
from ablate.analysis.analyse import analyse
from ablate.analysis.infer_plan import PlanOptions
from ablate.analysis.load import read_plan
from ablate.analysis.resample import resample
from ablate.analysis.results import Analysis
from ablate.controls.control import Control
from ablate.errors import ConfigError, RecordError, StudyError
from ablate.report import build_report
from ablate.serialization import read_json
from ablate.training.random_streams import RandomStreams
from tests.training.toy import points

STEPS, BATCH = 16, 8
BASE = {"optim": {"lr": 0.1, "name": "sgd"}, "width": 4}


def record(study: Path, arm: str, seed: int, config: Mapping[str, Any] | None = None, *, init: int = 0, known: bool = True,
           look_every: int = 4, batch: int = BATCH, **settings: Any) -> None:  # fmt: skip
    """Train a line through the points; `config` says what is done. known: whether samples and sizes are told."""
    config = BASE if config is None else config
    with RandomStreams(seed=seed + init).scope("init"):
        model = torch.nn.Linear(10, 2)
    x, y = points(STEPS * BATCH, seed).tensors
    x_out, y_out = points(50, seed=9).tensors
    facts = {"splits": {"train": "t"}, "eval_set": {"ids": "e", "count": 50}} if known else {}
    settings = {"samples_per_epoch": 64 if known else None, "facts": facts} | settings
    with Recorder(study, model, arm=arm, seed=seed, config=config, **settings) as run:
        for step in range(STEPS * BATCH // batch + 1):
            if step % look_every == 0:
                run.log_eval({"loss": functional.cross_entropy(model(x_out), y_out, reduction="none")})
            if step == STEPS * BATCH // batch:
                break
            ids = range(step * batch, (step + 1) * batch)
            loss = functional.cross_entropy(model(x[list(ids)]), y[list(ids)])
            model.zero_grad()
            loss.backward()
            run.log_step(loss, samples=batch, sample_ids=list(ids) if known else None)
            with torch.no_grad():
                for p in model.parameters():
                    p -= config.get("optim", {}).get("lr", 0.1) * p.grad  # type: ignore[operator]


def study_of(folder: Path, arms: Mapping[str, Mapping[str, Any]], seeds: int = 2, **settings: Any) -> Path:
    for arm, config in arms.items():
        for seed in range(seeds):
            record(folder, arm, seed, config, **settings)
    return folder


def other(**optim: Any) -> dict[str, Any]:
    return {**BASE, "optim": {**BASE["optim"], **optim}}  # type: ignore[dict-item]


def control(analysis: Analysis, arm: str, name: str) -> Control:
    return next(one for one in analysis.controls if one.arm == arm and one.name == name)


def test_one_setting_is_one_axis_and_every_control_is_passed(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE, "fast": other(lr=0.5), "faster": other(lr=1.0)}, seeds=3)
    plan = read_plan(study)
    assert [(axis.name, axis.keys, axis.values) for axis in plan.axes] == [("optim.lr", ("optim.lr",), (0.5, 1.0))]
    assert (plan.study, plan.seeds, plan.metric, plan.smallest_effect) == ("mine", (0, 1, 2), "eval_loss", 0.01)
    assert plan.arm("fast").changes == {"optim.lr": 0.5}
    assert plan.baseline.derived == {
        "total_steps": 16, "samples_seen": 128, "effective_batch": 8, "evaluations": 5, "eval_examples": 50,
        "epochs": 2.0, "train_examples": 64,
    }  # fmt: skip
    analysis = build_report(study)
    assert {one.status for one in analysis.controls} == {"checked"}
    assert control(analysis, "fast", "one_variable").sentence == "only optim.lr (0.1 -> 0.5)"
    assert {"init", "order", "splits", "eval_set", "environment"} <= set(control(analysis, "fast", "matched").held)
    primary = [one for one in analysis.contrasts if one.primary]
    assert [(one.arm, one.baseline_value, one.value, one.seeds) for one in primary] == [
        ("fast", 0.1, 0.5, (0, 1, 2)), ("faster", 0.1, 1.0, (0, 1, 2))
    ]  # fmt: skip
    assert all(one.verdict != "none" for one in primary)
    assert analysis.complete
    assert any("there is no plan.json" in note for note in analysis.notes)
    assert {"analysis.json", "report.html", "report.md", "table.tex"} <= {path.name for path in study.iterdir()}


def test_an_arm_that_changes_several_settings_gets_no_verdict(tmp_path: Path) -> None:
    arms = {"baseline": BASE, "both": other(lr=0.5) | {"width": 8}, "twin": BASE}
    analysis = build_report(study_of(tmp_path / "mine", arms))
    both, twin = (control(analysis, arm, "one_variable") for arm in ("both", "twin"))
    assert (both.status, twin.status) == ("failed", "failed")
    assert both.sentence == (
        "both changes 2 settings together, so it is not a one-variable comparison: optim.lr (0.1 -> 0.5), width (4 -> 8)"
    )
    assert twin.sentence == "twin has the baseline's settings, leaf by leaf: no variable is changed"
    assert {one.verdict for one in analysis.contrasts} == {"none"}
    assert any("not a one-variable comparison" in sentence for sentence in analysis.conclusions)


def test_values_are_compared_by_type_and_seed_by_seed(tmp_path: Path) -> None:
    study = tmp_path / "mine"
    for seed in range(2):
        own = {"seed": seed, "paths": {"out": f"out/{seed}"}}
        record(study, "baseline", seed, BASE | own | {"flag": 1})
        record(study, "a", seed, BASE | own | {"flag": True})
        record(study, "b", seed, (other(lr=0.5) if seed else other()) | own | {"flag": 1})
        record(study, "c", seed, BASE | own | {"flag": 1, "more": {"deep": 2}})
    plan = read_plan(study)
    assert plan.arm("a").changes == {"flag": True}
    assert plan.arm("b").changes == {"optim.lr": "0.5 in seed 1"}
    assert plan.arm("c").changes == {"more.deep": 2}
    assert plan.baseline.config["more"] == {"deep": "absent"}
    analysis = analyse(study)
    assert control(analysis, "c", "one_variable").sentence == "only more.deep (absent -> 2)"
    contrast = next(one for one in analysis.contrasts if one.arm == "c")
    assert (contrast.baseline_value, contrast.value) == ("absent", 2)


def test_a_group_in_the_place_of_a_value_is_one_setting(tmp_path: Path) -> None:
    base = {"lr_schedule": None, "a.b": 1}
    analysis = analyse(study_of(tmp_path / "mine", {
        "baseline": base, "cosine": base | {"lr_schedule": {"name": "cosine", "warmup_ratio": 10}}, "dotted": base | {"a.b": 2},
    }))  # fmt: skip
    assert control(analysis, "cosine", "one_variable").status == "checked"
    assert control(analysis, "dotted", "one_variable").sentence == "only a_b (1 -> 2)"


def test_what_was_not_recorded_is_not_verified(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE, "fast": other(lr=0.5)}, known=False)
    analysis = build_report(study)
    matched = control(analysis, "fast", "matched")
    assert matched.status == "unverified"
    assert "order, splits, eval_set, which the fingerprints do not have" in matched.sentence
    assert {"init", "environment"} <= set(matched.held)
    assert any("order, splits, eval_set" in sentence for sentence in analysis.conclusions)
    assert "epochs" not in read_plan(study).baseline.derived
    assert next(one for one in analysis.contrasts if one.primary).verdict != "none"


def test_other_initial_weights_are_a_contamination_unless_they_are_accepted(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE})
    for seed in range(2):
        record(study, "fast", seed, other(lr=0.5), init=100)
    assert control(analyse(study), "fast", "matched").status == "failed"
    assert control(analyse(study, PlanOptions(accepts=("init",))), "fast", "matched").status == "checked"


def test_a_placebo_is_told_by_its_name_and_one_that_changes_nothing_is_no_floor(tmp_path: Path) -> None:
    arms = {"baseline": BASE, "fast": other(lr=0.5), "placebo": BASE | {"order": 1, "dropout": 1}}
    analysis = analyse(study_of(tmp_path / "mine", arms))
    assert control(analysis, "placebo", "one_variable").status == "checked"
    # Its runs are the baseline's, bit for bit: it is a no-op, and such a placebo measures nothing.
    assert control(analysis, "placebo", "took_effect").status == "failed"
    assert analysis.floor("noise") is None
    analysis = analyse(study_of(tmp_path / "same", {"baseline": BASE, "placebo": BASE}))
    assert control(analysis, "placebo", "one_variable").sentence == "the baseline's settings, leaf by leaf"


def test_another_batch_size_brings_another_number_of_updates(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE})
    for seed in range(2):
        record(study, "large", seed, BASE | {"batch": 16}, batch=16, look_every=2)
    analysis = build_report(study)
    isolate = control(analysis, "large", "one_variable")
    assert isolate.derived["total_steps"] == [16, 8]
    assert "samples_seen" not in isolate.derived
    assert control(analysis, "large", "matched").status == "checked"


@pytest.mark.parametrize(
    ("config", "own"),
    [
        (other(lr=0.5), True),  # a trainer that made its batch smaller by itself
        (BASE, True),
        (BASE | {"batch": 4}, False),
        (other(lr=0.5) | {"width": 2}, False),  # half as much of something whole: it may be what makes the batch
    ],
)
def test_another_batch_size_that_no_setting_explains_is_a_variable(
    tmp_path: Path, config: Mapping[str, Any], own: bool
) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE})
    for seed in range(2):
        record(study, "other", seed, config, batch=4)
    changes = read_plan(study).arm("other").changes
    assert ("samples_per_step" in changes) == own
    if own:
        assert changes["samples_per_step"] == 4
        assert len(changes) == 2 or config is BASE


def test_only_seeds_that_every_arm_has_are_read(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE}, seeds=3)
    for seed in (1, 2):
        record(study, "fast", seed, other(lr=0.5))
    plan = read_plan(study)
    assert plan.seeds == (1, 2)
    assert "only seeds that every arm has are read; left out: baseline seed 0" in plan.notes


def test_a_renamed_folder_counts_by_its_new_name(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"old": BASE, "fast": other(lr=0.5)})
    with pytest.raises(StudyError, match="no arm called 'baseline'; arms there: fast, old") as caught:
        read_plan(study)
    assert f"mv {study}/fast {study}/baseline" in (caught.value.fix or "")
    (study / "old").rename(study / "baseline")
    assert [arm.name for arm in read_plan(study).arms] == ["baseline", "fast"]


def test_arms_without_a_common_seed_are_refused(tmp_path: Path) -> None:
    record(tmp_path, "baseline", 0)
    record(tmp_path, "fast", 1, other(lr=0.5))
    with pytest.raises(StudyError, match="no seed in common: baseline 0; fast 1"):
        read_plan(tmp_path)


def test_settings_that_nobody_recorded_are_missed(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": {}, "fast": {}})
    assert any("no settings were recorded for baseline, fast" in note for note in read_plan(study).notes)
    assert control(analyse(study), "fast", "one_variable").status == "failed"


def test_a_run_that_broke_is_read_as_it_is(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE, "fast": other(lr=0.5)})
    (study / "fast" / "seed=1" / "status.json").unlink()
    (study / "fast" / "seed=0" / "manifest.json").write_text("{")
    analysis = analyse(study)
    assert [run.status for run in analysis.runs if run.arm == "fast"] == ["unreadable", "running"]
    assert not analysis.complete
    (study / "fast" / "seed=0" / "config.yaml").write_text("a: [")
    with pytest.raises(RecordError, match=r"config\.yaml cannot be read"):
        analyse(study)


def test_the_dense_record_of_another_loop_is_replayed(tmp_path: Path) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE, "fast": other(lr=0.5)})
    (level,) = resample(study, "eval.every", ["64 samples"])
    assert (level.evaluations, level.first_eval_step) == (2, 8)
    bare = study_of(tmp_path / "bare", {"baseline": BASE}, known=False)
    with pytest.raises(ConfigError, match="cannot be resampled: they did not record train_examples"):
        resample(bare, "eval.every", ["64 samples"])


def test_the_command_line_asks_what_a_plan_would_have_fixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(tmp_path / "mine", {"baseline": BASE, "both": other(lr=0.5) | {"width": 8}})
    asked = ["--metric", "grad_norm_p95_p5", "--smallest-effect", "0.2", "--allow-change", "init,order"]
    assert cli.main(["report", str(study), *asked]) == 1
    assert "not a one-variable comparison" in " ".join(capsys.readouterr().out.split())
    analysis = read_json(study / "analysis.json")
    assert (analysis["metric"], analysis["smallest_effect"]) == ("grad_norm_p95_p5", 0.2)


@pytest.mark.parametrize(("asked", "said"), [
    (["--metric", "eval_los"], "--metric='eval_los' is not a valid metric; did you mean 'eval_loss'"),
    (["--smallest-effect", "-1"], "--smallest-effect -1 is not above 0"),
    (["--allow-change", "inti"], "--allow-change inti is not an item of a fingerprint; did you mean 'init'"),
])  # fmt: skip
def test_what_is_asked_in_vain_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str], said: str
) -> None:
    record(tmp_path / "mine", "baseline", 0)
    assert cli.main(["report", str(tmp_path / "mine"), *asked]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mine" / "analysis.json").exists()


def test_a_plan_that_exists_cannot_be_asked_for_another_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text("{}")
    assert cli.main(["report", str(tmp_path), "--metric", "eval_loss"]) == 2
    assert "has a plan.json, which fixed the metric" in capsys.readouterr().err


def test_a_folder_without_runs_is_still_no_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is not a study folder: it has no plan\.json"):
        read_plan(tmp_path)
