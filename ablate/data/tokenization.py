"""Tokenizers: loading one, what identifies it, and text to token numbers. No torch of its own (transformers may load it)."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ablate.config.schema import ModelConfig
from ablate.models.hub import from_hub, locate, revision
from ablate.serialization import replacing


def load_tokenizer(config: ModelConfig) -> Any:
    """The transformers tokenizer of the model, or the one that `model.tokenizer` names. Raises ModelError."""
    from transformers import AutoTokenizer

    key, name = ("model.tokenizer", config.tokenizer) if config.tokenizer else ("model.name", config.name)
    place = locate(name, key=key)
    # A revision is the model's; a tokenizer from elsewhere has its own history.
    wanted = revision(config) if name == config.name else "main"
    return from_hub(
        name, lambda: AutoTokenizer.from_pretrained(place, revision=wanted, trust_remote_code=False), key=key
    )


def identity(tokenizer: Any) -> str:
    """sha256 over all that can change the numbers a text becomes: rules, vocabulary, special tokens, library."""
    total = sha256()
    for part in (
        type(tokenizer).__qualname__,
        json.dumps(tokenizer.special_tokens_map, sort_keys=True, default=str),
        f"{tokenizer.truncation_side} tokenizers {version('tokenizers')} transformers {version('transformers')}",
        _content(tokenizer),
    ):
        total.update(sha256(part.encode()).digest())
    return total.hexdigest()


def _content(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Truncation and padding are left there by the last call, whatever that was; each call of ours sets its own.
        rules = json.loads(backend.to_str())
        return json.dumps({key: rules[key] for key in sorted(rules) if key not in ("truncation", "padding")})
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return "".join(f"{path.name} {sha256(path.read_bytes()).hexdigest()}\n" for path in files)


def encode_cut(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token numbers of each text with the tokenizer's own special tokens, at most `max_length` of them."""
    return _encode(tokenizer, texts, truncation=True, max_length=max_length)


def encode_whole(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of each document, whole, between a start and an end token where the tokenizer offers them.

    The start is its `bos` token or else `cls`, the end its `eos` or else `sep`. A document without a token of its own is
    an empty list.
    """
    # Not verbose: the pieces that a model sees are cut later, and no document is too long.
    numbers = _encode(tokenizer, texts, add_special_tokens=False, truncation=False, verbose=False)
    start = [one for one in (tokenizer.bos_token_id, tokenizer.cls_token_id) if one is not None][:1]
    end = [one for one in (tokenizer.eos_token_id, tokenizer.sep_token_id) if one is not None][:1]
    return [[*start, *own, *end] if own else [] for own in numbers]


def _encode(tokenizer: Any, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    off = {"padding": False, "return_attention_mask": False, "return_token_type_ids": False}
    numbers: list[list[int]] = tokenizer(list(texts), **off, **settings)["input_ids"]
    return numbers


# Texts as token numbers, made once per study: a memory-mapped file under `<study.output_dir>/.tokens` that all of its
# runs share. The file is named by the digest of what it was made from (texts, tokenizer, length), so that it is
# never stale, and the folder may be removed at any time. It is an Arrow IPC file with one list of int32 per
# text.

FOLDER = ".tokens"
_FORMAT = 1
_CHUNK = 512  # texts at a time: the lists of Python integers between tokenizer and array stay small


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Token numbers of texts, end to end. values: int32 [tokens]. offsets: int64 [texts + 1], where each text begins."""

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> NDArray[np.int32]:
        return self.values[self.offsets[text] : self.offsets[text + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text, [texts]."""
        return np.diff(self.offsets)


_last: dict[str, Tokens] = {}
"""What this process asked for last: a plan asks for every arm."""


def tokens_of(texts: Sequence[str], tokenizer: Any, *, max_length: int | None, root: str | Path) -> Tokens:
    """Tokenise the texts, or map the file that an earlier run left.

    max_length: as `encode_cut`; None keeps documents whole, as `encode_whole`. root: of the studies; where it does not
    exist (yet), or cannot be written, the tokens are kept in memory.
    """
    digest = digest_of(texts, tokenizer, max_length=max_length)
    if digest not in _last:
        found = _shared(Path(root), digest, lambda: _tokenise(texts, tokenizer, max_length))
        _last.clear()
        _last[digest] = found
    return _last[digest]


def digest_of(texts: Sequence[str], tokenizer: Any, *, max_length: int | None) -> str:
    """sha256 over all that determines the numbers."""
    total = sha256(f"{_FORMAT} {identity(tokenizer)} {max_length} {len(texts)}\n".encode())
    for text in texts:
        own = text.encode()
        total.update(len(own).to_bytes(8, "little"))
        total.update(own)
    return total.hexdigest()


def _shared(root: Path, digest: str, make: Callable[[], Tokens]) -> Tokens:
    """From the file, which is made if it is not there or not whole."""
    folder = root / FOLDER
    path = folder / f"{digest}.arrow"
    found = _read(path)
    if found is not None:
        return found
    made = None
    with suppress(OSError):  # no root yet, no permission, no space: the run does not need the file
        folder.mkdir(exist_ok=True)  # never the root itself: a plan leaves nothing behind
        with _one_at_a_time(folder):
            made = _read(path)  # somebody else's, made while we waited
            if made is None:
                made = make()
                _write(path, made)
                made = _read(path) or made
    return make() if made is None else made


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Runs that start together tokenise once. The lock goes with its process, so a kill leaves none behind."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _tokenise(texts: Sequence[str], tokenizer: Any, max_length: int | None) -> Tokens:
    values, lengths = [], []
    for start in range(0, len(texts), _CHUNK):
        some = texts[start : start + _CHUNK]
        own = encode_whole(tokenizer, some) if max_length is None else encode_cut(tokenizer, some, max_length)
        lengths += [len(numbers) for numbers in own]
        values.append(np.fromiter(chain.from_iterable(own), np.int32, sum(map(len, own))))
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    return Tokens(np.concatenate(values) if values else np.empty(0, np.int32), offsets)


def _write(path: Path, tokens: Tokens) -> None:
    """Whole or not at all: other processes may have the old file mapped, so it is never written in place."""
    column = pa.LargeListArray.from_arrays(pa.array(tokens.offsets), pa.array(tokens.values))
    schema = pa.schema({"tokens": column.type}, metadata={"sha256": _checksum(tokens)})
    with replacing(path) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))


def _read(path: Path) -> Tokens | None:
    """Views of the mapped file; None where there is none, or one that is torn or not what was written."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        column = table["tokens"].chunk(0)
        if column.type != pa.large_list(pa.int32()):
            return None
        found = Tokens(column.values.to_numpy(), column.offsets.to_numpy())
        whole = table.schema.metadata[b"sha256"].decode() == _checksum(found)
    except (OSError, pa.ArrowException, KeyError, IndexError, TypeError, ValueError):
        return None
    return found if whole else None


def _checksum(tokens: Tokens) -> str:
    total = sha256(np.ascontiguousarray(tokens.offsets).data)
    total.update(np.ascontiguousarray(tokens.values).data)
    return total.hexdigest()
