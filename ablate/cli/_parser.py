"""What every verb has: a parser that shows examples, counts, a console; and how a refusal is printed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ablate.study_command import ACCEPT as ACCEPT


def parser_of(verb: str, says: str, *examples: str) -> argparse.ArgumentParser:
    shown = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    kind = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"ablate {verb}", description=says, epilog=shown, formatter_class=kind)


def count(typed: str) -> int:
    if not typed.isdecimal() or int(typed) < 1:
        raise argparse.ArgumentTypeError(f"{typed!r} is not a whole number of at least 1")
    return int(typed)


def less(typed: Sequence[str], *options: str) -> list[str]:
    return [text for text in typed if text not in (*options, "--accept-code-change")]


def console() -> Any:
    from rich.console import Console

    return Console()
