"""A run that was stopped and goes on is, bit for bit, the run that was never stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import Checkpoints, read_evals, read_trace
from ablate.errors import LoopError
from ablate.serialization import read_json, write_json
from ablate.training.train import TrainResult
from tests.damage import DAMAGE
from tests.training.toy import evaluation, jitter, network, run

TIMES = ("step_seconds", "train_seconds", "eval_seconds")


def rows(path: Path) -> list[str]:
    """The rows of a table, without their wall times."""
    table = (read_trace if path.stem == "trace" else read_evals)(path).table
    kept = table.drop_columns([name for name in table.column_names if name in TIMES])
    return [repr(row) for row in kept.to_pylist()]  # as text, because nan is nan here


def after(polls: int) -> Callable[[], str | None]:
    """A stop that has a reason from the given poll on."""
    count = iter(range(10**9))
    return lambda: "asked to" if next(count) >= polls else None


def stopped_and_resumed(folder: Path, polls: int, **settings: Any) -> tuple[TrainResult, TrainResult]:
    _, first = run(run_dir=folder, checkpoint=Checkpoints(), should_stop=after(polls), **settings)
    model = network(0)  # built anew, as a new process would
    _, second = run(model, run_dir=folder, checkpoint=Checkpoints(), **settings)
    return first, second


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"precision": "fp32", "lr_schedule": "linear", "warmup_ratio": 0.1, "max_grad_norm": 0.5},
    "accumulated": {
        "precision": "fp32",
        "grad_accum_steps": 4,
        "batch_size": 4,
        "budget": "500 samples",
        "noise_scale": True,
    },
    "bf16": {"precision": "bf16", "update_ratio": True},
    "fp16": {"precision": "fp16", "lr_schedule": "cosine", "max_grad_norm": 0.5},
    "workers": {"precision": "fp32", "num_workers": 2, "augment": jitter},
    "unfused": {"precision": "fp32", "fused": False, "lr_schedule": "linear"},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("polls", [4, 23])
def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, name: str, polls: int) -> None:
    settings = {"budget": "3 epochs", "evaluation": evaluation("100 samples"), **SETTINGS[name]}
    _, whole = run(run_dir=tmp_path / "whole", **settings)
    first, second = stopped_and_resumed(tmp_path / "cut", polls, **settings)
    assert first.status.status == "interrupted"
    assert second.status.status == "finished"
    assert 0 <= first.status.step < second.status.step
    assert second.status.weights_sha256 == whole.status.weights_sha256
    assert second.status.best == whole.status.best
    assert second.fingerprint.items == whole.fingerprint.items
    for table in ("trace.arrow", "evals.arrow"):
        assert rows(tmp_path / "cut" / table) == rows(tmp_path / "whole" / table)


def test_a_forced_overflow_before_the_stop_stays_skipped_after_it(tmp_path: Path) -> None:
    """fp16: the scaler's state and the schedule, which a skipped step does not advance, both come back."""
    from ablate import RandomStreams
    from ablate.training.random_streams import SampleOrder
    from tests.training.test_train import Spoiled

    bad = set(SampleOrder(RandomStreams(seed=0), np.arange(256)).take(24, 8))  # the fourth step
    settings: dict[str, Any] = {
        "dataset": Spoiled(bad), "precision": "fp16", "lr_schedule": "linear", "max_grad_norm": 1.0, "budget": "12 steps",
    }  # fmt: skip
    _, whole = run(run_dir=tmp_path / "whole", **settings)
    _, second = stopped_and_resumed(tmp_path / "cut", 7, **settings)
    assert whole.trace["applied"].tolist() == [1, 1, 1, 0] + [1] * 8
    assert whole.trace["loss_scale"].tolist() == [65536] * 4 + [32768] * 8
    assert rows(tmp_path / "cut" / "trace.arrow") == rows(tmp_path / "whole" / "trace.arrow")
    assert second.status.weights_sha256 == whole.status.weights_sha256


@pytest.mark.parametrize(("polls", "step"), [(0, 0), (3, 0), (5, 0), (6, 1), (15, 8)])
def test_a_stop_in_the_middle_of_an_evaluation_leaves_no_half_look(tmp_path: Path, polls: int, step: int) -> None:
    """An evaluation of 100 examples in batches of 20 polls five times; the look is made again, whole, after the resume."""
    look = evaluation("64 samples", batch_size=20)
    settings: dict[str, Any] = {"budget": "128 samples", "precision": "fp32", "evaluation": look}
    _, whole = run(run_dir=tmp_path / "whole", **settings)
    first, _ = stopped_and_resumed(tmp_path / "cut", polls, **settings)
    assert first.status.step == step
    assert rows(tmp_path / "cut" / "evals.arrow") == rows(tmp_path / "whole" / "evals.arrow")
    assert whole.evals.curve("loss").samples.tolist() == [0, 64, 128]


