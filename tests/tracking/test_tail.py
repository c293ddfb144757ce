"""A table that grows under the reader's eyes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ablate.records.reader import Tail
from ablate.records.writer import TableWriter

SCHEMA = pa.schema([("step", pa.int64()), ("loss", pa.float32())])


def rows(first: int, last: int) -> dict[str, list[float]]:
    return {"step": list(range(first, last + 1)), "loss": [0.5] * (last - first + 1)}


def test_each_row_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    tail = Tail(path)
    assert tail.new_rows() == []
    with TableWriter(path, SCHEMA, metadata={"groups": "a\nb"}) as writer:
        assert tail.new_rows() == []
        writer.write(rows(1, 3))
        assert [row["step"] for row in tail.new_rows()] == [1, 2, 3]
        assert tail.new_rows() == []
        writer.write(rows(4, 4))
        writer.write(rows(5, 6))
        assert [row["step"] for row in tail.new_rows()] == [4, 5, 6]
    assert tail.new_rows() == []


def test_a_long_table_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    with TableWriter(path, SCHEMA) as writer:
        for first in (1, 3, 5):
            writer.write(rows(first, first + 1))
    tail = Tail(path)
    assert [[row["step"] for row in tail.new_rows(3)] for _ in range(3)] == [[1, 2, 3, 4], [5, 6], []]


def test_a_block_cut_anywhere_waits_until_it_is_whole(tmp_path: Path) -> None:
    whole = tmp_path / "whole.arrow"
    with TableWriter(whole, SCHEMA) as writer:
        writer.write(rows(1, 2))
        before = whole.stat().st_size
        writer.write(rows(3, 5))
        after = whole.stat().st_size
    data = whole.read_bytes()
    growing = tmp_path / "growing.arrow"
    for cut in range(before, after):
        growing.write_bytes(data[:cut])
        tail = Tail(growing)
        assert [row["step"] for row in tail.new_rows()] == [1, 2]
        growing.write_bytes(data)
        assert [row["step"] for row in tail.new_rows()] == [3, 4, 5]


def test_a_file_without_a_whole_header_has_no_rows_yet(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    path.write_bytes(b"\xff\xff\xff\xff\x10")
    assert Tail(path).new_rows() == []
