"""What main may return, and what it may not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ablate.errors import StudyError
from ablate.records.layout import RunDir
from ablate.records.metadata import RunStatus, Status, write_value
from ablate.records.returned_values import numbers_of
from ablate.runner.external_app import RunRecord


@pytest.mark.parametrize(
    ("returned", "numbers"),
    [
        (0.5, {"returned": 0.5}),
        (3, {"returned": 3.0}),
        (np.float32(0.5), {"returned": 0.5}),
        (torch.tensor(0.5), {"returned": 0.5}),
        ({"loss": 0.5, "model": "net", "done": True}, {"loss": 0.5}),
    ],
)
def test_numbers_of_any_make_are_taken(returned: Any, numbers: dict[str, float]) -> None:
    assert numbers_of(returned) == numbers


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "main returned None"),
        ("done", "main returned str 'done'"),
        (True, "main returned bool True"),
        ([0.5], r"main returned list \[0.5\]"),
        ({}, "main returned an empty dict"),
        ({"model": "net"}, r"main returned a dict without a number \(model\)"),
        (np.zeros(2), "main returned ndarray"),
    ],
)
def test_anything_else_is_refused_with_what_it_was(returned: Any, said: str) -> None:
    with pytest.raises(StudyError, match=said) as raised:
        numbers_of(returned)
    assert raised.value.fix == "return a number, or a dict of numbers, from the function under @hydra.main"


@pytest.mark.parametrize("recorded", ["diverged", "finished", "failed"])
def test_a_run_that_diverged_stays_so_whatever_main_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Status
) -> None:
    """Main may return the best value before the loss became nan: the Recorder in the app has seen the end."""
    monkeypatch.setattr(RunRecord, "_write", lambda *_, **__: None)
    run = RunDir(tmp_path)
    write_value(run, RunStatus(status=recorded, step=40, reason="end", message="eval_loss is nan at step 40"))
    record = RunRecord(run, SimpleNamespace(metric=None), None, "")  # type: ignore[arg-type]
    outcome = record.end(0.25)
    assert outcome.status == ("diverged" if recorded == "diverged" else "finished")
    assert outcome.step == 40
    assert ("eval_loss is nan at step 40; returned 0.25" in outcome.message) == (recorded == "diverged")
    assert record.end(float("nan")).status == "diverged"
