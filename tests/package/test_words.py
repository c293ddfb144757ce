"""Words that names, messages, config files and docs do not use, and the better word for each.

A practitioner must understand every name and sentence at first sight, so each idea has the one word that the field uses.
These tests fail on the others: in file names, public names, config keys, help texts, messages, docstrings and docs.

`python -m tests.package.test_words [PATH ...]` prints every hit and the number of hits for each package.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]

IN_NAMES = {
    "look": "evaluation, interim analysis or cadence",
    "looks": "evaluations, interim analyses",
    "looked": "evaluated",
    "looking": "cadence",
    "place": "device, run_dir or index",
    "places": "devices, directories or indices",
    "told": "the noun of the field",
    "kept": "the noun of the field: saved, retained, finished",
    "found": "the noun of the field: match, result, existing",
    "seen": "the noun of the field: known, observed",
    "said": "the noun of the field: message, stated",
    "asked": "the noun of the field: arguments, requested",
    "typed": "the noun of the field: override, text, as written",
    "lies": "is stored in",
    "stands": "is in",
    "beside": "next to, requires, with",
    "anew": "again",
    "whoever": "user, whichever",
    "somebody": "user, external",
    "nobody": "no user, none",
    "at_once": "simultaneously, immediately",
    "of_chance": "random",
    "as_it_is": "unchanged",
    "cried_wolf": "false_positive",
    "is_no": "is_not",
}
"""Parts of a name (`first_look`, `FirstLook` and `first-look` have the part `look`), and the better word."""

_PARTICIPLES = "told|kept|found|seen|said|asked|typed"
IN_PROSE = {
    r"look(s|ed|ing)?(?![ -](up|for|like|into|alike|irregular|regular|random|rough|smooth|calm)\b)": "evaluation, interim "
    "analysis, cadence; as a verb: see, read, inspect",
    r"(?<!\bin )(?<!\btake )(?<!\btakes )(?<!\btook )(?<!\btaking )(?<!\bdecimal )places?": "device, directory, index",
    r"told": "state it: shown, reported, significant",
    r"(is|are|was|were|be|been|being|not|as|it|also) said": "reported, stated, named",
    r"(?<!\bquestion was )(?<!\bquestion is )asked(?! for\b)": "requested, configured; the question",
    rf"(what|whatever|all that) (is|was|were|has been|had been) ({_PARTICIPLES})": "the noun of the field",
    r"(as|you) typed": "as written",
    r"to be (seen|had)": "visible, available",
    r"(?<!\bthere )(?<!\bThere )(is|are|was|were) no "
    r"(?!(longer|more|less|better|worse|fewer|larger|smaller|higher|lower|faster|slower|later|need|reason)\b)\w+": (
        "is not a valid ..., cannot be ..., expected X, got Y"
    ),
    r"lies|(lie|lay) (in|at|on|under|there|within|outside|between|below|above)": "is stored in, is between",
    r"stands(?! (for|in for)\b)|stood|stand (in|on|at|there|here|under|below|above|alone)(?! for\b)": "is in, is shown",
    r"beside": "next to, with, in addition to",
    r"anew": "again",
    r"whoever|whomever|somebody|nobody who": "the user, whichever, external",
    r"at once": "simultaneously, immediately",
    r"of chance": "random",
    r"(?<!\bsoon )(?<!\blong )(?<!\bfar )as it is(?! (\w+ed|read|written|made|sent)\b)": "unchanged",
    r"(cried|cries|cry|crying) wolf": "gave a false positive",
}
"""Patterns of running text, between word boundaries, and the better word."""

TYPOGRAPHY = {
    r"(?<=[\d}])[ \u00a0\u202f\u2009]%(?![\w(}%])": "80%, without a space",
    r"(?<=\d)[ \u00a0\u202f\u2009]?…[ \u00a0\u202f\u2009]?(?=[−-]?\d)": "[0.085, 0.147], 'to' or an en dash",
}
"""How numbers are not written, and how they are."""

ALLOWED_NAMES = {
    "py.typed": "the marker file that PEP 561 defines",
    "samples_seen": "the usual name of this counter, as in `num_input_tokens_seen` of transformers",
    "tokens_seen": "the usual name of this counter, as in `num_input_tokens_seen` of transformers",
    "num_input_tokens_seen": "a name that transformers logs",
    "train_num_input_tokens_seen": "a name that transformers logs",
}
"""Whole names that stay, and the reason."""

ALLOWED_LINES = {
    ("CHANGELOG.md", r"\| "): "the table from old names to new ones quotes the old names",
    ("docs/decisions/0030-words-and-layout.md", r"\| "): "the table of words quotes those that were removed",
}
"""(file, how a line of it begins) whose words stay, and the reason."""

SOURCES = ("ablate", "hydra_plugins", "docs", "benchmarks")
CONFIGS = ("conf",)
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "Makefile", "mkdocs.yml", "docs", "benchmarks")
_NOT_OURS = {".git", ".venv", "__pycache__", "runs", "site", "dist", "shared", "node_modules"}

_PROSE = {re.compile(rf"\b(?:{pattern})\b"): better for pattern, better in IN_PROSE.items()}
_PROSE |= {re.compile(pattern): better for pattern, better in TYPOGRAPHY.items()}
_IDENTIFIER = re.compile(r"[A-Za-z]+(?:[_-][A-Za-z]+)*")
_SNAKE = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_JS_TEXT = re.compile(r"//[^\n]*|/\*.*?\*/|'[^'\n]*'|\"[^\"\n]*\"|`[^`]*`", re.DOTALL)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Hit:
    """One use of a word: where, the text that matched, the better word, and its surroundings."""

    file: str
    line: int
    word: str
    better: str
    context: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.word!r} -> {self.better}{self.context and f'   | {self.context}'}"

    @property
    def package(self) -> str:
        parts = self.file.split("/")
        return "/".join(parts[:2]) if parts[0] in ("ablate", "docs") and len(parts) > 2 else parts[0]


# Rules


def words_of_name(name: str) -> Iterator[tuple[str, str]]:
    """Yield (part, better word) for each part of an identifier or a file name that is not used."""
    if name in ALLOWED_NAMES:
        return
    parts = [part.lower() for part in re.split(r"[^A-Za-z0-9]+", _CAMEL.sub("_", name)) if part]
    joined = f"_{'_'.join(parts)}_".replace("_not_found_", "_")
    for word, better in IN_NAMES.items():
        if f"_{word}_" in joined:
            yield word, better


def words_of_text(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line, matched text, better word, context) for running text; a phrase may continue on the next line."""
    tokens = list(re.finditer(r"\S+", text))
    if not tokens:
        return
    flat = " ".join(token[0] for token in tokens)
    starts = list(accumulate((len(token[0]) + 1 for token in tokens[:-1]), initial=0))

    def hit(start: int, end: int, word: str, better: str) -> tuple[int, str, str, str]:
        line = text.count("\n", 0, tokens[bisect_right(starts, start) - 1].start())
        return line, word, better, flat[max(0, start - 40) : end + 40]

    for pattern, better in _PROSE.items():
        for match in pattern.finditer(flat):
            yield hit(match.start(), match.end(), match[0], better)
    for match in _SNAKE.finditer(flat):
        for word, better in words_of_name(match[0]):
            yield hit(match.start(), match.end(), f"{match[0]} ({word})", better)


