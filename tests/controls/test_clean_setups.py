"""Set-ups in which one variable is varied and nothing else: no control raises an alarm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate import Checkpoints, RandomStreams, read_trace
from ablate.design.axis import Axis
from ablate.planning.compose import opened
from tests.controls.studies import Toys, controls_of, planned, run_planned, toy
from tests.training.test_resume import after
from tests.training.test_train import Spoiled
from tests.training.toy import sample_losses

AXES = (
    "batch_size", "batch_size_sqrt_lr", "dropout", "warmup", "precision", "train_test_ratio", "eval_every", "log_every",
    "placebo", "rerun", "drop_layer", "grad_noise", "label_noise", "train_size", "pooling",
)  # fmt: skip
SWEPT = {
    "train__max_grad_norm": (0.1,), "optim__lr": (2e-3,), "optim__weight_decay": (0.1,), "model__freeze": (["embeddings"],),
    "data__max_length": (16,), "train__grad_accum_steps": (2,),
}  # fmt: skip
"""One level each; those that an axis file moves take its declarations."""


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[tuple[str, str]]]]:
    """{arm: [(status, sentence)]} of one study of all the axes, a tiny BERT trained for each run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("clean"))
        prepared = planned("optim.lr=1e-3", axes=AXES, **SWEPT)
        outcomes = run_planned(prepared)
        assert {outcome.status for outcome in outcomes} == {"finished"}
        found: dict[str, list[tuple[str, str]]] = {arm.name: [] for arm in prepared.plan.arms}
        for control in controls_of(prepared):
            found[control.arm].append((control.status, control.sentence))
        yield found


NAMES = (
    "baseline",
    *AXES,
    "max_grad_norm",
    "learning_rate",
    "weight_decay",
    "freeze",
    "max_length",
    "train.grad_accum_steps",
)


@pytest.mark.slow
@pytest.mark.parametrize("axis", NAMES)
def test_no_control_of_a_standard_axis_raises_an_alarm(sentences: dict[str, list[tuple[str, str]]], axis: str) -> None:
    mine = {arm: said for arm, said in sentences.items() if arm.partition("=")[0] == axis}
    assert mine
    for said in mine.values():
        assert len(said) >= 3 or axis == "baseline"
        assert [one for one in said if one[0] != "checked"] == []


ARMS: dict[str, Callable[[int], dict[str, Any]]] = {
    "batch_size": lambda seed: {"batch_size": 64},
    "batch_size_sqrt_lr": lambda seed: {"batch_size": 64, "lr": 1e-2 * 8**0.5},
    "max_grad_norm": lambda seed: {"max_grad_norm": None},
    "grad_noise": lambda seed: {"noise_batch_size": 2, "sample_losses": sample_losses},
    "dropout": lambda seed: {"dropout": 0.0},
    "learning_rate": lambda seed: {"lr": 2e-2},
    "warmup": lambda seed: {"lr_schedule": "constant", "warmup_ratio": 0.1},
    "precision": lambda seed: {"precision": "bf16"},
    "placebo": lambda seed: {"random_streams": RandomStreams(seed=seed, order=1000, dropout=1000)},
    "rerun": lambda seed: {},
}
"""What the runs of an arm do, by the axis that declares it."""


@pytest.mark.parametrize("name", ARMS)
def test_no_alarm_where_the_runs_do_what_an_axis_file_declares(
    tmp_path: Path, axes: dict[str, Axis], name: str
) -> None:
    study = Toys(tmp_path, arm=lambda seed, folder: toy(seed=seed, folder=folder, **ARMS[name](seed)), axis=axes[name])
    assert study.failures() == []


@pytest.fixture(scope="module")
def axes() -> dict[str, Axis]:
    with opened() as composer:
        return {axis.name: axis for axis in composer.axes()}


def test_a_run_that_was_interrupted_and_continued_is_the_same_run(tmp_path: Path) -> None:
    def interrupted(seed: int, folder: Path) -> None:
        for polls in (5, 10**9):
            toy(seed=seed, folder=folder, lr=0.02, checkpoint=Checkpoints(), should_stop=after(polls))

    study = Toys(tmp_path, arm=interrupted)
    assert study.failures() == []
    said = [control.sentence for control in study.controls() if control.name == "consistent_resume"]
    assert said == ["2 of 2 runs were interrupted and continued by the same code in the same environment"]


def test_a_schedule_and_a_limit_that_binds_are_as_declared(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "lr_schedule": "cosine",
        "warmup_ratio": 0.13,
        "max_grad_norm": 0.02,
        "budget": "203 samples",
    }
    study = Toys(
        tmp_path, baseline=lambda **run: toy(**run, **settings), arm=lambda **run: toy(lr=0.02, **run, **settings)
    )
    assert study.failures() == []
    said = next(control for control in study.controls() if control.name == "settings_applied")
    assert said.sentence == "every step clipped as declared, every rate as scheduled"


def test_steps_that_a_gradient_scaler_skips_are_no_alarm(tmp_path: Path) -> None:
    """fp16 halves its scale there; a step that is not applied does not advance the schedule."""
    settings: dict[str, Any] = {
        "precision": "fp16",
        "lr_schedule": "linear",
        "max_grad_norm": 0.5,
        "dataset": Spoiled({3, 77}),
    }
    study = Toys(
        tmp_path, baseline=lambda **run: toy(**run, **settings), arm=lambda **run: toy(lr=0.02, **run, **settings)
    )
    assert study.failures() == []
    trace = read_trace(tmp_path / "variant" / "seed=0" / "trace.arrow")
    assert 0 < trace["applied"].sum() < len(trace)
