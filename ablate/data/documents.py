"""Documents cut into pieces: the samples of language modelling. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.config.schema import Config
from ablate.data.datasets import load_examples
from ablate.data.splits import Examples, Ids, Splits, split
from ablate.data.tokenization import Tokens, load_tokenizer, tokens_of
from ablate.errors import DataError
from ablate.models.hub import check_causal, check_fits, load_settings


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Every piece of every document, in file order; a piece's id is its position, whatever is trained on.

    document: which one it is part of. start: its first token in `tokens.values`. length: in tokens, 2 or more.
    All int64 [pieces]. first: int64 [documents + 1], where each document's pieces begin.
    """

    document: Ids
    start: Ids
    length: Ids
    first: Ids

    def __len__(self) -> int:
        return len(self.document)

    def of(self, documents: Ids) -> Ids:
        """Ids of the pieces of these documents, document by document in the given order."""
        count = self.first[documents + 1] - self.first[documents]
        shift = np.cumsum(count) - count
        return np.repeat(self.first[documents] - shift, count) + np.arange(count.sum())


def cut(tokens: Tokens, max_length: int) -> Pieces:
    """Cut every document into pieces of `max_length` tokens, the last one shorter; one token alone predicts nothing."""
    count = -(-tokens.lengths // max_length) - (tokens.lengths % max_length == 1)
    first = np.concatenate([[0], np.cumsum(count)])
    document = np.repeat(np.arange(len(tokens)), count)
    skipped = (np.arange(len(document)) - first[document]) * max_length
    length = np.minimum(max_length, tokens.lengths[document] - skipped)
    return Pieces(document, tokens.offsets[document] + skipped, length, first)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corpus:
    """What language modelling reads. documents: the split of the pool, by document. The other ids are of pieces.

    evaluated: pieces of the evaluated documents in their nested order, at most `eval.max_examples` of them: how many there are
        is known once the documents are tokenised.
    """

    pool: Examples
    tokens: Tokens
    pieces: Pieces
    documents: Splits
    train: Ids
    held_out: Ids
    evaluated: Ids
    tokenizer: Any
    settings: Any


def load_corpus(config: Config) -> Corpus:
    """Read, split, tokenise and cut the documents, and check that the model is one that can learn from them.

    Raises DataError or ModelError.
    """
    pool = load_examples(config.data, labelled=False)
    documents = split(pool, config.data)
    tokenizer = load_tokenizer(config.model)
    settings = load_settings(config.model, tokenizer)
    check_causal(settings, config.model)
    tokens = tokens_of(pool.text, tokenizer, max_length=None, root=config.study.output_dir)
    check_fits(settings, tokens, config)
    pieces = cut(tokens, config.data.max_length)
    where = config.data.path or config.data.name
    if not len(pieces):
        raise DataError(
            f"none of the {len(pool)} documents of {where} holds two tokens: there is nothing to predict",
            "check data.path and data.text_column",
        )
    train, held_out = pieces.of(documents.train), pieces.of(documents.held_out)
    if not len(train) or not len(held_out):
        raise DataError(
            f"data.train_test_ratio={config.data.train_test_ratio:g} splits the {len(pool)} documents of {where} into "
            f"{len(train)} pieces for training and {len(held_out)} held out: both need at least one",
            "data.train_test_ratio=1, or more documents",
        )
    return Corpus(
        pool=pool,
        tokens=tokens,
        pieces=pieces,
        documents=documents,
        train=train,
        held_out=held_out,
        evaluated=pieces.of(documents.evaluated)[: config.eval.max_examples],
        tokenizer=tokenizer,
        settings=settings,
    )
