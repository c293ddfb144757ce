"""Tokenizers: loading one, what identifies it, and text to token numbers. No torch of its own (transformers may load it)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ablate.config import ModelConfig
from ablate.tasks.facts import locate
from ablate.tasks.settings import from_hub, revision


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
    found = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    numbers: list[list[int]] = found["input_ids"]
    return numbers


def encode_whole(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of each document, whole, between a start and an end token where the tokenizer offers them.

    The start is its `bos` token or else `cls`, the end its `eos` or else `sep`. A document without a token of its own is
    an empty list.
    """
    found = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # the pieces that a model sees are cut later: no document is too long
    )
    start = [one for one in (tokenizer.bos_token_id, tokenizer.cls_token_id) if one is not None][:1]
    end = [one for one in (tokenizer.eos_token_id, tokenizer.sep_token_id) if one is not None][:1]
    return [[*start, *own, *end] if own else [] for own in found["input_ids"]]