# Files


def files(*roots: str) -> Iterator[Path]:
    """Yield the project's own files below these roots, in order."""
    for root in roots:
        path = REPO / root
        if path.is_file():
            yield path
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in _NOT_OURS and not name.startswith("."))
            yield from (Path(folder) / name for name in sorted(names))


def in_file_names() -> Iterator[Hit]:
    """Yield a hit for each file of the project whose name has such a word."""
    for path in files("."):
        file = path.relative_to(REPO).as_posix()
        for word, better in words_of_name(path.name):
            yield Hit(file, 1, word, better)


def in_public_names() -> Iterator[Hit]:
    """Yield a hit for each public function, class, field, constant or parameter with such a word."""
    for path in files("ablate", "hydra_plugins"):
        if path.suffix == ".py":
            file = path.relative_to(REPO).as_posix()
            for line, name in public_names(ast.parse(path.read_text(encoding="utf-8"))):
                for _, better in words_of_name(re.split(r"[.(]", name)[-1]):
                    yield Hit(file, line, name, better)


def public_names(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Yield (line, name) of what a module or a class defines, parameters as `function(parameter`."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if inner.name.startswith("_") and inner.name not in ("__init__", "__call__"):
                continue
            yield inner.lineno, prefix + inner.name
            if isinstance(inner, ast.ClassDef):
                yield from public_names(inner, f"{prefix}{inner.name}.")
            else:
                arguments = inner.args
                named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                stars = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
                yield from ((one.lineno, f"{prefix}{inner.name}({one.arg}") for one in [*named, *stars])
        targets = inner.targets if isinstance(inner, ast.Assign) else [getattr(inner, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                yield target.lineno, prefix + target.id


def in_configs() -> Iterator[Hit]:
    """Yield a hit for each key, value, comment or note of a config file with such a word."""
    for path in files(*CONFIGS):
        file = path.relative_to(REPO).as_posix()
        text = path.read_text(encoding="utf-8")
        for key in keys_of(yaml.safe_load(text)):
            for word, better in words_of_name(key):
                line = next((n for n, one in enumerate(text.splitlines(), 1) if key in one), 1)
                yield Hit(file, line, key, f"{better} (for {word})")
        yield from in_text(file, re.sub(r"(?m)^(\s*)#", r"\1", text))


def keys_of(value: object) -> Iterator[str]:
    """Yield every key of a YAML value, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def in_messages() -> Iterator[Hit]:
    """Yield a hit for each string of the source with such a word: messages, help texts, docstrings, keys of JSON files."""
    for path in files(*SOURCES):
        file = path.relative_to(REPO).as_posix()
        if path.suffix == ".py":
            for line, text in strings_of(ast.parse(path.read_text(encoding="utf-8"))):
                if _IDENTIFIER.fullmatch(text):
                    yield from (Hit(file, line, text, better) for _, better in words_of_name(text))
                else:
                    yield from in_text(file, text, line)
        elif path.suffix in (".html", ".j2", ".css"):
            yield from in_text(file, path.read_text(encoding="utf-8"))
        elif path.suffix == ".js":
            script = path.read_text(encoding="utf-8")
            for match in _JS_TEXT.finditer(script):
                yield from in_text(file, match[0], 1 + script.count("\n", 0, match.start()))


def strings_of(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every string literal; `{}` is written for what an f-string inserts."""
    if isinstance(node, ast.JoinedStr):
        yield node.lineno, "".join(one.value if isinstance(one, ast.Constant) else "{}" for one in node.values)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from strings_of(part.value)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    for inner in ast.iter_child_nodes(node):
        yield from strings_of(inner)


def in_docs() -> Iterator[Hit]:
    """Yield a hit for each use of such a word on a page."""
    for path in files(*PAGES):
        if path.suffix in (".md", ".yml", ".cff") or path.name == "Makefile":
            file = path.relative_to(REPO).as_posix()
            yield from in_text(file, path.read_text(encoding="utf-8"))


def in_text(file: str, text: str, first: int = 1) -> Iterator[Hit]:
    """Yield the hits of a running text that begins in this line of a file."""
    allowed = [start for (name, start) in ALLOWED_LINES if name == file]
    lines = text.splitlines()
    for line, word, better, context in words_of_text(text):
        if not any(re.match(start, lines[line]) for start in allowed):
            yield Hit(file, first + line, word, better, context)


KINDS = {
    "file names": in_file_names,
    "public names": in_public_names,
    "config files": in_configs,
    "messages": in_messages,
    "docs": in_docs,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_is_one_of_the_field(kind: str) -> None:
    hits = [str(hit) for hit in KINDS[kind]()]
    assert hits == [], f"{len(hits)} words in {kind}:\n" + "\n".join(hits)


@pytest.mark.parametrize(("file", "start"), ALLOWED_LINES)
def test_an_exception_names_lines_that_exist(file: str, start: str) -> None:
    assert re.search(f"(?m)^{start}", (REPO / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the first look", "look"),
        ("they were only looked at differently", "looked"),
        ("the place of the run", "place"),
        ("'x' is no axis", "is no axis"),
        ("done at\n    once", "at once"),
        ("80 % of runs", " %"),
        ("{} % of runs", " %"),
        ("95 % interval 0.085 … 0.147", "…"),
        ("not told from 0", "told"),
        ("what was asked", "what was asked"),
        ("the file lies in runs/", "lies"),
        ("a stream of chance", "of chance"),
        ("the key before_first_look", "before_first_look (look)"),
        ("it is left as it is", "as it is"),
    ],
)
def test_a_word_of_the_list_is_reported(text: str, word: str) -> None:
    assert word in [match.strip() if match.strip() == word else match for _, match, _, _ in words_of_text(text)]


@pytest.mark.parametrize(
    "text",
    [
        "The curve looked irregular; look up the key.",
        "There is no checkpoint, and the file was not found.",
        "Updated in place, to three decimal places; this takes place once.",
        "as soon as it is written",
        "80% of runs, 0.085 to 0.147, [0.085, 0.147]",
        "It stands for the baseline and is no longer used.",
        "placebo, placeholder, overlook, outlook",
        "the key placebo_arm",
    ],
)
def test_ordinary_english_is_not_reported(text: str) -> None:
    assert list(words_of_text(text)) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("first_look", ["look"]),
        ("FirstLook", ["look"]),
        ("kept_examples.py", ["kept"]),
        ("0021-at-once.md", ["at_once"]),
        ("lookup", []),
        ("placebo", []),
        ("FileNotFoundError", []),
        ("evaluation", []),
    ],
)
def test_the_parts_of_a_name_are_checked(name: str, words: list[str]) -> None:
    assert [word for word, _ in words_of_name(name)] == words


def main(roots: list[str]) -> int:
    """Print every hit below these paths, then the number for each package. Return 1 if there is one."""
    hits = {hit for find in KINDS.values() for hit in find() if not roots or hit.file.startswith(tuple(roots))}
    for hit in sorted(hits, key=lambda one: (one.file, one.line, one.word)):
        print(hit)
    for package, count in sorted(Counter(hit.package for hit in hits).items()):
        print(f"{count:6}  {package}")
    return int(bool(hits))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
