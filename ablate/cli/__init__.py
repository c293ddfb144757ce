"""The command line: verbs, and everything else handed to Hydra.

Exit codes: 0 success; 1 a run or a control failed; 2 the request cannot be met; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from ablate.cli.run import through_hydra
from ablate.errors import AblateError, ConfigError, RecordError, nearest
from ablate.redact import hide_secrets_of
from ablate.study_command import ACCEPT, print_refusal

_HELP = """\
ablate: which single variable caused the difference?

  ablate [key=value ...]                      one run of the base config
  ablate -m axis=batch_size,dropout           a study: the baseline and every value of each axis, x seeds
  ablate -m data.batch_size=8,64              the same for any key
  ablate -m axis=a,b study.design=factorial   every combination: do they interact? also fractional, pairwise
  ablate -m study=reference                   the reference study

  ablate plan axis=batch_size study.seeds=5   what would run, what is done or reused, how long; runs nothing
  ablate power runs/pilot                     how many seeds? also from an assumed --sd, --rho and --smallest-effect
  ablate axes                                 the standard ablations, one line each; `ablate doctor`: what works here
  ablate attribute a.yaml b.yaml              how much of the difference does each differing key make?
  ablate mediate KEY=a,b --through grad_noise how much of an effect passes through the gradient noise?
  ablate import baseline=out/a large=out/b    read runs made elsewhere (Trainer, W&B, TensorBoard, CSV)
  ablate status runs/reference                how far it is; `ablate stop` stops it; `ablate retry` repeats failed runs

  ablate report runs/reference                write tables and page again
  ablate resample runs/reference              what would another evaluation cadence have shown?
  ablate table runs/reference                 for a paper, LaTeX or CSV; `ablate figures` draws, `ablate methods` writes
  ablate compare RUN RUN                      two runs side by side, and what that shows; `ablate diff`: what differs
  ablate bundle runs/reference                its evidence as one archive; `ablate verify` checks one
  ablate sync runs/reference --to wandb       send it to W&B, TensorBoard or MLflow

  --accept-code-change                        keep runs that other code has made; the report says so

A directory or archive that you received is data: no verb runs its code, writes outside of it or sends it unless
you ask for it.

`ablate <verb> --help` has more on a verb; `ablate --hydra-help` lists the config groups and Hydra's own flags,
`--config-dir DIR` adds your own config files, `--cfg job` prints a config, `ablate completion bash` is for the tab key.
"""

_MODULES = {
    "plan": ("plan", "power", "axes", "attribute", "mediate"),
    "report": ("report", "table", "figures", "methods"),
    "study": ("status", "stop", "retry", "compare", "diff", "resample"),
    "exchange": ("import", "bundle", "verify", "sync"),
    "doctor": ("doctor",),
    "completion": ("completion",),
}
VERBS = {verb: module for module, verbs in _MODULES.items() for verb in verbs}
"""{verb: module of `ablate.cli` with the function `run_<verb>`}."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    hide_secrets_of(argv)
    try:
        return _dispatch(argv)
    except AblateError as error:
        return print_refusal(error)
    except KeyboardInterrupt as interrupt:
        reason = str(interrupt) or "interrupted"
        print(f"ablate: {reason}; finished runs are kept, and the same command goes on with the rest", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        from ablate.runner.failures import disk_full, is_disk_full

        if is_disk_full(error):
            return print_refusal(disk_full(Path(error.filename or ".")))
        where = f"{error.filename}: " if error.filename else ""
        fix = "a copy of the folder that you may read and write" if isinstance(error, PermissionError) else None
        return print_refusal(RecordError(f"{where}{error.strerror or error}", fix))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _dispatch(argv: list[str]) -> int:
    first = argv[0] if argv else ""
    if first in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"ablate {version('torch-ablate')}")
        return 0
    if first in VERBS:
        return run_verb(first, argv[1:])
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        raise ConfigError(f"expected a verb or key=value, got {first!r}", nearest(first, VERBS))
    return through_hydra([ACCEPT if text == "--accept-code-change" else text for text in argv])


def run_verb(verb: str, argv: list[str]) -> int:
    """Run one of `VERBS` with its arguments; return the exit code."""
    module = import_module(f"ablate.cli.{VERBS[verb]}")
    return cast(int, getattr(module, f"run_{verb}")(argv))
