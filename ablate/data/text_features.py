"""Features of a text that can be taken out of it, to see whether anything is lost. Pure functions of the text."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import sha256

import numpy as np

from ablate.config.schema import FEATURES
from ablate.errors import DataError


def without(texts: Sequence[str], features: Sequence[str]) -> tuple[str, ...]:
    """The texts less some of `FEATURES`. Raises DataError for one that none of them has: nothing would be left out."""
    shuffled = "word_order" in features
    # Words change places first, by what the text said as it was: the order is the same whatever else is left out.
    for feature in (["word_order"] if shuffled else []) + [name for name in features if name != "word_order"]:
        now = tuple(map(_WITHOUT[feature], texts))
        if now == tuple(texts):
            raise DataError(
                f"data.remove_text_features=[{','.join(features)}]: leaving out {feature} changes "
                f"none of the {len(texts)} texts",
                f"leave {feature} out of data.remove_text_features",
            )
        texts = now
    return tuple(texts)


def present(texts: Sequence[str]) -> list[str]:
    """Those of `FEATURES` that at least one of the texts has."""
    return [feature for feature in FEATURES if next(changed(texts, feature), None) is not None]


def changed(texts: Sequence[str], feature: str) -> Iterator[tuple[str, str]]:
    """Return (unchanged text, text without the feature) for each text that has the feature."""
    return ((text, less) for text in texts if (less := _WITHOUT[feature](text)) != text)


def _shuffled(text: str) -> str:
    """The words in an order that only the text itself decides; the white space between them stays where it is."""
    parts = re.split(r"(\S+)", text)  # words at the odd places
    words = parts[1::2]
    key = int.from_bytes(sha256(text.encode()).digest()[:8], "little")
    places = np.random.Generator(np.random.Philox(key=key)).random(len(words))
    parts[1::2] = [words[k] for k in np.argsort(places, kind="stable")]
    return "".join(parts)


class _Blanks(dict[int, str]):
    """For `str.translate`: a blank for every character that goes, looked up once."""

    def __init__(self, gone: Callable[[str], bool]) -> None:
        super().__init__()
        self._gone = gone

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = " " if self._gone(character) else character
        return self[code]


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


_PUNCTUATION, _DIGITS = _Blanks(_is_punctuation), _Blanks(str.isdecimal)


def _blanked(text: str, blanks: _Blanks) -> str:
    """Blanks where something went, so that no two words become one; no blank twice, none at an end of a line."""
    blanked = text.translate(blanks)
    if blanked == text:
        return text
    return "\n".join(re.sub(r"[^\S\n]+", " ", line).strip() for line in blanked.split("\n"))


_WITHOUT: dict[str, Callable[[str], str]] = {
    "case": str.lower,
    "punctuation": partial(_blanked, blanks=_PUNCTUATION),
    "digits": partial(_blanked, blanks=_DIGITS),
    "word_order": _shuffled,
}
