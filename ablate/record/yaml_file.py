"""Reading YAML that may come from anywhere: plain values, and nothing that grows, or overflows a stack, while it is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.events import AliasEvent

from ablate.record.rundir import read_text

_QUICK: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUICK_CHARACTERS = 8000
"""The C parser goes as deep as it is told to, and dies of 30,000 brackets; a run's config is a fifth of this."""

_ALIAS = re.compile(r"(^|[\s,\[{:-])\*\S")


class _Careful(yaml.SafeLoader):
    """Follows no alias: a few lines of them stand for billions of values. Text that nests too deep is an error of Python."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(AliasEvent):
            raise yaml.YAMLError("it holds an alias (*name), which no config of a run does")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """The value that a YAML file holds; no tag becomes an object of Python. Raises OSError or ValueError."""
    text = read_text(path)
    quick = len(text) <= _QUICK_CHARACTERS and not _ALIAS.search(text)
    try:
        return yaml.load(text, Loader=_QUICK if quick else _Careful)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
