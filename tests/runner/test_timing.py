"""Real steps, timed for real: in processes of their own, as many at a time as asked, and nothing is left."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ablate.config.schema import Config, make_config
from ablate.errors import AblateError
from ablate.planning.compose import opened
from ablate.runner.forecast import _short, time_steps


@pytest.fixture(scope="module")
def quick() -> Config:
    with opened() as composer:
        return make_config(composer.compose(["debug=quick"]))


@pytest.mark.parametrize(("batch", "steps"), [(1, 99), (8, 15), (64, 5)])
def test_a_few_steps_are_enough_samples_between_two_looks(quick: Config, batch: int, steps: int) -> None:
    short = _short(replace(quick, data=replace(quick.data, batch_size=batch)))
    assert short.train.budget == f"{steps * batch} samples"
    assert short.eval.every == short.train.budget
    assert short.eval.max_examples == 32
    assert short.tracker.name == "none"


@pytest.mark.slow
def test_steps_are_timed_side_by_side_and_nothing_is_left(
    quick: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def here(prefix: str) -> TemporaryDirectory[str]:
        return TemporaryDirectory(prefix=prefix, dir=tmp_path)

    monkeypatch.setattr("ablate.runner.forecast.TemporaryDirectory", here)
    settings = asdict(quick)
    pace = time_steps(quick, num_parallel=2)
    assert pace.step_seconds > 0
    assert pace.example_seconds > 0
    assert pace.startup_seconds > 0
    assert pace.peak_memory_bytes > 50e6
    assert pace.num_parameters > 100_000
    assert not list(tmp_path.iterdir())
    assert asdict(quick) == settings
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_what_fails_is_said(quick: Config) -> None:
    with pytest.raises(AblateError, match=r"the first steps fail: .*no_such_folder"):
        time_steps(replace(quick, data=replace(quick.data, path="no_such_folder")), num_parallel=1)
