"""The example of docs/how-to/custom_task.md as a user runs it: a study, a second study that reuses its runs, changed code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AXIS = "task.options.hidden=16,24"
STUDY = [
    "task=custom",
    "task.entry_point=custom_task:my_task",
    "optim.lr=1e-2",
    "train.budget=256 samples",
    "record.flush_every=4",
]


@pytest.fixture
def here(tmp_path: Path, repo: Path) -> Path:
    shutil.copy(repo / "docs" / "how-to" / "custom_task.py", tmp_path)
    return tmp_path


def ablate(here: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::SyntaxWarning", "-m", "ablate.cli", *typed]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=240, check=False)
    done.stdout = " ".join(done.stdout.split())  # tables wrap
    return done


def manifest(here: Path, run: str) -> Any:
    return json.loads((here / "runs" / run / "manifest.json").read_text())


def weights(here: Path, study: str) -> dict[str, str]:
    runs = (here / "runs" / study).glob("*/seed=*/status.json")
    return {
        path.parent.relative_to(here / "runs" / study).as_posix(): json.loads(path.read_text())["weights_sha256"]
        for path in runs
    }


@pytest.mark.slow
@pytest.mark.long
def test_seeds_that_an_equal_study_has_made_are_free(here: Path) -> None:
    first = ablate(here, "-m", *STUDY, AXIS, "study.seeds=1", "study.name=one")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "took effect 2/2 checked" in first.stdout

    plan = ablate(here, "plan", *STUDY, AXIS, "study.seeds=2", "study.name=two")
    assert plan.returncode == 0, plan.stderr
    assert "3 to do, 0 done, 3 not trained (3 reused from one)" in plan.stdout
    assert not (here / "runs" / "two").exists()

    second = ablate(here, "-m", *STUDY, AXIS, "study.seeds=2", "study.name=two")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "3 of 6 runs are taken from one (3)" in second.stdout
    assert "3 runs of 6 taken from studies that made the same ones before: one (3)" in second.stdout
    assert weights(here, "one").items() <= weights(here, "two").items()
    assert len(weights(here, "two")) == 6
    assert manifest(here, "two/baseline/seed=0")["shared_from"] == "one/baseline/seed=0"
    assert manifest(here, "two/baseline/seed=1")["shared_from"] is None

    (here / "custom_task.py").write_text((here / "custom_task.py").read_text() + "\n# a remark\n")
    refused = ablate(here, "-m", *STUDY, AXIS, "study.seeds=2", "study.name=two")
    assert refused.returncode == 2
    assert refused.stderr == (
        "ablate: runs/two: 6 of its runs were made by other code: custom_task.py changed\n"
        "  fix: --accept-code-change keeps them, and the study and its report say so; or study.name=two_2 for a new study\n"
    )
    assert "6 to do" in ablate(here, "plan", *STUDY, AXIS, "study.seeds=2", "study.name=two_2").stdout

    shutil.rmtree(here / "runs" / "two" / "baseline" / "seed=1")
    accepted = ablate(here, "-m", *STUDY, AXIS, "study.seeds=2", "study.name=two", "--accept-code-change")
    assert accepted.returncode in (0, 1), accepted.stderr
    note = "code that changed was accepted: 5 of its runs were made by other code: custom_task.py changed"
    assert note in accepted.stdout
    plan_json = json.loads((here / "runs" / "two" / "plan.json").read_text())
    old, new = (
        manifest(here, "two/baseline/seed=0")["code_digest"],
        manifest(here, "two/baseline/seed=1")["code_digest"],
    )
    assert (plan_json["accepted"], plan_json["code_digest"]) == ([old], new)
    assert note in plan_json["notes"]
    assert old != new

    again = ablate(here, "-m", *STUDY, AXIS, "study.seeds=2", "study.name=two")  # nothing is asked twice
    assert again.returncode == accepted.returncode, again.stderr
    assert note in again.stdout


@pytest.mark.slow
def test_a_mistyped_target_leaves_nothing(here: Path) -> None:
    done = ablate(here, "-m", "task=custom", "task.entry_point=custom_task:my_tsk", "axis=batch_size")
    assert (done.returncode, done.stdout) == (2, "")
    assert "custom_task.py has no function 'my_tsk'\n  fix: did you mean 'my_task'?" in done.stderr
    assert not (here / "runs").exists()
