"""Wrong labels: nested, keyed by the example, and of the training part alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ablate.config.schema import Config, DataConfig, ModelConfig, TaskConfig
from ablate.data.splits import with_wrong_labels
from ablate.errors import ConfigError
from ablate.tasks.text_classification import text_classification_task
from ablate.training.random_streams import RandomStreams

LABELS = np.random.default_rng(0).integers(0, 3, 4000)


@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_about_that_share_is_wrong_and_every_other_class_is_as_likely(share: float) -> None:
    made = with_wrong_labels(LABELS, 3, share, RandomStreams(seed=1))
    wrong = made != LABELS
    assert abs(wrong.mean() - share) < 3 * np.sqrt(0.25 / len(LABELS))
    steps = np.bincount((made - LABELS)[wrong] % 3, minlength=3) / wrong.sum()
    assert steps[0] == 0
    assert abs(steps[1] - 0.5) < 0.08
    assert set(made) == {0, 1, 2}


def test_the_wrong_labels_of_a_smaller_share_are_among_those_of_a_larger_one_and_wrong_in_the_same_way() -> None:
    few, many = (with_wrong_labels(LABELS, 3, share, RandomStreams()) for share in (0.1, 0.3))
    wrong = few != LABELS
    assert wrong.any()
    assert (few[wrong] == many[wrong]).all()
    assert (many != LABELS).sum() > 2 * wrong.sum()


def test_what_is_drawn_for_an_example_does_not_depend_on_how_many_there_are() -> None:
    short, long = (with_wrong_labels(LABELS[:n], 3, 0.3, RandomStreams()) for n in (100, 4000))
    assert (long[:100] == short).all()


def test_seeds_and_the_stream_of_its_own_draw_others_and_no_other_stream_does() -> None:
    first, seed, stream, other = (
        with_wrong_labels(LABELS, 3, 0.3, streams)
        for streams in (
            RandomStreams(),
            RandomStreams(seed=1),
            RandomStreams(labels=1),
            RandomStreams(order=1, init=1, dropout=1, noise=1),
        )
    )
    assert (first == other).all()
    assert (first != seed).any()
    assert (seed == stream).all(), "a stream's number is added to the seed"


def test_none_is_the_very_same_array() -> None:
    assert with_wrong_labels(LABELS, 3, 0.0, RandomStreams()) is LABELS


def task_of(root: Path, noise: float, **data: object):
    config = Config(model=ModelConfig(init="random", config_overrides={"num_hidden_layers": 1, "hidden_size": 12}))
    config.study.output_dir = str(root)
    config.data = DataConfig(max_examples=200, max_length=16, label_noise=noise, **data)
    return text_classification_task(config, RandomStreams())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("noise")
    made = {noise: task_of(root, noise) for noise in (0.0, 0.3)}
    return made | {"at 4:1": task_of(root, 0.3, train_test_ratio=4.0)}


def labels(examples) -> list[int]:
    return [examples[k][1] for k in range(len(examples))]


def test_training_labels_are_wrong_and_those_that_are_evaluated_never(tasks) -> None:
    clean, noisy = tasks[0.0], tasks[0.3]
    assert labels(clean.evaluation.dataset) == labels(noisy.evaluation.dataset)
    changed = np.mean(np.asarray(labels(clean.dataset)) != labels(noisy.dataset))
    assert 0.15 < changed < 0.45
    assert clean.sample_ids == noisy.sample_ids


def test_the_fingerprint_says_which_are_wrong_and_nothing_where_none_is(tasks) -> None:
    clean, noisy, other = (tasks[key].facts for key in (0.0, 0.3, "at 4:1"))
    assert set(clean["data"]) == {"source", "texts"}
    assert noisy["data"]["label_noise"] == 0.3
    assert {key: noisy["data"][key] for key in clean["data"]} == clean["data"]
    assert other["data"] == noisy["data"], "arms of another train:test ratio have the same wrong labels"
    assert noisy["eval_set"] == clean["eval_set"]


def test_a_task_without_labels_refuses() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.label_noise=0\.1 with task\.name=causal_lm, which reads no label"
    ) as error:
        Config(data=DataConfig(label_noise=0.1), task=TaskConfig(name="causal_lm"))
    assert error.value.fix == "data.label_noise=0"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.label_noise=.* is out of range: expected at least 0 and at most 1"):
        DataConfig(label_noise=share)
