"""What must not be written down: secrets of the environment and of addresses, by value and in every spelling."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from html.entities import codepoint2name
from unicodedata import normalize
from urllib.parse import unquote

HIDDEN = "***"

ARGUMENT_SECRETS = "ABLATE_ARGUMENT_SECRETS"
"""Environment variable with the secrets of the command line, one per line, so that every process of a study hides them."""

_SHORTEST = 8
"""Minimum length of a secret: shorter values occur in ordinary words."""

_NAME = re.compile(
    r"KEYS?(_|$)|TOKEN(?!IZER)|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(PWD|PASS|AUTH|PAT|DSN)$|CONN(ECTION)?_?STR|WEBHOOK",
    re.IGNORECASE,
)
_PLACE = re.compile(r"_(PATH|FILE|DIR|SOCK)$|^(OLD)?PWD$", re.IGNORECASE)
"""Names of files in which secrets lie, and of the current folder."""

_LOGIN = re.compile(r"(?<=://)[^/\s:@\"'<>]*:[^/\s@\"'<>]+(?=@)")
_WORDS = r"token|key|secret|passw(?:or)?d|pwd|sig|signature|auth|credentials?"
_QUERY = re.compile(rf"([?&;](?:amp;)?[\w\\-]*(?:{_WORDS})\w*=)([^&;\s\"'<>\\]+)", re.IGNORECASE)
_PART = re.compile(r"(?:^|[;?&\s])[\w -]*(?:key|password|pwd|secret|token)=([^;&\s]+)", re.IGNORECASE)
"""`user:password` of an address, a parameter of one, and a part of a connection string."""


def secrets() -> list[str]:
    """The values as they are, the longest first: one may contain another."""
    found: set[str] = set()
    for name, value in os.environ.items():
        found |= set(secrets_in([value]))
        if _NAME.search(name) and not _PLACE.search(name):
            lines = [line.strip() for line in value.splitlines() if not line.startswith("-----")]
            found |= {value.strip(), *lines} if name != ARGUMENT_SECRETS else set(lines)
    return sorted({value for value in found if len(value) >= _SHORTEST}, key=len, reverse=True)


def secrets_in(texts: Iterable[str]) -> list[str]:
    """Return the passwords and tokens in addresses and connection strings: `https://user:pw@host`, `?token=...`, `Pwd=...;`."""
    found = list[str]()
    for text in texts:
        if "://" in text or "=" in text:
            logins = [login.partition(":")[2] for login in _LOGIN.findall(text)]
            found += [*logins, *(value for _, value in _QUERY.findall(text)), *_PART.findall(text)]
    return [value for one in found for value in {one, unquote(one)}]


def hide_secrets_of(texts: Iterable[str]) -> None:
    """Hide the secrets in these arguments from now on, in this process and in those that it starts."""
    known = os.environ.get(ARGUMENT_SECRETS, "").split("\n")
    if values := [value for value in dict.fromkeys([*known, *secrets_in(texts)]) if value]:
        os.environ[ARGUMENT_SECRETS] = "\n".join(values)


def redact(text: str) -> str:
    """The text with `***` in place of every secret, also as JSON, a page, an address, LaTeX or quotes would spell it."""
    for secret in secrets():
        if _longest_word(secret) in text or _is_rare(secret):
            text = _pattern(secret).sub(HIDDEN, text)
        for coded in _base64(secret):
            text = text.replace(coded, HIDDEN)
    return _QUERY.sub(rf"\1{HIDDEN}", _LOGIN.sub(HIDDEN, text))


_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Characters that act on a terminal or a page, or reorder text, and are not seen."""


def visible(text: str) -> str:
    """The text with the code in place of every character that is not seen: `\\x1b` for an escape. Lines and tabs stay."""
    return _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def shown(text: str) -> str:
    """The text as it may be printed: `visible`, without secrets."""
    return visible(redact(text))


@lru_cache(maxsize=256)
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile(_whole(secret))


def _whole(secret: str) -> str:
    return "".join(f"(?:{'|'.join(found)}){_BREAK}" for found in spellings(secret))


@lru_cache(maxsize=256)
def spellings(secret: str) -> tuple[tuple[str, ...], ...]:
    """Return the spellings of each character as regular expressions. They have no character classes above ASCII, so that they
    hold for bytes as well."""
    return tuple(map(_spellings_of, re.sub(r"\s*\n\s*", "\n", secret)))


_LATEX = {
    "\\": "backslash",
    "~": "asciitilde",
    "^": "asciicircum",
    "<": "less",
    ">": "greater",
    "|": "bar",
    "`": "asciigrave",
}
_ESCAPES = {"\n": "n", "\r": "r", "\t": "t"}
_BREAK = r"(?:{}|\\\r?\n[ \t]*\\?)?"
"""What LaTeX and YAML may put between two characters."""


