"""Every error that ablate raises on purpose.

    AblateError                 the problem, and the text to type instead
    ├── ConfigError             a key or value of the configuration
    │   └── IntervalError       "20 stesp" is not an interval
    ├── AxisError               an axis that does not exist, or does not vary exactly one thing
    ├── DataError               a data set that is missing, empty or cannot be split
    ├── ModelError              a model that is missing or cannot be loaded
    ├── StudyError              a study directory with another plan, or with runs of other code
    ├── RecordError             a run directory that cannot be read or written
    │   └── DiskFullError       no space left on the disk of the runs
    └── LoopError               a training setup that cannot take a step

All of them mean "the request cannot be met": the command line prints the message and exits with 2.
A run that fails while it trains is not an exception for the study: it is a `RunStatus`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AblateError(Exception):
    """A request that cannot be met.

    problem: one sentence that quotes the input and states what was expected.
    fix: the text to type instead, or the step that helps.
    """

    exit_code = 2

    def __init__(self, problem: str, fix: str | None = None) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return self.problem if self.fix is None else f"{self.problem}\n  fix: {self.fix}"


class ConfigError(AblateError): ...


class IntervalError(ConfigError): ...


class AxisError(AblateError): ...


class DataError(AblateError): ...


class ModelError(AblateError): ...


class StudyError(AblateError): ...


class RecordError(AblateError): ...


class DiskFullError(RecordError):
    exit_code = 1  # what was typed is fine


class LoopError(AblateError): ...


def nearest(text: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known names, or all of them if none is near."""
    names = sorted(known)
    near = get_close_matches(text, names, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(name) for name in near) + "?"
    return "known: " + ", ".join(names)
