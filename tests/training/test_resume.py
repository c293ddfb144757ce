"""A run that was stopped and goes on is, bit for bit, the run that was never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate import Checkpoints, read_evals, read_trace
from ablate.errors import LoopError
from ablate.serialization import read_json, write_json
from ablate.training.train import Result
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


def stopped_and_resumed(folder: Path, polls: int, **settings: Any) -> tuple[Result, Result]:
    _, first = run(folder=folder, checkpoints=Checkpoints(), stop=after(polls), **settings)
    model = network(0)  # built anew, as a new process would
    _, second = run(model, folder=folder, checkpoints=Checkpoints(), **settings)
    return first, second


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"precision": "fp32", "schedule": "linear", "warmup": 0.1, "max_grad_norm": 0.5},
    "accumulated": {
        "precision": "fp32",
        "grad_accum_steps": 4,
        "batch_size": 4,
        "budget": "500 samples",
        "noise_scale": True,
    },
    "bf16": {"precision": "bf16", "update_ratio": True},
    "fp16": {"precision": "fp16", "schedule": "cosine", "max_grad_norm": 0.5},
    "workers": {"precision": "fp32", "num_workers": 2, "augment": jitter},
    "unfused": {"precision": "fp32", "fused": False, "schedule": "linear"},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("polls", [4, 23])
def test_stopped_and_resumed_is_never_stopped(tmp_path: Path, name: str, polls: int) -> None:
    settings = {"budget": "3 epochs", "evaluation": evaluation("100 samples"), **SETTINGS[name]}
    _, whole = run(folder=tmp_path / "whole", **settings)
    first, second = stopped_and_resumed(tmp_path / "cut", polls, **settings)
    assert first.status.status == "interrupted"
    assert second.status.status == "finished"
    assert 0 <= first.outcome.step < second.outcome.step
    assert second.outcome.weights_sha256 == whole.outcome.weights_sha256
    assert second.outcome.best == whole.outcome.best
    assert second.fingerprint.items == whole.fingerprint.items
    for table in ("trace.arrow", "evals.arrow"):
        assert rows(tmp_path / "cut" / table) == rows(tmp_path / "whole" / table)


def test_a_forced_overflow_before_the_stop_stays_skipped_after_it(tmp_path: Path) -> None:
    """fp16: the scaler's state and the schedule, which a skipped step does not advance, both come back."""
    from ablate import Streams
    from ablate.training.random_streams import SampleOrder
    from tests.training.test_train import Spoiled

    bad = set(SampleOrder(Streams(seed=0), np.arange(256)).take(24, 8))  # the fourth step
    settings: dict[str, Any] = {
        "examples": Spoiled(bad), "precision": "fp16", "schedule": "linear", "max_grad_norm": 1.0, "budget": "12 steps",
    }  # fmt: skip
    _, whole = run(folder=tmp_path / "whole", **settings)
    _, second = stopped_and_resumed(tmp_path / "cut", 7, **settings)
    assert whole.trace["applied"].tolist() == [1, 1, 1, 0] + [1] * 8
    assert whole.trace["loss_scale"].tolist() == [65536] * 4 + [32768] * 8
    assert rows(tmp_path / "cut" / "trace.arrow") == rows(tmp_path / "whole" / "trace.arrow")
    assert second.outcome.weights_sha256 == whole.outcome.weights_sha256


@pytest.mark.parametrize(("polls", "step"), [(0, 0), (3, 0), (5, 0), (6, 1), (15, 8)])
def test_a_stop_in_the_middle_of_an_evaluation_leaves_no_half_look(tmp_path: Path, polls: int, step: int) -> None:
    """An evaluation of 100 examples in batches of 20 polls five times; the look is made again, whole, after the resume."""
    look = evaluation("64 samples", batch_size=20)
    settings: dict[str, Any] = {"budget": "128 samples", "precision": "fp32", "evaluation": look}
    _, whole = run(folder=tmp_path / "whole", **settings)
    first, _ = stopped_and_resumed(tmp_path / "cut", polls, **settings)
    assert first.outcome.step == step
    assert rows(tmp_path / "cut" / "evals.arrow") == rows(tmp_path / "whole" / "evals.arrow")
    assert whole.evals.curve("loss").samples.tolist() == [0, 64, 128]


