"""A run that begins at its sibling's checkpoint is, bit for bit, the run that takes every step itself."""

from __future__ import annotations

import errno
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from ablate import Checkpoints, Streams, read_trace, train
from ablate.errors import AblateError, LoopError
from ablate.records.layout import RunDir
from ablate.serialization import read_json, write_json
from ablate.training import checkpoint
from ablate.training.shared_prefix import Ladder, Lend, Prefix
from ablate.training.train import Result
from tests.training.test_resume import after, rows
from tests.training.toy import evaluation, network, objective, points

BASE: dict[str, Any] = {
    "budget": "256 samples", "batch_size": 8, "schedule": "constant", "max_grad_norm": None, "precision": "fp32",
    "device": "cpu", "streams": Streams(seed=0), "max_skipped_steps": 3,
}  # fmt: skip


def go(folder: Path, *, optimizer: str = "adamw", **changes: Any) -> Result:
    """Train the network, built anew as a new process would, with `BASE` and what changes."""
    model = network(0)
    made: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        if optimizer == "adamw"
        else torch.optim.SGD(model.parameters(), lr=1e-1, momentum=0.9, fused=True)
    )
    settings = {**BASE, "evaluation": evaluation("64 samples"), **changes}
    examples, goal = settings.pop("examples", points()), settings.pop("objective", objective)
    return train(model, examples, goal, optimizer=made, folder=folder, **settings)


def lending(**lend: Any) -> Checkpoints:
    return Checkpoints(keep_final=False, lend=Lend(**lend))


def beginning(run: Path, step: int, *may_differ: str, **settings: Any) -> Checkpoints:
    prefix = Prefix(run=run, name="baseline/seed=0", step=step, may_differ=may_differ)
    return Checkpoints(keep_final=False, prefix=prefix, **settings)


def assert_same_record(short: Path, whole: Path) -> None:
    """All but wall times: rows, looks, fingerprint, outcome, final weights."""
    for table in ("trace.arrow", "evals.arrow"):
        assert rows(short / table) == rows(whole / table)
    assert read_json(short / "fingerprint.json") == read_json(whole / "fingerprint.json")
    ours, theirs = (
        {key: value for key, value in read_json(run / "status.json").items() if key not in ("throughput", "sessions")}
        for run in (short, whole)
    )
    assert ours == theirs


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], int, tuple[str, ...]]] = {
    "longer": ({}, {"budget": "500 samples"}, 32, ("budget",)),
    "shorter": ({}, {"budget": "192 samples"}, 24, ("budget",)),
    "shorter, and a look of its own at the end": ({}, {"budget": "168 samples"}, 21, ("budget",)),
    "clipped never": ({"max_grad_norm": 1e6}, {"max_grad_norm": None}, 32, ("max_grad_norm",)),
    "warm-up alike": (
        {"schedule": "linear", "warmup": 0.5},
        {"schedule": "cosine", "warmup": 0.5},
        16,
        ("schedule",),
    ),
}
"""What the sibling and the arm are set to, the last step that they share, and the items that may differ."""


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_arm_that_begins_at_its_siblings_checkpoint_is_the_whole_run(
    tmp_path: Path, kind: str, optimizer: str, precision: str
) -> None:
    sibling, arm, step, may_differ = KINDS[kind]
    common = {"optimizer": optimizer, "precision": precision}
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(step,)), **common, **sibling)
    assert [path.name for path in (tmp_path / "sibling/lent").iterdir()] == [f"step={step}"]
    assert not (tmp_path / "sibling/checkpoint").exists()
    whole = go(tmp_path / "whole", **common, **arm)
    short = go(tmp_path / "short", checkpoints=beginning(tmp_path / "sibling", step, *may_differ), **common, **arm)
    assert_same_record(tmp_path / "short", tmp_path / "whole")
    assert short.outcome.weights_sha256 == whole.outcome.weights_sha256
    (session,) = short.outcome.sessions
    assert session["prefix_from"] == {"run": "baseline/seed=0", "step": step}
    assert (session["first_step"], session["steps"]) == (step + 1, whole.outcome.step - step)
    assert session["samples"] == int(whole.trace["samples"][-1]) - 8 * step
    assert whole.outcome.sessions[0]["prefix_from"] is None


