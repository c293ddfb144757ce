"""The command line: verbs, and everything else handed to Hydra. No logic.

Exit codes: 0 all fine; 1 a run or a control failed; 2 the request cannot be met as typed; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from ablate.cli._parser import ACCEPT, refuse
from ablate.cli.run import through_hydra
from ablate.errors import AblateError, ConfigError, nearest

_HELP = """\
ablate: which single variable caused the difference?

  ablate [key=value ...]                      one run of the base config
  ablate -m axis=batch_size,dropout           a study: the baseline and every level of each axis, x seeds
  ablate -m data.batch_size=8,64              the same for any key
  ablate -m axis=a,b study.design=factorial   every combination: do they interact? also fractional, pairs
  ablate -m study=reference                   the reference study

  ablate plan axis=batch_size study.seeds=5   what would run, what is done, what is free, how long; runs nothing
  ablate power runs/pilot                     how many seeds? also from an assumed --sd, --rho and --smallest-effect
  ablate axes                                 the standard ablations, one line each; `ablate doctor`: what works here
  ablate attribute a.yaml b.yaml study.seeds=5   how much of the difference does each key that differs make?
  ablate mediate KEY=a,b --through grad_noise does it act through the gradient's noise? holds that, and looks
  ablate import baseline=out/a large=out/b    read runs made elsewhere (Trainer, W&B, TensorBoard, CSV)
  ablate status runs/reference                how far it is; `ablate stop` ends it for now; `ablate retry`: failed runs

  ablate report runs/reference                make tables and page anew
  ablate resample runs/reference                what would I have seen at another cadence?
  ablate table runs/reference                 for a paper, LaTeX or CSV; `ablate figures` draws, `ablate methods` writes
  ablate compare RUN RUN                      two runs side by side, and what that proves; `ablate diff`: what differs
  ablate bundle runs/reference                its evidence as one archive; `ablate verify` checks it elsewhere
  ablate sync runs/reference --to wandb       send it to W&B, TensorBoard or MLflow

  --accept-code-change                        keep a study's runs that other code has made, and say so

`ablate <verb> --help` has more on a verb; `ablate --hydra-help` lists the config groups and Hydra's own flags,
`--config-dir DIR` adds your own config files, `--cfg job` prints a config, `ablate completion bash` is for the tab key.
"""

VERBS = {
    "plan": "plan",
    "power": "plan",
    "axes": "plan",
    "report": "report",
    "table": "report",
    "figures": "report",
    "methods": "report",
    "compare": "inspect",
    "diff": "inspect",
    "resample": "inspect",
    "import": "exchange",
    "bundle": "exchange",
    "verify": "exchange",
    "sync": "exchange",
    "attribute": "attribute",
    "mediate": "attribute",
    "status": "study",
    "stop": "study",
    "retry": "study",
    "doctor": "system",
    "completion": "system",
}
"""A verb, and the module of `ablate.cli` that has its function `run_<verb>`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(typed)
    except AblateError as error:
        return refuse(error)
    except KeyboardInterrupt as interrupt:
        how = str(interrupt) or "interrupted"
        print(f"ablate: {how}; finished runs are kept, and the same command goes on with the rest", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever was reading has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        from ablate.runner.failures import disk_full, is_disk_full

        if not is_disk_full(error):
            raise
        return refuse(disk_full(Path(error.filename or ".")))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _dispatch(typed: list[str]) -> int:
    first = typed[0] if typed else ""
    if first in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    if first == "--version":
        from importlib.metadata import version

        print(f"ablate {version('torch-ablate')}")
        return 0
    if first in VERBS:
        return run_verb(first, typed[1:])
    if first and not first.startswith(("-", "+", "~")) and "=" not in first:
        raise ConfigError(f"{first!r} is neither a verb nor key=value", nearest(first, VERBS))
    return through_hydra([ACCEPT if text == "--accept-code-change" else text for text in typed])


def run_verb(verb: str, typed: list[str]) -> int:
    """Run one of `VERBS` on what was typed after it; return the exit code."""
    module = import_module(f"ablate.cli.{VERBS[verb]}")
    return cast(int, getattr(module, f"run_{verb}")(typed))
