"""A command line whose runs are made up in no time: composing, planning, freezing and launching are the real thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablate import cli
from ablate.config.schema import Config, StudyConfig
from ablate.data.datasets import DataFacts
from ablate.errors import AblateError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, RunStatus, write_value
from ablate.records.source_code import code_digest
from ablate.runner.jobs import Job
from ablate.serialization import write_json

Fate = Callable[[Job], RunStatus]


class Runs:
    """jobs: every job that was started, in order. fate: how the next ones end."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.options: dict[str, Any] = {}
        self.fate: Fate = lambda job: RunStatus(status="finished", step=1)

    def run_all(self, jobs: Sequence[Job], study: StudyConfig, **options: Any) -> list[RunStatus]:
        self.options = options | {"workers": study.workers}
        return [self._run(job) for job in jobs]

    def _run(self, job: Job) -> RunStatus:
        self.jobs.append(job)
        run = RunDir(job.folder)
        asked: dict[str, Any] = {"digest": job.digest, "request": job.planned.request, "code": dict(job.planned.code)}
        asked["code_digest"] = code_digest(job.planned.code)
        write_value(run, Manifest(arm=job.arm, seed=job.seed, overrides=job.changes, **asked))
        write_json(run.config, job.config)  # JSON is YAML
        outcome = self.fate(job)
        write_value(run, outcome)
        return outcome

    @property
    def names(self) -> list[str]:
        return [f"{job.arm}/{job.seed}" for job in self.jobs]

    def forget(self) -> None:
        self.jobs.clear()


def _not_timed(*_: object, **__: object) -> None:
    raise AblateError("no run is made for real here, and so nothing is timed")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def _sizes(config: Config) -> DataFacts:
    evaluated = min(256, config.eval.max_examples or 256)
    return DataFacts(num_train=1000, num_held_out=1000, num_eval=evaluated, num_classes=2)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, here: Path) -> Runs:
    found = Runs()
    monkeypatch.setattr("ablate.runner.launch.run_all", found.run_all)
    monkeypatch.setattr("ablate.tasks.registry.data_facts", _sizes)
    monkeypatch.setattr("ablate.study_command.conclude", lambda folder: 0)
    monkeypatch.setattr("ablate.runner.forecast.time_steps", _not_timed)
    return found


@pytest.fixture
def ablate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """ablate(*arguments) -> (exit code, standard output, standard error).

    Hydra composes every config twice, the first time only to see whether a file sets `hydra.mode`. None of ours does.
    """
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
