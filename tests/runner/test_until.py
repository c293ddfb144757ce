"""Running a study until it is decided: to the look, look, and on; killed and begun again; two processes on one folder.

Training is a copy of a made-up run here, so that plans, claims, looks and reading are the real thing and nothing waits.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse, analyse_interim
from ablate.design.designs import OneAtATime
from ablate.design.plan import Plan
from ablate.errors import StudyError
from ablate.planning.planner import Prepared
from ablate.records.interim import read_interims
from ablate.records.layout import StudyDir
from ablate.records.metadata import RunStatus, write_value
from ablate.runner.freeze import freeze
from ablate.runner.jobs import Job
from ablate.runner.run_study import at_most, course_in, run_study
from ablate.runner.status import study_state
from ablate.serialization import read_json
from tests.synthetic import write_study

ARMS = ("batch_size=64", "learning_rate=0.0001", "placebo")
LOOKS = (3, 5, 8)


def world(folder: Path) -> Plan:
    """Every run that could be made, in a place of its own: one variant is plainly worse, the other does nothing."""
    effects = {"batch_size=64": 0.5, "learning_rate=0.0001": 0.0}
    plan = write_study(folder / "world" / "top", arms=ARMS, seeds=8, effects=effects, smallest_effect=1e-4)
    return replace(plan, design=OneAtATime(interim_seeds=LOOKS, alpha_spending="pocock"))


class Copies:
    """Launches by copying. made: every run, in order. most: so many more, and then the process is killed."""

    def __init__(self, root: Path, most: int | None = None) -> None:
        self.root, self.most, self.made = root, most, list[str]()

    def __call__(self, jobs: Sequence[Job], _title: str, _done: int) -> None:
        for job in jobs:
            arm, seed = job.arm, job.seed
            if self.most == 0:
                raise KeyboardInterrupt
            self.most = None if self.most is None else self.most - 1
            self.made.append(f"{arm}/{seed}")
            there, here = (StudyDir(self.root / place).run(arm, seed).path for place in ("world/top", "runs/top"))
            part = here.with_name(f".{here.name}.{id(self)}.part")
            shutil.copytree(there, part)
            if here.exists():
                shutil.rmtree(part)
            else:
                part.rename(here)


def run(root: Path, plan: Plan, copies: Copies) -> Path:
    return run_study(
        Prepared(plan=plan, folder=root / "runs" / "top", overrides={a.name: () for a in plan.arms}),
        copies,
        analyse_interim,
    )


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return world(tmp_path)


def test_all_arms_go_to_the_first_look_and_the_undecided_ones_on(
    tmp_path: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = Copies(tmp_path)
    folder = run(tmp_path, plan, copies)
    first, later = copies.made[:12], copies.made[12:]
    assert {name.split("/")[0] for name in first} == {"baseline", *ARMS}
    assert {int(name.split("/")[1]) for name in first} == {0, 1, 2}
    assert not [name for name in later if name.startswith("batch_size=64")], "decided at three seeds"
    assert {name.split("/")[0] for name in later} == {"baseline", "placebo", "learning_rate=0.0001"}
    assert len(copies.made) == len(set(copies.made)) == 12 + 3 * 5
    assert (
        "interim analysis at 3 seeds: batch_size=64 stops (hurts); learning_rate=0.0001 continues"
        in capsys.readouterr().out
    )
    said = analyse(folder)
    assert said.complete
    assert said.interim is not None
    assert said.interim.over
    assert said.interim.runs == said.interim.done == 27


def test_a_finished_study_is_not_looked_at_again(tmp_path: Path, plan: Plan) -> None:
    folder = run(tmp_path, plan, Copies(tmp_path))
    before = {path: path.read_bytes() for path in folder.glob("interim-*.json")}
    copies = Copies(tmp_path)
    run(tmp_path, plan, copies)
    assert copies.made == []
    assert {path: path.read_bytes() for path in folder.glob("interim-*.json")} == before


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 5, 12, 13, 20])
def test_killed_and_begun_again_it_comes_to_the_same(tmp_path: Path, plan: Plan, most: int) -> None:
    """Killed before the first run, within the first part, between its last run and the look, and within later parts."""
    whole = analyse(run(tmp_path, plan, Copies(tmp_path)))
    (tmp_path / "runs").rename(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plan, Copies(tmp_path, most))
    again = analyse(run(tmp_path, plan, Copies(tmp_path)))
    assert again.contrasts == whole.contrasts
    assert again.interim == whole.interim
    assert again.conclusions == whole.conclusions


def test_between_two_looks_it_is_said_what_comes_next_and_no_later_run_is_read(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plan, Copies(tmp_path, 15))
    folder = tmp_path / "runs" / "top"
    said = analyse(folder)
    assert (
        "the analysis at 5 seeds comes next, for learning_rate=0.0001, and 3 of its 18 runs are still to do"
        in " ".join(said.conclusions)
    )
    assert {len(one.seeds) for one in said.contrasts if one.primary} == {3}
    state = study_state(folder)
    assert [one["made"] for one in state.interim] == [True, False, False]
    assert state.count("done") == 15
    assert state.count("waiting") == 3 + 3 * 3, "the most that may come"


def test_a_run_that_failed_holds_the_look_up(tmp_path: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    place = StudyDir(tmp_path / "world" / "top").run("batch_size=64", 1)
    good = place.status.read_bytes()
    write_value(place, RunStatus(status="failed", reason="out of memory", message="out of memory"))
    folder = run(tmp_path, plan, Copies(tmp_path))
    out = capsys.readouterr().out
    assert (
        f"the interim analysis at 3 seeds waits for 1 run; failed: batch_size=64/seed=1 (ablate retry {folder})" in out
    )
    assert not list(folder.glob("interim-*.json"))
    place.status.write_bytes(good)
    shutil.rmtree(StudyDir(folder).run("batch_size=64", 1).path)
    run(tmp_path, plan, Copies(tmp_path))
    assert len(list(folder.glob("interim-*.json"))) == 3


@pytest.mark.slow
def test_two_processes_agree(tmp_path: Path, plan: Plan) -> None:
    script = f"""
