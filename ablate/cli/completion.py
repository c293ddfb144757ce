"""`ablate completion`: shell scripts, and the words that may follow. Imports no Hydra and no torch, to be quick."""

from __future__ import annotations

import argparse
import dataclasses
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from ablate.cli._parser import parser_of
from ablate.config import conf_dir

STUDY_VERBS = (
    "report", "table", "figures", "methods", "resample", "power", "status", "stop", "retry", "bundle", "sync",
)  # fmt: skip
RUN_VERBS = ("compare", "diff", "attribute", "verify")
CONFIG_VERBS = ("plan", "attribute", "mediate")
"""Verbs by their arguments: a study directory; a run directory or an archive; overrides of the config."""

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip", ".yaml")
_NOT_RUNS = ("figures", "checkpoint", "wandb")
_REPLAY = ("eval.every=", "tracker.log_every=")


def candidates(line: str, verbs: Mapping[str, str]) -> list[str]:
    """Return every word that may replace the last word of a command line; `key=` and `folder/` can be continued."""
    words, current = _split(line)
    return sorted({word for word in _words(words, current, verbs) if word.startswith(current)})


def _split(line: str) -> tuple[list[str], str]:
    """Return the words before the cursor without the program, and the unfinished word."""
    last = "" if line[-1:].isspace() else (line.split() or [""])[-1]
    before = line[: len(line) - len(last)]
    try:
        words = shlex.split(before)
    except ValueError:
        words = before.split()
    return words[1:], last


def _words(words: list[str], current: str, verbs: Mapping[str, str]) -> Iterator[str]:
    verb = words[0] if words and words[0] in verbs else ""
    if not words:
        yield from (*verbs, "-m", "--help", "--version", "--hydra-help", "--cfg", "--config-dir")
        yield from _overrides(current)
    elif words[-1] == "--config-dir":
        yield from _paths(current)
    elif current.startswith("-"):
        yield from (
            _options(verb) if verb else ("--config-dir", "--accept-code-change", "--cfg", "--help", "--multirun")
        )
    elif verb == "completion":
        yield from ("bash", "zsh", "fish")
    elif verb in STUDY_VERBS:
        yield from _paths(current)
        yield from _REPLAY if verb == "resample" else ()
    elif verb in RUN_VERBS:
        yield from _paths(current, _ARCHIVES)
    if verb in CONFIG_VERBS or (words and not verb):
        yield from _overrides(current)


def _options(verb: str) -> list[str]:
    """Return the options in the verb's own help, so that no list can be outdated."""
    from ablate.cli import run_verb

    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out), suppress(SystemExit):
        run_verb(verb, ["--help"])
    text = out.getvalue().partition("examples:")[0]
    return [*dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))]


def _paths(current: str, also: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the directories that may follow, each with its slash; a run directory is complete. At the start: the studies."""
    if not current:
        studies = sorted(str(plan.parent) for plan in Path("runs").glob("*/plan.json"))
        if studies and not also:
            yield from studies
            return
    shown, _, _ = current.rpartition("/")
    folder = Path(shown or ("/" if current.startswith("/") else "."))
    head = f"{shown}/" if "/" in current else ""
    with suppress(OSError, ValueError):  # what cannot be read is left out
        yield from _inside(folder, head, also)


def _inside(folder: Path, head: str, also: tuple[str, ...]) -> Iterator[str]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _NOT_RUNS:
            continue
        if path.is_dir():
            whole = (path / "manifest.json").exists() or (not also and (path / "plan.json").exists())
            yield f"{head}{path.name}{'' if whole else '/'}"
        elif also and path.name.endswith(also):
            yield f"{head}{path.name}"


def _overrides(current: str) -> Iterator[str]:
    """Yield `axis=`, `data=`, `data.batch_size=`; after the equals sign the names of a group, for the last of several."""
    groups = _groups()
    key, equals, value = current.partition("=")
    if equals:
        before, comma, _ = value.rpartition(",")
        taken = before.split(",") if comma else []
        yield from (f"{key}={before}{comma}{name}" for name in groups.get(key.lstrip("+"), ()) if name not in taken)
        return
    yield from (f"{group}=" for group in groups)
    yield from (f"{key}=" for key in _keys())


def _groups() -> dict[str, list[str]]:
    """{config group: its files' names}."""
    groups = sorted(path for path in conf_dir().iterdir() if path.is_dir())
    return {group.name: sorted(file.stem for file in group.glob("*.yaml")) for group in groups}


def _keys() -> Iterable[str]:
    from ablate.config.schema import Config

    groups = dataclasses.asdict(Config())
    for name, group in groups.items():
        yield from (f"{name}.{key}" for key in group) if isinstance(group, dict) else (name,)


_BASH = """\
# bash completion for ablate. In ~/.bashrc:  eval "$(ablate completion bash)"
_ablate_complete() {
    local line="${COMP_LINE:0:COMP_POINT}" word before
    word="${line##*[[:space:]]}"
    local IFS=$'\\n'
    COMPREPLY=($(ablate completion --words "$line" 2>/dev/null))
    # bash has split the word at each = and wants only what follows the last one
    before="${word%"${word##*[=:]}"}"
    if [[ -n $before && $COMP_WORDBREAKS == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"$before"}"); fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -F _ablate_complete ablate
"""
_ZSH = """\
#compdef ablate
# zsh completion for ablate. In ~/.zshrc, after compinit:  eval "$(ablate completion zsh)"
_ablate_complete() {
    local -a found open whole
    found=("${(@f)$(ablate completion --words "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    open=(${(M)found:#*[=/]})
    whole=(${found:#*[=/]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#whole )) && compadd -Q -- $whole
}
if [[ $funcstack[1] == _ablate ]]; then _ablate_complete "$@"; else compdef _ablate_complete ablate; fi
"""
_FISH = """\
# fish completion for ablate. Once:  ablate completion fish > ~/.config/fish/completions/ablate.fish
function __ablate_complete
    ablate completion --words (commandline -cp | string collect) 2>/dev/null
end
complete -c ablate -f -a '(__ablate_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run_completion(argv: list[str]) -> int:
    parser = parser_of(
        "completion",
        "Print a script that makes a shell complete verbs, options, study and run directories, axes, config groups "
        "and keys.",
        'ablate completion bash     in ~/.bashrc:  eval "$(ablate completion bash)"',
        'ablate completion zsh      in ~/.zshrc, after compinit:  eval "$(ablate completion zsh)"',
        "ablate completion fish > ~/.config/fish/completions/ablate.fish",
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("shell", nargs="?", choices=tuple(SCRIPTS), help="shell")
    how.add_argument("--words", metavar="LINE", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.words is None:
        print(SCRIPTS[args.shell], end="")
        return 0
    from ablate.cli import VERBS

    for word in candidates(args.words, VERBS):
        print(word)
    return 0
