"""A data set's digest is that of what lies there, however it is cut into chunks and whatever part of it is used."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ablate.config.schema import Config
from ablate.data.datasets import load_examples
from ablate.hashing import pool_digest
from ablate.tasks.registry import data_facts

TABLE = pa.table({"text": ["a", None, "bc", "", "d"] * 4, "label": pa.array([0, 1, None, 1, 0] * 4, pa.int64())})


def test_chunks_and_slices_do_not_matter() -> None:
    cut = pa.concat_tables([TABLE.slice(0, 3), TABLE.slice(3, 9), TABLE.slice(12)])
    assert pool_digest({"all": cut}) == pool_digest({"all": TABLE})
    part = TABLE.slice(5, 7)
    fresh = pa.table({name: part[name].to_pylist() for name in part.column_names}, schema=part.schema)
    assert pool_digest({"all": part}) == pool_digest({"all": fresh})


def test_every_value_row_column_and_part_counts() -> None:
    other = [
        {"all": TABLE.slice(1)},
        {"all": TABLE.rename_columns(["text", "class"])},
        {"all": TABLE.select(["text"])},
        {"train": TABLE},
        {"all": TABLE.set_column(0, "text", pa.array(["a", "", "bc", "", "d"] * 4))},
        {"all": TABLE.set_column(1, "label", TABLE["label"].cast(pa.int32()))},
        {"all": TABLE.take(list(reversed(range(20))))},
    ]
    digests = [pool_digest(parts) for parts in ({"all": TABLE}, *other)]
    assert len(set(digests)) == len(digests)


def write(path: Path, *, last: str = "so so", extra: int = 0) -> Path:
    rows = [f"Film {k} was good,{k % 2},title {k},{extra}" for k in range(20)]
    path.write_text("\n".join(["text,label,title,other", *rows, f"{last},1,a title,{extra}"]))
    return path


def digest(path: Path, **data: object) -> str:
    config = Config()
    config.data.path = str(path)
    for key, value in data.items():
        setattr(config.data, key, value)
    return load_examples(config.data).source


def test_arms_that_use_other_parts_of_one_file_read_the_same_data(tmp_path: Path) -> None:
    path = write(tmp_path / "films.csv")
    plain = digest(path)
    assert plain
    assert {digest(path, max_examples=8), digest(path, extra_text_columns=["title"]), digest(path, split_seed=3)} == {
        plain
    }
    assert (
        digest(path, remove_text_features=["case"])
        == digest(path, extra_text_columns=["title"], drop_columns=["text"])
        == plain
    )
    assert load_examples(Config().data).source not in ("", plain)


def test_another_file_is_other_data_even_where_only_an_unused_column_differs(tmp_path: Path) -> None:
    found = [
        digest(write(tmp_path / f"{k}.csv", **given)) for k, given in enumerate(({}, {"last": "so  so"}, {"extra": 1}))
    ]
    assert len(set(found)) == 3
    assert digest(write(tmp_path / "same.csv")) == found[0]


def test_a_plan_knows_the_digest_that_the_run_will_find(tmp_path: Path) -> None:
    config = Config()
    config.data.path = str(write(tmp_path / "films.csv"))
    assert data_facts(config).data == load_examples(config.data).source