def _spellings_of(character: str) -> tuple[str, ...]:
    if character.isascii() and character.isalnum():
        return (character,)
    code, units, plain = ord(character), character.encode("utf-16-be").hex(), re.escape(character)
    hexes = "".join(f"%(?:25)?(?i:{byte:02x})" for byte in character.encode())
    pairs = "".join(rf"\\{{1,2}}u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    found = ["'\"'\"'", r"'\\''", "''"] if character == "'" else []
    found += [hexes, pairs, rf"&#0*{code};", rf"&#[xX]0*(?i:{code:x});", rf"\\{{1,2}}U(?i:{code:08x})", rf"{{{plain}}}"]
    found += [rf"\\{{1,2}}x(?i:{code:02x})", rf"\\char{code}"] if code < 256 else []
    found += [f"&{codepoint2name[code]};"] if code in codepoint2name else []
    found += [rf"\\text{_LATEX[character]}"] if character in _LATEX else []
    found += [rf"\\{{1,2}}{_ESCAPES[character]}"] if character in _ESCAPES else []
    found += [r"\\{0,2}r?(?:\\{1,2}n|\r?\n)[ \t]*"] if character == "\n" else []
    found += [r"\+", r"\\?\s+", r"\\?\s+\\"] if character == " " else []
    base = normalize("NFD", character)[0]
    found += [rf"\\[^A-Za-z0-9\s]{{{base}}}", rf"\\[a-z]{{{base}}}"] if base.isascii() and base != character else []
    return (*found, rf"\\{{0,4}}{plain}")


def _longest_word(secret: str) -> str:
    """The longest run of characters that every spelling leaves alone."""
    return max([str(word) for word in re.findall(r"[A-Za-z0-9]+", secret)], key=len, default="")


def _is_rare(secret: str) -> bool:
    return len(_longest_word(secret)) < 2


@lru_cache(maxsize=256)
def _base64(secret: str) -> tuple[str, ...]:
    """The part of its base64 that does not depend on its neighbours, for each of the three alignments."""
    found = []
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        found.append(coded[-(-8 * before // 6) : -1])
    urls = [text.translate(str.maketrans("+/", "-_")) for text in found]
    return tuple(dict.fromkeys([*found, *urls]))


class Hider:
    """Replace secrets in a stream of bytes that comes in pieces; hold back only what may be the beginning of one."""

    def __init__(self, hidden: Iterable[str]) -> None:
        hidden = list(hidden)
        self._whole = [re.compile(_whole(value).encode()) for value in hidden]
        self._spellings = [
            [[re.compile(spelling.encode()) for spelling in found] for found in spellings(value)] for value in hidden
        ]
        self._plain = [coded.encode() for value in hidden for coded in _base64(value)]
        self._kept = b""

    def pass_on(self, piece: bytes) -> bytes:
        """Return what can be written by now; an empty piece is the end."""
        ready = self._kept + piece
        for pattern in self._whole:
            ready = pattern.sub(HIDDEN.encode(), ready)
        for coded in self._plain:
            ready = ready.replace(coded, HIDDEN.encode())
        start = self._beginning_in(ready) if piece else len(ready)
        self._kept = ready[start:]
        return ready[:start]

    def _beginning_in(self, ready: bytes) -> int:
        """Return the position from which on the rest may become a secret."""
        first = len(ready)
        for characters in self._spellings:
            for start in range(max(0, len(ready) - 12 * len(characters)), first):
                if _may_become(characters, ready, start):
                    first = start
                    break
        for coded in self._plain:
            for start in range(max(0, len(ready) - len(coded) + 1), first):
                if coded.startswith(ready[start:]):
                    first = start
                    break
        return first


_LONGEST_SPELLING = 22
_BEGINNINGS = (b"\\", b"%", b"&", b"'", b"{")
_BREAK_IN_BYTES = re.compile(_BREAK.encode())


def _may_become(characters: list[list[re.Pattern[bytes]]], text: bytes, start: int) -> bool:
    """Return whether the text from there on is the beginning of a secret, in any mixture of spellings."""
    ends = {start}
    for spelt in characters:
        begun, ends = ends, set()
        for at in begun:
            half = text[at : at + 1] in _BEGINNINGS and len(text) - at <= _LONGEST_SPELLING  # such as `%2` or `&quo`
            if at == len(text) or (half and len(spelt) > 1):
                return True
            for spelling in spelt:
                if (match := spelling.match(text, at)) is not None:
                    ends.add(match.end())
                    if (gap := _BREAK_IN_BYTES.match(text, match.end())) is not None:
                        ends.add(gap.end())
        if not ends:
            return False
    return False