def test_lending_changes_nothing_for_the_one_that_lends(tmp_path: Path) -> None:
    go(tmp_path / "plain")
    go(tmp_path / "lending", checkpoints=lending(at_steps=(3, 20), ladders=(Ladder(0.5, (8, 16)),)))
    assert_same_record(tmp_path / "lending", tmp_path / "plain")


def test_a_ladder_ends_before_the_norm_is_first_reached(tmp_path: Path) -> None:
    """Of its steps, the newest one below the norm is kept, and each ladder keeps its own."""
    whole = go(tmp_path / "whole")
    norms = whole.trace["grad_norm"]
    largest = [float(norms[:step].max()) for step in (4, 8, 16, 24, 32)]
    steps = (4, 8, 16, 24, 32)
    between = [(low + high) / 2 for low, high in pairwise(largest) if low < high]
    assert between, "a run whose norm never grows tests nothing"
    limits = (*between, 1e9, 0.0)
    go(tmp_path / "sibling", checkpoints=lending(ladders=tuple(Ladder(limit, steps) for limit in limits)))
    expected = {
        max((step for step, top in zip(steps, largest, strict=True) if top < limit), default=0) for limit in limits
    }
    assert set(checkpoint.steps(tmp_path / "sibling/lent")) == expected - {0}


def test_a_sharing_run_that_is_stopped_goes_on_from_its_own_checkpoint(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"budget": "500 samples"}
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(32,)))
    go(tmp_path / "whole", **settings)
    begun = beginning(tmp_path / "sibling", 32, "budget")
    first = go(tmp_path / "short", checkpoints=begun, stop=after(12), **settings)
    assert (first.status.status, 32 < first.outcome.step < 63) == ("interrupted", True)
    for lent in (tmp_path / "sibling/lent").iterdir():  # it needs the sibling no more
        for file in lent.iterdir():
            file.unlink()
    second = go(tmp_path / "short", checkpoints=begun, **settings)
    assert_same_record(tmp_path / "short", tmp_path / "whole")
    assert [one["prefix_from"] and one["prefix_from"]["step"] for one in second.outcome.sessions] == [32, None]
    assert sum(one["steps"] for one in second.outcome.sessions) == 63 - 32


def test_a_sharing_run_that_left_no_checkpoint_begins_at_its_siblings_again(tmp_path: Path) -> None:
    """As after a SIGKILL: rows and progress of the first try lie there."""
    settings: dict[str, Any] = {"budget": "500 samples"}
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(32,)))
    go(tmp_path / "whole", **settings)
    begun = beginning(tmp_path / "sibling", 32, "budget")
    go(tmp_path / "short", checkpoints=begun, stop=after(20), **settings)
    for saved in (tmp_path / "short/checkpoint").iterdir():
        for file in saved.iterdir():
            file.unlink()
        saved.rmdir()
    again = go(tmp_path / "short", checkpoints=begun, **settings)
    assert len(again.outcome.sessions) == 1
    assert_same_record(tmp_path / "short", tmp_path / "whole")


@pytest.mark.parametrize("polls", [5, 25])
def test_a_sibling_that_was_stopped_and_went_on_lends_as_well(tmp_path: Path, polls: int) -> None:
    lend = lending(at_steps=(10, 16, 32))
    go(tmp_path / "sibling", checkpoints=lend, stop=after(polls))
    stopped = max(checkpoint.steps(tmp_path / "sibling/checkpoint"))
    go(tmp_path / "sibling", checkpoints=lend)
    assert 0 < stopped < 30
    assert set(checkpoint.steps(tmp_path / "sibling/lent")) == {10, 16, 32}
    for step, budget in ((10, "500 samples"), (16, "300 samples"), (32, "500 samples")):
        go(tmp_path / f"whole {step}", budget=budget)
        go(tmp_path / f"short {step}", budget=budget, checkpoints=beginning(tmp_path / "sibling", step, "budget"))
        assert_same_record(tmp_path / f"short {step}", tmp_path / f"whole {step}")


def test_what_was_lent_after_the_step_that_a_run_goes_on_from_is_removed(tmp_path: Path) -> None:
    """As when it was killed later than it was saved: its tables have other extents the second time."""
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(10, 16)), stop=after(25))
    write_json(tmp_path / "sibling/lent/step=30/state.json", {"observer": {"largest_norm": 0.0}})
    go(tmp_path / "sibling", checkpoints=Checkpoints(keep_final=False))
    assert set(checkpoint.steps(tmp_path / "sibling/lent")) == {10, 16}
    go(tmp_path / "sibling", checkpoints=Checkpoints(keep_final=False))  # from the start
    assert set(checkpoint.steps(tmp_path / "sibling/lent")) == set()


