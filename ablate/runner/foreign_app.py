"""Runs of an app that is not ours, side by side, each started as the user would start it: a command line of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ablate.config.flatten import changed, leaf, leaves
from ablate.config.schema import BASELINE
from ablate.controls.config_isolation import isolate
from ablate.design.axis import Axis, show
from ablate.design.axis_files import FINGERPRINT, execution_order
from ablate.design.derived import DERIVED
from ablate.design.designs import ExternalApp
from ablate.design.plan import Arm, Plan, Run, digest_by
from ablate.design.plan_file import free_name, read_plan, write_plan
from ablate.errors import AblateError, AxisError, ConfigError, StudyError, nearest
from ablate.hashing import digest_of
from ablate.planning.compose import Request, override_text
from ablate.records.layout import RunDir, StudyDir, safe_name
from ablate.records.metadata import Manifest, RunStatus, read_manifest, read_status, write_value
from ablate.records.provenance import git_state, now, versions
from ablate.records.returned_values import (
    BARE,
    FIX,
    all_finite,
    choose_metric,
    numbers_of,
    read_returned,
    write_returned,
)
from ablate.records.source_code import changed_files, code_digest, code_files
from ablate.redact import redact, secrets
from ablate.runner.devices import Lease, leases
from ablate.runner.log_capture import Hider, captured, interrupts
from ablate.runner.run_study import check_writable
from ablate.serialization import write_text

_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 10.0
"""How long a run that was asked to end may take."""


def run_processes(
    commands: Sequence[tuple[Run, list[str], Path]], workers: int | None
) -> Iterator[tuple[Run, str | None]]:
    """Run every command, at most `workers` at a time, and give each run as its process ends, with why where that was bad.

    commands: run, what to start, and where its output goes. An interrupt (Ctrl-C, SIGTERM), and a caller that stops asking,
    end the running ones.
    """
    free, waiting = leases(workers), list(commands)
    going: list[tuple[subprocess.Popen[bytes], Run, Lease]] = []
    with interrupts() as caught:
        try:
            while (waiting or going) and not caught:
                while waiting and free:
                    run, command, log = waiting.pop(0)
                    going.append((_start(command, log, lease := free.pop(0)), run, lease))
                ended = [one for one in going if one[0].poll() is not None]
                for one in ended:
                    going.remove(one)
                    free.append(one[2])
                    yield one[1], _why(one[0])
                if not ended:
                    time.sleep(_LOOK_SECONDS)
        finally:
            _end([process for process, _, _ in going])
    if caught:
        raise KeyboardInterrupt


def _start(command: list[str], log: Path, lease: Lease) -> subprocess.Popen[bytes]:
    env = dict(os.environ)
    if lease.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = lease.gpu
    else:
        env.setdefault("OMP_NUM_THREADS", str(lease.num_threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    hidden = secrets()
    with log.open("ab") as file:
        file.write(f"$ {redact(' '.join(command))}\n".encode())
        file.flush()
        # A session of its own: a Ctrl-C reaches it through us, once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if hidden else file, stderr=subprocess.STDOUT, env=env,
            start_new_session=True,
        )  # fmt: skip
    if hidden:
        threading.Thread(target=_hide, args=(process, log, hidden), name="log", daemon=True).start()
    return process


def _hide(process: subprocess.Popen[bytes], log: Path, hidden: Sequence[str]) -> None:
    """What a run prints, less the secrets of the environment."""
    assert process.stdout is not None
    hider = Hider(hidden)
    with log.open("ab", buffering=0) as file, process.stdout as pipe:
        while piece := os.read(pipe.fileno(), 1 << 16):
            file.write(hider.pass_on(piece))
        file.write(hider.pass_on(b""))


def _why(process: subprocess.Popen[bytes]) -> str | None:
    code = process.returncode
    if code == 0:
        return None
    how = signal.Signals(-code).name if code < 0 else f"exit {code}"
    return f"its process ended by {how}; see log.txt"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _send(process, signal.SIGINT)
    until = time.monotonic() + _PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            _send(process, signal.SIGKILL)
            process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


# A study on a Hydra app that is not ours: planned from its own config, one variable at a time. Knows no Hydra
# and no torch.

Compose = Callable[[Sequence[str]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The keys of `hydra.sweeper` for an app that is not ours.

    seed_key: the app's key for its seed. seeds: how many, 0 .. seeds-1. metric: name of the returned value that is compared;
    None where there is one. lower_is_better: None for a value with no better side. smallest_effect: smallest difference that
    matters. name: the study's folder under root; None makes one from the axes. workers: runs at a time under
    `hydra/launcher=local`; None takes one per GPU, or one per CPU core.
    """

    seed_key: str = "seed"
    seeds: int = 5
    metric: str | None = None
    lower_is_better: bool | None = True
    smallest_effect: float = 0.01
    name: str | None = None
    root: str = "runs"
    workers: int | None = None

    def __post_init__(self) -> None:
        for key, typed in (("seeds", self.seeds), ("workers", self.workers)):
            if typed is not None and (not isinstance(typed, int) or isinstance(typed, bool) or typed < 1):
                raise ConfigError(f"hydra.sweeper.{key}={typed} is not a whole number from 1", f"hydra.sweeper.{key}=5")
        if not isinstance(self.smallest_effect, int | float) or not self.smallest_effect > 0:
            raise ConfigError(
                f"hydra.sweeper.smallest_effect={self.smallest_effect} is not above 0",
                "hydra.sweeper.smallest_effect=0.01",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AppStudy:
    """A plan, its folder, and per arm what one types to run it."""

    plan: Plan
    folder: Path
    overrides: dict[str, tuple[str, ...]]

    def job(self, run: Run) -> list[str]:
        """One run in Hydra's grammar, less where it goes."""
        assert self.plan.app is not None
        return [*self.overrides[run.arm], f"{self.plan.app.seed_key}={run.seed}"]

    def place(self, run: Run) -> RunDir:
        return StudyDir(self.folder).run(run.arm, run.seed)


def make_app_study(
    compose: Compose, request: Request, options: Options, *, modules: Iterable[str], command: str
) -> AppStudy:
    """Compose the baseline and an arm per level, and prove on paper that each changes one key.

    modules: where the app's code begins. Raises ConfigError or AxisError; writes nothing.
    """
    if not request.swept:
        raise AxisError("nothing is swept, so there is nothing to compare", "-m <key>=<value>,<value>")
    base = compose(request.fixed)
    _check_seed_key(base, options.seed_key)
    baseline = Arm(name=BASELINE, config=_less(base, options.seed_key))
    arms, axes, notes = [baseline], list[Axis](), list[str]()
    overrides = {BASELINE: tuple(request.fixed)}
    for key, levels in request.swept.items():
        made = []
        for level in levels:
            text = override_text(key, level)
            config = _less(compose([*request.fixed, text]), options.seed_key)
            axis = _axis(key, levels)
            name = axis.label(level)
            if not changed(baseline.config, config):
                notes.append(f"{name} is the baseline's own value, and is not run twice")
                continue
            arm = Arm(
                name=name, axis=key, value=level, kind="training", changes=_changes(config, key, level), config=config
            )
            _check_one(baseline, arm, key)
            isolate(baseline, arm, axis)
            arms.append(arm)
            made.append(level)
            overrides[name] = (*request.fixed, text)
        if made:
            axes.append(_axis(key, made))
    if not axes:
        raise AxisError(
            f"{', '.join(request.swept)}: every level is the baseline's own value",
            "sweep a value that the config does not have",
        )
    return AppStudy(
        plan=_plan(arms, axes, options, _code(base, modules), command, notes),
        folder=Path(options.root).absolute() / safe_name(options.name or "+".join(axis.name for axis in axes)),
        overrides=overrides,
    )


def _check_seed_key(config: Mapping[str, Any], key: str) -> None:
    if key not in leaves(config):
        raise ConfigError(
            f"hydra.sweeper.seed_key={key}: the app's config has no key {key!r} to set its seed with; "
            f"{nearest(key, leaves(config))}",
            "hydra.sweeper.seed_key=<the app's key>, or give the app one and seed its generators with it",
        )


def _less(config: Mapping[str, Any], seed_key: str) -> dict[str, Any]:
    """The config without its seed, which belongs to the run and not to the arm."""
    head, _, rest = seed_key.partition(".")
    kept = {key: value for key, value in config.items() if key != head or rest}
    return {**kept, head: _less(config[head], rest)} if rest else kept


def _changes(config: Mapping[str, Any], key: str, level: Any) -> dict[str, Any]:
    try:
        return {key: leaf(config, key)}
    except KeyError:
        return {key: level}


def _axis(key: str, levels: Sequence[Any]) -> Axis:
    """What may come with it, the record decides: `analysis.returned`."""
    return Axis(
        name=key,
        question=f"What does {key} change?",
        kind="training",
        keys=(key,),
        values=tuple(levels),
        may_change=(*DERIVED, *FINGERPRINT),
    )


def _check_one(baseline: Arm, arm: Arm, key: str) -> None:
    moved = changed(baseline.config, arm.config)
    others = [other for other in moved if other != key and not other.startswith(f"{key}.")]
    if others:
        pairs = ", ".join(f"{other} ({show(moved[other][0])} -> {show(moved[other][1])})" for other in others)
        raise AxisError(
            f"{arm.name} also changes {pairs}, which the app's config takes from {key}: two variables",
            f"hold it where the baseline has it: {override_text(others[0], moved[others[0]][0])}",
        )


def _code(config: Mapping[str, Any], modules: Iterable[str]) -> dict[str, str]:
    """The app's own files, as far as imports and `_target_`s lead to them; not those of installed packages."""
    named = {str(value) for key, value in leaves(config).items() if key.endswith("_target_")}
    found = code_files([*modules, *sorted(name.rpartition(".")[0] for name in named if "." in name)])
    return {name: sha for name, sha in found.items() if not name.startswith("ablate/")}


def _plan(
    arms: Sequence[Arm], axes: Sequence[Axis], options: Options, code: dict[str, str], command: str, notes: list[str]
) -> Plan:
    seeds, digest = tuple(range(options.seeds)), code_digest(code)
    configs = {arm.name: digest_of(arm.config) for arm in arms}
    runs = []
    for name, seed in execution_order(list(configs), seeds, 0):
        request = digest_of({"app": configs[name], "seed_key": options.seed_key, "seed": seed})
        runs.append(Run(arm=name, seed=seed, digest=digest_by(request, digest), request=request))
    if not code:
        notes = [*notes, "no source file of the app could be found, so a change of its code would not be noticed"]
    return Plan(
        study=options.name or "+".join(axis.name for axis in axes),
        question=" ".join(axis.question for axis in axes),
        metric=options.metric or "",
        smallest_effect=float(options.smallest_effect),
        seeds=seeds,
        axes=tuple(axes),
        arms=tuple(arms),
        runs=tuple(runs),
        code_digest=digest,
        code=code,
        command=command,
        notes=tuple(notes),
        design=ExternalApp(seed_key=options.seed_key, lower_is_better=options.lower_is_better),
    )


def freeze_app(study: AppStudy) -> None:
    """Write plan.json before the first run. Raises StudyError where another study's runs lie, naming what differs first.

    A metric that no run has returned may be named anew, with its better side and its effect: nothing was read by it yet.
    """
    folder, plan = StudyDir(study.folder), study.plan
    before = read_plan(study.folder, rename="hydra.sweeper.name=<another>") if folder.plan.exists() else None
    if before is not None and before.digest == plan.digest:
        return
    returned = {name for run in folder.runs() for name in read_returned(run) or ()}
    if before is not None and returned:
        difference = _difference(before, plan, may_name=before.metric not in returned)
        if difference:
            raise StudyError(
                f"{study.folder} holds another study: {difference}",
                f"hydra.sweeper.name={free_name(study.folder)} for a new one beside it, or remove {study.folder}",
            )
    write_plan(plan, study.folder)


def _difference(before: Plan, now: Plan, *, may_name: bool) -> str:
    """The first difference that keeps the runs of `before` from being runs of `now`; empty where there is none."""
    assert now.app is not None
    if before.app is None:
        return "one of ablate's own"
    if before.code != now.code:
        return f"its runs were made by other code: {', '.join(changed_files(before.code, now.code)[:3])}"
    asked = {"seeds": (len(before.seeds), len(now.seeds)), "seed_key": (before.app.seed_key, now.app.seed_key)}
    if not may_name:
        asked |= {name: (getattr(before, name), getattr(now, name)) for name in ("metric", "smallest_effect")}
        asked["lower_is_better"] = before.app.lower_is_better, now.app.lower_is_better
    for name, (left, right) in asked.items():
        if left != right:
            return f"hydra.sweeper.{name} is {show(left)} there and {show(right)} now"
    for key, (one, other) in changed(before.baseline.config, now.baseline.config).items():
        return f"the baseline's {key} is {show(one)} there and {show(other)} now"
    names = [", ".join(arm.name for arm in plan.arms) for plan in (before, now)]
    return f"its arms are {names[0]} there and {names[1]} now" if names[0] != names[1] else ""


def is_done(study: AppStudy, run: Run) -> bool:
    """Whether the run's value lies there, returned by the same config under the same code."""
    place = study.place(run)
    outcome = read_status(place)
    done = outcome is not None and outcome.status in ("finished", "diverged")
    return done and place.manifest.exists() and read_manifest(place).digest == run.digest


# The record of a run of an app that is not ours: what it was, what it printed, what it returned or why it did
# not.

_PACKAGES = ("hydra-core", "torch", "numpy", "torch-ablate")


@dataclass(frozen=True, slots=True)
class Kept:
    """One run of a frozen plan, by its folder: the process that it runs in need not know more."""

    run: RunDir
    plan: Plan
    planned: Run
    started: str

    @classmethod
    def begin(cls, folder: Path) -> Kept:
        """Write config and manifest, and remove what an earlier try left. Raises StudyError for a folder of no plan."""
        plan, run = read_plan(folder.parents[1]), RunDir(folder)
        study = StudyDir(folder.parents[1])
        planned = next((one for one in plan.runs if study.run(one.arm, one.seed).path == folder), None)
        if planned is None:
            raise StudyError(f"{folder} is no run of the plan in {folder.parents[1]}")
        folder.mkdir(parents=True, exist_ok=True)
        for stale in (run.status, run.returned, run.trace, run.evals, run.predictions, run.fingerprint, run.progress):
            stale.unlink(missing_ok=True)
        kept = cls(run, plan, planned, now())
        kept._write(ended=None)
        return kept

    def end(self, returned: Any, error: BaseException | None = None) -> RunStatus:
        """Write what main returned, or that it did not. What a Recorder in the app has said of the run is kept."""
        recorded = read_status(self.run)
        outcome = self._outcome(returned, error)
        if recorded is not None:
            outcome = replace(recorded, status=outcome.status, reason=outcome.reason, message=outcome.message)
        self._write(ended=now())
        write_value(self.run, outcome)
        return outcome

    def _outcome(self, returned: Any, error: BaseException | None) -> RunStatus:
        if isinstance(error, KeyboardInterrupt):
            return RunStatus(status="interrupted", reason="SIGINT", message="interrupted")
        if error is not None:
            said = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            return RunStatus(status="failed", reason=type(error).__name__, message=said)
        try:
            values = numbers_of(returned)
        except StudyError as unusable:
            return RunStatus(status="failed", reason=UNUSABLE, message=unusable.problem)
        write_returned(self.run, values)
        said = "returned " + ", ".join(
            f"{name} {value:g}" if name != BARE else f"{value:g}" for name, value in values.items()
        )
        if not all_finite(values) and not (self.plan.metric and all_finite({"": values.get(self.plan.metric, 0.0)})):
            return RunStatus(status="diverged", reason="not finite", message=said)
        return RunStatus(status="finished", reason="returned", message=said)

    def _write(self, *, ended: str | None) -> None:
        arm = self.plan.arm(self.planned.arm)
        assert self.plan.app is not None
        text = yaml.safe_dump(_with(arm.config, self.plan.app.seed_key, self.planned.seed), sort_keys=False)
        write_text(self.run.config, text, hide=True)  # at the end again: a Recorder in the app has written its own
        write_value(self.run, Manifest(
            arm=arm.name, seed=self.planned.seed, overrides=arm.changes, digest=self.planned.digest,
            request=self.planned.request, code_digest=self.plan.code_digest, code=self.plan.code, git=git_state(),
            versions=versions(_PACKAGES), started=self.started, ended=ended,
        ))  # fmt: skip


UNUSABLE = "no number returned"
"""Reason of the outcome of a run whose main returned nothing that can be compared: no other run would do better."""


def keep(folder: Path, main: Callable[[], Any]) -> RunStatus:
    """Run `main` in this process and leave its record, output included. A failure is an outcome; Ctrl-C goes on."""
    kept = Kept.begin(folder)
    with captured(kept.run.log):
        try:
            return kept.end(main())
        except KeyboardInterrupt as error:
            kept.end(None, error)
            raise
        except SystemExit as error:
            return kept.end(None, StudyError(f"the app ended itself: exit {error.code}"))
        except Exception as error:
            traceback.print_exc()
            return kept.end(None, error)


def _with(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    head, _, rest = key.partition(".")
    return {**config, head: _with(config.get(head, {}), rest, value) if rest else value}


# The runs of a study on an app that is not ours, as they end: said, checked at once, and nobody else at the
# same study.

Launched = Callable[[Sequence[Run]], Iterable[tuple[Run, str | None]]]
"""Runs them, and gives each as it ends, with why it was lost where it has left no outcome."""


def sweep_app(study: AppStudy, launch: Launched) -> Path:
    """Freeze the plan and run what is missing. Returns the study's folder.

    Raises ConfigError as soon as a run shows that no other would do better: main returns nothing that can be compared, or
    not the metric that was asked for.
    """
    check_writable(study.folder)
    study.folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(study.folder):
        freeze_app(study)
        waiting = [run for run in study.plan.runs if not is_done(study, run)]
        total, done = len(study.plan.runs), len(study.plan.runs) - len(waiting)
        print(f"{study.plan.study}  {total} runs, {done} done; {_what_counts(study)}", flush=True)
        for run in study.plan.runs:
            if run not in waiting:
                _check(study, run)
        for run, lost in launch(waiting) if waiting else ():
            outcome = _outcome(study, run, lost)
            done += outcome.status in ("finished", "diverged")
            print(f"{outcome.status:<11} {run.arm}/seed={run.seed}  {outcome.message}  ({done}/{total})", flush=True)
            _check(study, run)
    return study.folder


def _what_counts(study: AppStudy) -> str:
    plan = study.plan
    return f"compared: {plan.metric or 'what main returns'}; smallest effect that matters {plan.smallest_effect:g}"


def _outcome(study: AppStudy, run: Run, lost: str | None) -> RunStatus:
    place = study.place(run)
    outcome = read_status(place)
    if outcome is None:
        outcome = RunStatus(status="failed", reason="lost", message=lost or f"left no outcome; see {place.log}")
        place.path.mkdir(parents=True, exist_ok=True)
        write_value(place, outcome)
    return outcome


def _check(study: AppStudy, run: Run) -> None:
    place = study.place(run)
    outcome = read_status(place)
    if outcome is not None and outcome.reason == UNUSABLE:
        raise ConfigError(f"{run.arm}/seed={run.seed}: {outcome.message}", FIX)
    returned = read_returned(place)
    if returned:
        choose_metric(study.plan.metric, list(returned))


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; the lock goes with it, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(
                f"{folder} is being run by another process", "wait for it, or hydra.sweeper.name=<another>"
            ) from None
        yield
    finally:
        os.close(handle)
