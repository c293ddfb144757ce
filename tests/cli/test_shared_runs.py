"""Studies under one root that ask for the same runs, and studies whose code has changed; the runs are made up in no time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ablate.records.layout import RunDir
from ablate.records.metadata import PACKAGES, Manifest, RunStatus, read_manifest, versions, write_value
from ablate.runner.reuse import publish


@pytest.fixture
def recorded(runs: Any) -> Any:
    """Made-up runs that can be found, as a real one leaves itself."""

    def fate(job: Any) -> RunStatus:
        run = RunDir(job.folder)
        written = read_manifest(run)
        write_value(run, Manifest(**{**_fields(written), "versions": versions(PACKAGES)}))
        outcome = RunStatus(status="finished", step=1)
        write_value(run, outcome)
        publish(run, job.digest, outcome, root="runs")
        return outcome

    runs.fate = fate
    return runs


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}


@pytest.mark.slow
def test_more_seeds_under_another_name_cost_only_the_new_ones(ablate, recorded, here):
    assert ablate("-m", "axis=batch_size", "study.seeds=3", "study.name=three")[0] == 0
    recorded.forget()
    code, out, _ = ablate("-m", "axis=batch_size", "study.seeds=5", "study.name=five")
    assert code == 0
    assert "6 of 10 runs are taken from three (6)" in out
    assert sorted(recorded.names) == ["baseline/3", "baseline/4", "batch_size=64/3", "batch_size=64/4"]
    assert read_manifest(RunDir(here / "runs/five/batch_size=64/seed=2")).shared_from == "three/batch_size=64/seed=2"


@pytest.mark.slow
def test_a_baseline_is_shared_between_studies_of_other_axes(ablate, recorded, here):
    ablate("-m", "axis=batch_size", "study.seeds=2")
    recorded.forget()
    ablate("-m", "axis=learning_rate", "study.seeds=2")
    assert not any(name.startswith("baseline") for name in recorded.names)
    assert len(recorded.names) == 2 * 2


@pytest.mark.slow
@pytest.mark.parametrize("more", ["optim.weight_decay=0.1", "data.max_length=64", "rerun=1"])
def test_what_asks_for_another_result_is_not_shared(ablate, recorded, here, more):
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=one")
    recorded.forget()
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=other", more)
    assert len(recorded.names) == 2


@pytest.mark.slow
@pytest.mark.parametrize("more", ["study.workers=3", "tracker.log_every='10 steps'", "study.metric=eval_accuracy"])
def test_what_changes_no_result_is_shared(ablate, recorded, here, more):
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=one")
    recorded.forget()
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=other", more)
    assert recorded.names == []


@pytest.mark.slow
def test_another_root_shares_nothing(ablate, recorded, here):
    ablate("-m", "axis=batch_size", "study.seeds=1")
    recorded.forget()
    ablate("-m", "axis=batch_size", "study.seeds=1", "study.output_dir=elsewhere")
    assert len(recorded.names) == 2


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The files of a plan's code; tests change them."""
    files = {"ablate/training/train.py": "a" * 64, "my_task.py": "b" * 64}
    monkeypatch.setattr("ablate.planning.planner.code_files", lambda targets: dict(files))
    return files


@pytest.mark.slow
def test_runs_by_other_code_are_kept_only_when_that_is_accepted_and_it_is_recorded(ablate, recorded, here, code):
    study = ("-m", "axis=batch_size", "study.seeds=2")
    ablate(*study)
    first = json.loads((here / "runs/batch_size/plan.json").read_text())
    recorded.forget()
    code["my_task.py"] = "c" * 64
    status, _, err = ablate(*study)
    assert status == 2
    assert "runs/batch_size: 4 of its runs were made by other code: my_task.py changed\n" in err
    assert json.loads((here / "runs/batch_size/plan.json").read_text()) == first
    (here / "runs/batch_size/baseline/seed=1/status.json").unlink()
    assert ablate(*study, "--accept-code-change")[0] == 0
    assert recorded.names == ["baseline/1"]
    plan = json.loads((here / "runs/batch_size/plan.json").read_text())
    assert plan["accepted"] == [first["code_digest"]] != [plan["code_digest"]]
    assert (
        plan["notes"][-1] == "code that changed was accepted: 3 of its runs were made by other code: my_task.py changed"
    )
    recorded.forget()
    assert ablate(*study)[0] == 0
    assert recorded.names == []
    code["my_task.py"] = "b" * 64  # and back again: now the one made in between is the other one
    status, _, err = ablate(*study)
    assert (status, "1 of its runs was made by other code" in err) == (2, True)


@pytest.mark.slow
def test_without_results_by_other_code_there_is_nothing_to_accept(ablate, recorded, here, code):
    recorded.fate = lambda job: RunStatus(status="failed")
    ablate("-m", "axis=batch_size", "study.seeds=1")
    code["my_task.py"] = "c" * 64
    recorded.forget()
    assert ablate("-m", "axis=batch_size", "study.seeds=1")[0] == 0
    assert len(recorded.names) == 2


@pytest.mark.slow
def test_an_import_that_no_source_names_counts_when_a_result_is_looked_at_again(ablate, recorded, here):
    study = ("-m", "axis=batch_size", "study.seeds=1")
    ablate(*study)
    (here / "plugin.py").write_text("x = 1")
    run = RunDir(here / "runs/batch_size/baseline/seed=0")
    write_value(run, Manifest(**{**_fields(read_manifest(run)), "imported": {"plugin.py": "0" * 64}}))
    recorded.forget()
    status, _, err = ablate(*study)
    assert status == 2
    assert "1 of its runs was made by other code: plugin.py changed" in err
    assert ablate(*study, "study.accept_code_change=true")[0] == 0
    assert ablate(*study)[0] == 0
    assert recorded.names == []


@pytest.mark.slow
@pytest.mark.parametrize(("what", "said"), [("data", "the data"), ("model", "the model files")])
def test_other_files_under_the_same_name_are_another_study(ablate, recorded, here, monkeypatch, what, said):
    from ablate.data.datasets import DataFacts

    def facts(digest: str) -> Any:
        sizes = DataFacts(num_train=1000, num_held_out=1000, num_eval=256, num_classes=2, **{what: digest})
        return lambda config: sizes

    monkeypatch.setattr("ablate.tasks.registry.data_facts", facts("1" * 64))
    ablate("-m", "axis=batch_size", "study.seeds=1")
    monkeypatch.setattr("ablate.tasks.registry.data_facts", facts("2" * 64))
    recorded.forget()
    status, _, err = ablate("-m", "axis=batch_size", "study.seeds=1")
    assert status == 2
    assert (
        f"{said} of baseline differ from those that it was planned with (digest 111111111111 there, 222222222222 now)"
        in err
    )
    assert ablate("-m", "axis=batch_size", "study.seeds=1", "study.name=other")[0] == 0
    assert len(recorded.names) == 2
