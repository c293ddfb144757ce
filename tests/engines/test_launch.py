"""Launchers of others: every job is waited for, a lost one is told, and what is not installed is named."""

from __future__ import annotations

import pytest
from hydra.core.utils import JobReturn, JobStatus

from ablate.errors import StudyError
from hydra_plugins.ablate.launchers import _instead_of_raising, launch_all, reason_lost


def test_a_result_that_cannot_be_had_is_a_failed_job_and_the_next_one_is_read() -> None:
    def read(job: str) -> JobReturn:
        if job == "lost":
            raise RuntimeError("node vm is down\nmore")
        return JobReturn(status=JobStatus.COMPLETED)

    patient = _instead_of_raising(read, as_list=False)
    assert [reason_lost(patient(job)) for job in ("good", "lost", "good")] == [
        None,
        "RuntimeError: node vm is down",
        None,
    ]


class _Launcher:
    def launch(self, jobs: list[list[str]], first: int) -> list[JobReturn]:
        raise OSError("no queue here")


def test_an_engine_that_cannot_start_is_a_request_that_cannot_be_met(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr(_Launcher, "__module__", "hydra_plugins.hydra_submitit_launcher.submitit_launcher")
    with pytest.raises(StudyError, match="hydra_submitit_launcher could not start the runs: OSError: no queue here"):
        launch_all(_Launcher(), [["seed=0"]], 0)  # type: ignore[arg-type]


def test_an_error_of_our_own_launcher_is_not_dressed_up() -> None:
    with pytest.raises(OSError, match="no queue here"):
        launch_all(_Launcher(), [["seed=0"]], 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("launcher", "extra"), [("submitit_slurm", "slurm"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_names_its_extra(launcher: str, extra: str) -> None:
    from hydra.errors import MissingConfigException

    from ablate.planning.hydra_errors import refusal

    error = MissingConfigException("In 'config': Could not find", f"hydra/launcher/{launcher}", ["basic", "local"])
    said = str(refusal(error, [f"hydra/launcher={launcher}"]))
    assert said == (
        f"hydra/launcher={launcher}: Hydra's plugin for it is not installed\n  fix: pip install 'torch-ablate[{extra}]'"
    )
