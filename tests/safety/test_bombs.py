"""Small files that stand for huge ones end with one sentence, within seconds and without the memory that they ask for."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.archive.extract import extract
from ablate.errors import RecordError
from ablate.records.reader import _checked_body, is_closed, read_evals, read_table, read_trace
from ablate.records.run_files import open_run
from ablate.records.schema import EVALS, TRACE
from ablate.records.writer import write_table
from ablate.serialization import MAX_BYTES, MAX_CONFIG_BYTES, read_json, read_text, read_yaml
from tests.synthetic import write_study


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def many_members(path: Path) -> None:
    path.write_bytes(b"".join(header(f"a/b/{number}", 0) for number in range(100)) * 1100 + b"\0" * 1024)


def extended(kind: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(header("x", 2**32, kind))
            file.truncate(2**32 + 2048)  # sparse

    return write


def expanding(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("a/seed=0/trace.arrow", 2**30))
        for _ in range(64):
            file.write(b"\0" * 2**24)


def many_in_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("one", "")
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    data[end + 8 : end + 12] = b"\xff" * 4
    path.write_bytes(data)


ARCHIVES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a GNU header": ("x.tar", extended(tarfile.GNUTYPE_LONGNAME), "expected plain files in it, got an extended header of 4,2"),
    "a pax header": ("x.tar", extended(tarfile.XHDTYPE), "expected plain files in it, got an extended header of 4,294,967,296"),
    "a sparse file": ("x.tar", extended(tarfile.GNUTYPE_SPARSE), "expected plain files in it, got an extended header"),
    "many members": ("x.tar", many_members, "expected at most 100,000 files in it, got more"),
    "zeros": ("x.tar.gz", expanding, "bytes when it is decompressed, got more"),
    "a long list": ("x.zip", many_in_zip, "expected at most 65,534 files in it, got more"),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", [*[*ARCHIVES][:3], pytest.param("many members", marks=pytest.mark.slow), *[*ARCHIVES][4:]]
)
def test_an_archive_that_would_grow_is_refused(what: str, tmp_path: Path) -> None:
    name, write, problem = ARCHIVES[what]
    write(tmp_path / name)
    with pytest.raises(RecordError, match=problem), open_run(str(tmp_path / name)):
        pass
    if name == "x.tar":
        with pytest.raises(RecordError, match=r"expected plain files in it|expected each file once"):
            extract(tmp_path / name, tmp_path / "into")


def compressed(path: Path) -> None:
    table = pa.table({field.name: pa.nulls(200_000, field.type) for field in TRACE}, schema=TRACE)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TRACE, options=options) as stream:
        stream.write_table(table)


def claims(path: Path) -> None:
    """A block that says that its body has a terabyte."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("step", pa.int64())])) as stream:
        stream.write_batch(pa.record_batch([pa.array([1, 2, 3], pa.int64())], ["step"]))
    data = bytearray(sink.getvalue())
    start = 8 + int.from_bytes(data[4:8], "little")
    size = int.from_bytes(data[start + 4 : start + 8], "little")
    body = _checked_body(bytes(data[start + 8 : start + 8 + size])).to_bytes(8, "little")
    at = data.find(body, start, start + 8 + size)
    data[at : at + 8] = (2**40).to_bytes(8, "little")
    path.write_bytes(data)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**43)


TABLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "compressed": (compressed, "expected uncompressed blocks, got compressed ones, which can expand without limit"),
    "a large block": (claims, "expected at most 268,435,456 bytes in a block, got 1,099,511,627,776"),
    "a large file": (sparse, "expected at most 4,294,967,296 bytes, got 8,796,093,022,208"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a file"),
    "nothing": (lambda path: path.touch(), "it does not begin like a table"),
    "text": (lambda path: path.write_text("step,loss\n1,2\n" * 9) and None, "it does not begin like a table"),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_would_grow_is_refused(what: str, tmp_path: Path) -> None:
    write, problem = TABLES[what]
    write(tmp_path / "trace.arrow")
    with pytest.raises(RecordError, match=problem):
        read_table(tmp_path / "trace.arrow")


def test_every_verb_refuses_a_compressed_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    write_study(folder, arms=("batch_size=64",), seeds=2)
    compressed(folder / "baseline/seed=0/trace.arrow")
    runs = [str(folder / "baseline/seed=0"), str(folder / "baseline/seed=1")]
    for verb in ("report", "table", "methods", "resample", "power", "status"):
        assert cli.main([verb, str(folder)]) in (0, 1, 2)
    run = next(run for run in analyse(folder).runs if (run.arm, run.seed) == ("baseline", 0))
    assert "expected uncompressed blocks, got compressed ones" in run.sentence
    capsys.readouterr()
    cli.main(["compare", *runs])
    assert "baseline, seed 0 unreadable" in " ".join(capsys.readouterr().out.split())


SMALL: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "many objects": (read_json, "[" + "{}," * 1_000_000 + "{}]", "expected at most 1,000,000 values in it, got more"),
    "aliases": (read_yaml, "a: &a [x, x]\nb: &b [*a, *a]\n", "it holds an alias"),
    "a large config": (
        read_yaml,
        "a: 1\n" * (MAX_CONFIG_BYTES // 5 + 1),
        f"expected at most {MAX_CONFIG_BYTES:,} bytes",
    ),
    "deep flows": (read_yaml, "[" * 100_000, "it nests deeper than 200 levels"),
    "deep lists": (read_yaml, "- " * 40_000, "it nests deeper than 200 levels"),
    "deep keys": (read_yaml, "? " * 40_000, "it nests deeper than 200 levels"),
}


@pytest.mark.parametrize("what", SMALL)
def test_a_small_file_that_would_grow_is_refused(what: str, tmp_path: Path) -> None:
    read, text, problem = SMALL[what]
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        read(path)


def test_a_text_file_has_a_largest_size_and_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=f"expected at most {MAX_BYTES:,} bytes, got more"):
        read_text(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="is not a file"):
        read_text(path)
    with pytest.raises(OSError, match="is not a file"):
        read_text(Path("/dev/zero"))


def test_a_plan_has_a_largest_number_of_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path / "study", arms=("batch_size=64",), seeds=1)
    plan = json.loads((tmp_path / "study/plan.json").read_text())
    plan["runs"] = [{"arm": "baseline", "seed": seed, "digest": "d"} for seed in range(100_000)]
    (tmp_path / "study/plan.json").write_text(json.dumps(plan))
    assert cli.main(["report", str(tmp_path / "study")]) == 2
    assert "expected at most 25,000 runs and 3,000 arms, got 100,000 and 2" in capsys.readouterr().err


def test_a_plan_is_not_inferred_from_any_number_of_arms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1001):
        (tmp_path / f"study/arm{number}/seed=0").mkdir(parents=True)
        (tmp_path / f"study/arm{number}/seed=0/manifest.json").touch()
    assert cli.main(["report", str(tmp_path / "study")]) == 2
    assert "expected at most 1,000 arms to infer one from, got 1,001" in capsys.readouterr().err


# ---- values of the right type and impossible ---------------------------------------------------------------------------


def trace(path: Path, **changes: Any) -> None:
    number = np.arange(1, 5)
    columns: dict[str, Any] = {
        "step": number, "epoch": number / 4, "samples": number * 8, "tokens": number * 80, "loss": number * 0.5,
        "grad_norm": number * 0.1, "clip_coefficient": number * 0 + 1.0, "applied": [True] * 4,
        "learning_rate": number * 0.01, "loss_scale": number * 0 + 1.0, "step_seconds": number * 0.1,
        "group_norms": [[]] * 4, "update_ratios": [[]] * 4, "micro_samples": [0] * 4, "micro_grad_norm": [None] * 4,
    }  # fmt: skip
    write_table(path, columns | changes, TRACE)


def evals(path: Path, **changes: Any) -> None:
    columns: dict[str, Any] = {
        "step": [0, 4], "epoch": [0.0, 1.0], "samples": [0, 32], "tokens": [0, 320], "train_seconds": [0.0, 1.0],
        "eval_seconds": [0.1, 0.1], "split": ["held_out"] * 2, "metric": ["loss"] * 2, "sum": [1.0, 0.5], "count": [4, 4],
        "sum_squares": [1.0, 0.5],
    }  # fmt: skip
    write_table(path, columns | changes, EVALS)


