"""A run knows what it was planned with: other code or other data is said before the first step, and never mixed silently."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate.config.schema import Config, TaskConfig
from ablate.hashing import Planned
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, read_fingerprint, read_manifest
from ablate.records.source_code import code_digest, code_files
from ablate.runner.worker import execute

TASK = """
import importlib
import torch
from pathlib import Path
from torch import nn
from torch.utils.data import TensorDataset
import ablate

importlib.import_module("found_" + "late")

def task_on_a_file(config, streams):
    numbers = torch.tensor([float(line) for line in Path("numbers.txt").read_text().split()])
    data = TensorDataset(numbers[:, None])
    return ablate.Task(
        model=nn.Linear(1, 1),
        dataset=data,
        loss_fn=lambda model, batch: (model(batch[0]).square().sum(), len(batch[0])),
        evaluation=ablate.make_evaluation(config, data, lambda model, batch: {"loss": model(batch[0]).square().mean(1)}),
    )
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "task_on_a_file.py").write_text(TASK)
    (tmp_path / "found_late.py").write_text("x = 1\n")
    (tmp_path / "numbers.txt").write_text("\n".join(str(k / 8) for k in range(16)))
    yield tmp_path
    for name in ("task_on_a_file", "found_late"):
        sys.modules.pop(name, None)


def run(
    planned: Planned, *, accept: bool = False, stop: Callable[[], str | None] = lambda: None
) -> tuple[RunDir, RunStatus]:
    config = Config(task=TaskConfig(name="custom", entry_point="task_on_a_file:task_on_a_file"))
    config.train.budget, config.study.accept_code_change = "64 samples", accept
    place = RunDir(Path("runs", "mine", "baseline", "seed=0"))
    digest = f"{planned.request}{code_digest(planned.code)}"
    return place, execute(config, place, changes={}, digest=digest, planned=planned, stop=stop)


def planned(data: str = "") -> Planned:
    return Planned(request="what is asked", data=data, code=code_files(["task_on_a_file:task_on_a_file"]))


def test_a_run_records_what_its_digest_is_made_of(here: Path) -> None:
    place, outcome = run(planned())
    manifest = read_manifest(place)
    assert (outcome.status, manifest.request) == ("finished", "what is asked")
    assert manifest.code == dict(planned().code)
    assert "task_on_a_file.py" in manifest.code
    assert "found_late.py" not in manifest.code  # no source names it,
    assert {"task_on_a_file.py", "found_late.py"} <= manifest.imported.keys()  # but the run had it
    assert [session["code_digest"] for session in manifest.sessions] == [manifest.code_digest]
    fingerprint = read_fingerprint(place)
    assert fingerprint is not None
    assert fingerprint.items["data"] == {"source": manifest.data}
    assert len(manifest.data) == 64


def test_data_that_changed_since_the_plan_are_not_trained_on(here: Path) -> None:
    place, _ = run(planned())
    before = planned(data=read_manifest(place).data)
    assert run(before)[1].status == "finished"
    (here / "numbers.txt").write_text("1 2 3 4")
    place, outcome = run(Planned(request="another", data=before.data, code=before.code))
    assert (outcome.status, outcome.reason, outcome.step) == ("failed", "DataError", 0)
    assert "the data of task_on_a_file:task_on_a_file have changed since the study was planned" in outcome.message
    assert before.data[:12] in outcome.message
    assert not place.trace.exists()


def test_code_that_changed_since_the_plan_is_named_and_not_run(here: Path) -> None:
    before = planned()
    with (here / "task_on_a_file.py").open("a") as file:
        file.write("# a remark\n")
    place, outcome = run(before)
    assert (outcome.status, outcome.reason) == ("failed", "StudyError")
    assert outcome.message == "the code has changed since the study was planned: task_on_a_file.py changed"
    assert not place.trace.exists()


def interrupted_and_again(here: Path, *, accept: bool) -> list[dict[str, str]]:
    """A run that is stopped after some steps, a file that changes, and the run again. Returns its sessions."""
    steps = iter(range(100))
    place, outcome = run(planned(), stop=lambda: "enough" if next(steps) > 5 else None)
    assert (outcome.status, place.checkpoint.exists()) == ("interrupted", True)
    with (here / "task_on_a_file.py").open("a") as file:
        file.write("# a remark\n")
    assert run(planned(), accept=accept)[1].status == "finished"
    return read_manifest(place).sessions


def test_a_run_that_was_interrupted_under_other_code_begins_again(here: Path) -> None:
    assert len(interrupted_and_again(here, accept=False)) == 1


def test_unless_the_change_is_accepted_and_then_the_manifest_has_both(here: Path) -> None:
    sessions = interrupted_and_again(here, accept=True)
    assert len({session["code_digest"] for session in sessions}) == len(sessions) == 2


def test_two_runs_of_one_process_both_list_what_they_imported(here: Path) -> None:
    found: list[Any] = []
    for request in ("one", "two"):
        place, _ = run(Planned(request=request, code=planned().code))
        found.append(read_manifest(place).imported["found_late.py"])
    assert found[0] == found[1]
