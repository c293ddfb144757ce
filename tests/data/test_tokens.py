"""Tokenised once: the file is the same numbers, is found again, is never stale, and is never needed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ablate.config.schema import Config, ModelConfig
from ablate.data import tokenization as module
from ablate.data.batching import Samples, pad_rows
from ablate.data.datasets import load_examples
from ablate.data.tokenization import (
    FOLDER,
    Tokens,
    digest_of,
    encode_cut,
    encode_whole,
    identity,
    load_tokenizer,
    tokens_of,
)
from ablate.records.layout import StudyDir

TEXTS = tuple(f"film number {k} was {'very ' * (k % 7)}good, naïve and {k * k} minutes long" for k in range(1200))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ModelConfig())


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process: nothing is remembered."""
    monkeypatch.setattr(module, "_last", {})


def again(tokenizer: Any, root: Path, texts: tuple[str, ...] = TEXTS, max_length: int | None = 16) -> Tokens:
    module._last.clear()
    return tokens_of(texts, tokenizer, max_length=max_length, root=root)


def same(left: Tokens, right: Tokens) -> bool:
    return np.array_equal(left.values, right.values) and np.array_equal(left.offsets, right.offsets)


def files(root: Path) -> list[Path]:
    return sorted((root / FOLDER).iterdir())


def in_file(tokens: Tokens) -> bool:
    """Whether the numbers are a view of a mapped file, and not an array of this process."""
    base: Any = tokens.values
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, pa.Buffer | pa.Array) and not tokens.values.flags.writeable


def never(*arguments: Any) -> Any:
    raise AssertionError("tokenised again")


@pytest.mark.parametrize("max_length", [16, None])
def test_what_is_read_is_what_the_tokenizer_says(tokenizer: Any, tmp_path: Path, max_length: int | None) -> None:
    fresh = encode_whole(tokenizer, TEXTS) if max_length is None else encode_cut(tokenizer, TEXTS, max_length)
    for _ in range(2):  # made, then found
        found = again(tokenizer, tmp_path, max_length=max_length)
        assert in_file(found)
        assert found.values.dtype == np.int32
        assert [own.tolist() for own in found] == fresh  # type: ignore[attr-defined]
        assert found.lengths.tolist() == [len(own) for own in fresh]
    assert len(files(tmp_path)) == 1


