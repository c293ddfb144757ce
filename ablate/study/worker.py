"""One run of a study in this process: from a Config to a finished run folder. The side of a study that imports torch."""

from __future__ import annotations

import fcntl
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import yaml

from ablate.config import Config
from ablate.errors import AblateError, RecordError
from ablate.loop.signals import stop_on_signals
from ablate.record.digest import code_digest
from ablate.record.provenance import git_state, now, versions
from ablate.record.rundir import RunDir, write_text
from ablate.record.values import Manifest, Outcome, read_manifest, read_outcome, write_value

_PACKAGES = ("torch", "transformers", "datasets", "numpy", "pyarrow", "torch-ablate")


def execute(
    config: Config,
    run: RunDir,
    *,
    changes: dict[str, Any],
    digest: str,
    stop: Callable[[], str | None] = lambda: None,
) -> Outcome:
    """Train one arm at one seed and leave its whole record. A failure is an outcome with a sentence, not an exception.

    stop(): polled at every step; a reason ends the run as `interrupted`. Raises RecordError where nothing can be written.
    """
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        with _alone(run), stop_on_signals() as caught:
            return _execute(config, run, changes, digest, lambda: caught() or stop())
    except OSError as error:
        problem = f"{run.path} cannot be written: {error.strerror or error}"
        raise RecordError(problem, "study.root=FOLDER for another place") from error


def _execute(
    config: Config, run: RunDir, changes: dict[str, Any], digest: str, stop: Callable[[], str | None]
) -> Outcome:
    _clear(run, digest)
    write_text(run.config, yaml.safe_dump(asdict(config), sort_keys=False))
    manifest = _manifest(config, changes, digest)
    write_value(run, manifest)
    follower = _start_follower(config, run)
    try:
        outcome = _train(config, run, manifest, stop)
    except Exception as error:
        traceback.print_exc()
        sentence = error.problem if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
        # The loop has written how far it came; what fails before it leaves the writing to us.
        outcome = read_outcome(run) or Outcome(status="failed", reason=type(error).__name__, sentence=sentence)
        write_value(run, outcome)
    manifest.ended = now()
    write_value(run, manifest)
    if follower is not None:
        follower.wait()
    return outcome


def _train(config: Config, run: RunDir, manifest: Manifest, stop: Callable[[], str | None]) -> Outcome:
    import torch

    from ablate.loop.fingerprint import environment
    from ablate.loop.grad_norm import GROUPINGS
    from ablate.loop.precision import pick_device
    from ablate.loop.saver import Checkpoints
    from ablate.loop.streams import Streams
    from ablate.loop.train import train
    from ablate.tasks.task import build_task, quicken

    device = pick_device(config.loop.device)
    manifest.device = str(environment(device)["device"])
    manifest.num_threads = torch.get_num_threads()
    write_value(run, manifest)
    streams = Streams(seed=config.seed, **asdict(config.streams))
    task = build_task(config, streams)
    task.model.to(device)
    manifest.padding = quicken(task.model, config.loop)
    print(f"padding: {manifest.padding}", flush=True)
    write_value(run, manifest)
    return train(
        task.model,
        task.examples,
        task.objective,
        optimizer=_optimizer(config, task.model),
        budget=config.loop.budget,
        batch_size=config.data.batch_size,
        accumulate=config.loop.accumulate,
        schedule=config.optim.schedule,
        warmup=config.optim.warmup,
        clip_norm=config.loop.clip_norm,
        precision=config.loop.precision,
        device=str(device),
        evaluation=task.evaluation,
        collate=task.collate,
        num_tokens=task.num_tokens,
        streams=streams,
        ids=task.ids,
        grouping=GROUPINGS[config.observe.norm_groups],
        folder=run.path,
        facts=task.facts,
        num_workers=config.loop.num_workers,
        update_ratio=config.observe.update_ratio,
        noise_scale=config.observe.noise_scale,
        checkpoints=Checkpoints(
            every=config.loop.checkpoint_every, keep=config.loop.keep_checkpoints, keep_final=False
        ),
        flush_every=config.observe.flush_every,
        max_skipped=config.loop.max_skipped,
        assumed_peak=config.observe.assumed_peak_flops,
        stop=stop,
    ).outcome


def _optimizer(config: Config, model: Any) -> Any:
    """The optimizer, fused where it can be; biases and normalisation weights are not decayed."""
    import torch

    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trainable if p.dim() > 1]
    plain = [p for name, p in trainable if p.dim() <= 1]
    optim = config.optim
    groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.beta1, fused=True)
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True)


def _manifest(config: Config, changes: dict[str, Any], digest: str) -> Manifest:
    return Manifest(
        arm=config.arm,
        seed=config.seed,
        overrides=changes,
        digest=digest,
        code_digest=code_digest(),
        git=git_state(),
        versions=versions(_PACKAGES),
        started=now(),
    )


def _clear(run: RunDir, digest: str) -> None:
    """Remove what an earlier try at this run left, its log apart: a new try must not be read together with an old one.

    A try of the same config by the same code that has left a checkpoint is not old: the run goes on from there.
    """
    run.outcome.unlink(missing_ok=True)
    if run.checkpoint.exists() and run.manifest.exists() and digest and read_manifest(run).digest == digest:
        return
    for path in (run.trace, run.evals, run.fingerprint, run.progress):
        path.unlink(missing_ok=True)
    shutil.rmtree(run.checkpoint, ignore_errors=True)


def _start_follower(config: Config, run: RunDir) -> Any:
    if config.tracker.name == "none":
        return None
    from ablate.study import track

    return track.start(run, config)


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Wait until no other process works on this run. The lock goes with its process, so a kill leaves none behind."""
    file = os.open(run.path / ".lock", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
