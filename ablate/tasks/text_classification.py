"""Text classification with a transformers encoder: what `train` needs, made from a Config."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from ablate.config.schema import Config, ModelConfig
from ablate.data.batching import Sample, Samples, padded
from ablate.data.datasets import load_examples
from ablate.data.splits import Examples, described, split, with_wrong_labels
from ablate.data.tokenization import Tokens, load_tokenizer, tokens_of
from ablate.models.build import build, pool_tokens
from ablate.models.components import components_of
from ablate.models.hub import check_fits, hub_revisions, load_settings
from ablate.tasks.task import Task, count_tokens, logits_of, make_evaluation
from ablate.training.fingerprint import ids_hash
from ablate.training.random_streams import RandomStreams


def text_classification_task(config: Config, streams: RandomStreams) -> Task:
    """Load, split and tokenise the data, build the model inside the `init` stream."""
    pool = load_examples(config.data)
    splits = split(pool, config.data, eval_examples=config.eval.max_examples)
    for line in described(pool, splits):
        print(f"data: {line}", flush=True)
    tokenizer = load_tokenizer(config.model)
    model = build_model(config.model, len(pool.classes), streams, tokenizer)
    # The whole pool, so that arms of another train ratio find the same file.
    tokens = tokens_of(pool.text, tokenizer, max_length=config.data.max_length, root=config.study.output_dir)
    check_fits(model.config, tokens, config)
    pad = tokenizer.pad_token_id or 0
    labels = with_wrong_labels(pool.label, len(pool.classes), config.data.label_noise, streams)
    return Task(
        model=model,
        dataset=_samples(tokens, labels, splits.train),
        loss_fn=loss_fn,
        evaluation=make_evaluation(
            config, _samples(tokens, pool.label, splits.evaluated), metric_fn, sample_ids=splits.evaluated.tolist()
        ),
        sample_losses=sample_losses,
        items_per_sample=items_per_sample,
        collate=partial(pad_batch, pad=pad),  # no lambda: data workers may be started by pickling
        count_tokens=count_tokens,
        sample_ids=splits.train.tolist(),
        facts={
            "data": {"source": pool.source, "texts": pool.texts} | _noise(labels, pool, config),
            "components": components_of(model),
            "splits": {"train": ids_hash(splits.train), "held_out": ids_hash(splits.held_out)},
            "eval_set": {
                "ids": ids_hash(splits.evaluated),
                "count": len(splits.evaluated),
                "majority": float(np.bincount(pool.label[splits.evaluated]).max() / len(splits.evaluated)),
            },
        },
        hub=hub_revisions(config, pool.commit),
    )


def loss_fn(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, int]:
    """Return (sum of the cross entropies in nats, number of texts)."""
    logits = logits_of(model, batch)
    return functional.cross_entropy(logits, batch["labels"], reduction="sum"), len(batch["labels"])


def sample_losses(model: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, list[int]]:
    """Return (cross entropy of each text in nats [batch], 1 for each of them)."""
    logits = logits_of(model, batch)
    return functional.cross_entropy(logits, batch["labels"], reduction="none"), items_per_sample(batch)


def items_per_sample(batch: dict[str, Any]) -> list[int]:
    """Return 1 for each text of a batch."""
    return [1] * len(batch["labels"])


def metric_fn(model: nn.Module, batch: dict[str, Any]) -> Mapping[str, torch.Tensor]:
    """Return, per text, loss in nats and accuracy (0 or 1), each [batch]."""
    logits = logits_of(model, batch)
    return {
        "loss": functional.cross_entropy(logits, batch["labels"], reduction="none"),
        "accuracy": (logits.argmax(dim=-1) == batch["labels"]).float(),
    }


def pad_batch(samples: list[Sample], pad: int) -> dict[str, Any]:
    """A padded batch with its labels, int64 [batch]."""
    return padded(samples, pad) | {"labels": torch.tensor([label for _, label in samples])}


def build_model(config: ModelConfig, num_classes: int, streams: RandomStreams, tokenizer: Any = None) -> nn.Module:
    """The classifier; every weight that does not come from a file is drawn from the `init` stream, module by module.

    tokenizer: of `load_tokenizer`; needed for a model made from an architecture's name.
    """
    from transformers import AutoModelForSequenceClassification

    settings = load_settings(config, tokenizer, num_labels=num_classes)
    model = build(AutoModelForSequenceClassification, settings, config, streams)
    if config.pooling is not None:
        pool_tokens(model, config.pooling)
    return model


def _noise(labels: NDArray[np.int64], pool: Examples, config: Config) -> dict[str, Any]:
    """What the fingerprint says of wrong labels: of the whole pool, so that arms that train on other parts of it agree."""
    if labels is pool.label:
        return {}
    return {"wrong_labels": ids_hash(np.flatnonzero(labels != pool.label)), "label_noise": config.data.label_noise}


def _samples(tokens: Tokens, label: NDArray[np.int64], ids: NDArray[np.int64]) -> Samples:
    """label: class numbers of the pool."""
    return Samples(tokens, tokens.offsets[ids], tokens.lengths[ids], label[ids])