def test_the_second_time_nothing_is_tokenised(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = again(tokenizer, tmp_path)
    monkeypatch.setattr(module, "_tokenise", never)
    assert same(again(tokenizer, tmp_path), made)
    with pytest.raises(AssertionError, match="tokenised again"):
        again(tokenizer, tmp_path, texts=TEXTS[:-1])


def test_within_a_process_the_file_is_not_even_opened_again(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = again(tokenizer, tmp_path / "no root yet")
    monkeypatch.setattr(module, "_tokenise", never)
    assert tokens_of(TEXTS, tokenizer, max_length=16, root=tmp_path / "no root yet") is made


def test_whatever_can_change_a_number_changes_the_digest(tokenizer: Any) -> None:
    other = load_tokenizer(ModelConfig())
    known = digest_of(TEXTS, tokenizer, max_length=16)
    assert digest_of(TEXTS, other, max_length=16) == known
    other(["a call of another kind"], truncation=True, max_length=5, padding="max_length")
    assert digest_of(TEXTS, other, max_length=16) == known
    other.add_tokens(["minutes"])
    digests = {
        known,
        digest_of(TEXTS, other, max_length=16),
        digest_of(TEXTS, tokenizer, max_length=17),
        digest_of(TEXTS, tokenizer, max_length=None),
        digest_of(TEXTS[:-1], tokenizer, max_length=16),
        digest_of(TEXTS[::-1], tokenizer, max_length=16),
        digest_of(("ab", "c"), tokenizer, max_length=16),
        digest_of(("a", "bc"), tokenizer, max_length=16),
    }
    assert len(digests) == 8


def test_a_tokenizer_without_a_rust_backend_is_known_by_its_files(tmp_path: Path) -> None:
    class Slow:
        truncation_side = "right"
        special_tokens_map: dict[str, str] = {}  # noqa: RUF012

        def __init__(self, vocabulary: str) -> None:
            self.vocabulary = vocabulary

        def save_pretrained(self, folder: str) -> None:
            Path(folder, "vocab.txt").write_text(self.vocabulary)

    assert identity(Slow("a")) == identity(Slow("a")) != identity(Slow("b"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit of one token: still a readable Arrow file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def another_table(path: Path) -> None:
    table = pa.table({"tokens": [1, 2, 3]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("damage", [truncate, empty, flip, another_table])
def test_a_damaged_file_is_made_again(tokenizer: Any, tmp_path: Path, damage: Any) -> None:
    made = again(tokenizer, tmp_path)
    kept = Tokens(made.values.copy(), made.offsets.copy())
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    del made
    damage(path)
    assert same(again(tokenizer, tmp_path), kept)
    assert path.read_bytes() == whole
    assert files(tmp_path) == [path]


def test_a_root_that_does_not_exist_is_not_made(tokenizer: Any, tmp_path: Path) -> None:
    found = again(tokenizer, tmp_path / "runs")
    assert not in_file(found)
    assert [own.tolist() for own in found] == encode_cut(tokenizer, TEXTS, 16)  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    assert not in_file(again(tokenizer, tmp_path))
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs").chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert not in_file(again(tokenizer, tmp_path / "runs"))
        (tmp_path / "runs").chmod(stat.S_IRWXU)


def test_a_full_disk_leaves_no_part_of_a_file(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert [own.tolist() for own in again(tokenizer, tmp_path)] == encode_cut(tokenizer, TEXTS, 16)  # type: ignore[attr-defined]
    assert files(tmp_path) == []


RUN = """
import pathlib, sys, time
from ablate.data.tokenization import tokens_of

class Slow:
    truncation_side, special_tokens_map, bos_token_id, cls_token_id, eos_token_id, sep_token_id = "right", {}, *[None] * 4

    def save_pretrained(self, folder):
        pathlib.Path(folder, "rules").write_text("length of the text")

    def __call__(self, texts, **_):
        with open("calls", "a") as calls:
            calls.write("x")
        time.sleep(0.5)
        return {"input_ids": [[len(text), 1] for text in texts]}

pathlib.Path(f"ready{sys.argv[1]}").touch()
while len(list(pathlib.Path().glob("ready*"))) < 2:
    time.sleep(0.01)
print(*tokens_of(["a", "bb", "ccc"], Slow(), max_length=None, root="runs").values)
"""
"""A run, as far as its tokens go, in the current folder."""


def test_two_runs_that_start_together_are_both_right(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(k)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repo)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    assert [process.communicate(timeout=60)[0].split() for process in both] == [["1", "1", "2", "1", "3", "1"]] * 2
    assert (tmp_path / "calls").read_text() == "x"  # the second waited for the first
    assert len(files(tmp_path / "runs")) == 1


def test_arms_of_another_train_ratio_share_the_file_and_no_study_sees_it(tmp_path: Path) -> None:
    from ablate.tasks.registry import build_task
    from ablate.training.random_streams import RandomStreams

    for ratio in (1.0, 4.0):
        config = Config()
        config.study.output_dir, config.data.train_test_ratio, config.data.max_examples = str(tmp_path), ratio, 100
        config.eval.max_examples = 20
        config.model = ModelConfig(init="random", config_overrides={"num_hidden_layers": 1, "hidden_size": 12})
        task = build_task(config, RandomStreams(seed=0))
        pool = load_examples(config.data)
        wanted = encode_cut(
            load_tokenizer(config.model), [pool.text[k] for k in task.sample_ids], config.data.max_length
        )
        assert [task.dataset[k][0].tolist() for k in range(len(task.dataset))] == wanted
        assert [task.dataset[k][1] for k in range(len(task.dataset))] == pool.label[task.sample_ids].tolist()
    assert len(files(tmp_path)) == 1
    assert list(tmp_path.glob("*/*/seed=*/config.yaml")) == []
    assert list(StudyDir(tmp_path).runs()) == []


def test_samples_are_views_and_the_order_by_length_is_stable() -> None:
    tokens = Tokens(np.arange(10, dtype=np.int32), np.array([0, 3, 4, 7, 10]))
    ids = np.array([3, 0, 1])
    samples = Samples(tokens, tokens.offsets[ids], tokens.lengths[ids], np.array([5, 6, 7]))
    assert [(own.tolist(), label) for own, label in map(samples.__getitem__, range(3))] == [
        ([7, 8, 9], 5),
        ([0, 1, 2], 6),
        ([3], 7),
    ]
    assert np.shares_memory(samples[0][0], tokens.values)
    assert samples.by_length() == [2, 0, 1]


def test_rows_are_padded_to_the_longest() -> None:
    numbers, real = pad_rows([np.array([5, 6, 7], np.int32), np.array([4], np.int32)], 9)
    assert numbers.tolist() == [[5, 6, 7], [4, 9, 9]]
    assert real.tolist() == [[1, 1, 1], [1, 0, 0]]
