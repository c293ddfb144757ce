"""Run every command of README.md and of the tutorial in an empty folder, at debug size: `python docs/run_commands.py`.

Commands that train keep their keys and get `debug=quick` and two seeds, so that each takes seconds. They share one folder of
runs, so that equal runs are trained once. A word in capitals (`runs/STUDY`) stands for the result of an earlier command, and
the input files (`reviews.csv`) are created first.

Installation commands are not run. For a `make` target its last line is run. A command that needs a model hub is only
composed (`--cfg job`). `--list` prints what is done with each command.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import make_tutorial

REPO = Path(__file__).parents[1]
PAGES = (REPO / "README.md", REPO / "docs" / "tutorial.md")

STANDS_FOR = {
    "axis=NAME,...": "axis=batch_size,eval_every,placebo study.name=STUDY",
    "axis=NAME": "axis=batch_size",
    "axes NAME": "axes batch_size",
    "runs/PILOT": "runs/STUDY",
    "RUN RUN": "runs/STUDY/baseline/seed=0 runs/STUDY/batch_size=64/seed=0",
    "attribute A B": "attribute '' data.batch_size=64",
    "KEY=a,b": "data.batch_size=8,64 --through grad_noise",
    "verify FILE": "verify STUDY.tar",
    "--to wandb": "--to tensorboard",
    "baseline=out/a,out/b ...": "baseline=out/a.csv,out/b.csv large=out/c.csv,out/d.csv",
}
"""Replacements for words that a reader replaces, and a tracker on disk for one that needs a network."""

SMALLER = {
    r"study\.seeds=\d+": "study.seeds=2",
    r"train\.budget='?[\w ]+'?": "train.budget='256 samples'",
    r"eval\.max_examples=\d+": "eval.max_examples=32",
}
QUICK = ("debug=quick", "study.seeds=2")
NO_QUICK = {
    "task=causal_lm": ("train.budget='16 samples'", "eval.max_examples=16", "study.seeds=2"),
    "study.stopping=sequential": ("debug=quick", "study.seeds=3"),
}
"""Words of a command that exclude `debug=quick`, and the overrides that make it small instead."""

NEEDS_NO_ARGUMENT = ("axes", "doctor")
MAY_RETURN_1 = ("diff",)
"""Verbs whose exit code is 1 when they report a difference."""
NEEDS_HUB = re.compile(r"(model|data)\.name=[\w-]+/|study=reference_imdb|data=imdb\b|model=(bert|gpt2)\b")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page, and what is run for it."""

    page: str
    text: str
    """The command as written on the page."""
    run: str
    """The command to run; '' if none."""
    why: str = ""
    """Reason why it is not run, or not run as written."""


def commands() -> list[Command]:
    """Return every command of the pages once, in their order; a command whose result others read comes first."""
    unique = {text: _command(page.name, text) for page in PAGES for text in _texts(page.read_text(encoding="utf-8"))}
    named = [_with_study_name(command, index) for index, command in enumerate(unique.values(), 1)]
    return sorted(named, key=lambda command: "study.name=STUDY" not in command.run or "plan" in command.run)


def _with_study_name(command: Command, index: int) -> Command:
    """Give each study its own name: a folder contains one plan."""
    trains = re.match(r"ablate (-m|plan|attribute|mediate) (?!--help)", command.run) and "--cfg" not in command.run
    if not trains or "study.name=" in command.run:
        return command
    return replace(command, run=f"{command.run} study.name=of_{index}")


