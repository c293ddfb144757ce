"""Columns of a table as texts and labels, checked; rows without a label or a text have a null. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ablate.errors import DataError, nearest

MISSING = frozenset({
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
})  # fmt: skip
"""Texts that stand for a missing label, besides blank ones: those of `pandas.read_csv`."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that are read.

    label: None where none is read. left_out: text columns that are left out of the text. missing: labels of rows that have
    none; None takes `MISSING`.
    """

    text: str
    extra: tuple[str, ...]
    label: str | None
    left_out: frozenset[str]
    missing: frozenset[str] | None

    @property
    def texts(self) -> tuple[str, ...]:
        """All text columns, in order."""
        return (self.text, *self.extra)

    @property
    def keys(self) -> dict[str, str]:
        """{column: config key that names it}."""
        keys = dict.fromkeys(self.extra, "data.extra_text_columns") | {self.text: "data.text_column"}
        return keys if self.label is None else keys | {self.label: "data.label_column"}


def plain(table: pa.Table, where: str, columns: Columns) -> pa.Table:
    """Return the columns `text`, `all_text` (nothing left out: which rows there are must not depend on that) and `label`.

    where: name of the table in messages. A label is text or int64. Raises DataError.
    """
    for column, key in columns.keys.items():
        _check_there(table, where, column, key, columns)
    found = {column: _decoded(table[column]) for column in columns.keys}
    for column in columns.texts:
        if not pa.types.is_string(found[column].type) and not pa.types.is_null(found[column].type):
            key = columns.keys[column]
            raise DataError(
                f"{key}={column!r}: that column of {where} holds {_kind(found[column].type)}, expected text",
                f"name the column that holds the text: {_option(key, _candidates(table, columns, text=True))}",
            )
    texts = {column: found[column].cast(pa.string()) for column in columns.texts}
    own = texts[columns.text]
    blank = pc.equal(pc.utf8_trim_whitespace(own), "")
    texts[columns.text] = pc.if_else(blank, pa.scalar(None, pa.string()), own)
    label = (
        pa.chunked_array([pa.array([0] * len(table), pa.int64())])
        if columns.label is None
        else _labels(found[columns.label], table, where, columns)
    )
    return pa.table(
        {
            "text": _joined(
                texts, [column for column in columns.texts if column not in columns.left_out], columns.text
            ),
            "all_text": _joined(texts, columns.texts, columns.text),
            "label": label,
        }
    )


def _check_there(table: pa.Table, where: str, column: str, key: str, columns: Columns) -> None:
    count = table.column_names.count(column)
    if count == 1:
        return
    if count > 1:
        raise DataError(
            f"{key}={column!r}: expected one column of this name in {where}, got {count}",
            "rename one of them in the file",
        )
    text = key != "data.label_column"
    candidates = _candidates(table, columns, text=text)
    raise DataError(
        f"{key}={column!r}: {where} has no such column; {nearest(column, table.column_names)}", _option(key, candidates)
    )


def _candidates(table: pa.Table, columns: Columns, *, text: bool) -> list[str]:
    """Return names of columns that could be meant: of text, or of labels."""
    used = set(columns.texts) if not text else {columns.label, *columns.texts}
    kinds = {name: _value_type(table.schema.field(k).type) for k, name in enumerate(table.column_names)}
    fits = {name for name, kind in kinds.items() if _is_text(kind) or (not text and _is_number(kind))}
    return [name for name in kinds if name in fits and name not in used]


def _option(key: str, candidates: Sequence[str]) -> str:
    value = candidates[0] if candidates else "..."
    return f"{key}=[{value}]" if key == "data.extra_text_columns" else f"{key}={value}"


def _decoded(column: Any) -> Any:
    """A categorical column as its values, and every kind of text as `string`."""
    kind = _value_type(column.type)
    return column.cast(pa.string() if _is_text(kind) else kind)


def _value_type(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: Any) -> bool:
    types = pa.types
    return any(is_kind(kind) for is_kind in (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal))


def _kind(kind: Any) -> str:
    """Return a type in words."""
    if pa.types.is_nested(kind):
        return "groups of values" if pa.types.is_struct(kind) else "lists"
    if _is_number(kind):
        return f"numbers ({kind})"
    return str(kind)


# ---- labels ----


def _labels(column: Any, table: pa.Table, where: str, columns: Columns) -> Any:
    """Return labels as text or int64, null where there is none."""
    kind = column.type
    if pa.types.is_null(kind):
        return column.cast(pa.int64())
    if _is_text(kind):
        column = pc.utf8_trim_whitespace(column)
    elif not _is_number(kind):
        raise _refused(table, where, columns, _kind(kind))
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(kind) else column
        parts = next((value for value in column.drop_null().to_pylist() if value != value // 1), None)
        if parts is not None:
            raise _refused(table, where, columns, f"fractions such as {parts:g}")
    if not _is_text(kind):
        column = column.cast(pa.int64())
    values = column.unique().drop_null().to_pylist()
    missing = {
        value
        for value in values
        if value == "" or str(value) in (MISSING if columns.missing is None else columns.missing)
    }
    if columns.missing is None:
        missing |= _placeholders([value for value in values if value not in missing], column, where, columns)
    if not missing:
        return column
    return pc.if_else(pc.is_in(column, pa.array(sorted(missing), column.type)), pa.scalar(None, column.type), column)


def _placeholders(values: Iterable[Any], column: Any, where: str, columns: Columns) -> set[Any]:
    """Return the one negative number that stands for no label: in a part without any other label, or next to words.

    Raises DataError where it could as well be a class: next to two other numbers or more.
    """
    negative = [value for value in values if re.fullmatch(r"-\d+", str(value))]
    others = [value for value in values if value not in negative]
    if len(negative) != 1 or len(others) == 1:
        return set()
    if all(str(value).isdecimal() for value in others) and others:
        count = pc.sum(pc.equal(column, negative[0])).as_py()
        raise DataError(
            f"data.label_column={columns.label!r}: {count} of {len(column)} rows of {where} have the label {negative[0]}, "
            "which may be a class or stand for a row without a label",
            f"data.missing_labels=[{negative[0]}] leaves these rows out, data.missing_labels=[] takes it as a class",
        )
    return set(negative)


def _refused(table: pa.Table, where: str, columns: Columns, what: str) -> DataError:
    others = [name for name in _candidates(table, columns, text=False) if name != columns.label]
    return DataError(
        f"data.label_column={columns.label!r}: that column of {where} holds {what}, expected whole numbers or text, one class "
        "per row",
        (f"data.label_column={others[0]}, or " if others else "") + "a column with one class per row, made from it",
    )


def _joined(texts: dict[str, Any], columns: Sequence[str], text: str) -> Any:
    """Line by line; a column without a value gives no line. No value where the column `text` has none."""
    parts = [texts[column] for column in columns]
    if list(columns) == [text]:
        return parts[0]
    lines = pc.binary_join_element_wise(*parts, "\n", null_handling="skip")
    return pc.if_else(pc.is_valid(texts[text]), lines, pa.scalar(None, pa.string()))
