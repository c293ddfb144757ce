"""Execute one run in this process, from a Config to a finished run directory. The part of the runner that imports torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from ablate.config.schema import Config
from ablate.errors import DataError, RecordError, StudyError
from ablate.hashing import Planned
from ablate.records.layout import RunDir
from ablate.records.metadata import (
    PACKAGES,
    Manifest,
    RunStatus,
    git_state,
    now,
    read_status,
    versions,
    write_value,
)
from ablate.records.source_code import changed_files, code_digest, code_files, hashed_again, imported_files
from ablate.runner.failures import earlier_attempts, why
from ablate.runner.reuse import holds_result, publish, stored
from ablate.serialization import open_own, read_json, write_text
from ablate.training.stop import stop_on_signals

if TYPE_CHECKING:
    from ablate.training.run_recorder import Recording

code_files()  # hashed when the code is imported: a run that is forked later runs that, whatever is edited meanwhile


def execute(
    config: Config,
    run: RunDir,
    *,
    changes: dict[str, Any],
    digest: str,
    planned: Planned | None = None,
    stop: Callable[[], str | None] = lambda: None,
    gpu: str | None = None,
) -> RunStatus:
    """Train one arm with one seed and write its record. A failure is an outcome with a sentence, not an exception.

    planned: what the digest was computed from; a run whose code or data have changed since fails before its first step.
    stop: called at every step; a reason ends the run as `interrupted`.
    gpu: the only GPU that this process sees, if it was given one; None leaves `train.device` unchanged.
    Raises RecordError where nothing can be written.
    """
    run.check_own()
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        with _alone(run), stop_on_signals() as caught:
            if digest and holds_result(run, digest):
                return read_status(run) or RunStatus(status="failed")  # another process has made it meanwhile
            return _execute(config, run, changes, digest, planned or Planned(), lambda: caught() or stop(), gpu)
    except OSError as error:
        problem = f"{run.path} cannot be written: {error.strerror or error}"
        raise RecordError(problem, "study.output_dir=<another folder>") from error


def _execute(
    config: Config,
    run: RunDir,
    changes: dict[str, Any],
    digest: str,
    planned: Planned,
    stop: Callable[[], str | None],
    gpu: str | None,
) -> RunStatus:
    continued = _continued(run, digest, planned.request if config.study.accept_code_change else "")
    attempts = earlier_attempts(run, digest)
    run.status.unlink(missing_ok=True)
    if continued is None:
        _clear(run)
    manifest = _manifest(config, changes, digest, planned, continued)
    manifest.attempts = attempts
    write_text(run.config, yaml.safe_dump(asdict(config), sort_keys=False), hide=True)
    write_value(run, manifest)
    _start_follower(config, run)
    try:
        _check_code(planned.code, manifest.code)
        outcome = _train(config, run, manifest, planned.data, stop, gpu)
    except Exception as error:
        traceback.print_exc()
        # The loop has written how far it came; a failure before it is written here.
        outcome = stored(run)[0] or RunStatus(status="failed")
        outcome.reason, outcome.message = why(error, asdict(config))
        write_value(run, outcome)
    manifest.ended = now()
    manifest.imported = imported_files()
    write_value(run, manifest)
    if planned.data or config.task.name != "custom":  # a digest without the data is not enough to reuse a run
        publish(run, digest, outcome, root=config.study.output_dir)
    return outcome


def _train(
    config: Config,
    run: RunDir,
    manifest: Manifest,
    planned_data: str,
    stop: Callable[[], str | None],
    gpu: str | None,
) -> RunStatus:
    import torch

    from ablate.models.optimizers import make_optimizer
    from ablate.runner.memory_reuse import reuse_freed_memory
    from ablate.tasks.registry import build_task
    from ablate.tasks.task import evaluation_of, speed_up
    from ablate.training.checkpoint import Checkpoints
    from ablate.training.fingerprint import environment
    from ablate.training.gradient_noise import SubsampledLoss
    from ablate.training.lr_schedule import LRSchedule
    from ablate.training.precision import Precision, attention_kernels, pick_device
    from ablate.training.random_streams import RandomStreams
    from ablate.training.train import LossFn, train

    device = pick_device(config.train.device, gpu=gpu)
    manifest.device = str(environment(device)["device"])
    manifest.num_threads = torch.get_num_threads()
    manifest.precision = Precision(config.train.precision, device).name
    write_value(run, manifest)
    streams = RandomStreams(seed=config.seed, **asdict(config.random_streams))
    task = build_task(config, streams)
    manifest.data, manifest.hub = task.facts.get("data", {}).get("source", ""), task.hub
    _check_data(planned_data, manifest.data, config)
    task.model.to(device)
    manifest.padding = speed_up(task.model, config.train)
    print(f"padding: {manifest.padding}", flush=True)
    write_value(run, manifest)
    loss_fn: LossFn = task.loss_fn
    loader = task.loader(num_workers=config.train.num_workers)
    recording = _recording(config, task.facts)
    if config.train.noise_batch_size is not None:
        loss_fn = SubsampledLoss(
            task.sample_losses, config.train.noise_batch_size, streams, items_per_sample=task.items_per_sample
        )
        loader, recording = loss_fn.prepare(loader, recording, samples_per_step=config.samples_per_step)
    with attention_kernels(config.model.attention), reuse_freed_memory(device):
        return train(
            task.model,
            task.dataset,
            loss_fn,
            optimizer=make_optimizer(config.optim, task.model),
            budget=config.train.budget,
            batch_size=config.data.batch_size,
            grad_accum_steps=config.train.grad_accum_steps,
            lr_schedule=LRSchedule(config.optim.lr_schedule, config.optim.warmup_ratio, config.optim.min_lr_ratio),
            max_grad_norm=config.train.max_grad_norm,
            max_skipped_steps=config.train.max_skipped_steps,
            precision=config.train.precision,
            device=str(device),
            evaluation=evaluation_of(task, config),
            random_streams=streams,
            loader=loader,
            recording=recording,
            checkpoint=Checkpoints(every=config.checkpoint.every, keep=config.checkpoint.keep, keep_final=False),
            run_dir=run.path,
            should_stop=stop,
        ).status


def _recording(config: Config, facts: dict[str, Any]) -> Recording:
    """Return what the loop records. facts: of the task, for the fingerprint."""
    from ablate.training.grad_norms import GROUPINGS
    from ablate.training.run_recorder import Recording

    return Recording(
        grad_norm_groups=GROUPINGS[config.record.grad_norm_groups],
        update_ratio=config.record.update_ratio,
        noise_scale=config.record.grad_noise_scale,
        flush_every=config.record.flush_every,
        device_peak_flops=config.record.device_peak_flops,
        facts=facts,
    )


def _manifest(
    config: Config, changes: dict[str, Any], digest: str, planned: Planned, continued: Manifest | None
) -> Manifest:
    code = hashed_again(planned.code) if planned.code else code_files([config.task.entry_point])
    started = now()
    before = continued.sessions if continued else []
    return Manifest(
        arm=config.arm,
        seed=config.seed,
        overrides=changes,
        digest=digest,
        request=planned.request,
        code_digest=code_digest(code),
        code=code,
        sessions=[*before, {"started": started, "code_digest": code_digest(code)}],
        git=git_state(),
        versions=versions(PACKAGES),
        started=started,
    )


def _check_code(planned: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise StudyError where a file has changed since the study was planned: runs of both must not be mixed silently."""
    if planned and (changed := changed_files(planned, found)):
        raise StudyError(
            f"the code has changed since the study was planned: {', '.join(changed)}",
            "the same command again names the runs that other code has made, and how to keep them",
        )


