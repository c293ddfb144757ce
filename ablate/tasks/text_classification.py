"""Text classification with a transformers encoder: what `train` needs, made from a Config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ablate.config import Config, ModelConfig
from ablate.errors import ModelError
from ablate.loop.evaluate import Evaluation
from ablate.loop.fingerprint import ids_hash
from ablate.loop.streams import Streams
from ablate.tasks.data import Examples, load_examples, split
from ablate.tasks.facts import locate, locate_model

Sample = tuple[list[int], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The arguments of `train` that depend on what is trained."""

    model: nn.Module
    examples: Sequence[Sample]
    objective: Callable[[nn.Module, Any], tuple[torch.Tensor, int]]
    evaluation: Evaluation
    collate: Callable[[list[Sample]], dict[str, torch.Tensor]]
    num_tokens: Callable[[Any], int]
    ids: Sequence[int]
    facts: dict[str, Any]


def text_classification(config: Config, streams: Streams) -> Task:
    """Load, split and tokenise the data, build the model inside the `init` stream."""
    pool = load_examples(config.data)
    splits = split(pool, config.data, eval_examples=config.observe.eval_examples)
    tokenizer = _load_tokenizer(config.model)
    model = build_model(config.model, len(pool.classes), streams)
    train_set = _tokenise(tokenizer, pool, splits.train.tolist(), config.data.max_length)
    eval_set = _tokenise(tokenizer, pool, splits.evaluated.tolist(), config.data.max_length)
    pad = tokenizer.pad_token_id or 0
    return Task(
        model=model,
        examples=train_set,
        objective=objective,
        evaluation=Evaluation(
            examples=eval_set,
            measure=measure,
            every=config.observe.eval_every,
            spacing=config.observe.eval_spacing,
            num_looks=config.observe.eval_looks,
            batch_size=config.observe.eval_batch_size,
            order=sorted(range(len(eval_set)), key=lambda k: len(eval_set[k][0])),  # little padding
        ),
        collate=lambda samples: pad_batch(samples, pad),
        num_tokens=lambda batch: int(batch["attention_mask"].sum()),
        ids=splits.train.tolist(),
        facts={
            "splits": {"train": ids_hash(splits.train), "held_out": ids_hash(splits.held_out)},
            "eval_set": {"ids": ids_hash(splits.evaluated), "count": len(splits.evaluated)},
        },
    )


def objective(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """(sum of the cross entropies in nats, number of texts)."""
    logits = _logits(model, batch)
    return functional.cross_entropy(logits, batch["labels"], reduction="sum"), len(batch["labels"])


def measure(model: nn.Module, batch: dict[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Per text: loss in nats and accuracy (0 or 1), each [batch]."""
    logits = _logits(model, batch)
    return {
        "loss": functional.cross_entropy(logits, batch["labels"], reduction="none"),
        "accuracy": (logits.argmax(dim=-1) == batch["labels"]).float(),
    }


def _logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits.float()  # [batch, classes]; the loss in fp32 whatever autocast ran in


def pad_batch(samples: list[Sample], pad: int) -> dict[str, torch.Tensor]:
    """Pad to the longest of the batch: input_ids and attention_mask [batch, longest], labels [batch], all int64."""
    longest = max(len(tokens) for tokens, _ in samples)
    input_ids = torch.tensor([tokens + [pad] * (longest - len(tokens)) for tokens, _ in samples])
    attention_mask = torch.tensor([[1] * len(tokens) + [0] * (longest - len(tokens)) for tokens, _ in samples])
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": torch.tensor([y for _, y in samples])}


def _tokenise(tokenizer: Any, pool: Examples, ids: list[int], max_length: int) -> list[Sample]:
    texts = [pool.text[k] for k in ids]
    tokens = tokenizer(texts, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
    return [(own, int(pool.label[k])) for own, k in zip(tokens, ids, strict=True)]


def _load_tokenizer(config: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    name = config.tokenizer or config.name
    place = locate(name, key="model.tokenizer" if config.tokenizer else "model.name")
    return _from_hub(name, lambda: AutoTokenizer.from_pretrained(place, revision=_revision(config)))


def build_model(config: ModelConfig, num_classes: int, streams: Streams) -> nn.Module:
    """The classifier; every weight that does not come from a file is drawn from the `init` stream, module by module."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    place = locate_model(config)
    settings = _from_hub(config.name, lambda: AutoConfig.from_pretrained(place, revision=_revision(config)))
    settings.num_labels = num_classes
    _apply(settings, config)
    with streams.scope("init"):
        if config.init == "random":
            model = AutoModelForSequenceClassification.from_config(settings)  # type: ignore[no-untyped-call]
            new = None
        else:
            model, report = _from_hub(
                config.name,
                lambda: AutoModelForSequenceClassification.from_pretrained(
                    place,
                    config=settings,
                    revision=_revision(config),
                    output_loading_info=True,
                    use_safetensors=True,
                    dtype=torch.float32,
                ),
            )
            new = {name.rpartition(".")[0] for name in report["missing_keys"]}
    streams.initialise(model, new, lambda module: _fill(model, module))
    assert isinstance(model, nn.Module)
    return model


def _fill(model: Any, module: nn.Module) -> None:
    """Draw one module's own weights as its architecture prescribes."""
    for parameter in module.parameters(recurse=False):
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
    with torch.no_grad():
        model._init_weights(module)


def _apply(settings: Any, config: ModelConfig) -> None:
    """Set shape and dropout on the model's own config. Raises ModelError for a name that it does not have."""
    for name, value in config.shape.items():
        if not hasattr(settings, name):
            raise ModelError(f"model.shape.{name}: the config of {config.name} has no {name!r}", "see its config.json")
        setattr(settings, name, value)
    if config.dropout is None:
        return
    names = [name for name in settings.to_dict() if re.search(r"drop(out)?(_p|_prob|_rate)?$", name)]
    if not names:
        raise ModelError(
            f"model.dropout={config.dropout:g}: the config of {config.name} has no dropout", "model.dropout=null"
        )
    for name in names:
        setattr(settings, name, config.dropout)


def _revision(config: ModelConfig) -> str:
    return config.revision or "main"


def _from_hub(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name={name} cannot be loaded: {str(error).strip().splitlines()[0]}",
            "check the name and the network, or give a local directory: model.name=/path/to/model",
        ) from error
