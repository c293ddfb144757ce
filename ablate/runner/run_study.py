"""Run what is still to do of a study, with interim analyses between its parts where the study is sequential."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from secrets import token_hex

from ablate.design.plan import Course, Plan, course
from ablate.errors import RecordError, StudyError
from ablate.planning.planner import Prepared
from ablate.records.interim import InterimResult, read_interims, remove_damaged, write_interim
from ablate.records.layout import StudyDir
from ablate.redact import shown
from ablate.runner.failures import disk_full, is_disk_full
from ablate.runner.freeze import OPEN_LOCK, check_writable, freeze, pending
from ablate.runner.jobs import Job, planned_job
from ablate.runner.locks import Locks
from ablate.runner.processes import remove_pools
from ablate.runner.reuse import count_by_study, reuse_all, stored, stored_status
from ablate.runner.stop import forget_stop

Launch = Callable[[Sequence[Job], str, int], object]
"""Runs jobs and returns when all have ended. Arguments: jobs, title of the progress view, number of runs done before."""

AnalyseInterim = Callable[[Path], InterimResult]
"""Makes the next interim analysis of a study directory. It is handed in: this package knows no statistics."""


def run_study(prepared: Prepared, launch: Launch, analyse_interim: AnalyseInterim | None = None) -> Path:
    """Freeze the plan and launch what is still to do. Returns the study directory. Several processes may run one study.

    analyse_interim: required for a study that adds seeds until its variants are decided.
    """
    folder = prepared.folder
    external = prepared.plan.app is not None
    accept = not external and bool(prepared.plan.baseline.config["study"]["accept_code_change"])
    check_writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(folder) from None
        raise RecordError(f"{folder} cannot be made: {error.strerror}", "study.output_dir=<a folder>") from None
    with Locks(folder.parent) as locks:
        with locks.held(f"plan.{folder.name}"):
            forget_stop(folder)
            plan = freeze(prepared.plan, folder, accept_code_change=accept)
            for name in remove_damaged(folder, plan.interim_seeds):
                print(f"{folder / name} was damaged and is made again from its runs", flush=True)
            locks.remove_litter()
            # The plan stays unchanged until the last run has ended.
            locks.remove_dead(f"{OPEN_LOCK}.*")
            locks.acquire(f"{OPEN_LOCK}.{folder.name}.{token_hex(4)}")
        _clean(plan, folder, locks)
        for part in stages(plan, folder, locks, analyse_interim):
            with locks.held(f"plan.{folder.name}"):
                reused = {} if external else reuse_all(plan, folder, pending(part, folder))
            if reused:
                print(
                    f"{len(reused)} of {len(part.runs)} runs are taken from {count_by_study(reused.values())}",
                    flush=True,
                )
            waiting = pending(part, folder)
            if waiting:
                title = _title(plan, folder)
                done = len(plan.runs) - len(pending(plan, folder))
                launch([planned_job(plan, folder, run, prepared.job(run)) for run in waiting], title, done)
        for run in plan.runs:  # a run that outlived its killed study may have finished meanwhile
            locks.remove_dead(run.digest)
    return folder


def _clean(plan: Plan, folder: Path, locks: Locks) -> None:
    """Name the runs whose record is damaged, and remove what killed processes left: no living process writes there."""
    remove_pools()
    for run in plan.runs:
        run_dir = StudyDir(folder).run(run.arm, run.seed)
        if locks.holder(run.digest) is not None or run_dir.path.is_symlink():
            continue
        for part in run_dir.path.glob(".*.part"):
            part.unlink(missing_ok=True)
        _, _, problem = stored(run_dir)
        if problem:
            print(shown(f"{run.name} is made again: {problem}"), flush=True)


def stages(plan: Plan, folder: Path, locks: Locks, analyse_interim: AnalyseInterim | None) -> Iterator[Plan]:
    """Yield the runs of a study, part by part. Between two parts one of its processes makes an interim analysis.

    The analysis waits for all runs of its part. A run that failed must not be left out of it, so the study ends here until
    that run is retried.
    """
    while True:
        now = course_in(folder, plan)
        if now is None:
            yield plan
            return
        part = now.due(plan)
        yield part
        if now.over:
            return
        if missing := len(pending(part, folder)):
            waits = f"the interim analysis at {now.next} seeds waits for {_waiting(folder, part, missing)}"
            print(shown(waits), flush=True)
            return
        if analyse_interim is None:
            raise StudyError(f"{folder} has interim analyses, which this command does not make", "ablate -m ...")
        with locks.held(f"interim.{folder.name}"):
            after = course_in(folder, plan)
            if after is not None and after.made == now.made:
                write_interim(folder, analyse_interim(folder))
        for result in read_interims(folder, plan.interim_seeds, plan.digest)[now.made :]:
            print(shown(interim_sentence(result, plan)), flush=True)


def course_in(folder: Path, plan: Plan) -> Course | None:
    """Return how far a sequential study has come; None for one whose number of seeds is fixed.

    Raises RecordError where a stored interim analysis cannot be read.
    """
    if not plan.interim_seeds:
        return None
    return course(plan, read_interims(folder, plan.interim_seeds, plan.digest))


def at_most(folder: Path, plan: Plan) -> Plan:
    """Return the plan without the runs that are no longer needed, because their variant is decided."""
    now = course_in(folder, plan)
    return plan if now is None else now.at_most(plan)


def interim_sentence(result: InterimResult, plan: Plan) -> str:
    """Return one line about an interim analysis."""
    stopped = [f"{arm} stops ({verdict})" for arm, verdict in result["stops"].items()]
    going = [str(arm) for arm in result["goes_on"]]
    last = result["seeds"] == plan.interim_seeds[-1]
    rest = (
        [f"{', '.join(going)} {'undecided' if last else 'continues' if len(going) == 1 else 'continue'}"]
        if going
        else []
    )
    return f"interim analysis at {result['seeds']} seeds: {'; '.join([*stopped, *rest])}"


def _title(plan: Plan, folder: Path) -> str:
    now = course_in(folder, plan)
    to = f", to the interim analysis at {now.next} seeds" if now is not None and now.next is not None else ""
    return f"{plan.study}{to}"


def _waiting(folder: Path, part: Plan, missing: int) -> str:
    failed = [run.name for run in part.runs if stored_status(StudyDir(folder).run(run.arm, run.seed)) == "failed"]
    runs = f"{missing} run{'s' * (missing != 1)}"
    return f"{runs}; failed: {', '.join(failed)} (ablate retry {folder})" if failed else runs