def _check_data(planned: str, found: str, config: Config) -> None:
    """Raise DataError where the data have changed since the study was planned."""
    if not planned or found == planned:
        return
    where = config.task.entry_point or config.data.path or config.data.name
    hint = "; the data of a task must not depend on the run's seed" if config.task.entry_point else ""
    raise DataError(
        f"the data of {where} have changed since the study was planned (digest {planned[:12]} then, "
        f"{found[:12] or 'none'} now){hint}",
        "restore the file, or study.name=<another> for a study of the present data",
    )


def _continued(run: RunDir, digest: str, request: str) -> Manifest | None:
    """Return the manifest of an earlier try whose checkpoint this run continues from; None where the run begins again.

    It must be of the same config by the same code. request: digest without the code, if a try by other code will do.
    """
    _, earlier, _ = stored(run)
    if not (run.checkpoint.exists() and earlier is not None and digest):
        return None
    if run.progress.exists():
        try:
            read_json(run.progress)
        except (OSError, ValueError) as error:
            print(f"{run.progress.name} is damaged ({error}): the counts of the earlier sessions are lost", flush=True)
            run.progress.unlink()
    return earlier if earlier.digest == digest or (request and earlier.request == request) else None


def _clear(run: RunDir) -> None:
    """Remove what an earlier try left except its log: a new try must not be read together with an old one."""
    for path in (run.trace, run.evals, run.predictions, run.fingerprint, run.progress):
        path.unlink(missing_ok=True)
    shutil.rmtree(run.checkpoint, ignore_errors=True)


def _start_follower(config: Config, run: RunDir) -> None:
    """Start what sends the run to trackers. Nothing waits for it: it goes on by itself, and has a deadline."""
    if config.tracker.name != "none":
        from ablate import tracking as track

        track.start(run, config)


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Wait until no other process works on this run. The lock ends with its process, so a kill leaves none behind."""
    file = open_own(run.path / ".lock", 0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
