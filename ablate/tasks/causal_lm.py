"""Causal language modelling: predict each token from those before it. A sample is a piece of a document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ablate.config.schema import Config
from ablate.data.batching import Sample, Samples, padded, send, token_positions
from ablate.data.documents import Corpus, Pieces, load_corpus
from ablate.data.splits import Ids
from ablate.models.build import build
from ablate.models.components import components_of
from ablate.models.hub import hub_revisions, not_causal
from ablate.models.module_paths import evaluating
from ablate.tasks.task import Task, count_tokens, logits_of, make_evaluation
from ablate.training.fingerprint import ids_hash
from ablate.training.random_streams import RandomStreams

IGNORED = -100
"""Label of a position that is not predicted, as in transformers."""

_MOST_LOGITS = 1 << 25
"""Numbers that an evaluation holds at a time on a CPU: 128 MiB in fp32. A vocabulary is 30,000 to 150,000 numbers per token."""


def causal_lm_task(config: Config, streams: RandomStreams) -> Task:
    """Load, split, tokenize and cut the documents, and build the model inside the `init` stream."""
    from transformers import AutoModelForCausalLM

    corpus = load_corpus(config)
    if hasattr(corpus.settings, "use_cache"):
        corpus.settings.use_cache = False  # of keys and values, for generating: training would fill it for nothing
    model = build(AutoModelForCausalLM, corpus.settings, config.model, streams)
    if not is_causal(model):
        raise not_causal(config.model.name, type(model).__name__)
    pad = corpus.tokenizer.pad_token_id or 0
    return Task(
        model=model,
        dataset=_samples(corpus, corpus.train),
        loss_fn=loss_fn,
        evaluation=make_evaluation(
            config,
            _samples(corpus, corpus.evaluated),
            metric_fn,
            sample_ids=corpus.evaluated.tolist(),
            groups=corpus.pieces.document[corpus.evaluated].tolist(),  # pieces of one document are alike
            items_per_sample=items_per_sample,
        ),
        sample_losses=sample_losses,
        items_per_sample=items_per_sample,
        collate=partial(pad_batch, pad=pad),  # no lambda: data workers may be started by pickling
        count_tokens=count_tokens,
        sample_ids=corpus.train.tolist(),
        facts={
            "data": {"source": corpus.pool.source, "texts": corpus.pool.texts},
            "components": components_of(model),
            "splits": {"train": ids_hash(corpus.documents.train), "held_out": ids_hash(corpus.documents.held_out)},
            "eval_set": {"ids": _content_hash(corpus.pieces, corpus.evaluated), "count": len(corpus.evaluated)},
        },
        hub=hub_revisions(config, corpus.pool.commit),
    )


def loss_fn(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Return (sum of the cross entropies of the next tokens in nats, number of tokens predicted)."""
    logits = _logits(model, batch)  # [batch, longest - 1, vocabulary]
    wanted = batch["labels"][:, 1:]
    loss = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return loss, sum(items_per_sample(batch))


def sample_losses(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, list[int]]:
    """Return (sum of the cross entropies of each piece's next tokens in nats [batch], number of tokens predicted in each)."""
    logits = _logits(model, batch)  # [batch, longest - 1, vocabulary]
    wanted = batch["labels"][:, 1:]
    each = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none")
    return each.view(wanted.shape).sum(dim=1), items_per_sample(batch)


def items_per_sample(batch: dict[str, Any]) -> list[int]:
    """Return the number of tokens predicted in each piece of a batch."""
    return [length - 1 for _, length in batch["spans"]]


def metric_fn(model: nn.Module, batch: dict[str, Any]) -> Mapping[str, torch.Tensor]:
    """Return, per predicted token, loss in nats and accuracy (0 or 1), each [tokens predicted]."""
    loss, accuracy = [], []
    vocabulary = int(model.get_output_embeddings().weight.shape[0])  # type: ignore[operator]
    for part in _rows(batch, _most_logits(batch["labels"].device) // vocabulary):
        # From the spans, which the host knows: it would wait for a mask on a GPU.
        columns, spans = part["labels"].shape[1], part["spans"]
        starts = [row * columns + first for row, (first, _) in enumerate(spans)]
        index = send(token_positions(starts, items_per_sample(part)), part["labels"].device)
        logits = logits_of(model, part).flatten(0, 1).index_select(0, index)
        wanted = part["labels"].flatten().index_select(0, index + 1)
        loss.append(functional.cross_entropy(logits, wanted, reduction="none"))
        accuracy.append((logits.argmax(dim=-1) == wanted).float())
    return {"loss": torch.cat(loss), "accuracy": torch.cat(accuracy)}


def _logits(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    return logits_of(model, batch)[:, :-1]  # the last position has no next token


def _most_logits(device: torch.device) -> int:
    """Return how many logits to hold: a 64th of a GPU's memory in fp32, because they are there about four times."""
    if device.type != "cuda":
        return _MOST_LOGITS
    return max(_MOST_LOGITS, torch.cuda.get_device_properties(device).total_memory // (64 * 4))


def _rows(batch: dict[str, Any], max_tokens: int) -> Iterator[dict[str, Any]]:
    """The batch in parts of at most `max_tokens` positions, one row at least."""
    rows = max(1, max_tokens // batch["input_ids"].shape[1])
    for start in range(0, len(batch["input_ids"]), rows):
        yield {key: value[start : start + rows] for key, value in batch.items()}


def pad_batch(samples: list[Sample], pad: int) -> dict[str, Any]:
    """A padded batch with its labels, int64 [batch, longest]: the tokens themselves, IGNORED at padding."""
    batch = padded(samples, pad)
    return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}


def is_causal(model: nn.Module) -> bool:
    """Whether another last token leaves what the model says before it as it was: seen in the model, not in its config."""
    numbers = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    with evaluating(model):
        first, second = model(input_ids=numbers, attention_mask=torch.ones_like(numbers)).logits.float()
    moved = (first - second).abs().amax(dim=-1)  # [4]
    return bool(moved[:-1].max() <= 1e-3 * moved[-1])


def _samples(corpus: Corpus, ids: Ids) -> Samples:
    pieces = corpus.pieces
    return Samples(corpus.tokens, pieces.start[ids], pieces.length[ids], np.zeros(len(ids), dtype=np.int64))


def _content_hash(pieces: Pieces, ids: Ids) -> str:
    """Pieces of another length are other pieces, whatever their ids."""
    return ids_hash(np.stack([pieces.document[ids], pieces.start[ids], pieces.length[ids]]).ravel())
