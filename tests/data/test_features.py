"""What is taken out of a text, and that nothing else of it, of the rows or of the split is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.config.schema import FEATURES, DataConfig
from ablate.data.datasets import load_examples
from ablate.data.splits import split
from ablate.data.text_features import present, without
from ablate.errors import DataError

TEXT = "A well-made film, isn't it?\nNo: 2 stars out of 10!"


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("case", "a well-made film, isn't it?\nno: 2 stars out of 10!"),
        ("punctuation", "A well made film isn t it\nNo 2 stars out of 10"),
        ("digits", "A well-made film, isn't it?\nNo: stars out of !"),
        # Drawn from the text's own hash: this very order belongs to this very text, on every machine.
        ("word_order", "film, it? isn't stars 10!\nof No: A 2 out well-made"),
    ],
)
def test_each_feature_alone(feature: str, expected: str) -> None:
    assert without([TEXT], [feature]) == (expected,)


def test_the_order_of_words_does_not_depend_on_what_else_is_left_out_or_on_other_texts() -> None:
    (alone,) = without([TEXT], ["word_order"])
    assert without(["another text", TEXT], ["word_order"])[1] == alone
    for features in (["case", "word_order"], ["word_order", "case"]):
        assert without([TEXT], features) == (alone.lower(),)


@given(st.text(alphabet="ab1.,Ä \n\t", max_size=40))
def test_shuffling_moves_words_and_leaves_white_space(text: str) -> None:
    try:
        (shuffled,) = without([text], ["word_order"])
    except DataError:
        return  # the same order, or fewer than two words
    assert Counter(shuffled.split()) == Counter(text.split())
    assert re.findall(r"\s+", shuffled) == re.findall(r"\s+", text)


@given(st.text(alphabet="ab1.,Ä \n", max_size=40), st.sampled_from(FEATURES))
def test_what_was_taken_out_is_not_there_any_more(text: str, feature: str) -> None:
    if feature in present([text]):
        (less,) = without([text], [feature])
        assert less != text
        assert feature == "word_order" or feature not in present([less])


def test_a_feature_that_no_text_has_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"data\.remove_text_features=\[digits\]: leaving out digits changes none of the 2 texts"
    ):
        without(["no number", "here"], ["digits"])


# ---- columns ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """40 rows; two reviews are the same and have other titles, two rows are the same in both, one has no title, one no text."""
    reviews = [f"review {k}" for k in range(40)]
    titles: list[str | None] = [f"title {k}" for k in range(40)]
    reviews[3], reviews[5], titles[5], titles[7] = reviews[2], reviews[4], titles[4], None
    table = pa.table({"review": reviews, "title": titles, "stars": [k % 2 for k in range(40)]})
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    return tmp_path / "rows.csv"


def of(csv: Path, **settings: object) -> DataConfig:
    return DataConfig(
        path=str(csv), text_column="review", extra_text_columns=["title"], label_column="stars", **settings
    )  # type: ignore[arg-type]


def test_columns_follow_each_other_line_by_line(csv: Path) -> None:
    texts = load_examples(of(csv)).text
    assert texts[0] == "review 0\ntitle 0"
    assert len(texts) == 39  # row 5 repeats row 4; row 3 repeats its review alone
    assert load_examples(of(csv, drop_columns=["title"])).text[:4] == ("review 0", "review 1", "review 2", "review 2")
    assert load_examples(of(csv, drop_columns=["review"])).text[:2] == ("title 0", "title 1")


@pytest.mark.parametrize(
    "less", [{"drop_columns": ["title"]}, {"drop_columns": ["review"]}, {"remove_text_features": ["digits"]}]
)
@pytest.mark.parametrize("num_examples", [None, 20])
def test_what_is_left_out_moves_no_row_and_no_split(
    csv: Path, less: dict[str, list[str]], num_examples: int | None
) -> None:
    whole, part = (of(csv, max_examples=num_examples, **changes) for changes in ({}, less))
    pools = [load_examples(config) for config in (whole, part)]
    splits = [split(pool, config) for pool, config in zip(pools, (whole, part), strict=True)]
    assert pools[0].label.tolist() == pools[1].label.tolist()
    assert pools[0].source == pools[1].source  # the same file
    assert pools[0].texts != pools[1].texts  # read otherwise
    assert splits[0].train.tolist() == splits[1].train.tolist()
    assert splits[0].evaluated.tolist() == splits[1].evaluated.tolist()


def test_a_row_without_a_value_in_a_further_column_has_no_line_for_it(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", None, "d"], "more": ["x", None, "y", ""], "label": [0, 1, 0, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    config = DataConfig(path=str(tmp_path / "rows.parquet"), extra_text_columns=["more"])
    assert load_examples(config).text == ("a\nx", "b", "d\n")


def test_a_column_that_is_not_there_is_named_with_the_nearest(csv: Path) -> None:
    config = DataConfig(path=str(csv), text_column="review", extra_text_columns=["titel"], label_column="stars")
    with pytest.raises(
        DataError, match=r"data\.extra_text_columns='titel': .* has no such column; did you mean 'title'\?"
    ):
        load_examples(config)