def test_checkpoints_by_steps_are_kept_up_to_a_number_and_the_newest_is_taken(tmp_path: Path) -> None:
    run(run_dir=tmp_path, budget="32 steps", checkpoint=Checkpoints(every="10 steps", keep=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert kept == ["step=30", "step=32"]
    files = {path.name for path in (tmp_path / "checkpoint" / "step=32").iterdir()}
    assert files == {"model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json"}
    _, again = run(run_dir=tmp_path, budget="32 steps", checkpoint=Checkpoints(every="10 steps", keep=2))
    assert again.status.step == 32
    assert len(again.trace) == 32
    assert len(again.status.sessions) == 2
    assert again.status.sessions[1]["steps"] == 0


def test_a_finished_run_can_leave_no_checkpoint(tmp_path: Path) -> None:
    run(run_dir=tmp_path, budget="8 steps", checkpoint=Checkpoints(every="2 steps", keep_final=False))
    assert not (tmp_path / "checkpoint").exists()


def test_a_torn_checkpoint_is_never_seen(tmp_path: Path) -> None:
    """Killed while it wrote one: the folder has another name until it is whole."""
    _, first = run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(9), budget="32 steps")
    torn = tmp_path / "checkpoint" / ".step=20.123.part"
    torn.mkdir()
    (torn / "state.json").write_text("{")
    _, second = run(run_dir=tmp_path, checkpoint=Checkpoints(every="10 steps"), budget="32 steps")
    assert second.status.sessions[1]["first_step"] == first.status.step + 1
    assert not torn.exists()


def test_a_clock_saves_too(tmp_path: Path) -> None:
    run(run_dir=tmp_path, budget="8 steps", checkpoint=Checkpoints(every="0.000001 seconds", keep=100))
    assert len(list((tmp_path / "checkpoint").iterdir())) == 8


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"batch_size": 4}, "made with batch_size=8, and this run has batch_size=4"),
        ({"budget": "2 epochs"}, "made with budget=256 samples, and this run has budget=512 samples"),
        ({"seed": 1}, "init.0="),
        ({"lr": 0.5}, "made with optimizer.group 0.lr=0.01, and this run has optimizer.group 0.lr=0.5"),
        ({"max_grad_norm": 1.0}, "max_grad_norm.max=None, and this run has max_grad_norm.max=1.0"),
        ({"precision": "bf16"}, "precision.autocast=off, and this run has precision.autocast=bf16"),
        ({"grad_accum_steps": 2, "noise_scale": True}, "grad_accum_steps=1, and this run has grad_accum_steps=2"),
        ({"facts": {"splits": "b"}}, "facts.splits=a, and this run has facts.splits=b"),
    ],
)
def test_a_checkpoint_of_another_set_up_is_refused_by_name(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"run_dir": tmp_path, "checkpoint": Checkpoints(), "precision": "fp32"}
    settings |= {"facts": {"splits": "a"}}
    run(should_stop=after(5), **settings)
    with pytest.raises(LoopError) as caught:
        run(**{**settings, **changed})
    assert words in str(caught.value)
    assert "fix:" in str(caught.value)
    _, second = run(**settings)  # nothing was lost by asking
    assert second.status.status == "finished"


@pytest.mark.parametrize("wanted", [None, Checkpoints(resume=False)])
def test_a_checkpoint_that_is_not_asked_for_is_not_written_over(tmp_path: Path, wanted: Checkpoints | None) -> None:
    run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(5))
    with pytest.raises(LoopError, match="is a checkpoint of a run that was begun in this directory"):
        run(run_dir=tmp_path, checkpoint=wanted)
    assert len(read_trace(tmp_path / "trace.arrow")) > 0


