"""Data: nested splits, and bad input named in words."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import json
import math
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ablate.config.schema import Config, DataConfig, ModelConfig
from ablate.data.datasets import load_examples
from ablate.data.splits import described, split
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


def write_parts(folder: Path, **parts: tuple[str, int]) -> None:
    """{file stem: (prefix of its texts, number of rows)} -> CSV files in the folder."""
    for stem, (prefix, num) in parts.items():
        lines = [f"{prefix} {k},{'pos' if k % 2 else 'neg'}" for k in range(num)]
        (folder / f"{stem}.csv").write_text("\n".join(["text,label", *lines]))


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("train_latest", "test_latest"), ("Contest-Train", "Contest-TEST"), ("Train", "dev"),
                        ("trainSet", "val"), ("a.train", "a.validation")],
)  # fmt: skip
@pytest.mark.parametrize(("num_train", "num_test"), [(30, 10), (10, 30)])
def test_predefined_holds_out_the_test_file_whatever_its_size(
    tmp_path: Path, train: str, test: str, num_train: int, num_test: int
) -> None:
    write_parts(tmp_path, **{train: ("train", num_train), test: ("test", num_test)})
    setting = config(tmp_path, split="predefined")
    pool = load_examples(setting)
    parts = split(pool, setting)
    assert [pool.text[i].split()[0] for i in parts.held_out] == ["test"] * num_test
    assert [pool.text[i].split()[0] for i in parts.train] == ["train"] * num_train
    assert set(parts.evaluated) == set(parts.held_out)


def test_the_test_part_is_held_out_and_the_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_parts(tmp_path, train=("train", 20), test=("test", 10), val=("val", 8), latest=("other", 4))
    (tmp_path / "train_args.json").write_text('{"lr": 1}')
    setting = config(tmp_path, split="predefined")
    pool = load_examples(setting)
    assert {pool.text[i].split()[0] for i in split(pool, setting).held_out} == {"test"}
    assert "the part validation is not read: test is held out" in pool.notes
    assert f"latest.csv, train_args.json in {tmp_path}: not read, because the name tells no part" in pool.notes


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("train.csv", "test.csv", "train_test.csv"),
            "the word of one part in the name 'train_test', got train and test",
        ),
        (("train.csv", "train.jsonl", "test.csv"), "the train part in one format, got train.csv, train.jsonl"),
        (("latest.csv", "contest.csv"), "expected files named train* and test*"),
    ],
)
def test_a_file_of_no_clear_part_is_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        (tmp_path / name).write_text("text,label\na,0\nb,1\n")
    with pytest.raises(DataError) as caught:
        load_examples(config(tmp_path, split="predefined"))
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize("settings", [{"train_test_ratio": 4.0}, {"train_test_ratio": 1.5}, {"eval_test_ratio": 1.0}])
def test_a_ratio_that_contradicts_the_files_is_refused(tmp_path: Path, settings: dict[str, float]) -> None:
    write_parts(tmp_path, train=("train", 30), test=("test", 10))
    assert (
        len(split(load_examples(config(tmp_path)), config(tmp_path, split="predefined", train_test_ratio=3.0)).train)
        == 30
    )
    setting = config(tmp_path, split="predefined", **settings)
    key, ratio = next(iter(settings.items()))
    with pytest.raises(DataError, match=rf"data\.{key}={ratio:g} with data.split=predefined.* 30 training and 10 test"):
        split(load_examples(setting), setting)


def test_texts_in_both_parts_are_counted(tmp_path: Path) -> None:
    write_parts(tmp_path, train=("text", 20), test=("text", 10))
    pool = load_examples(config(tmp_path, split="predefined"))
    assert "10 of 10 held-out texts are also in the training part" in pool.notes


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "None", "NULL", "-1", "<NA>"])
def test_rows_without_a_label_are_no_class_and_are_counted(tmp_path: Path, missing: str) -> None:
    labels = [missing if k % 10 == 3 else "pos" if k % 2 else "neg" for k in range(40)]
    rows = "\n".join(f"text {k},{label}" for k, label in enumerate(labels))
    (tmp_path / "x.csv").write_text(f"text,label\n{rows}\n")
    pool = load_examples(config(tmp_path / "x.csv"))
    assert (pool.classes, len(pool)) == (("neg", "pos"), 36)
    assert pool.notes == ("4 of 40 rows without a label are left out",)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json", "x.parquet"])
def test_numbers_with_missing_ones_are_whole_numbers(tmp_path: Path, name: str) -> None:
    """A column of whole numbers with a gap is one of fractions to pandas: 0.0, 1.0 and nan."""
    table = pa.table(
        {
            "text": [f"text {k}" for k in range(40)],
            "label": [math.nan if k % 10 == 3 else float(k % 2) for k in range(40)],
        }
    )
    rows = [json.dumps(row) for row in table.to_pylist()]
    if name == "x.parquet":
        pyarrow.parquet.write_table(table, tmp_path / name)
    elif name == "x.csv":
        (tmp_path / name).write_text(
            "text,label\n" + "\n".join(f"{row['text']},{row['label']}" for row in table.to_pylist())
        )
    else:
        (tmp_path / name).write_text("\n".join(rows) if name == "x.jsonl" else f"[{','.join(rows)}]")
    pool = load_examples(config(tmp_path / name))
    assert (pool.classes, len(pool)) == (("0", "1"), 36)
    assert pool.notes == ("4 of 40 rows without a label are left out",)


def test_a_negative_label_next_to_numbers_is_a_class_only_if_the_user_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "\n".join(f"text {k},{k % 3 - 1}" for k in range(30)))
    with pytest.raises(
        DataError, match=r"10 of 30 rows of .* have the label -1, which may be a class or stand for"
    ) as caught:
        load_examples(config(tmp_path / "x.csv"))
    assert caught.value.fix
    assert "data.missing_labels=[-1]" in caught.value.fix
    assert load_examples(config(tmp_path / "x.csv", missing_labels=[])).classes == ("-1", "0", "1")
    assert load_examples(config(tmp_path / "x.csv", missing_labels=["-1"])).classes == ("0", "1")
    (tmp_path / "two.csv").write_text("text,label\n" + "\n".join(f"text {k},{k % 2 * 2 - 1}" for k in range(30)))
    assert load_examples(config(tmp_path / "two.csv")).classes == ("-1", "1"), "of two labels both are classes"


def test_a_test_part_without_labels_gives_way_to_the_validation_part(tmp_path: Path) -> None:
    """As GLUE publishes its parts: the labels of the test part are hidden as -1."""
    write_parts(tmp_path, train=("train", 20), validation=("val", 10))
    (tmp_path / "test.csv").write_text("text,label\n" + "\n".join(f"test {k},-1" for k in range(10)))
    for file in ("train", "validation"):
        path = tmp_path / f"{file}.csv"
        path.write_text(path.read_text().replace(",pos", ",1").replace(",neg", ",0"))
    setting = config(tmp_path, split="predefined")
    pool = load_examples(setting)
    assert pool.classes == ("0", "1")
    assert {pool.text[i].split()[0] for i in split(pool, setting).held_out} == {"val"}
    assert pool.notes == ("the part test has no labels and is left out",)
    (tmp_path / "validation.csv").unlink()
    with pytest.raises(DataError, match="both a train and a test part of its own; the part test has no labels"):
        split(load_examples(setting), setting)


def test_hidden_labels_of_a_saved_data_set(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    parts = {
        name: datasets.Dataset.from_dict(
            {"text": [f"{name} {k}" for k in range(20)], "label": labels}, features=features
        )
        for name, labels in (("train", [0, 1] * 9 + [-1, -1]), ("test", [-1] * 20), ("validation", [0, 1] * 10))
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    setting = config(tmp_path / "saved", split="predefined")
    pool = load_examples(setting)
    assert pool.classes == ("0", "1")
    assert [len(part) for part in (split(pool, setting).train, split(pool, setting).held_out)] == [18, 20]
    assert pool.notes[1] == "2 of 40 rows without a label are left out"


def test_a_test_part_with_labels_that_no_training_example_has_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, train=("train", 20), test=("test", 10))
    path = tmp_path / "test.csv"
    path.write_text(path.read_text().replace(",pos", ",positive"))
    setting = config(tmp_path, split="predefined")
    with pytest.raises(DataError, match="the test part has the labels 'positive', which no training example has"):
        split(load_examples(setting), setting)


def test_empty_and_repeated_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = ["  ,0", ",1", "a,0", "a,0", "a,1", *(f"text {k},{k % 2}" for k in range(10))]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", *rows]))
    pool = load_examples(config(tmp_path / "x.csv"))
    assert pool.text[:2] == ("a", "text 0")
    assert pool.notes == (
        "2 of 15 rows without a text are left out",
        "2 of 15 rows repeat an earlier text and are left out, 1 of them with another label",
    )


def test_the_plan_and_the_run_name_classes_and_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "text,label\n" + "\n".join(f"text {k},{'' if k < 4 else 'ab'[k % 2]}" for k in range(40))
    )
    setting = config(tmp_path / "x.csv")
    pool = load_examples(setting)
    lines = ["2 classes: a (18), b (18)", "4 of 40 rows without a label are left out"]
    assert described(pool, split(pool, setting)) == lines


TEXTS, WORDS = [f"text {k}" for k in range(20)], ["neg", "pos"] * 10
NUMBERS = [k % 2 for k in range(20)]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (TEXTS, pa.array(WORDS).dictionary_encode()),
        (pa.array(TEXTS).dictionary_encode(), NUMBERS),
        (pa.array(TEXTS, pa.string_view()), pa.array(WORDS, pa.string_view())),
        (pa.array(TEXTS, pa.large_string()), pa.array(WORDS, pa.large_string())),
        (TEXTS, pa.array(NUMBERS).dictionary_encode()),
        (TEXTS, [float(number) for number in NUMBERS]),
        (TEXTS, [decimal.Decimal(number) for number in NUMBERS]),
        (TEXTS, pa.array(NUMBERS, pa.uint8())),
        (TEXTS, [bool(number) for number in NUMBERS]),
    ],
)
def test_columns_as_libraries_write_them(tmp_path: Path, text: object, label: object) -> None:
    pyarrow.parquet.write_table(pa.table({"text": text, "label": label}), tmp_path / "x.parquet")
    pool = load_examples(config(tmp_path / "x.parquet"))
    assert pool.text == tuple(TEXTS)
    assert pool.label.tolist() == NUMBERS


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ([[1, 0]] * 20, "holds lists, expected whole numbers or text, one class per row"),
        ([{"name": "pos"}] * 20, "holds groups of values, expected"),
        ([0.5, 1.0] * 10, "holds fractions such as 0.5, expected"),
        ([datetime.date(2024, 1, 1)] * 20, "holds date32[day], expected"),
        ([b"pos"] * 20, "holds binary, expected"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, label: list[object], words: str) -> None:
    pyarrow.parquet.write_table(pa.table({"text": TEXTS, "label": label, "stars": NUMBERS}), tmp_path / "x.parquet")
    with pytest.raises(DataError) as caught:
        load_examples(config(tmp_path / "x.parquet"))
    assert words in str(caught.value)
    assert "data.label_column=stars" in str(caught.value.fix)


def test_two_columns_of_one_name_and_parts_of_unlike_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label,text\na,0,b\nc,1,d\n")
    with pytest.raises(DataError, match=r"data\.text_column='text': expected one column of this name in .*, got 2"):
        load_examples(config(tmp_path / "x.csv"))
    (tmp_path / "parts").mkdir()
    write_parts(tmp_path / "parts", train=("train", 20))
    (tmp_path / "parts" / "test.csv").write_text("text,label\nother,1\nmore,0\n")
    with pytest.raises(DataError, match=r"labels of one type in .*, got .*text in train") as caught:
        load_examples(config(tmp_path / "parts"))
    assert "whole numbers in test" in str(caught.value)


def test_an_unread_column_may_differ_between_files(tmp_path: Path) -> None:
    for part, number in (("train", "1"), ("test", "one")):
        (tmp_path / f"{part}.csv").write_text(
            "text,label,id\n" + "\n".join(f"{part} {k},{k % 2},{number}" for k in range(10))
        )
        (tmp_path / f"{part}-2.csv").write_text(
            "text,label\n" + "\n".join(f"{part} {k},{k % 2}" for k in range(10, 15))
        )
    assert len(load_examples(config(tmp_path, split="predefined"))) == 30


CSV = "text,label\n" + "\n".join(f"café {k},{'pos' if k % 2 else 'neg'}" for k in range(20))


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("x.csv", CSV.encode("utf-8-sig"), {}),
        ("x.csv", CSV.encode("utf-16"), {}),
        ("x.csv", CSV.encode("utf-32"), {}),
        ("x.csv", CSV.encode("cp1252"), {"encoding": "cp1252"}),
        ("x.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("X.CSV", CSV.encode(), {}),
        ("x.csv", CSV.replace(",", ";").encode(), {}),
        ("x.csv", CSV.replace(",", "|").encode(), {}),
        ("x.csv", CSV.replace(",", "\t").encode(), {}),
        ("x.tsv", CSV.replace(",", "\t").encode(), {}),
        ("x.tsv", CSV.encode(), {}),
        ("x.csv.gz", gzip.compress(CSV.encode()), {}),
        ("x.csv.bz2", bz2.compress(CSV.encode()), {}),
        ("x.tsv.gz", gzip.compress(CSV.replace(",", "\t").encode("utf-16")), {}),
        ("x.csv", CSV.replace("\n", "\r\n").encode(), {}),
        ("x.json", json.dumps([{"text": r[:-4], "label": r[-3:]} for r in CSV.split("\n")[1:]]).encode(), {}),
        ("x.json", "\n".join(json.dumps({"label": r[-3:], "text": r[:-4]}) for r in CSV.split("\n")[1:]).encode(), {}),
        ("x.ndjson", "\n".join(json.dumps({"label": r[-3:], "text": r[:-4]}) for r in CSV.split("\n")[1:]).encode(), {}),
        ("x.json", json.dumps({"text": {str(k): f"café {k}" for k in range(20)}, "label": WORDS}).encode(), {}),
    ],
)  # fmt: skip
def test_files_as_programs_write_them(tmp_path: Path, name: str, content: bytes, settings: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(content)
    pool = load_examples(config(tmp_path / name, **settings))
    assert pool.text == tuple(f"café {k}" for k in range(20))
    assert pool.classes == ("neg", "pos")


def test_a_text_of_megabytes_is_read(tmp_path: Path) -> None:
    long = "word " * 300_000
    (tmp_path / "x.csv").write_text(f"text,label\n{long},0\nb,1\n")
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps({"text": t, "label": n}) for n, t in enumerate((long, "b"))))
    for name in ("x.csv", "x.jsonl"):
        assert load_examples(config(tmp_path / name)).text == (long, "b")


@pytest.mark.parametrize(
    ("content", "settings", "words", "fix"),
    [
        (CSV.encode("cp1252"), {}, "expected text in utf-8, got the byte 0xe9 in line 2", "data.encoding=cp1252"),
        (CSV.encode("utf-16-le"), {}, "expected text in utf-8, got", "data.encoding"),
        (b"t\0e\0x\0t\0", {}, "expected text in utf-8, got null characters", "data.encoding=utf-16-le"),
        (CSV.encode(), {"encoding": "windows"}, "data.encoding='windows' is not an encoding", "data.encoding=cp1252"),
        (b"text,label\na, b,0\nc,1\n", {}, "read with commas between the columns text, label", "quote texts"),
        (
            b"review,stars\na,0\nb,1\n",
            {"text_column": "review"},
            "data.label_column='label'",
            "data.label_column=stars",
        ),
        (b"label,review\n0,a\n1,b\n", {}, "data.text_column='text'", "data.text_column=review"),
    ],
)
def test_a_refusal_names_what_to_type(
    tmp_path: Path, content: bytes, settings: dict[str, str], words: str, fix: str
) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_examples(config(tmp_path / "x.csv", **settings))
    assert words in str(caught.value)
    assert fix in str(caught.value.fix)


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
        ("head.csv", "text,label\n", {}, "holds no example"),
        ("x.csv", "review,label\na,0\nb,1\n", {}, "data.text_column='text'"),
        ("x.csv", "text,stars\na,0\nb,1\n", {}, "data.label_column='label'"),
        ("x.csv", "text,label\na,1\nb,1\n", {}, "has the label 1"),
        ("x.csv", "text,label\na,0.5\nb,1.5\n", {}, "expected whole numbers or text"),
        ("x.csv", "text,label\n1,0\n2,1\n", {}, "expected text"),
        ("x.xlsx", "text", {}, "the ending '.xlsx'"),
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
