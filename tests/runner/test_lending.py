"""A study whose arms begin at their baseline's checkpoint has, run by run and bit for bit, the record of one where none do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ablate.config.schema import Config, ModelConfig, StudyConfig, make_config
from ablate.design.axis import Axis
from ablate.design.plan import Arm, Plan, Run, run_digest
from ablate.planning.shared_prefix import baseline_first, saved_steps, sharing, siblings
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import RunStatus, read_manifest, write_value
from ablate.runner.scheduler import run_all
from ablate.runner.shared_prefix import Lending, tidy
from ablate.runner.subprocess_run import Job
from ablate.runner.worker import execute
from ablate.serialization import read_json, write_json
from tests.training.test_lend import assert_same_record

TINY = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}

ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "longer": {"train.budget": "200 samples"},
    "never": {"train.max_grad_norm": None},
    "often": {"train.max_grad_norm": 0.01},
    "lr": {"optim.lr": 1e-4},
}


class Study:
    """A frozen plan of tiny runs, of one seed, that are made in this process."""

    def __init__(self, root: Path, arms: dict[str, dict[str, Any]], base: dict[str, Any] | None = None) -> None:
        self.dir = StudyDir(root / "study")
        configs = {name: self._config({**(base or {}), **changes}) for name, changes in arms.items()}
        made = [
            Arm(name=name, axis=None if name == "baseline" else name, kind="training", changes=changes,
                config=configs[name], derived={"train_examples": 50})
            for name, changes in arms.items()
        ]  # fmt: skip
        runs = tuple(Run(arm=arm.name, seed=0, digest=run_digest(arm.config, seed=0, code_digest="")) for arm in made)
        axes = tuple(
            Axis(name=name, question="", kind="training", keys=tuple(changes), values=tuple(changes.values()))
            for name, changes in arms.items()
            if changes
        )
        self.plan = Plan(study="study", question="", metric="eval_loss", smallest_effect=0.01, seeds=(0,), axes=axes,
                         arms=tuple(made), runs=runs, code_digest="")  # fmt: skip
        write_json(self.dir.plan, self.plan.to_json())

    @staticmethod
    def _config(changes: dict[str, Any]) -> dict[str, Any]:
        config = Config(model=ModelConfig(init="random", config_overrides=TINY))
        config.data.max_examples, config.eval.max_examples, config.eval.every = 100, 16, "32 samples"
        config.train.budget, config.train.max_grad_norm, config.optim.lr_schedule = "104 samples", 100.0, "constant"
        values = asdict(config)
        for key, value in changes.items():
            group, _, name = key.partition(".")
            values[group][name] = value
        return values

    def run(self, arm: str) -> RunDir:
        return self.dir.run(arm, 0)

    def config(self, arm: str) -> Config:
        return make_config({**self.plan.arm(arm).config, "arm": arm, "seed": 0})

    def execute(self, arm: str, stop: Callable[[], str | None] = lambda: None) -> RunStatus:
        digest = next(run.digest for run in self.plan.runs if run.arm == arm)
        return execute(self.config(arm), self.run(arm), changes={}, digest=digest, stop=stop)

    def sentence(self, arm: str) -> str:
        from ablate.training.fingerprint import environment
        from ablate.training.precision import pick_device

        return Lending(self.run(arm), self.config(arm)).begins(environment(pick_device("cpu")))[1]

    def lent(self) -> list[str]:
        return sorted(path.name for path in self.run("baseline").lent.glob("*"))


def polls(number: int) -> Callable[[], str | None]:
    count = iter(range(10**9))
    return lambda: "asked to" if next(count) >= number else None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same study with all steps taken."""
    study = Study(tmp_path_factory.mktemp("whole"), ARMS, {"study.share_prefix": False})
    for arm in ARMS:
        assert study.execute(arm).status == "finished"
        assert not study.run(arm).lent.exists()
    return study


@pytest.mark.slow
def test_every_arm_has_the_record_of_the_whole_run(tmp_path: Path, whole: Study) -> None:
    study = Study(tmp_path, ARMS)
    steps = {"baseline": 13, "longer": 13, "never": 0, "often": 13, "lr": 13}
    begins = {"longer": 12, "never": 13}  # a look of the baseline alone, at its end, is in its record
    both = ["step=12", "step=13"]
    lent = {"baseline": both, "longer": both, "never": both, "often": [], "lr": []}
    for arm in ARMS:
        outcome = study.execute(arm)
        assert_same_record(study.run(arm).path, whole.run(arm).path)
        (session,) = outcome.sessions
        assert session["steps"] == steps[arm]
        prefix = {"run": "baseline/seed=0", "step": begins[arm]} if arm in begins else None
        assert session["prefix_from"] == prefix
        assert study.lent() == lent[arm], arm
        assert not study.run(arm).checkpoint.exists()
    assert not study.run("baseline").lent.exists()
    assert sum(steps.values()) == 52  # of 13 + 25 + 13 + 13 + 13 = 77