SAVED = ("model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json")


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    tmp_path: Path, what: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are damaged in turn: the run resumes from the older one, then begins again, and ends with the same weights."""
    settings: dict[str, Any] = {"run_dir": tmp_path, "budget": "24 steps"}
    checkpoint = Checkpoints(every="4 steps", keep=3, keep_final=False)
    _, whole = run(budget="24 steps")
    for damaged, said in ((["step=8"], "the run resumes from step 4"), (["step=8", "step=4"], "the run begins again")):
        run(checkpoint=checkpoint, should_stop=after(9), **settings)
        for step in damaged:
            DAMAGE[what](tmp_path / "checkpoint" / step / name)
        newest = tmp_path / "checkpoint" / f"step={max(read_steps(tmp_path))}"
        if newest.name not in damaged:
            shutil.rmtree(newest)
        _, again = run(checkpoint=checkpoint, **settings)
        out = capsys.readouterr().out
        assert f"{tmp_path}/checkpoint/step=8 is damaged (" in out
        assert said in out
        assert again.status.weights_sha256 == whole.status.weights_sha256
        assert len(again.trace) == 24
        shutil.rmtree(tmp_path)


def read_steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step=")) for path in (folder / "checkpoint").iterdir()]


@pytest.mark.parametrize("name", ["trace.arrow", "evals.arrow"])
@pytest.mark.parametrize("what", DAMAGE)
def test_a_record_that_was_damaged_before_its_checkpoint_begins_again(
    tmp_path: Path, what: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(9), budget="24 steps")
    DAMAGE[what](tmp_path / name)
    _, again = run(run_dir=tmp_path, checkpoint=Checkpoints(), budget="24 steps")
    said = capsys.readouterr().out
    assert "is damaged (" in said
    assert "the run begins again" in said
    assert len(again.trace) == 24


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"checkpoint": Checkpoints()}, "run_dir=None"),
        ({"checkpoint": Checkpoints(keep=0), "run_dir": "unused"}, "keep=0"),
        ({"checkpoint": Checkpoints(every="3 parsecs"), "run_dir": "unused"}, "'3 parsecs' is not an interval"),
        ({"noise_scale": True}, "grad_accum_steps=1"),
        ({"lr_schedule": "linaer"}, "did you mean 'linear'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], words: str
) -> None:
    from ablate.errors import AblateError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(AblateError) as caught:
        run(**settings)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_throughput_is_counted_per_session_and_survives_the_interruption(tmp_path: Path) -> None:
    first, second = stopped_and_resumed(tmp_path, 20, budget="64 steps")
    assert first.status.throughput["train_steps_per_second"] > 0
    assert [one["first_step"] for one in second.status.sessions] == [1, first.status.step + 1]
    assert sum(one["steps"] for one in second.status.sessions) == 64
    assert sum(one["samples"] for one in second.status.sessions) == 512
    steady = sum(one["train_seconds"] - one["warm_up_seconds"] for one in second.status.sessions)
    expected = (512 - 2 * 3 * 8) / steady
    assert second.throughput["train_samples_per_second"] == pytest.approx(expected)
    assert read_json(tmp_path / "progress.json")["sessions"][0] == second.status.sessions[0]


def test_tied_weights_are_saved_once_and_come_back_tied(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(10, 10), torch.nn.Linear(10, 10)
            self.second.weight = self.first.weight
            self.head = torch.nn.Linear(10, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.second(torch.relu(self.first(x)))))

    def build() -> torch.nn.Module:
        from ablate import RandomStreams

        with RandomStreams(seed=0).scope("init"):
            return Tied()

    settings: dict[str, Any] = {"budget": "20 steps", "run_dir": tmp_path, "checkpoint": Checkpoints()}
    _, whole = run(build(), budget="20 steps")
    run(build(), should_stop=after(6), **settings)
    model, second = run(build(), **settings)
    assert model.first.weight is model.second.weight
    assert second.status.weights_sha256 == whole.status.weights_sha256


def test_an_order_that_is_another_one_now_is_refused(tmp_path: Path) -> None:
    run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(20))
    (saved,) = (tmp_path / "checkpoint").iterdir()
    state = read_json(saved / "state.json")
    state["recorder"]["order"]["64"] = "0" * 16
    write_json(saved / "state.json", state)
    with pytest.raises(LoopError, match="is not the one it would be now"):
        run(run_dir=tmp_path, checkpoint=Checkpoints())


def test_a_whole_number_and_a_fraction_are_not_the_same_setting(tmp_path: Path) -> None:
    run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(5), max_grad_norm=1)
    with pytest.raises(LoopError, match=r"max_grad_norm\.max=1, and this run has max_grad_norm\.max=1\.0"):
        run(run_dir=tmp_path, checkpoint=Checkpoints(), max_grad_norm=1.0)


def test_the_order_on_disk_is_whole_without_an_evaluation(tmp_path: Path) -> None:
    _, result = run(run_dir=tmp_path)
    assert set(result.fingerprint.items["order"]) == {"8", "16", "32", "64", "128", "256"}
    assert read_json(tmp_path / "fingerprint.json")["items"]["order"] == result.fingerprint.items["order"]


def test_a_look_at_every_sample_costs_no_search(tmp_path: Path) -> None:
    """A look is due once for every step that passes one, whatever the number of looks in between."""
    _, result = run(budget="64 samples", evaluation=evaluation("1 samples"))
    assert result.evals.curve("loss").samples.tolist() == list(range(0, 65, 8))
