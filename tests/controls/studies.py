"""Small studies, trained for real in this process, and what the controls say of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from ablate import RandomStreams
from ablate.analysis.controls import controls
from ablate.analysis.load import read_runs
from ablate.config.schema import BASELINE, Config, make_config
from ablate.controls.control import Control
from ablate.design.axis import Axis
from ablate.design.derived import DERIVED
from ablate.design.plan import Arm, Plan, Run
from ablate.planning.compose import Request, opened
from ablate.planning.planner import Prepared, make_plan
from ablate.records.layout import RunDir, StudyDir
from ablate.records.metadata import Manifest, RunStatus, write_value
from ablate.runner.worker import execute
from ablate.training.train import TrainResult
from tests.training.toy import evaluation, network, run

# ---- studies of the small problem of tests.training.toy: a call of `train` for each run, in 20 ms ------------------------

Trained = Callable[..., Any]
"""trained(seed=, folder=): one run, into that folder."""

LR = Axis(
    name="learning_rate",
    question="?",
    kind="training",
    keys=("optim.lr",),
    values=(0.02,),
    may_change=(*DERIVED, "optimizer.lr"),
    must_match=("init", "order"),
)


FACTS = {"data": {"source": "d"}, "splits": {"train": "t", "held_out": "h"}, "eval_set": {"ids": "e", "count": 100}}


def toy(
    *, seed: int, folder: Path, model: nn.Module | None = None, dropout: float = 0.1, **settings: Any
) -> TrainResult:
    """One run of the toy as the worker would make it: weights, order and dropout from the run's seed."""
    model = network(seed, dropout) if model is None else model
    defaults: dict[str, Any] = {
        "budget": "160 samples", "evaluation": evaluation("80 samples"), "precision": "fp32", "max_grad_norm": 1.0,
        "facts": FACTS,
    }  # fmt: skip
    _, result = run(model, seed=seed, run_dir=folder, **(defaults | settings))
    return result


@dataclass
class Toys:
    """A study of a baseline and one arm. axis: what is declared; its key is in the plan's config, the runs do as they like."""

    folder: Path
    baseline: Trained = toy
    arm: Trained = field(default=lambda **run_: toy(lr=0.02, **run_))
    axis: Axis = LR
    seeds: Sequence[int] = (0, 1)
    name: str = "variant"

    def failures(self) -> list[str]:
        """The sentences of all controls that are not passed."""
        return [control.sentence for control in self.controls() if control.status != "checked"]

    def controls(self) -> tuple[Control, ...]:
        for arm, trained in ((BASELINE, self.baseline), (self.name, self.arm)):
            for seed in self.seeds:
                folder = StudyDir(self.folder).run(arm, seed)
                if not folder.manifest.exists():
                    trained(seed=seed, folder=folder.path)
                    write_value(folder, Manifest(arm=arm, seed=seed))
        return controls(self.plan(), read_runs(self.folder, self.plan()))

    def plan(self) -> Plan:
        config = {key: value for key, value in asdict(Config()).items() if key not in ("seed", "arm")}
        level = self.axis.values[0]
        changes = self.axis.changes(level, config)
        moved = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
        for key, value in changes.items():
            group, _, name = key.rpartition(".")
            (moved[group] if group else moved)[name] = value
        arms = (
            Arm(name=BASELINE, config=config),
            Arm(name=self.name, axis=self.axis.name, value=level, kind=self.axis.kind, changes=changes, config=moved),
        )
        return Plan(
            study="toys", question="", metric="eval_loss", smallest_effect=0.01, seeds=tuple(self.seeds), code_digest="",
            axes=(self.axis,), arms=arms,
            runs=tuple(Run(arm=arm.name, seed=seed, digest="") for arm in arms for seed in self.seeds),
        )  # fmt: skip


def drawn(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose weights come from the run's `init` stream."""
    with RandomStreams(seed=seed).scope("init"):
        return build()


# ---- studies of the command line: plan, worker, a tiny BERT; half a second for each run ------------------------------

TINY = ("debug=quick", "data.max_examples=96", "train.budget=64 samples", "eval.every=32 samples",
        "eval.max_examples=16",
        "study.seeds=2")  # fmt: skip


def planned(*fixed: str, axes: tuple[str, ...] | None = None, conf: Path | None = None, **swept: Any) -> Prepared:
    """A plan as the command line makes it. swept: `optim__lr=(1e-3,)` sweeps optim.lr."""
    keys = {key.replace("__", "."): values for key, values in swept.items()}
    with opened(config_dir=conf) as composer:
        return make_plan(composer, Request(axes=axes, swept=keys, fixed=(*TINY, *fixed)), command="ablate")


def run_planned(prepared: Prepared, *, before: Callable[[Run], object] = lambda run: None) -> list[RunStatus]:
    """Every run of the plan by the worker, in this process and in plan order. before: what happens to the machine meanwhile."""
    outcomes = []
    for one in prepared.plan.runs:
        before(one)
        changes = prepared.plan.arm(one.arm).changes
        outcomes.append(execute(config_of(prepared, one), run_dir(prepared, one), changes=changes, digest=one.digest))
    return outcomes


def config_of(prepared: Prepared, one: Run) -> Config:
    return make_config({**prepared.plan.arm(one.arm).config, "arm": one.arm, "seed": one.seed})


def run_dir(prepared: Prepared, one: Run) -> RunDir:
    return StudyDir(prepared.folder).run(one.arm, one.seed)


def controls_of(prepared: Prepared, **plan: Any) -> tuple[Control, ...]:
    """What the controls say of the runs that lie there."""
    changed = replace(prepared.plan, **plan)
    return controls(changed, read_runs(prepared.folder, changed))


def failures_of(prepared: Prepared, **plan: Any) -> list[str]:
    return [control.sentence for control in controls_of(prepared, **plan) if control.status != "checked"]
