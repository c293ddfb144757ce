"""Runs every command of README.md and of the tutorial in an empty folder, at debug size: `python docs/run_commands.py`.

Commands that train keep their keys and get `debug=quick` and two seeds, so that each takes seconds; all share one folder of
runs, as a reader's do, so that what two of them have in common is trained once. A word in capitals (`runs/STUDY`) stands
for something that was made before, and the files that a command reads (`reviews.csv`) are made first.

Not run: what installs something, and `make` targets, whose last line is run in their place. A model from a hub cannot be had
without a network: such a command is composed (`--cfg job`) and no more. `--list` says which is done with each.
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
    "bisect A B": "bisect '' data.batch_size=64",
    "KEY=a,b": "data.batch_size=8,64 --through grad_noise",
    "verify FILE": "verify STUDY.tar",
    "--to wandb": "--to tensorboard",
    "baseline=out/a,out/b ...": "baseline=out/a.csv,out/b.csv large=out/c.csv,out/d.csv",
}
"""What is typed for words that a reader replaces, and a tracker on disk for one that wants a network."""

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
"""Words of a command that `debug=quick` does not go with, and what makes it small instead."""

NEEDS_NO_ARGUMENT = ("axes", "doctor")
MAY_FIND = ("diff",)
"""Verbs that end with 1 when they find what they look for."""
OF_A_HUB = re.compile(r"(model|data)\.name=[\w-]+/|study=reference_imdb|data=imdb\b|model=(bert|gpt2)\b")


@dataclass(frozen=True, slots=True)
class Command:
    """typed: as on the page. run: what is run for it; '' for what is not. why: it is not, or not as it stands."""

    page: str
    typed: str
    run: str
    why: str = ""


def commands() -> list[Command]:
    """Every command of the pages, once, in their order; those that make what others read come first."""
    found = {typed: _command(page.name, typed) for page in PAGES for typed in _typed(page.read_text(encoding="utf-8"))}
    made = [_own_study(one, place) for place, one in enumerate(found.values(), 1)]
    return sorted(made, key=lambda one: "study.name=STUDY" not in one.run or "plan" in one.run)


def _own_study(one: Command, place: int) -> Command:
    """Two commands whose studies would have one name need two: a folder holds one plan."""
    trains = re.match(r"ablate (-m|plan|bisect|mediate) (?!--help)", one.run) and "--cfg" not in one.run
    return replace(one, run=f"{one.run} study.name=of_{place}") if trains and "study.name=" not in one.run else one


def _typed(text: str) -> Iterator[str]:
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        yield from make_tutorial.lines(block)
    yield from re.findall(r"`((?:ablate|make) [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _command(page: str, typed: str) -> Command:
    words = shlex.split(typed)
    if words[0] == "make":
        last = made(words)
        return Command(page, typed, small(last) if last.startswith("ablate") else "", f"make --dry-run: {last}")
    if words[0] != "ablate":
        return Command(page, typed, "", "installs something")
    plain = typed
    for word, meaning in STANDS_FOR.items():
        plain = plain.replace(word, meaning)
    if len(words) == 2 and "=" not in words[1] and words[1] not in NEEDS_NO_ARGUMENT:
        return Command(page, typed, f"{plain} --help", "a verb by its name: its help")
    if OF_A_HUB.search(plain):
        return Command(page, typed, f"{plain.replace(' -m ', ' ')} --cfg job", "needs a hub: composed, not run")
    return Command(page, typed, small(plain))


def made(words: list[str]) -> str:
    """The last line that `make` would run for a target, with the environment's folder left out."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--dry-run", "--no-print-directory", "--directory", str(REPO), "VENV=.none", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)}: {done.stderr.strip()}")
    last = done.stdout.splitlines()[-1].replace(".none/bin/", "").replace('"$@" ', "").strip()
    return re.sub(r"^.*?(?=ablate -m )", "", last)  # what a target asks before is part of the line


def small(typed: str) -> str:
    """The same at debug size, where it would train."""
    words = shlex.split(typed)
    trains = words[1] in ("-m", "plan", "attribute", "mediate") or ("=" in words[1] and not words[1].startswith("-"))
    if not trains:
        return typed
    for pattern, less in SMALLER.items():
        typed = re.sub(pattern, less, typed)
    more = next((more for word, more in NO_QUICK.items() if word in typed), QUICK)
    return " ".join([typed, *(one for one in more if one.partition("=")[0] + "=" not in typed)])


def prepare(folder: Path) -> None:
    """The files that the commands read."""
    rows = [f'"a {word} film, number {k}",{stars}' for k in range(120) for word, stars in (("fine", 5), ("dull", 1))]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    (folder / "book.txt").write_text(
        "\n\n".join(f"Chapter {k}. It was a {k % 7} day in the city." * 4 for k in range(60))
    )
    (folder / "a.yaml").write_text("data:\n  batch_size: 8\n")
    (folder / "b.yaml").write_text("data:\n  batch_size: 32\noptim:\n  lr: 1.0e-4\n")
    (folder / "out").mkdir()
    for place, name in enumerate("abcd"):
        steps = (f"{step},{0.7 - step / 100 - place / 50},{0.7 - step / 120 - place / 50}" for step in range(1, 21))
        (folder / "out" / f"{name}.csv").write_text("\n".join(["step,loss,eval_loss", *steps]) + "\n")


def main() -> int:
    """Run them all; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="say what is done with each, and run nothing")
    parser.add_argument("--in", dest="folder", type=Path, help="run here and keep what was made")
    parser.add_argument(
        "--within", type=float, default=float("inf"), metavar="SECONDS", help="begin no command after that"
    )
    asked = parser.parse_args()
    ends = time.monotonic() + asked.within
    if asked.list:
        for one in commands():
            print(f"{one.page}: {one.typed}\n    {one.run or 'not run'}{f'  ({one.why})' if one.why else ''}")
        return 0
    with tempfile.TemporaryDirectory() as gone:
        folder = asked.folder or Path(gone)
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        ready = [one for one in commands() if one.run]
        ended = {one: _ends_well(one, folder) for one in ready if time.monotonic() < ends}
    failed = [one.run for one, well in ended.items() if not well]
    print(f"{len(ended)} commands, {len(failed)} failed; {len(ready) - len(ended)} not reached")
    return int(bool(failed))


def _ends_well(one: Command, folder: Path) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        one.run, shell=True, cwd=folder, capture_output=True, text=True, env=make_tutorial.environment()
    )
    well = done.returncode == 0 or (done.returncode == 1 and one.run.split()[1] in MAY_FIND)
    print(
        f"{'ok' if well else f'exit {done.returncode}':>7} {time.monotonic() - began:5.1f} s  {one.run}",
        flush=True,
    )
    if not well:
        print(f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}", flush=True)
    return well


if __name__ == "__main__":
    sys.exit(main())
