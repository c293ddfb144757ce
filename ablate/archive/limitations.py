"""What a check of an archive cannot tell, said each time; and how the machine that checks differs from the one that made it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablate.archive.manifest import Contents, others, own_code, own_version
from ablate.design.plan import Plan
from ablate.errors import RecordError
from ablate.records.layout import RunDir
from ablate.records.metadata import Manifest, read_manifest
from ablate.records.source_code import changed_files, code_files
from ablate.serialization import read_text


def beyond(runs: Sequence[RunDir], plan: Plan | None, *, published: bool) -> tuple[str, ...]:
    """Sentences, the gravest first."""
    return tuple(_beyond([one for run in runs if (one := _manifest(run)) is not None], plan, published))


def _beyond(manifests: Sequence[Manifest], plan: Plan | None, published: bool) -> Iterator[str]:
    if not published:
        yield (
            "whether somebody rewrote all of it consistently: it is not signed. The maker's SHA-256, told by another way, "
            "settles that: --sha256"
        )
    yield "whether the runs were trained as recorded: that takes their data, their code and the time to train them again"
    yield "times, device names, log.txt, and which versions made the report: nothing else in the archive follows from them"
    if plan is None:
        yield "what was decided beforehand: there is no plan, so metric and smallest effect may have been chosen afterwards"
    else:
        yield "whether the plan was frozen before the first run, and no other study was run and left away"
        yield "data and models: the archive has their digests, not the files"
    elsewhere = sum(bool(manifest.origin) for manifest in manifests)
    if elsewhere:
        yield f"where the numbers of {elsewhere} imported runs come from: of their logs the archive has the hashes alone"
    own = sorted({name for one in manifests for name in (*one.code, *one.imported) if not name.startswith("ablate/")})
    if own:
        named = ", ".join(own[:3]) + (", ..." if len(own) > 3 else "")
        yield f"code of the user's: the archive has the hashes of {len(own)} files ({named}), not the files"


def here(contents: Contents | None, locked: Path | None, runs: Sequence[RunDir]) -> tuple[str, ...]:
    """Differences to this machine: they may be why a file that is made anew is another, and what a repeat would not share."""
    return tuple(_here(contents, locked, runs))


def _here(contents: Contents | None, locked: Path | None, runs: Sequence[RunDir]) -> Iterator[str]:
    if contents is not None and (changed := changed_files(contents.code, own_code())):
        theirs, ours = contents.ablate or "an unknown version", own_version() or "an unknown version"
        yield f"the report was made by other code ({theirs} there, {ours} here): {_some(changed)}"
    if locked is not None:
        try:
            versions = others(read_text(locked))
        except (OSError, ValueError):
            versions = []
        if versions:
            yield f"other versions: {', '.join(versions)}"
    installed = code_files()
    recorded = [one.code for run in runs if (one := _manifest(run)) is not None and one.code]
    theirs_by_file = {name: sha for code in recorded for name, sha in code.items() if name.startswith("ablate/")}
    if theirs_by_file and (changed := changed_files(theirs_by_file, installed)):
        said = "the runs were trained by other code than is installed here, so a repeat would not be the same run"
        yield f"{said}: {_some(changed)}"


def _some(changed: Sequence[str]) -> str:
    return ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def _manifest(run: RunDir) -> Manifest | None:
    try:
        return read_manifest(run)
    except RecordError:
        return None