def test_checkpoints_by_steps_are_kept_up_to_a_number_and_the_newest_is_taken(tmp_path: Path) -> None:
    run(folder=tmp_path, budget="32 steps", checkpoints=Checkpoints(every="10 steps", keep=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert kept == ["step=30", "step=32"]
    files = {path.name for path in (tmp_path / "checkpoint" / "step=32").iterdir()}
    assert files == {"model.safetensors", "optimizer.safetensors", "optimizer.json", "state.json"}
    _, again = run(folder=tmp_path, budget="32 steps", checkpoints=Checkpoints(every="10 steps", keep=2))
    assert again.outcome.step == 32
    assert len(again.trace) == 32
    assert len(again.outcome.sessions) == 2
    assert again.outcome.sessions[1]["steps"] == 0


def test_a_finished_run_can_leave_no_checkpoint(tmp_path: Path) -> None:
    run(folder=tmp_path, budget="8 steps", checkpoints=Checkpoints(every="2 steps", keep_final=False))
    assert not (tmp_path / "checkpoint").exists()


def test_a_torn_checkpoint_is_never_seen(tmp_path: Path) -> None:
    """Killed while it wrote one: the folder has another name until it is whole."""
    _, first = run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(9), budget="32 steps")
    torn = tmp_path / "checkpoint" / ".step=20.123.part"
    torn.mkdir()
    (torn / "state.json").write_text("{")
    _, second = run(folder=tmp_path, checkpoints=Checkpoints(every="10 steps"), budget="32 steps")
    assert second.outcome.sessions[1]["first_step"] == first.outcome.step + 1
    assert not torn.exists()


def test_a_clock_saves_too(tmp_path: Path) -> None:
    run(folder=tmp_path, budget="8 steps", checkpoints=Checkpoints(every="0.000001 seconds", keep=100))
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
        ({"grad_accum_steps": 2, "noise_scale": True}, "accumulate=1, and this run has accumulate=2"),
        ({"facts": {"splits": "b"}}, "facts.splits=a, and this run has facts.splits=b"),
    ],
)
def test_a_checkpoint_of_another_set_up_is_refused_by_name(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    settings: dict[str, Any] = {"folder": tmp_path, "checkpoints": Checkpoints(), "precision": "fp32"}
    settings |= {"facts": {"splits": "a"}}
    run(stop=after(5), **settings)
    with pytest.raises(LoopError) as caught:
        run(**{**settings, **changed})
    assert words in str(caught.value)
    assert "fix:" in str(caught.value)
    _, second = run(**settings)  # nothing was lost by asking
    assert second.status.status == "finished"


@pytest.mark.parametrize("wanted", [None, Checkpoints(resume=False)])
def test_a_checkpoint_that_is_not_asked_for_is_not_written_over(tmp_path: Path, wanted: Checkpoints | None) -> None:
    run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(5))
    with pytest.raises(LoopError, match="holds a checkpoint of a run that was begun there"):
        run(folder=tmp_path, checkpoints=wanted)
    assert len(read_trace(tmp_path / "trace.arrow")) > 0


def test_a_trace_that_lost_rows_which_the_checkpoint_knows_is_refused(tmp_path: Path) -> None:
    run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(9))
    trace = tmp_path / "trace.arrow"
    trace.write_bytes(trace.read_bytes()[:1000])
    with pytest.raises(Exception, match=r"does not hold the .* bytes that its checkpoint was made with"):
        run(folder=tmp_path, checkpoints=Checkpoints())


def test_a_damaged_checkpoint_is_refused_in_words(tmp_path: Path) -> None:
    run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(9))
    (saved,) = (tmp_path / "checkpoint").iterdir()
    (saved / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(LoopError, match=r"model|cannot be read") as caught:
        run(folder=tmp_path, checkpoints=Checkpoints())
    assert f"remove {saved}" in str(caught.value)
    (saved / "state.json").write_text("{")
    with pytest.raises(LoopError, match="cannot be read"):
        run(folder=tmp_path, checkpoints=Checkpoints())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"checkpoints": Checkpoints()}, "folder=None"),
        ({"checkpoints": Checkpoints(keep=0), "folder": "unused"}, "keep=0"),
        ({"checkpoints": Checkpoints(every="3 parsecs"), "folder": "unused"}, "'3 parsecs' is not an interval"),
        ({"noise_scale": True}, "accumulate=1"),
        ({"schedule": "linaer"}, "did you mean 'linear'"),
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
    assert first.outcome.throughput["train_steps_per_second"] > 0
    assert [one["first_step"] for one in second.outcome.sessions] == [1, first.outcome.step + 1]
    assert sum(one["steps"] for one in second.outcome.sessions) == 64
    assert sum(one["samples"] for one in second.outcome.sessions) == 512
    steady = sum(one["train_seconds"] - one["warm_up_seconds"] for one in second.outcome.sessions)
    expected = (512 - 2 * 3 * 8) / steady
    assert second.throughput["train_samples_per_second"] == pytest.approx(expected)
    assert read_json(tmp_path / "progress.json")["sessions"][0] == second.outcome.sessions[0]


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
        from ablate import Streams

        with Streams(seed=0).scope("init"):
            return Tied()

    settings: dict[str, Any] = {"budget": "20 steps", "folder": tmp_path, "checkpoints": Checkpoints()}
    _, whole = run(build(), budget="20 steps")
    run(build(), stop=after(6), **settings)
    model, second = run(build(), **settings)
    assert model.first.weight is model.second.weight
    assert second.outcome.weights_sha256 == whole.outcome.weights_sha256


def test_an_order_that_is_another_one_now_is_refused(tmp_path: Path) -> None:
    run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(20))
    (saved,) = (tmp_path / "checkpoint").iterdir()
    state = read_json(saved / "state.json")
    state["observer"]["order"]["64"] = "0" * 16
    write_json(saved / "state.json", state)
    with pytest.raises(LoopError, match="is not the one it would be now"):
        run(folder=tmp_path, checkpoints=Checkpoints())


def test_a_whole_number_and_a_fraction_are_not_the_same_setting(tmp_path: Path) -> None:
    run(folder=tmp_path, checkpoints=Checkpoints(), stop=after(5), max_grad_norm=1)
    with pytest.raises(LoopError, match=r"max_grad_norm\.max=1, and this run has max_grad_norm\.max=1\.0"):
        run(folder=tmp_path, checkpoints=Checkpoints(), max_grad_norm=1.0)


def test_the_order_on_disk_is_whole_without_an_evaluation(tmp_path: Path) -> None:
    _, result = run(folder=tmp_path)
    assert set(result.fingerprint.items["order"]) == {"8", "16", "32", "64", "128", "256"}
    assert read_json(tmp_path / "fingerprint.json")["items"]["order"] == result.fingerprint.items["order"]


def test_a_look_at_every_sample_costs_no_search(tmp_path: Path) -> None:
    """A look is due once for every step that passes one, whatever the number of looks in between."""
    _, result = run(budget="64 samples", evaluation=evaluation("1 samples"))
    assert result.evals.curve("loss").samples.tolist() == list(range(0, 65, 8))
