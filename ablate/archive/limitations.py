"""Limits of a verification, and the differences between the machine that verifies and the one that made the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ablate.archive.manifest import BundleManifest, own_code, own_version, version_differences
from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.records.source_code import changed_files, code_files
from ablate.serialization import read_text


def limitations(runs: Sequence[RunDir], plan: Plan | None, *, published: bool) -> Iterator[str]:
    """Yield what an archive cannot prove, most important first. published: whether its SHA-256 was given."""
    manifests = _manifests(runs)
    if not published:
        yield (
            "whether the whole archive was rewritten consistently: it is not signed. Compare it with the SHA-256 that its "
            "author published: --sha256"
        )
    yield "whether the runs were trained as recorded: that requires their data, their code and training them again"
    yield "times, device names, log.txt and the versions that made the report: nothing else in the archive depends on them"
    if plan is None:
        yield "what was decided beforehand: without a plan, metric and smallest effect may have been chosen afterwards"
    else:
        yield "whether the plan was frozen before the first run, and whether other studies were run and left out"
        yield "data and models: the archive contains their digests, not the files"
    imported = sum(bool(manifest.origin) for manifest in manifests)
    if imported:
        yield f"where the numbers of {imported} imported runs come from: the archive contains only hashes of their logs"
    custom = {name for manifest in manifests for name in (*manifest.code, *manifest.imported)}
    names = sorted(name for name in custom if not name.startswith("ablate/"))
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        yield f"the user's code: the archive contains the hashes of {len(names)} files ({shown}), not the files"


def machine_differences(manifest: BundleManifest | None, lock: Path | None, runs: Sequence[RunDir]) -> Iterator[str]:
    """Yield differences to this machine, which may explain why a rebuilt file differs."""
    if manifest is not None and (changed := changed_files(manifest.code, own_code())):
        there, here = manifest.ablate or "unknown version", own_version() or "unknown version"
        yield f"the report was made by other code ({there} there, {here} here): {_shown(changed)}"
    if lock is not None:
        with suppress(OSError, ValueError):
            if versions := version_differences(read_text(lock)):
                yield f"other versions: {', '.join(versions)}"
    code = {name: sha for one in _manifests(runs) for name, sha in one.code.items() if name.startswith("ablate/")}
    if code and (changed := changed_files(code, code_files())):
        yield f"the runs were trained by other code than is installed here, so a rerun would differ: {_shown(changed)}"


def _shown(changed: Sequence[str]) -> str:
    return ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def _manifests(runs: Sequence[RunDir]) -> list[Manifest]:
    manifests = []
    for run in runs:
        with suppress(RecordError):
            manifests.append(read_manifest(run))
    return manifests
