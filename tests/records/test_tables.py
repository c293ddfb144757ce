"""Tables that grow by blocks: written on from an extent, read in part, read block by block."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ablate.errors import RecordError
from ablate.records.reader import read_blocks, read_table
from ablate.records.writer import TableWriter

SCHEMA = pa.schema([("k", pa.int64()), ("half", pa.float32()), ("parts", pa.list_(pa.float32()))])


def columns(start: int, stop: int) -> dict[str, list[object]]:
    rows = range(start, stop)
    return {"k": list(rows), "half": [k / 2 for k in rows], "parts": [[k, k + 1] for k in rows]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table.arrow"


@pytest.mark.parametrize("num_blocks", [0, 1, 1023, 1024, 2500])
def test_many_small_blocks_are_read_as_they_were_written(path: Path, num_blocks: int) -> None:
    with TableWriter(path, SCHEMA, metadata={"groups": "a"}) as table:
        for k in range(num_blocks):
            table.write(columns(2 * k, 2 * k + 2))
    whole = read_table(path)
    assert whole["k"].to_pylist() == list(range(2 * num_blocks))
    assert whole["parts"].to_pylist() == columns(0, 2 * num_blocks)["parts"]
    assert whole.schema.metadata == {b"groups": b"a"}
    part = read_table(path, ["half"])
    assert part.column_names == ["half"]
    assert part["half"].equals(whole["half"])
    assert sum(block.num_rows for block in read_blocks(path, ["k"])) == 2 * num_blocks


def test_a_table_goes_on_from_an_extent_and_what_lay_beyond_is_gone(path: Path) -> None:
    with TableWriter(path, SCHEMA) as table:
        table.write(columns(0, 3))
        kept = table.extent()
        table.write(columns(3, 9))
    with TableWriter(path, SCHEMA, resume_at=kept) as table:
        assert table.extent() == kept
        table.write(columns(3, 5))
    assert read_table(path).to_pydict() == columns(0, 5)


def test_a_table_that_is_shorter_than_its_extent_is_refused(path: Path) -> None:
    with TableWriter(path, SCHEMA) as table:
        table.write(columns(0, 3))
        kept = table.extent()
    path.write_bytes(path.read_bytes()[: kept - 1])
    with pytest.raises(RecordError, match=f"does not hold the {kept} bytes"):
        TableWriter(path, SCHEMA, resume_at=kept)


def test_a_table_that_is_none_is_named(path: Path) -> None:
    path.write_bytes(b"no table")
    with pytest.raises(RecordError, match=r"table\.arrow is not a readable table"):
        read_table(path)
    with pytest.raises(RecordError, match=r"table\.arrow is not a readable table"):
        list(read_blocks(path))