def _texts(text: str) -> Iterator[str]:
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        yield from make_tutorial.lines(block)
    yield from re.findall(r"`((?:ablate|make) [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _command(page: str, text: str) -> Command:
    words = shlex.split(text)
    if words[0] == "make":
        last = last_line_of_make(words)
        return Command(page, text, small(last) if last.startswith("ablate") else "", f"make --dry-run: {last}")
    if words[0] != "ablate":
        return Command(page, text, "", "installs something")
    plain = text
    for word, meaning in STANDS_FOR.items():
        plain = plain.replace(word, meaning)
    if len(words) == 2 and "=" not in words[1] and words[1] not in NEEDS_NO_ARGUMENT:
        return Command(page, text, f"{plain} --help", "only the name of a verb: its help")
    if NEEDS_HUB.search(plain):
        return Command(page, text, f"{plain.replace(' -m ', ' ')} --cfg job", "needs a hub: composed, not run")
    return Command(page, text, small(plain))


def last_line_of_make(words: list[str]) -> str:
    """Return the last line that `make` would run for a target, without the environment's folder."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "--no-print-directory", "--directory", str(REPO), "VENV=.none", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)}: {done.stderr.strip()}")
    last = done.stdout.splitlines()[-1].replace(".none/bin/", "").replace('"$@" ', "").strip()
    return re.sub(r"^.*?(?=ablate -m )", "", last)  # a target may run another command first


def small(command: str) -> str:
    """Return a command at debug size if it trains, otherwise unchanged."""
    words = shlex.split(command)
    trains = words[1] in ("-m", "plan", "attribute", "mediate") or ("=" in words[1] and not words[1].startswith("-"))
    if not trains:
        return command
    for pattern, less in SMALLER.items():
        command = re.sub(pattern, less, command)
    more = next((more for word, more in NO_QUICK.items() if word in command), QUICK)
    return " ".join([command, *(override for override in more if override.partition("=")[0] + "=" not in command)])


def prepare(folder: Path) -> None:
    """Create the files that the commands read."""
    rows = [f'"a {word} film, number {k}",{stars}' for k in range(120) for word, stars in (("fine", 5), ("dull", 1))]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    (folder / "book.txt").write_text(
        "\n\n".join(f"Chapter {k}. It was a {k % 7} day in the city." * 4 for k in range(60))
    )
    (folder / "a.yaml").write_text("data:\n  batch_size: 8\n")
    (folder / "b.yaml").write_text("data:\n  batch_size: 32\noptim:\n  lr: 1.0e-4\n")
    (folder / "out").mkdir()
    for index, name in enumerate("abcd"):
        steps = (f"{step},{0.7 - step / 100 - index / 50},{0.7 - step / 120 - index / 50}" for step in range(1, 21))
        (folder / "out" / f"{name}.csv").write_text("\n".join(["step,loss,eval_loss", *steps]) + "\n")


def main() -> int:
    """Run all commands. Return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print what is done with each command, and run nothing")
    parser.add_argument("--in", dest="folder", type=Path, help="folder to run in; default is a temporary one")
    parser.add_argument(
        "--within", type=float, default=float("inf"), metavar="SECONDS", help="time after which no command is started"
    )
    args = parser.parse_args()
    ends = time.monotonic() + args.within
    if args.list:
        for command in commands():
            print(
                f"{command.page}: {command.text}\n    {command.run or 'not run'}{command.why and f'  ({command.why})'}"
            )
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        to_run = [command for command in commands() if command.run]
        succeeded = [_succeeds(command, folder) for command in to_run if time.monotonic() < ends]
    failed = succeeded.count(False)
    print(f"{len(succeeded)} commands, {failed} failed; {len(to_run) - len(succeeded)} not reached")
    return int(failed > 0)


def _succeeds(command: Command, folder: Path) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        command.run, shell=True, cwd=folder, capture_output=True, text=True, env=make_tutorial.environment()
    )
    ok = done.returncode == 0 or (done.returncode == 1 and command.run.split()[1] in MAY_RETURN_1)
    status = "ok" if ok else f"exit {done.returncode}"
    print(f"{status:>7} {time.monotonic() - began:5.1f} s  {command.run}", flush=True)
    if not ok:
        print(f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}", flush=True)
    return ok


if __name__ == "__main__":
    sys.exit(main())
