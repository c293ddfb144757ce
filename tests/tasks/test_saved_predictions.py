"""Whether examples are kept is for the config to say, also of a task that makes its Evaluation by hand."""

from __future__ import annotations

import pytest
from torch import nn

from ablate import Evaluation, Task, make_evaluation
from ablate.config.schema import Config, EvalConfig
from ablate.design.plan import config_digest
from ablate.tasks.task import evaluation_of

EXAMPLES = [0, 1, 2]


def task(evaluation: Evaluation | None) -> Task:
    return Task(
        model=nn.Linear(1, 1),
        examples=EXAMPLES,
        objective=lambda model, batch: (model(batch), 1),
        evaluation=evaluation,
    )


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("custom", [True, False])
def test_the_config_can_only_take_it_away(asked: bool, own: bool) -> None:
    config = Config(eval=EvalConfig(save_predictions=asked))
    made = evaluation_of(task(Evaluation(examples=EXAMPLES, measure=lambda *_: {}, keep_examples=own)), config)
    assert made is not None
    assert made.keep_examples == (asked and own)
    assert evaluation_of(task(None), config) is None
    helped = make_evaluation(config, EXAMPLES, lambda *_: {}, ids=[7, 8, 9], groups=[0, 0, 1])
    assert (helped.keep_examples, helped.ids, helped.groups) == (asked, [7, 8, 9], [0, 0, 1])


def test_a_run_that_keeps_them_is_the_same_run() -> None:
    from dataclasses import asdict

    kept, not_kept = (asdict(Config(eval=EvalConfig(save_predictions=keep))) for keep in (True, False))
    assert config_digest(kept) == config_digest(not_kept)
