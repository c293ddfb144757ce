"""What a step costs the host once a run is under way: waits, operations of the device, copies to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers as hf

from ablate import Loader, RandomStreams, Recording, TrainResult, train
from ablate.models.unpadding import leave_unread, unpad
from ablate.tasks import causal_lm
from ablate.tasks import text_classification as texts
from tests.gpu.pretend import Gpu
from tests.training.toy import loss_fn, network, points

SKIPPED, STEPS = 3, 6
"""Steps in which things are looked up and made for the first time, and all steps."""


@dataclass(frozen=True)
class Steady:
    """Of the steps that are not skipped. waits: in words. calls: operations of the device by name. copies: to the device."""

    waits: list[str]
    calls: Counter[str]
    copies: int
    result: TrainResult

    @property
    def calls_per_step(self) -> float:
        return sum(self.calls.values()) / (STEPS - 1 - SKIPPED)


def measure(gpu: Gpu, model: torch.nn.Module, data: Any, goal: Callable[..., Any], **settings: Any) -> Steady:
    """Train on the pretended GPU for a few steps between two flushes."""
    passes = settings.get("grad_accum_steps", 1)
    seen: list[tuple[int, Counter[str], int]] = []

    def counted(model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, int]:
        seen.append((len(gpu.waits), gpu.calls.copy(), sum(gpu.copies.values())))
        return goal(model, batch)

    settings = {
        "budget": STEPS,
        "batch_size": 4,
        "max_grad_norm": 1.0,
        "lr_schedule": "linear",
        "precision": "bf16",
    } | settings
    optimizer = settings.pop("optimizer", None) or torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    settings["recording"] = settings.get("recording", Recording(flush_every=100))
    result = train(
        model, data, counted, optimizer=optimizer, device="cuda", random_streams=RandomStreams(seed=0), **settings
    )
    first, last = seen[SKIPPED * passes], seen[(STEPS - 1) * passes]
    return Steady(gpu.waits[first[0] : last[0]], last[1] - first[1], last[2] - first[2], result)


def toy(gpu: Gpu, **settings: Any) -> Steady:
    """The small network."""
    make = settings.pop("make_optimizer", None)
    model = network(0).to("cuda")
    optimizer = make(model.parameters()) if make else None
    return measure(gpu, model, points(), loss_fn, optimizer=optimizer, **settings)


def bert(dropout: float = 0.1, layers: int = 2) -> Any:
    """A classifier of the shape of BERT, tiny."""
    torch.manual_seed(0)
    shape = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 24, "vocab_size": 128}
    config = hf.BertConfig(
        **shape, num_hidden_layers=layers, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    return hf.BertForSequenceClassification(config)


def llama() -> Any:
    """A causal language model with rotary positions and shared keys, tiny."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 128,
    }
    return hf.LlamaForCausalLM(hf.LlamaConfig(**shape, num_hidden_layers=2, use_cache=False, pad_token_id=0))


def samples(count: int = 64, longest: int = 16) -> list[tuple[Any, int]]:
    """Token numbers and labels, all of different lengths."""
    draw = np.random.Generator(np.random.Philox(key=1))
    return [(draw.integers(3, 128, int(draw.integers(2, longest))), k % 2) for k in range(count)]


def text(gpu: Gpu, model: Any, *, unpadded: bool = True, task: Any = texts, **settings: Any) -> Steady:
    """A task on text; the host counts items and tokens."""
    model = model.to("cuda")
    if unpadded:
        assert unpad(model) is None
        assert task is causal_lm or leave_unread(model) is None
    loader = Loader(
        collate=lambda some: task.pad_batch(some, 0),
        count_items=lambda batch: sum(task.items_per_sample(batch)),
        count_tokens=lambda batch: int(batch["attention_mask"].sum()),
    )
    return measure(gpu, model, samples(), task.loss_fn, loader=loader, **settings)