@pytest.mark.slow
def test_an_arm_that_came_before_its_baseline_takes_every_step(tmp_path: Path, whole: Study) -> None:
    study = Study(tmp_path, {arm: ARMS[arm] for arm in ("baseline", "longer")})
    assert study.sentence("longer") == "takes every step itself: baseline/seed=0 has no result yet"
    assert study.execute("longer").sessions[0]["prefix_from"] is None
    assert_same_record(study.run("longer").path, whole.run("longer").path)
    study.execute("baseline")  # nobody is left who could use it
    assert not study.run("baseline").lent.exists()


@pytest.mark.slow
def test_stopped_and_started_again_on_both_sides(tmp_path: Path, whole: Study) -> None:
    """A baseline that was stopped half-way lends as well; an arm that was goes on from its own checkpoint."""
    study = Study(tmp_path, ARMS)
    assert study.execute("baseline", polls(9)).status == "interrupted"
    assert study.execute("baseline").status == "finished"
    first = study.execute("longer", polls(6))
    assert (first.status, first.step > 13) == ("interrupted", True)
    second = study.execute("longer")
    assert [one["prefix_from"] is not None for one in second.sessions] == [True, False]
    assert sum(one["steps"] for one in second.sessions) == 13
    for arm in ("baseline", "longer"):
        assert_same_record(study.run(arm).path, whole.run(arm).path)


def test_what_cannot_be_proven_is_not_shared(tmp_path: Path) -> None:
    study = Study(tmp_path, ARMS)
    study.execute("baseline")
    assert study.sentence("longer").startswith("begins after step 12 of baseline/seed=0")
    assert (
        study.sentence("often")
        == "takes every step itself: a gradient is clipped at step 1: too early to save anything"
    )
    assert study.sentence("lr") == study.sentence("baseline") == ""
    sibling = study.run("baseline")

    fingerprint = read_json(sibling.fingerprint)
    changed = json.loads(json.dumps(fingerprint))
    changed["items"]["environment"]["torch"] = "1.0"
    write_json(sibling.fingerprint, changed)
    assert study.sentence("longer") == "takes every step itself: baseline/seed=0 was made in another environment"
    write_json(sibling.fingerprint, fingerprint)

    manifest = read_manifest(sibling)
    manifest.digest = "of other code"
    write_value(sibling, manifest)
    assert study.sentence("longer") == "takes every step itself: baseline/seed=0 was made by other code"
    manifest.digest = study.plan.runs[0].digest
    write_value(sibling, manifest)

    assert study.sentence("longer").startswith("begins")
    trace = sibling.trace.read_bytes()
    sibling.trace.write_bytes(b"no trace")
    assert study.sentence("longer").startswith("takes every step itself: the sibling's record cannot be read (")
    sibling.trace.write_bytes(trace)

    (sibling.lent / "step=12").rename(sibling.lent / "step=7")
    assert study.sentence("longer").startswith("begins after step 7")
    (sibling.lent / "step=7").rename(sibling.path / "hidden")
    assert study.sentence("longer").endswith(
        "baseline/seed=0 has left no checkpoint in the 12 steps that are shared: the sibling looks at step 13"
    )


def test_it_can_be_turned_off_and_a_run_of_its_own_has_no_sibling(tmp_path: Path) -> None:
    study = Study(tmp_path, ARMS)
    study.execute("baseline")
    config = study.config("longer")
    config.study.share_prefix = False
    assert Lending(study.run("longer"), config).begins({}) == (None, "")
    assert Lending(study.run("baseline"), config).leaves() is None
    study.dir.plan.unlink()
    alone = Lending(study.run("longer"), study.config("longer"))
    assert (alone.begins({}), alone.leaves()) == ((None, ""), None)
    alone.tidy()
    study.dir.plan.write_text("{")
    assert Lending(study.run("longer"), study.config("longer")).begins({}) == (None, "")


@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        ({"baseline": "finished"}, True),
        ({"baseline": "finished", "longer": "finished", "never": "finished"}, True),
        ({"baseline": "finished", "longer": "finished", "never": "failed", "often": "diverged"}, False),
        ({"baseline": "finished", "longer": "interrupted", "never": "finished", "often": "finished"}, True),
        ({"baseline": "interrupted", "longer": "finished", "never": "finished", "often": "finished"}, True),
    ],
)
def test_what_was_lent_goes_when_nobody_needs_it(tmp_path: Path, statuses: dict[str, Any], kept: bool) -> None:
    study = Study(tmp_path, ARMS)
    (study.run("baseline").lent / "step=13").mkdir(parents=True)
    for arm, status in statuses.items():
        write_value(study.run(arm), RunStatus(status=status))
    tidy(study.dir, study.plan, [0, 1])
    assert study.run("baseline").lent.exists() == kept