@pytest.mark.parametrize(
    ("changed", "may_differ", "words"),
    [
        ({"batch_size": 4}, ("budget",), "made with batch_size=8, and this run has batch_size=4"),
        ({"budget": "500 samples"}, ("schedule",), "made with budget=256 samples, and this run has budget=500 samples"),
        (
            {"max_grad_norm": 1.0},
            ("budget", "schedule"),
            "max_grad_norm.max=None, and this run has max_grad_norm.max=1.0",
        ),
        ({"facts": {"splits": "b"}}, ("max_grad_norm",), "facts.splits=a, and this run has facts.splits=b"),
    ],
)
def test_only_what_was_proven_harmless_may_differ(
    tmp_path: Path, changed: dict[str, Any], may_differ: tuple[str, ...], words: str
) -> None:
    facts = {"splits": "a"}
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(16,)), facts=facts)
    begun = beginning(tmp_path / "sibling", 16, *may_differ)
    with pytest.raises(LoopError) as caught:
        go(tmp_path / "arm", checkpoints=begun, **{"facts": facts, **changed})
    assert words in str(caught.value)
    assert not (tmp_path / "arm/trace.arrow").exists()


def test_a_checkpoint_that_is_gone_is_said(tmp_path: Path) -> None:
    go(tmp_path / "sibling")
    with pytest.raises(LoopError, match=r"lent/step=16 cannot be read"):
        go(tmp_path / "arm", checkpoints=beginning(tmp_path / "sibling", 16, "budget"))


def test_a_sibling_whose_record_is_torn_is_said(tmp_path: Path) -> None:
    go(tmp_path / "sibling", checkpoints=lending(at_steps=(16,)))
    trace = RunDir(tmp_path / "sibling").trace
    trace.write_bytes(trace.read_bytes()[:900])
    with pytest.raises(AblateError, match=r"does not hold the .* bytes that its checkpoint was made with"):
        go(tmp_path / "arm", budget="500 samples", checkpoints=beginning(tmp_path / "sibling", 16, "budget"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")])
def test_a_full_disk_costs_the_siblings_their_checkpoint_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole = go(tmp_path / "whole")
    real, tries = checkpoint.save_file, iter(range(100))

    def full_once(*arguments: Any, **settings: Any) -> None:
        if next(tries) == 1:
            raise error
        real(*arguments, **settings)

    monkeypatch.setattr(checkpoint, "save_file", full_once)
    with pytest.warns(UserWarning, match="no checkpoint is left for siblings: .*No space left"):
        result = go(tmp_path / "sibling", checkpoints=lending(at_steps=(8, 16)))
    assert result.outcome.weights_sha256 == whole.outcome.weights_sha256
    assert [path.name for path in (tmp_path / "sibling/lent").iterdir()] == ["step=16"]


def test_a_run_that_diverges_lends_no_step_at_which_it_ended(tmp_path: Path) -> None:
    """From there an arm would take one step more than the run that stops at the third skipped step."""

    def broken(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        loss, items = objective(model, batch)
        seen.append(items)
        return (loss * float("inf") if len(seen) > 20 else loss), items

    seen: list[int] = []
    ladder = Ladder(1e9, (8, 16, 23, 24))
    go(tmp_path / "sibling", objective=broken, checkpoints=lending(at_steps=(16, 22, 23), ladders=(ladder,)))
    assert read_json(tmp_path / "sibling/status.json")["status"] == "diverged"
    assert len(read_trace(tmp_path / "sibling/trace.arrow")) == 23
    assert set(checkpoint.steps(tmp_path / "sibling/lent")) == {16, 22}
    for step in (16, 22):
        seen = [0] * 0
        go(tmp_path / f"whole {step}", objective=broken, budget="500 samples")
        seen = [0] * step
        begun = beginning(tmp_path / "sibling", step, "budget")
        go(tmp_path / f"short {step}", objective=broken, budget="500 samples", checkpoints=begun)
        assert_same_record(tmp_path / f"short {step}", tmp_path / f"whole {step}")


def test_defaults_lend_and_borrow_nothing() -> None:
    assert asdict(Checkpoints())["lend"] is None
    assert Checkpoints().prefix is None
    assert not Lend().may_be_wanted(1)
