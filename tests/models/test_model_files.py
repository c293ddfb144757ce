"""Weights that were trained again under the same name are another model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from ablate.config.schema import Config, DataConfig, EvalConfig, ModelConfig
from ablate.data.splits import Examples
from ablate.errors import AblateError, ConfigError, ModelError
from ablate.hashing import model_digest
from ablate.models.build import weights_from
from ablate.models.hub import _POSITIONS_AFTER_PADDING, check_model_files, locate_model
from ablate.tasks.text_classification import build_model, text_classification_task
from ablate.training.random_streams import RandomStreams


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "vocab.txt", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(f"{name} as it was")
    return tmp_path


def digest(folder: Path, init: str = "pretrained") -> str:
    return model_digest(ModelConfig(name=str(folder), init=init), str(folder))


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
def test_what_a_model_is_made_from_counts_even_where_size_is_equal(folder: Path, name: str) -> None:
    before = digest(folder)
    (folder / name).write_text(f"{name} as it is!")
    os.utime(folder / name, ns=(1, 1))
    assert digest(folder) != before


def test_what_is_not_read_does_not_count_nor_do_weights_that_are_drawn(folder: Path) -> None:
    loaded, drawn = digest(folder), digest(folder, "random")
    (folder / "README.md").write_text("other words")
    assert digest(folder) == loaded
    (folder / "model.safetensors").write_text("trained again")
    assert digest(folder, "random") == drawn
    assert digest(folder) != loaded


def test_a_copy_elsewhere_is_the_same_model_and_a_hub_model_has_no_files_here(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.glob("*.*"):
        (copy / file.name).write_bytes(file.read_bytes())
    assert digest(copy) == digest(folder)
    assert model_digest(ModelConfig(), "google-bert/bert-base-uncased") == ""


# ---- files that do not fit ----

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = ["[PAD]", "[UNK]", "</s>", "a", "film", "seen", "fine", "dull"]


def save(folder: Path, kind: str, *, pad_token: str | None = "[PAD]", positions: int = 64, **settings: object) -> Path:
    """A model of two layers and its tokenizer of eight words. settings: of its config."""
    torch.manual_seed(0)
    names = {"bert": "Bert", "llama": "Llama", "roberta": "Roberta"}
    config = getattr(transformers, f"{names[kind]}Config")(
        **SIZES, vocab_size=len(WORDS), max_position_embeddings=positions, **{"eos_token_id": 2, **settings}
    )
    getattr(transformers, f"{names[kind]}ForSequenceClassification")(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", eos_token="</s>", pad_token=pad_token
    ).save_pretrained(folder)
    return folder


def config(folder: Path, **settings: object) -> Config:
    return Config(model=ModelConfig(name=str(folder), **settings), data=DataConfig(max_length=16))  # type: ignore[arg-type]


def rename(folder: Path, change: Callable[[str], str | None]) -> None:
    """Write the weights again under other names; None leaves one out."""
    file = folder / "model.safetensors"
    weights = {new: weight for name, weight in load_file(file).items() if (new := change(name)) is not None}
    save_file(weights, file, metadata={"format": "pt"})


def refusal(folder: Path, num_classes: int = 2, **settings: object) -> AblateError:
    with pytest.raises(AblateError) as caught:
        check_model_files(config(folder, **settings), num_classes)
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("kind", "settings", "padding"),
    [
        (
            "llama",
            {"pad_token_id": 2, "pad_token": None},
            2,
        ),  # the usual workaround: the end token, in the config alone
        ("llama", {"pad_token_id": None, "pad_token": "[PAD]"}, 0),
        ("llama", {"pad_token_id": 4, "pad_token": "[PAD]"}, 4),
        ("llama", {"pad_token_id": None, "pad_token": "</s>"}, 2),
        ("bert", {"pad_token_id": 0, "pad_token": None}, 0),
        ("bert", {"pad_token_id": 5, "pad_token": "[PAD]"}, 5),
    ],
)
def test_batch_and_model_mean_one_padding_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, settings: dict[str, object], padding: int
) -> None:
    """The loss before training depends neither on the batch that a text is in nor on the batch size."""
    save(tmp_path, kind, **settings)
    texts = tuple(" ".join(["a", "film", "seen", "fine", "dull"][: 1 + k % 5]) for k in range(12))
    pool = Examples(texts, np.arange(12) % 2, ("no", "yes"), np.zeros(12, dtype=bool))
    monkeypatch.setattr("ablate.tasks.text_classification.load_examples", lambda _: pool)
    task = text_classification_task(
        replace(config(tmp_path), eval=EvalConfig(every="1 epochs", max_examples=None)), RandomStreams(seed=0)
    )
    assert task.model.config.get_text_config().pad_token_id == padding  # type: ignore[union-attr, operator]
    task.model.eval()
    samples = [task.dataset[k] for k in range(len(task.dataset))]
    with torch.no_grad():
        together = task.loss_fn(task.model, task.collate(samples))[0]
        alone = sum(task.loss_fn(task.model, task.collate([sample]))[0] for sample in samples)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert (task.collate(samples)["input_ids"] == padding).sum() >= 10


def test_a_model_without_a_padding_token_is_refused_with_the_setting_that_gives_it_one(tmp_path: Path) -> None:
    save(tmp_path, "llama", pad_token_id=None, pad_token=None)
    found = refusal(tmp_path)
    assert "neither its config nor its tokenizer has a padding token" in found.problem
    assert found.fix == "model.config_overrides.pad_token_id=2 pads with the end token"
    check_model_files(config(tmp_path, config_overrides={"pad_token_id": 2}), 2)
    check_model_files(config(tmp_path), 0)  # each token is predicted: none represents the text
    with pytest.raises(ConfigError, match="changes the shape"):
        config(tmp_path, config_overrides={"pad_token_id": 2, "hidden_size": 8})


def test_a_padding_token_without_an_embedding_is_none(tmp_path: Path) -> None:
    save(tmp_path, "llama", pad_token_id=None, pad_token=None)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"pad_token_id": null', '"pad_token_id": -1'))
    assert "has a padding token" in refusal(tmp_path).problem


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_weights_that_were_saved_from_a_wrapper_are_refused(tmp_path: Path, prefix: str) -> None:
    rename(save(tmp_path, "bert"), lambda name: prefix + name)
    found = refusal(tmp_path)
    assert f"0 of its 41 tensors are the model's; their names begin with '{prefix}'" in found.problem
    check_model_files(config(tmp_path, init="random"), 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name: f"model.{name}", "37 of the 37 tensors .* the file has 41 others, such as model.bert"),
        (
            lambda name: name.replace("layer.1.", "layers.1."),
            r"16 of the 37 tensors .* such as bert\.encoder\.layer\.1\.",
        ),
        (
            lambda name: None if "word_embeddings" in name else name,
            r"1 of the 37 .* bert\.embeddings\.word_embeddings\.weight\n",
        ),
    ],
)
def test_a_model_whose_weights_are_not_in_its_file_is_refused(
    tmp_path: Path, change: Callable[[str], str | None], words: str
) -> None:
    rename(save(tmp_path, "bert"), change)
    with pytest.raises(ModelError, match=words):
        build_model(config(tmp_path).model, 2, RandomStreams(seed=0))


def test_the_record_says_which_tensors_were_drawn(tmp_path: Path) -> None:
    rename(save(tmp_path, "bert"), lambda name: None if name.startswith(("classifier", "bert.pooler")) else name)
    model = build_model(config(tmp_path).model, 2, RandomStreams(seed=0))
    drawn = "bert.pooler.dense.bias, bert.pooler.dense.weight, classifier.bias, classifier.weight"
    assert weights_from(model) == f"37 of 41 tensors from {tmp_path}; drawn: {drawn}"
    assert weights_from(build_model(config(tmp_path, init="random").model, 2, RandomStreams(seed=0))) == "all drawn"


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_checkpoint_of_other_classes_is_refused_with_both_numbers(tmp_path: Path, kind: str) -> None:
    save(tmp_path, kind, num_labels=3, pad_token_id=0)
    assert re.search(r"its head \(\S+\) has 3 classes, and the data have 2", refusal(tmp_path).problem)
    check_model_files(config(tmp_path), 3)
    with pytest.raises(ModelError, match=r"has the shape \[3.* in the file, and the model needs \[2"):
        build_model(config(tmp_path).model, 2, RandomStreams(seed=0))


@pytest.mark.parametrize(
    ("kind", "padding", "usable"), [("roberta", 1, 16), ("roberta", 4, 13), ("bert", 0, 18), ("llama", 0, 18)]
)
def test_positions_are_those_that_tokens_have(tmp_path: Path, kind: str, padding: int, usable: int) -> None:
    save(tmp_path, kind, positions=18, pad_token_id=padding)
    whole = config(tmp_path)
    whole.data.max_length = usable
    check_model_files(whole, 2)
    whole.data.max_length = usable + 1
    with pytest.raises(AblateError) as caught:
        check_model_files(whole, 2)
    assert f"data.max_length={usable + 1} is longer than the {usable} " in caught.value.problem
    assert caught.value.fix == f"data.max_length={usable}"


def test_the_architectures_with_positions_after_padding_are_those_of_transformers() -> None:
    """Read from its code: the classifiers whose embeddings make positions from the padding token."""
    folder = Path(transformers.__file__).parent / "models"
    found = {
        file.parent.name.replace("_", "-")
        for file in folder.glob("*/modeling_*.py")
        if re.search(r"^class \w+ForSequenceClassification\(", text := file.read_text(), re.MULTILINE)
        and "create_position_ids_from_input_ids" in text
    }
    assert found - {name.removesuffix("-text") for name in _POSITIONS_AFTER_PADDING} == set()


@pytest.mark.parametrize("with_config", [False, True])
def test_an_adapter_is_no_model(tmp_path: Path, with_config: bool) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "./base"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    if with_config:
        (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds a LORA adapter of \./base, not a model") as caught:
        locate_model(ModelConfig(name=str(tmp_path)))
    assert "merge_and_unload" in str(caught.value.fix)
