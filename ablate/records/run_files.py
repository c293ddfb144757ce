"""One run as it is stored on disk: finished, ended otherwise, still going, or not there. The one reader of a run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import (
    Fingerprint,
    Manifest,
    Origin,
    RunStatus,
    origin_of,
    read_fingerprint,
    read_manifest,
    read_status,
)
from ablate.records.reader import EvalCurve, Trace, read_evals, read_trace
from ablate.records.returned_values import read_returned


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFiles:
    """Everything that one run directory holds.

    status: that of the run's status file, or `running` (still going, or killed), `missing`, `unreadable`.
    sentence: the status in words.
    trace, curves: of a finished run; curves by metric, on the held-out split.
    returned: values of an external app; such a run may have neither trace nor curves.
    """

    arm: str
    seed: int
    folder: RunDir
    status: str
    sentence: str
    manifest: Manifest | None = None
    outcome: RunStatus | None = None
    fingerprint: Fingerprint | None = None
    trace: Trace | None = None
    curves: dict[str, EvalCurve] | None = None
    returned: dict[str, float] | None = None

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def origin(self) -> Origin | None:
        """Source of an imported run; None for one that was recorded."""
        return origin_of(self.manifest.origin) if self.manifest is not None else None

    @property
    def sparse(self) -> bool:
        """True for an imported run without a gradient norm for each of its steps."""
        if self.manifest is None or not self.manifest.origin:
            return False
        trace = self.trace
        return trace is None or not (len(trace) and trace.every_step and trace.recorded("grad_norm").all())

    @property
    def weights(self) -> str | None:
        """Hash of the final weights of a finished run."""
        return self.outcome.weights_sha256 if self.outcome and self.finished else None

    def recorded_trace(self) -> Trace | None:
        """Return the steps recorded so far, also of a run that did not finish; None where there are none to read."""
        if self.trace is not None:
            return self.trace
        try:
            return read_trace(self.folder.trace)
        except RecordError:
            return None


def read_run(folder: RunDir, *, arm: str, seed: int, accept: Callable[[Manifest], bool] | None = None) -> RunFiles:
    """Read a run directory; a directory that cannot be read becomes a status with its reason and raises nothing.

    arm, seed: of the run that is expected there. accept: of a manifest, False for another run than the expected one; such a
    run counts as missing.
    """
    run = RunFiles(arm=arm, seed=seed, folder=folder, status="missing", sentence="has not been started")
    if not folder.manifest.exists():
        return run
    if folder.leads_out():
        reason = f"{folder.path} or a file in it is a link that leads out of the study, and is not followed"
        return replace(run, status="unreadable", sentence=reason)
    try:
        manifest, outcome, fingerprint = read_manifest(folder), read_status(folder), read_fingerprint(folder)
        if accept is not None and not accept(manifest):
            return replace(run, sentence="the folder holds a run of other settings or other code than the plan's")
        run = replace(run, manifest=manifest, outcome=outcome, fingerprint=fingerprint)
        if outcome is None:
            trace = run.recorded_trace()
            steps = "no step recorded" if trace is None else f"{len(trace)} steps recorded"
            return replace(run, status="running", sentence=f"no outcome yet, {steps}: still going, or killed")
        run = replace(run, status=outcome.status, sentence=outcome.message)
        if not run.finished:
            return run
        run = replace(run, returned=read_returned(folder))
        if run.returned is not None and not folder.trace.exists():
            return run
        evals = read_evals(folder.evals)
        curves = {metric: evals.curve(metric) for metric in evals.metrics()}
        return replace(run, trace=read_trace(folder.trace), curves=curves)
    except (RecordError, TypeError) as error:
        return replace(run, outcome=None, status="unreadable", sentence=str(error))


def read_single_run(folder: RunDir) -> RunFiles:
    """Read a run independently of its study. Raises RecordError where its manifest cannot be read."""
    if folder.leads_out():
        raise RecordError(
            f"{folder.path} or a file in it is a link that leads out, and is not followed", "copy the files"
        )
    manifest = read_manifest(folder)
    run = read_run(folder, arm=manifest.arm, seed=manifest.seed)
    return run if run.manifest is not None else replace(run, manifest=manifest)
