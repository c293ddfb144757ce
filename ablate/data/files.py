"""Files of texts as tables: formats, compression, encodings, separators, and the part that a file's name tells. No torch."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ablate.errors import DataError

_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""Byte order marks, which name the encoding of a file; the mark of UTF-16 is the beginning of that of UTF-32."""

_PARTS = {
    "train": ("train", "training", "trainset"),
    "test": ("test", "testing", "testset", "heldout"),
    "validation": ("validation", "valid", "val", "dev", "eval", "evaluation"),
}


def part_of(name: str) -> str:
    """Return `train`, `test` or `validation` by the words of a name, `Train-00000-of-00001` or `imdb_test`; '' for none.

    Raises DataError for a name with the words of two parts.
    """
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
    parts = [part for part, own in _PARTS.items() if words.intersection(own)]
    if len(parts) > 1:
        raise DataError(
            f"expected the word of one part in the name {name!r}, got {' and '.join(parts)}",
            "rename the file, such as train.csv or test.csv",
        )
    return parts[0] if parts else ""


def suffix_of(path: Path) -> str:
    """Return the ending that names the format, `.csv` for `x.csv` and `X.CSV.gz`."""
    return _unpacked(path).suffix.lower()


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path


def read_table(path: Path, wanted: Collection[str], encoding: str) -> pa.Table:
    """Read a file by its ending, compressed or not.

    wanted: names of the columns that are needed; among the separators of a CSV that one is taken which gives them.
    encoding: of text files without a byte order mark. Raises DataError.
    """
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise DataError(
            f"data.path={path}: the ending {path.suffix!r} is not one of {', '.join(SUFFIXES)}",
            "convert the file, or name its format in its ending",
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(f"data.path={path}: the file is empty", "check data.path")
        if suffix == ".parquet":
            import pyarrow.parquet as parquet

            return parquet.read_table(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            text = _decoded(path, stream.read(), encoding)
        return _READERS[suffix](path, text, wanted)
    except (pa.ArrowInvalid, OSError, csv.Error) as error:
        raise DataError(
            f"data.path={path} cannot be read as {suffix[1:]}: {str(error).splitlines()[0]}",
            "check the file's format and ending",
        ) from None


def _decoded(path: Path, data: bytes, encoding: str) -> str:
    found = next((name for mark, name in _MARKS if data.startswith(mark)), encoding)
    try:
        text = data.decode(found)
    except LookupError:
        raise DataError(
            f"data.encoding={encoding!r} is not an encoding that Python knows", "data.encoding=cp1252"
        ) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"data.path={path}: expected text in {found}, got the byte 0x{data[error.start]:02x} in line {line}",
            "data.encoding=cp1252 for a file from Windows, or the encoding that the file was written in",
        ) from None
    if "\0" in text[:1000]:
        raise DataError(f"data.path={path}: expected text in {found}, got null characters", "data.encoding=utf-16-le")
    return text


def _read_csv(path: Path, text: str, wanted: Collection[str]) -> pa.Table:
    import pyarrow.csv as arrow_csv

    first = "\t" if suffix_of(path) == ".tsv" else ","
    head = io.StringIO(text)
    columns = {
        separator: next(csv.reader(head, delimiter=separator), [])
        for separator in dict.fromkeys((first, *_SEPARATORS))
        if head.seek(0) == 0
    }
    separator = max(columns, key=lambda one: (len(set(wanted).intersection(columns[one])), len(columns[one]) > 1))
    data = text.encode()
    try:
        return arrow_csv.read_csv(
            pa.BufferReader(data),
            # One block, because a text may be longer than any other size of a block.
            read_options=arrow_csv.ReadOptions(block_size=min(len(data) + 1, 2**31 - 1)),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True, delimiter=separator),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"data.path={path}, read with {_SEPARATORS[separator]} between the columns "
            f"{', '.join(columns[separator][:8])}: {str(error).splitlines()[0]}",
            'quote texts that hold the separator, a quote or a line break, as csv.writer and pandas do: "..."',
        ) from None


def _read_json(path: Path, text: str, wanted: Collection[str]) -> pa.Table:
    """Read a list of objects, an object of columns as pandas writes it, or one object per line."""
    try:
        value = _parsed(text)
    except (ValueError, RecursionError):
        return _read_json_lines(path, text, wanted)
    if isinstance(value, Mapping) and value and all(isinstance(column, list | Mapping) for column in value.values()):
        columns = {
            name: list(column.values() if isinstance(column, Mapping) else column) for name, column in value.items()
        }
        if len({len(column) for column in columns.values()}) == 1:
            return _table(path, columns, wanted)
    rows = [value] if isinstance(value, Mapping) else value
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise DataError(
            f"data.path={path}: expected a list of objects or an object of columns, got another value",
            '[{"text": "...", "label": "..."}, ...], or one object per line',
        )
    return _of_rows(path, rows, wanted)


def _read_json_lines(path: Path, text: str, wanted: Collection[str]) -> pa.Table:
    rows = []
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            try:
                row = _parsed(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, Mapping):
                raise DataError(
                    f"data.path={path} cannot be read as {suffix_of(path)[1:]}: line {number} is not an object: {line[:60]!r}",
                    'one object per line: {"text": "...", "label": "..."}',
                )
            rows.append(row)
    return _of_rows(path, rows, wanted)


def _parsed(text: str) -> Any:
    return json.loads(text, parse_constant=lambda name: None if name == "NaN" else float(name))


def _of_rows(path: Path, rows: list[Mapping[str, Any]], wanted: Collection[str]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return _table(path, {name: [row.get(name) for row in rows] for name in names}, wanted)


def _table(path: Path, columns: Mapping[str, list[Any]], wanted: Collection[str]) -> pa.Table:
    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            if name in wanted:
                kinds = sorted({type(value).__name__ for value in values if value is not None})
                raise DataError(
                    f"data.path={path}: expected values of one type in the column {name!r}, got {', '.join(kinds)}",
                    "write all values of a column alike, such as all labels as strings",
                ) from None
            arrays[name] = pa.array(
                [json.dumps(value) for value in values]
            )  # nobody reads it, but it is part of the data
    return pa.table(arrays)


def _read_txt(_path: Path, text: str, _wanted: Collection[str]) -> pa.Table:
    """Return documents, separated by blank lines."""
    documents = (part.strip() for part in re.split(r"\n\s*\n", text.replace("\r\n", "\n")))
    return pa.table({"text": pa.array([part for part in documents if part], pa.string())})


_READERS = {
    ".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".json": _read_json,
    ".txt": _read_txt,
}  # fmt: skip
SUFFIXES = (*_READERS, ".parquet")


def files_by_part(folder: Path, files: Iterable[Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {part: its files in name order}, and the names of files that belong to none.

    Raises DataError where a part is there in two formats. A `.json` next to files of another format is a file of settings.
    """
    parts: dict[str, list[Path]] = {}
    for file in sorted(files):
        parts.setdefault(part_of(_unpacked(file).stem), []).append(file)
    unread = [file.name for file in parts.pop("", [])]
    if {suffix_of(file) for own in parts.values() for file in own} > {".json"}:
        unread += [file.name for own in parts.values() for file in own if suffix_of(file) == ".json"]
        parts = {part: [file for file in own if suffix_of(file) != ".json"] for part, own in parts.items()}
    for part, own in parts.items():
        if len({suffix_of(file) for file in own}) > 1:
            names = ", ".join(file.name for file in own)
            raise DataError(
                f"data.path={folder}: expected the {part} part in one format, got {names}",
                "leave one format in the folder",
            )
    return {part: own for part, own in parts.items() if own}, unread
