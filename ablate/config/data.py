"""`data.*`: the data set, its split and its batches."""

from __future__ import annotations

from dataclasses import dataclass, field

from ablate.config.fields import check_fields, choice, number
from ablate.errors import ConfigError, nearest

FEATURES = ("case", "punctuation", "digits", "word_order")
"""Features of a text that `data.remove_text_features` takes out."""


@dataclass(kw_only=True, slots=True)
class DataConfig:
    name: str = "movie_snippets"
    """`movie_snippets`, `imdb_reviews` (both from the `demo` extra), or a `datasets` hub id; a label when `path` is set."""
    path: str | None = None
    """A local .csv, .tsv, .jsonl, .json or .parquet file, also compressed (.gz, .bz2, .zst, .lz4); a directory of them whose
    names have the word train and the word test (or validation, val, dev); or `save_to_disk` output. Tasks without labels also
    read .txt: documents separated by blank lines."""
    encoding: str = "utf-8"
    """Encoding of text files without a byte order mark, such as `cp1252`."""
    revision: str | None = None
    """Commit, tag or branch of a hub data set; None takes the hub's default."""
    text_column: str = "text"
    """Name of the text column."""
    extra_text_columns: list[str] = field(default_factory=list)
    """Further text columns; their text follows that of `text_column`, in this order, each on a line of its own."""
    drop_columns: list[str] = field(default_factory=list)
    """Columns among `text_column` and `extra_text_columns` that are left out."""
    remove_text_features: list[str] = field(default_factory=list)
    """Removed from every text: `case`, `punctuation`, `digits`, `word_order` (shuffled, the same way in every run)."""
    label_column: str = "label"
    """Name of the label column: whole numbers or strings; classes are numbered in sorted order. `causal_lm` reads none."""
    missing_labels: list[str] | None = None
    """Labels of rows that have none, besides blank ones: such rows are left out and counted. None takes the spellings of
    `pandas.read_csv` (`nan`, `None`, `NULL` ...), and -1 where no other label is a number."""
    max_examples: int | None = number(None, at_least=4)
    """Size of the pool that is split, drawn evenly over the labels; None takes everything. Under `causal_lm`, the largest
    number of documents."""
    split: str = choice("shuffled", "shuffled", "blocks", "predefined")
    """How the pool is ordered before the nested cut: `shuffled`; `blocks` (a contiguous stretch of each label's file order is
    held out, because reviews of one film are adjacent); `predefined` (the data set's own test part is held out)."""
    split_seed: int = 0
    """Seed of the split. The split belongs to the study, not to the run: every seed and arm has the same one."""
    train_test_ratio: float = number(1.0, above=0)
    """Train : held-out. 1 splits the pool in half, 4 holds out a fifth, and that fifth is part of the half. Under `predefined`
    the parts decide: 1 leaves them as they are, and another ratio must be theirs."""
    eval_test_ratio: float | None = None
    """Evaluate on the part that is held out at this ratio; None means `train_test_ratio`. A study whose arms differ in
    `train_test_ratio` sets it to the largest, so that all arms are compared on examples which all of them hold out."""
    train_fraction: float = number(1.0, above=0, at_most=1)
    """Fraction of the training part that is trained on. A smaller fraction is part of every larger one, also at another
    `train_test_ratio`; under `causal_lm` it is a fraction of the documents."""
    label_noise: float = number(0.0, at_least=0, at_most=1)
    """Fraction of the training labels that are replaced by another class, drawn by the `labels` stream, label by label: those
    of a smaller fraction are among those of a larger one. Evaluation labels are never changed."""
    batch_size: int = number(8, at_least=1)
    """Samples per forward pass; the samples per optimizer step are `batch_size * train.grad_accum_steps`."""
    max_length: int = number(128, at_least=4)
    """Tokens that each text is cut to; under `causal_lm`, tokens of the pieces that each document is cut into."""

    def __post_init__(self) -> None:
        check_fields(self, "data")
        for feature in self.remove_text_features:
            if feature not in FEATURES:
                typed = ",".join(self.remove_text_features)
                raise ConfigError(
                    f"data.remove_text_features=[{typed}]: {feature!r} is not one of {', '.join(FEATURES)}",
                    nearest(feature, FEATURES),
                )
        self._check_columns()
        if self.eval_test_ratio is not None and self.eval_test_ratio < self.train_test_ratio:
            raise ConfigError(
                f"data.eval_test_ratio={self.eval_test_ratio:g} is below data.train_test_ratio={self.train_test_ratio:g}: "
                "evaluation would see training examples",
                f"data.eval_test_ratio={self.train_test_ratio:g} or larger",
            )

    def _check_columns(self) -> None:
        columns = [self.text_column, *self.extra_text_columns]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice is not None:
            once = [column for column in dict.fromkeys(self.extra_text_columns) if column != self.text_column]
            raise ConfigError(
                f"data.text_column={self.text_column} data.extra_text_columns={self.extra_text_columns}: {twice!r} is named "
                "twice",
                f"data.extra_text_columns={once}",
            )
        for column in self.drop_columns:
            if column not in columns:
                raise ConfigError(
                    f"data.drop_columns: {column!r} is not one of the text columns {', '.join(columns)}",
                    nearest(column, columns),
                )
        if set(columns) == set(self.drop_columns):
            raise ConfigError(
                f"data.drop_columns={self.drop_columns} leaves out every text column, and with it all text",
                "leave at least one; data.extra_text_columns=[...] names further ones",
            )