def test_an_arm_that_goes_on_from_its_own_checkpoint_needs_its_sibling_no_more(tmp_path: Path) -> None:
    study = Study(tmp_path, ARMS)
    (study.run("baseline").lent / "step=13").mkdir(parents=True)
    for arm in ("baseline", "longer", "never"):
        write_value(study.run(arm), RunStatus(status="finished"))
    (study.run("often").checkpoint / "step=14").mkdir(parents=True)
    tidy(study.dir, study.plan, [0])
    assert not study.run("baseline").lent.exists()


def test_a_plan_says_what_is_shared_and_puts_the_baseline_first(tmp_path: Path) -> None:
    plan = Study(tmp_path, ARMS).plan
    order = ("lr", "longer", "baseline", "often", "never")
    runs = tuple(Run(arm=arm, seed=seed, digest=f"{arm} {seed}") for seed in (1, 0) for arm in order)
    plan = replace(plan, runs=runs)
    assert {name: (one.step, one.clips_at is None) for name, one in sharing(plan).items()} == {
        "longer": (12, True), "never": (13, False), "often": (13, False),
    }  # fmt: skip
    first = baseline_first(plan)
    assert [run.arm for run in first] == ["baseline", "lr", "longer", "often", "never"] * 2
    assert [run.seed for run in first] == [1] * 5 + [0] * 5
    assert saved_steps(plan) == (24, 52)
    assert siblings(plan)["longer 1"] == "baseline 1"
    assert set(siblings(plan)) == {f"{arm} {seed}" for arm in ("longer", "often", "never") for seed in (0, 1)}
    alone = replace(plan, arms=(plan.arms[0], plan.arms[-1]))
    assert baseline_first(alone) == plan.runs


def test_a_metric_of_speed_needs_every_step(tmp_path: Path) -> None:
    plan = Study(tmp_path, ARMS).plan
    assert (
        sharing(Plan(**{**{name: getattr(plan, name) for name in Plan.__slots__}, "metric": "samples_per_second"}))
        == {}
    )


def test_turned_off_nothing_is_saved_on_paper(tmp_path: Path) -> None:
    plan = Study(tmp_path, ARMS, {"study.share_prefix": False}).plan
    assert saved_steps(plan) == (0, 0)
    assert siblings(plan) == {}
    assert sharing(plan)  # the order of the runs must not hang on it


def test_a_broken_outcome_is_no_result_and_breaks_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path, ARMS)
    study.run("often").path.mkdir(parents=True)
    study.run("often").status.write_text("{")
    assert study.execute("baseline").status == "finished"
    study.run("baseline").status.write_text("{")
    assert study.sentence("longer") == "takes every step itself: baseline/seed=0 has no result yet"
    tidy(study.dir, study.plan, [0])
    assert study.lent()


def test_a_run_that_goes_on_from_its_own_checkpoint_says_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path, ARMS)
    study.execute("baseline")
    (study.run("longer").checkpoint / "step=20").mkdir(parents=True)
    assert study.sentence("longer") == ""


@pytest.mark.slow
def test_side_by_side_an_arm_waits_for_the_baseline_that_is_going(tmp_path: Path, whole: Study) -> None:
    """Two slots: the arm that shares nothing takes the second one, and the arm that shares comes after the baseline."""
    study = Study(tmp_path, ARMS)
    jobs = [
        Job(arm=run.arm, seed=0, config=asdict(study.config(run.arm)), folder=study.run(run.arm).path, changes={},
            digest=run.digest)
        for run in study.plan.runs
        if run.arm in ("baseline", "longer", "lr")
    ]  # fmt: skip
    outcomes = run_all(jobs, StudyConfig(workers=2), after=siblings(study.plan))
    assert [outcome.status for outcome in outcomes] == ["finished"] * 3
    began, ended = (
        {job.arm: getattr(read_manifest(RunDir(job.folder)), when) for job in jobs} for when in ("started", "ended")
    )
    assert ended["baseline"] <= began["longer"]
    assert began["lr"] < ended["baseline"]
    assert outcomes[1].sessions[0]["prefix_from"] == {"run": "baseline/seed=0", "step": 12}
    for job in jobs:
        assert_same_record(job.folder, whole.run(job.arm).path)
