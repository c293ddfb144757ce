"""Data: nested splits, and bad input named in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ablate.config.schema import Config, DataConfig, ModelConfig
from ablate.data.datasets import load_examples
from ablate.data.splits import split
from ablate.errors import DataError, ModelError
from ablate.models.hub import locate_model
from ablate.tasks.registry import data_facts


def rows(num: int = 40) -> pa.Table:
    return pa.table({"text": [f"text number {k}" for k in range(num)], "label": [k % 2 for k in range(num)]})


def config(path: Path | None, **settings: object) -> DataConfig:
    return DataConfig(**{"name": "mine", "path": None if path is None else str(path), **settings})  # type: ignore[arg-type]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    pyarrow.csv.write_csv(rows(), tmp_path / "rows.csv")
    return tmp_path / "rows.csv"


def test_a_file_that_was_written_again_is_read_again(csv: Path) -> None:
    before = load_examples(config(csv))
    assert load_examples(config(csv)) is before
    pyarrow.csv.write_csv(rows(38), csv)
    assert (len(before), len(load_examples(config(csv)))) == (40, 38)


@pytest.mark.parametrize("how", ["shuffled", "blocks"])
def test_a_smaller_held_out_part_lies_inside_the_larger_one(csv: Path, how: str) -> None:
    parts = {}
    for ratio in (1.0, 3.0, 7.0):
        setting = config(csv, split=how, train_test_ratio=ratio)
        pool = load_examples(setting)
        parts[ratio] = split(pool, setting)
        assert len(parts[ratio].held_out) == round(40 / (1 + ratio))
        assert not set(parts[ratio].train) & set(parts[ratio].held_out)
        assert len(parts[ratio].train) + len(parts[ratio].held_out) == 40
        assert abs(pool.label[parts[ratio].held_out].mean() - 0.5) <= 0.11
    assert set(parts[7.0].held_out) < set(parts[3.0].held_out) < set(parts[1.0].held_out)
    assert set(parts[1.0].train) < set(parts[3.0].train)


@pytest.mark.parametrize("how", ["shuffled", "blocks"])
def test_a_smaller_share_of_the_training_part_lies_inside_every_larger_one_and_holds_out_the_same(
    csv: Path, how: str
) -> None:
    parts = {}
    for ratio, share in ((1.0, 1.0), (1.0, 0.5), (1.0, 0.2), (1.0, 0.001), (3.0, 0.2)):
        setting = config(csv, split=how, train_test_ratio=ratio, train_fraction=share)
        pool = load_examples(setting)
        parts[ratio, share] = split(pool, setting)
    whole, half, fifth, least, other = (set(part.train.tolist()) for part in parts.values())
    assert [len(part) for part in (whole, half, fifth, least)] == [20, 10, 4, 1]
    assert least < fifth < half < whole
    assert fifth < other < whole, "of 30 at 3:1 six are a fifth, and the same four are among them"
    assert len({tuple(part.held_out) for (ratio, _), part in parts.items() if ratio == 1.0}) == 1
    assert pool.label[sorted(half)].mean() == 0.5


def test_arms_of_different_ratio_are_evaluated_on_the_same_examples(csv: Path) -> None:
    settings = [config(csv, train_test_ratio=ratio, eval_test_ratio=4.0) for ratio in (1.0, 4.0)]
    looked = [split(load_examples(s), s, eval_examples=5).evaluated.tolist() for s in settings]
    assert looked[0] == looked[1]
    assert len(looked[0]) == 5


def test_blocks_hold_out_one_contiguous_stretch_of_each_label(csv: Path) -> None:
    setting = config(csv, split="blocks")
    pool = load_examples(setting)
    held_out = split(pool, setting).held_out
    for label in (0, 1):
        own = np.flatnonzero(pool.label == label)
        inside = np.isin(own, held_out).astype(int)
        assert np.abs(np.diff(inside, append=inside[0])).sum() == 2  # one stretch, counted around the end


def test_official_holds_out_the_sources_own_test_part_first(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(rows(20), tmp_path / "train.parquet")
    pyarrow.parquet.write_table(rows(20), tmp_path / "test.parquet")
    setting = config(tmp_path, split="predefined")
    pool = load_examples(setting)
    assert set(split(pool, setting).held_out) == set(np.flatnonzero(pool.official_test))
    more = config(tmp_path, split="predefined", train_test_ratio=4.0)
    assert set(split(pool, more).held_out) < set(np.flatnonzero(pool.official_test))


def test_the_packaged_snippets_and_reviews() -> None:
    snippets = DataConfig(name="movie_snippets", max_examples=2000)
    assert len(load_examples(snippets)) == 2000
    reviews = load_examples(DataConfig(name="imdb_reviews", split="blocks"))
    assert 24_000 < len(reviews) < 25_000  # duplicates dropped
    assert len(set(reviews.text)) == len(reviews)


def test_the_same_rows_in_every_format(tmp_path: Path, csv: Path) -> None:
    pyarrow.parquet.write_table(rows(), tmp_path / "rows.parquet")
    lines = (json.dumps(row) for row in rows().to_pylist())
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    pools = [load_examples(config(p)) for p in (csv, tmp_path / "rows.parquet", tmp_path / "rows.jsonl")]
    assert pools[0].text == pools[1].text == pools[2].text


def test_documents_of_a_text_file_stand_between_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("one\r\ntwo lines\r\n  \r\n\r\nnaïve\n\n\n".encode())
    pool = load_examples(config(tmp_path / "x.txt"), labelled=False)
    assert pool.text == ("one\ntwo lines", "naïve")
    assert len(pool.classes) == 1


def test_a_text_file_beside_labelled_ones_is_no_part_of_them(tmp_path: Path) -> None:
    for word in ("train", "test"):
        pyarrow.csv.write_csv(rows(20), tmp_path / f"{word}.csv")
        (tmp_path / f"notes on {word}.txt").write_text("one\n\ntwo")
    assert len(load_examples(config(tmp_path, split="predefined"))) == 40


def test_without_labels_a_text_column_is_enough_and_the_number_is_an_upper_bound(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(pa.table({"review": ["a", "b", "a", "c", "d", "e"]}), tmp_path / "x.csv")
    setting = config(tmp_path / "x.csv", text_column="review", max_examples=100)
    pool = load_examples(setting, labelled=False)
    assert pool.text == ("a", "b", "c", "d", "e")
    assert len(load_examples(config(tmp_path / "x.csv", text_column="review", max_examples=4), labelled=False)) == 4


def test_packaged_reviews_are_split_alike_with_and_without_their_labels() -> None:
    setting = DataConfig(name="imdb_reviews", split="blocks")
    parts = [split(load_examples(setting, labelled=labelled), setting) for labelled in (True, False)]
    assert np.array_equal(parts[0].held_out, parts[1].held_out)


def test_other_columns_and_string_labels(tmp_path: Path) -> None:
    table = pa.table({"review": ["a", "b", "c", "d"], "stars": ["good", "bad", "good", "bad"]})
    pyarrow.csv.write_csv(table, tmp_path / "x.csv")
    pool = load_examples(config(tmp_path / "x.csv", text_column="review", label_column="stars"))
    assert pool.classes == ("bad", "good")
    assert pool.label.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "content", "settings", "words"),
    [
        ("missing.csv", None, {}, "there is no such file"),
        ("empty.csv", "", {}, "the file is empty"),
        ("head.csv", "text,label\n", {}, "column of"),
        ("x.csv", "review,label\na,0\nb,1\n", {}, "data.text_column='text'"),
        ("x.csv", "text,stars\na,0\nb,1\n", {}, "data.label_column='label'"),
        ("x.csv", "text,label\na,1\nb,1\n", {}, "has the label 1"),
        ("x.csv", "text,label\na,0.5\nb,1.5\n", {}, "expected whole numbers or strings"),
        ("x.csv", "text,label\n1,0\n2,1\n", {}, "expected text"),
        ("x.tsv", "text\tlabel\na\t0\nb\t1\n", {}, "the ending '.tsv'"),
        ("x.txt", "one\n\ntwo\n", {}, "holds text without labels"),
        ("x.jsonl", "not json", {}, "cannot be read as jsonl"),
        ("x.csv", "text,label\na,0\nb,1\nc,0\nd,1\n", {"max_examples": 9}, "data.max_examples=9"),
        ("x.csv", "text,label\na,0\nb,1\nc,0\nd,1\n", {"train_test_ratio": 90}, "data.train_test_ratio=90 splits 4"),
        ("x.csv", "text,label\na,0\nb,1\nc,0\nd,1\n", {"split": "predefined"}, "data.split=predefined"),
    ],
)
def test_bad_data_is_named(
    tmp_path: Path, name: str, content: str | None, settings: dict[str, object], words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    setting = config(tmp_path / name, **settings)
    with pytest.raises(DataError) as caught:
        split(load_examples(setting), setting)
    assert words in str(caught.value)
    assert caught.value.fix


def test_more_evaluation_examples_than_are_held_out(csv: Path) -> None:
    with pytest.raises(DataError, match=r"eval\.max_examples=21 asks for more than the 20"):
        split(load_examples(config(csv)), config(csv), eval_examples=21)


def test_missing_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for name, words in [
        (str(tmp_path / "no"), "there is no such folder"),
        ("package:no_such_package_here", "not installed"),
        ("package:json", "holds no model"),
        (str(tmp_path), "no weights"),
        ("not a name!", "there is no such folder"),
    ]:
        with pytest.raises(ModelError) as caught:
            locate_model(ModelConfig(name=name))
        assert words in str(caught.value)
    assert locate_model(ModelConfig(name=str(tmp_path), init="random")) == str(tmp_path)
    assert locate_model(ModelConfig(name="google-bert/bert-base-uncased")) == "google-bert/bert-base-uncased"


def test_facts_of_the_offline_default() -> None:
    whole = Config()
    whole.data.max_examples, whole.eval.max_examples = 2000, 256
    facts = data_facts(whole)
    assert (facts.num_train, facts.num_held_out, facts.num_eval, facts.num_classes) == (1000, 1000, 256, 2)
