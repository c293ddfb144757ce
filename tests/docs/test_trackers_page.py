"""The page on trackers says what is sent, name by name."""

from __future__ import annotations

from pathlib import Path

from ablate.tracking.backends import BACKENDS
from ablate.tracking.rows import AXES, EVAL, STUDY, TRAIN


def test_every_name_stands_there_with_its_unit(repo: Path) -> None:
    text = (repo / "docs" / "how-to" / "trackers.md").read_text(encoding="utf-8")
    for name, (unit, what) in {**AXES, **TRAIN, **EVAL}.items():
        assert f"| `{name}` | {unit} | {what} |" in text
    for name in STUDY:
        assert f"`{name}`" in text
    for name in BACKENDS:
        assert f"tracker={name}" in text
