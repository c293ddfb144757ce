"""`hydra/sweeper=ablation` on an app that knows nothing of ablate, from its command line to the report."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.external_apps.conftest import App

THREE = "hydra.sweeper.seeds=3"


def _analysis(study: Path) -> Any:
    return json.loads((study / "analysis.json").read_text())


def _values(study: Path) -> dict[str, float]:
    found = sorted(study.glob("*/seed=*/returned.json"))
    return {path.parent.relative_to(study).as_posix(): json.loads(path.read_text())["returned"] for path in found}


def test_arms_seeds_contrasts_and_what_could_not_be_verified(app: App, tmp_path: Path) -> None:
    code, printed = app("lr=0.02,0.1", "warm_lr=0.3", "name=mine", THREE)
    study = tmp_path / "runs/lr"

    assert code == 0, printed
    plan = json.loads((study / "plan.json").read_text())
    assert [arm["name"] for arm in plan["arms"]] == ["baseline", "lr=0.1"]  # 0.02 is the baseline's own
    assert plan["arms"][0]["config"]["warm_lr"] == 0.3  # fixed for every arm
    assert set(plan["code"]) == {f"toyapp/{name}.py" for name in ("__init__", "__main__", "main", "data")}
    values = _values(study)
    assert len(values) == 6
    contrast = next(one for one in _analysis(study)["contrasts"] if one["primary"])
    assert contrast["verdict"] == "helps"
    differences = [values[f"lr=0.1/seed={seed}"] - values[f"baseline/seed={seed}"] for seed in range(3)]
    assert contrast["differences"] == pytest.approx(differences)
    assert "only lr (0.02 -> 0.1)" in json.dumps(_analysis(study)["controls"])
    assert "matched unverified: not verified: the app records nothing of its loop" in " ".join(printed.split())
    assert (study / "report.html").exists()
    assert "seed: 2" in (study / "lr=0.1/seed=2/config.yaml").read_text()
    assert "loss 0.0" in (study / "lr=0.1/seed=2/log.txt").read_text()


@pytest.mark.slow
def test_our_launcher_returns_the_same_values_and_the_same_command_runs_only_what_is_missing(
    app: App, tmp_path: Path
) -> None:
    assert app("lr=0.1", "lr=0.1,0.2", "name=mine", THREE, "hydra.sweeper.root=here")[0] == 0
    code, printed = app("lr=0.1", "lr=0.1,0.2", "name=mine", THREE, "hydra/launcher=local")
    assert code == 0, printed
    assert _values(tmp_path / "runs/lr") == _values(tmp_path / "here/lr")

    shutil.rmtree(tmp_path / "runs/lr/baseline/seed=1")
    before = (tmp_path / "runs/lr/baseline/seed=0/manifest.json").stat().st_mtime_ns
    code, printed = app("lr=0.1", "lr=0.1,0.2", "name=mine", THREE, "hydra/launcher=local")
    assert code == 0
    assert re.findall(r"^finished +(\S+)", printed, re.MULTILINE) == ["baseline/seed=1"]
    assert (tmp_path / "runs/lr/baseline/seed=0/manifest.json").stat().st_mtime_ns == before

    code, printed = app("lr=0.1", "lr=0.1,0.3", "name=mine", THREE)
    assert code == 2
    assert "holds another study: its arms are baseline, lr=0.2 there and baseline, lr=0.3 now" in printed


@pytest.mark.parametrize("launcher", ["basic", pytest.param("local", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_go_on(app: App, tmp_path: Path, launcher: str) -> None:
    code, printed = app("fail_at=5", "fail_at=5,null", "hydra.sweeper.seeds=2", f"hydra/launcher={launcher}")
    assert code == 1
    assert printed.count("FloatingPointError: made to fail at step 5") >= 2
    assert sorted(_values(tmp_path / "runs/fail_at")) == ["fail_at=null/seed=0", "fail_at=null/seed=1"]
    assert "FloatingPointError" in (tmp_path / "runs/fail_at/baseline/seed=0/log.txt").read_text()


@pytest.mark.slow
def test_a_setting_that_does_nothing_is_named(app: App, tmp_path: Path) -> None:
    code, printed = app("warm_lr=0.3,0.01", "hydra.sweeper.seeds=2")
    assert code == 1
    assert "no-op: warm_lr=0.3 returned exactly the baseline's values in 2 seeds" in " ".join(printed.split())
    assert next(one for one in _analysis(tmp_path / "runs/warm_lr")["contrasts"])["verdict"] == "none"


@pytest.mark.slow
def test_a_seed_that_does_nothing_is_named(app: App) -> None:
    code, printed = app("lr=0.1,0.2", "hydra.sweeper.seeds=2", seed_key="warm_lr")
    assert code == 1
    assert "returned exactly the same values in 2 seeds: warm_lr does not reach any source of randomness" in " ".join(
        printed.split()
    )


@pytest.mark.slow
def test_the_metric_is_asked_for_after_the_first_run_and_its_runs_are_kept(app: App, tmp_path: Path) -> None:
    typed = ("lr=0.1,0.2", "returns=both", "name=mine", "hydra.sweeper.seeds=2")
    code, printed = app(*typed)
    assert code == 2
    assert "main returned 2 values (loss, worst), and a study compares one" in printed
    assert printed.count("finished ") == 1
    code, printed = app(*typed, "hydra.sweeper.metric=los")
    assert code == 2
    assert "main returned no value of that name; did you mean 'loss'" in printed
    code, printed = app(*typed, "hydra.sweeper.metric=worst", "hydra.sweeper.lower_is_better=null")
    assert "6 runs, 1 done; compared: worst" in printed
    assert "is better" not in printed
    verdicts = {one["verdict"] for one in _analysis(tmp_path / "runs/lr")["contrasts"]}
    assert not verdicts & {"helps", "hurts"}


@pytest.mark.slow
def test_the_record_of_an_app_with_a_recorder_is_read(app: App, tmp_path: Path) -> None:
    code, printed = app("lr=0.1,0.02", THREE, module="toyapp.recorded")
    study = tmp_path / "runs/lr"
    assert code == 0, printed
    controls = {(one["arm"], one["name"]): one for one in _analysis(study)["controls"]}
    assert controls["lr=0.1", "matched"]["status"] == "checked"
    assert {"init", "order", "environment"} <= set(controls["lr=0.1", "matched"]["held"])
    assert "weights" in controls["lr=0.1", "took_effect"]["sentence"]
    values = _analysis(study)["runs"][0]["values"]
    assert values["eval_loss"] == pytest.approx(values["returned"])
    assert values["grad_norm_max"] > 0


def test_our_launcher_alone_says_what_belongs_to_it(app: App) -> None:
    code, printed = app("lr=0.1,0.2", "hydra/sweeper=basic", "hydra/launcher=local", seed_key=None)
    assert code == 1
    assert "hydra/launcher=local starts the runs of hydra/sweeper=ablation only" in printed


_REFUSED = {
    "no seed key": (None, ["lr=0.1,0.2"], "has no key 'seed' to set its seed with; did you mean 'random.seed'?"),
    "a mistyped key": ("random.seed", ["lrr=0.1,0.2"], "the app's config has no key 'lrr'\n  fix: did you mean 'lr'?"),
    "a group": ("random.seed", ["model=plain,decayed"], "sets many keys"),
    "the seed as an axis": ("random.seed", ["random.seed=1,2"], "it cannot be an axis"),
    "the seed fixed": ("random.seed", ["random.seed=1", "lr=0.1,0.2"], "the study sets random.seed itself"),
    "nothing swept": ("random.seed", ["lr=0.1"], "nothing is swept"),
    "the baseline's value": ("random.seed", ["lr=0.02,0.02"], "every level is the baseline's own value"),
    "a key that drags another": ("random.seed", ["batch_size=16,32"], "also changes dragged (8 -> 16)"),
    "an interval": ("random.seed", ["lr=interval(0,1)"], "an interval has no levels"),
    "a new key": ("random.seed", ["+new=1,2"], "the baseline has no 'new' to compare with"),
    "None returned": (
        "random.seed",
        ["lr=0.1,0.2", "returns=none"],
        "main returned None, and a study compares numbers",
    ),
    "text returned": ("random.seed", ["lr=0.1,0.2", "returns=text"], "main returned str 'done', and a study"),
    "no seeds": ("random.seed", ["lr=0.1,0.2", "hydra.sweeper.seeds=0"], "hydra.sweeper.seeds=0 is not a whole number"),
    "a negative effect": ("random.seed", ["lr=0.1,0.2", "hydra.sweeper.smallest_effect=-1"], "is not above 0"),
}


_QUICK = ("no seed key", "a mistyped key", "None returned")


@pytest.mark.parametrize(
    "case", [case if case in _QUICK else pytest.param(case, marks=pytest.mark.slow) for case in _REFUSED]
)
def test_a_request_that_cannot_be_met_is_refused_in_one_sentence(app: App, case: str) -> None:
    seed_key, typed, said = _REFUSED[case]
    code, printed = app(*typed, seed_key=seed_key)
    assert code == 2
    assert said in printed
    assert "Traceback" not in printed
