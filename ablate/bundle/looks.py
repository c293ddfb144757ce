"""Whether the looks of a study that adds seeds found what its runs say: each is made anew, from the runs up to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ablate.analysis.study import look_at
from ablate.bundle.compare import where
from ablate.design.plan import Plan
from ablate.record.rundir import StudyDir, write_json


def looks_again(folder: Path, plan: Plan) -> Iterator[str]:
    """What does not fit. folder: unpacked, and ours to move files in. When a look was made is not made anew."""
    study, aside = StudyDir(folder), folder.parent / "looks"
    aside.mkdir()
    there = [study.look(seeds) for seeds in plan.looks if study.look(seeds).exists()]
    for path in there:
        path.rename(aside / path.name)
    for path in there:
        received, again = aside / path.name, aside / "again.json"
        try:
            value = json.loads(received.read_bytes())
            write_json(again, {**look_at(folder), "made": value["made"]})
            if said := where(path.name, received, again):
                yield f"{path.name} differs {said}"
        except Exception as error:  # whatever was sent
            yield f"{path.name} cannot be made anew: {type(error).__name__}: {error}"[:300]
        received.rename(path)
