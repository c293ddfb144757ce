"""Weights that were trained again under the same name are another model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ablate.config.schema import ModelConfig
from ablate.hashing import model_digest


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