NAN, INF = float("nan"), float("inf")
IMPOSSIBLE: list[tuple[Callable[..., None], dict[str, Any], str]] = [
    (trace, {"step": [1, None, 3, 4]}, "column step, row 2: expected a number, got nothing"),
    (trace, {"step": [1, 2, 3, 2]}, "column step, row 4: expected at least 3 as before, got 2"),
    (trace, {"step": [-1, 2, 3, 4]}, "column step, row 1: expected a number from 0, got -1"),
    (trace, {"samples": [8, 16, 0, 32]}, "column samples, row 3: expected a number from 1, got 0"),
    (trace, {"samples": [8, 16, -24, 32]}, "column samples, row 3: expected a number from 1, got -24"),
    (trace, {"samples": [8, 24, 16, 32]}, "column samples, row 3: expected at least 24 as before, got 16"),
    (
        trace,
        {"learning_rate": [0.1, -0.1, 0.1, 0.1]},
        "column learning_rate, row 2: expected a number from 0, got -0.1",
    ),
    (trace, {"learning_rate": [0.1, INF, 0.1, 0.1]}, "column learning_rate, row 2: expected a number from 0, got inf"),
    (trace, {"step_seconds": [0.1, NAN, 0.1, 0.1]}, "column step_seconds, row 2: expected a number from 0, got nan"),
    (trace, {"step_seconds": [0.1, 0.1, 0.1, INF]}, "column step_seconds, row 4: expected a number from 0, got inf"),
    (trace, {"grad_norm": [0.1, 0.1, -0.5, 0.1]}, "column grad_norm, row 3: expected a number from 0, got -0.5"),
    (evals, {"metric": ["loss", None]}, "column metric, row 2: expected a name, got nothing"),
    (evals, {"split": [None, "held_out"]}, "column split, row 1: expected a name, got nothing"),
    (evals, {"count": [4, 0]}, "column count, row 2: expected a number from 1, got 0"),
    (evals, {"count": [4, None]}, "column count, row 2: expected a number, got nothing"),
    (evals, {"sum": [1.0, None]}, "column sum, row 2: expected a number, got nothing"),
    (evals, {"step": [4, 0]}, "column step, row 2: expected at least 4 as before, got 0"),
    (evals, {"samples": [-1, 32]}, "column samples, row 1: expected a number from 0, got -1"),
    (evals, {"eval_seconds": [0.1, -1.0]}, "column eval_seconds, row 2: expected a number from 0, got -1.0"),
]


@pytest.mark.parametrize(("write", "changes", "problem"), IMPOSSIBLE)
def test_what_no_run_has_is_named_by_file_column_and_row(
    write: Callable[..., None], changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    path, read = tmp_path / "table.arrow", read_trace if write is trace else read_evals
    write(path)
    read(path)
    write(path, **changes)
    with pytest.raises(RecordError, match=f"^{path}: {problem}"):
        read(path)


def test_what_a_run_may_have_is_read(tmp_path: Path) -> None:
    """A diverged run has no finite losses, and an import lacks most columns."""
    path = tmp_path / "table.arrow"
    none = [None] * 4
    trace(
        path,
        loss=[1.0, NAN, INF, NAN],
        grad_norm=[1.0, NAN, INF, NAN],
        epoch=[0.1, NAN, NAN, NAN],
        learning_rate=[NAN] * 4,
    )
    assert len(read_trace(path)) == 4
    trace(
        path,
        samples=none,
        tokens=none,
        grad_norm=none,
        step_seconds=none,
        learning_rate=none,
        loss_scale=none,
        applied=none,
    )
    assert len(read_trace(path)) == 4
    evals(path, sum=[NAN, INF], samples=[None, None], tokens=[None, None], train_seconds=[None, None])
    assert read_evals(path).metrics() == ["loss"]


def test_a_table_that_was_cut_is_not_closed(tmp_path: Path) -> None:
    path = tmp_path / "trace.arrow"
    trace(path)
    assert is_closed(path)
    data = path.read_bytes()
    for cut in (len(data) - 1, len(data) // 2, 3, 0):
        path.write_bytes(data[:cut])
        assert not is_closed(path)