import sys
from pathlib import Path
from tests.runner.test_until import Copies, run, world
from ablate.design.designs import OneAtATime
from ablate.analysis.analyse import analyse_interim
from dataclasses import replace
from tests.synthetic import make_plan
plan = make_plan("top", arms={ARMS!r}, seeds=8, metric="eval_loss", smallest_effect=1e-4)
plan = replace(plan, design=OneAtATime(interim_seeds={LOOKS!r}, alpha_spending="pocock"))
run(Path({str(tmp_path)!r}), plan, Copies(Path({str(tmp_path)!r})))
"""
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=240)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    looks = [[line for line in text.splitlines() if line.startswith("interim analysis at")] for text in said]
    assert looks[0] == looks[1]
    assert len(looks[0]) == 3
    folder = tmp_path / "runs" / "top"
    found = read_interims(folder, LOOKS, read_json(StudyDir(folder).plan)["digest"])
    assert [look["seeds"] for look in found] == list(LOOKS)
    assert not [path for path in folder.glob("batch_size=64/seed=*") if int(path.name[5:]) >= 3]


def test_a_plain_study_has_no_looks_and_the_whole_plan(tmp_path: Path, plan: Plan) -> None:
    plain = replace(plan, design=OneAtATime())
    assert course_in(tmp_path, plain) is None
    assert at_most(tmp_path, plain) is plain
    folder = run(tmp_path, plain, Copies(tmp_path))
    assert not list(folder.glob("interim-*.json"))
    assert analyse(folder).interim is None


def test_seeds_are_not_added_afterwards_and_looks_are_not_moved(tmp_path: Path, plan: Plan) -> None:
    folder = tmp_path / "runs" / "top"
    few = replace(plan, design=OneAtATime(), seeds=plan.seeds[:5], runs=tuple(run for run in plan.runs if run.seed < 5))
    run(tmp_path, few, Copies(tmp_path))
    with pytest.raises(StudyError, match=r"study\.seeds is 5 there and 8 now") as caught:
        freeze(replace(plan, design=OneAtATime()), folder)
    assert "study.stopping=sequential" in str(caught.value.fix)
    with pytest.raises(StudyError, match=r"analysed once, at the end there and at 3, 5, 8 seeds \(pocock\) now"):
        freeze(plan, folder)
    shutil.rmtree(folder)
    run(tmp_path, plan, Copies(tmp_path))
    moved = replace(plan, design=OneAtATime(interim_seeds=(3, 4, 8), alpha_spending="pocock"))
    with pytest.raises(StudyError, match=r"at 3, 5, 8 seeds .pocock. there and at 3, 4, 8 seeds"):
        freeze(moved, folder)
