"""A study folder that somebody sent: it is read, reported on, replayed and watched, and nothing in it is run or believed."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate import cli
from ablate.analysis.analyse import analyse
from ablate.errors import RecordError
from ablate.records.reader import read_evals, read_trace
from ablate.serialization import read_json, read_yaml
from tests.synthetic import write_study

SCRIPT = "<script>alert(1)</script>"
VERBS = (("report",), ("resample", "eval.every=128 samples"), ("resample",), ("status",))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sent") / "study"
    write_study(folder, arms=("batch_size=64",), seeds=2)
    return folder


@pytest.fixture
def received(sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it. Whatever starts a process, or writes beside the folder, fails the test."""
    folder = tmp_path / "mail" / "study"
    shutil.copytree(sent, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.json").write_text('{"secret": "of mine"}')
    monkeypatch.chdir(tmp_path / "mine")

    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    for name in ("system", "popen", "execv", "execve", "posix_spawn", "fork"):
        monkeypatch.setattr(os, name, started)
    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    before = outside(tmp_path)
    yield folder
    assert outside(tmp_path) == before


def outside(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(root / "mail" / "study")]
    return {path.as_posix(): path.read_text() for path in files}


def read(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """All three verbs: each ends with an exit code and, where it refuses, with a sentence."""
    said = ""
    for verb, *more in VERBS:
        code = cli.main([verb, str(folder), *more])
        captured = capsys.readouterr()
        assert code in (0, 1, 2)
        assert code != 2 or captured.err.startswith("ablate: ")
        assert "Traceback" not in captured.out + captured.err
        said += captured.out + captured.err
    return said


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = read_json(path)  # without its checksum, as its author would
    change(value)
    path.write_text(json.dumps(value))


def test_what_was_sent_reads_well_before_anything_is_done_to_it(
    received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "batch_size" in read(received, capsys)
    assert (received / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("with_plan", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.system ['touch run-by-yaml']",
        "model: !!python/object/new:subprocess.Popen [[touch, run-by-yaml]]",
        "model: !!python/name:os.system",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
        "[" * 40_000,
        "- " * 40_000,
        "optim: {lr: .inf, beta1: 1_000_000_000_000_000_000_000_000}\n../../x: 1",
        "just a sentence",
        "\0\0\0",
    ],
    ids=["apply", "new", "name", "aliases", "brackets", "dashes", "numbers", "sentence", "zeros"],
)
def test_a_config_is_plain_values_or_refused(
    received: Path, capsys: pytest.CaptureFixture[str], text: str, with_plan: bool
) -> None:
    for config in received.glob("*/*/config.yaml"):
        config.write_text(text)
    if not with_plan:
        (received / "plan.json").unlink()
    read(received, capsys)


def test_a_small_config_is_read_by_the_same_rules_as_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in (
        "a: &a [x]\nb: *a",
        "a: !!python/name:os.system",
        "[" * 7000,
        "[" * 100_000,
        "a: &a [x]\nb: *a\n" + "# long\n" * 2000,
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"."):
            read_yaml(path)
    path.write_text("a: {b: [1, '*x', 1.5, null]}\n")
    small = read_yaml(path)
    path.write_text("a: {b: [1, '*x', 1.5, null]}\n" + "# long\n" * 2000)
    assert read_yaml(path) == small == {"a": {"b": [1, "*x", 1.5, None]}}


def test_a_script_in_a_name_is_text_on_the_page(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rename(plan: Any) -> None:
        plan.update(study=SCRIPT, question=SCRIPT, command=SCRIPT, notes=[SCRIPT])
        plan["arms"][1].update(name=SCRIPT, value=SCRIPT)
        for run in plan["runs"]:
            run["arm"] = run["arm"].replace("batch_size=64", SCRIPT)

    edit(received / "plan.json", rename)
    edit(received / "baseline/seed=0/status.json", lambda value: value.update(message=SCRIPT, status="failed"))
    read(received, capsys)
    page = (received / "report.html").read_text()
    assert "alert(1)" in page
    assert SCRIPT not in page


PLANS: dict[str, Callable[[Any], None]] = {
    "arm goes up": lambda plan: plan["arms"][1].update(name="../../mine") or plan["runs"][1].update(arm="../../mine"),
    "arm is absolute": lambda plan: (
        plan["arms"][0].update(name="/etc") or [run.update(arm="/etc") for run in plan["runs"]]
    ),
    "arm is nothing": lambda plan: plan["arms"][1].update(name=""),
    "arm is long": lambda plan: plan["arms"][1].update(name="x" * 100_000),
    "arm that is not there": lambda plan: plan["runs"][0].update(arm="another"),
    "axis that is not there": lambda plan: plan["arms"][1].update(axis="another"),
    "seed goes up": lambda plan: plan["runs"][0].update(seed="0/../../../mine"),
    "seeds go up": lambda plan: plan.update(seeds=["../../mine"]),
    "seed is huge": lambda plan: plan.update(seeds=[10**400]),
    "study goes up": lambda plan: plan.update(study="../../mine"),
    "digest is a list": lambda plan: plan["runs"][0].update(digest=[1]),
    "digest goes up": lambda plan: plan["runs"][0].update(digest="../../mine/diary.json"),
    "no arms": lambda plan: plan.update(arms=[], runs=[]),
    "arms are numbers": lambda plan: plan.update(arms=[1, 2]),
    "a field too many": lambda plan: plan.update(folder="../../mine"),
    "steps without end": lambda plan: plan["arms"][0]["derived"].update(samples_seen=1e300, total_steps=1e300),
    "many steps": lambda plan: plan["arms"][0]["derived"].update(samples_seen=10**14, effective_batch=1),
    "nan": lambda plan: plan["arms"][0]["derived"].update(samples_seen="nan"),
    "smallest effect": lambda plan: plan.update(smallest_effect="0.01; import os"),
    "rule": lambda plan: plan["axes"][0].update(scale_with={"optim.lr": "__import__('os')"}),
    "metric": lambda plan: plan.update(metric="../../mine"),
    "text": lambda plan: plan["arms"][1].update(changes="x"),
}


@pytest.mark.parametrize("what", PLANS)
def test_a_plan_names_nothing_outside_its_folder_and_is_believed_nothing(
    received: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    edit(received / "plan.json", PLANS[what])
    assert "of mine" not in read(received, capsys)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a":' * 200_000, "1" * 10_000, "", "\ud800".encode("utf-8", "surrogatepass"), "{}"]
)
@pytest.mark.parametrize("name", ["plan.json", "baseline/seed=0/manifest.json", "baseline/seed=0/status.json"])
def test_a_file_that_is_no_json_of_ours_is_said_to_be_none(
    received: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | bytes
) -> None:
    (received / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    said = read(received, capsys)
    assert name.rpartition("/")[2] in said


def test_a_link_out_of_the_folder_is_not_followed(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path.cwd()
    shutil.rmtree(received / "batch_size=64")
    (received / "batch_size=64").symlink_to(mine)
    (received / "baseline/seed=0/trace.arrow").unlink()
    (received / "baseline/seed=0/trace.arrow").symlink_to("/dev/zero")
    (received / "baseline/seed=1/manifest.json").unlink()
    (received / "baseline/seed=1/manifest.json").symlink_to(mine / "diary.json")
    said = read(received, capsys)
    assert "leads out of the study" in " ".join(said.split())
    assert "of mine" not in said


def test_a_report_replaces_a_link_and_does_not_write_through_it(
    received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("report.html", "report.md", "table.tex", "analysis.json"):
        (received / name).symlink_to(Path.cwd() / "diary.json")
    read(received, capsys)
    assert not (received / "report.html").is_symlink()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(received: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("baseline/seed=0/status.json", "baseline/seed=1/trace.arrow"):
        (received / name).unlink()
        os.mkfifo(received / name)
    assert "is not a file" in " ".join(read(received, capsys).split())


@np.errstate(all="ignore")  # what the bits say now may be no number
def test_a_table_of_other_bytes_is_an_error_of_ours_or_other_numbers(sent: Path, tmp_path: Path) -> None:
    """Never a crash of the process: a made-up offset must not be followed out of the file."""
    rng = random.Random(0)
    for reader, name in ((read_trace, "trace.arrow"), (read_evals, "evals.arrow")):
        whole = (sent / "baseline/seed=0" / name).read_bytes()
        for _ in range(150):
            spoilt = bytearray(whole)
            for _ in range(rng.choice((1, 1, 4, 40))):
                spoilt[rng.randrange(len(spoilt))] = rng.choice((0, 255, rng.randrange(256)))
            path = tmp_path / name
            path.write_bytes(spoilt)
            try:
                found = reader(path)
                if hasattr(found, "group_norms"):
                    found.group_norms()
                else:
                    [found.curve(metric) for metric in found.metrics()]
            except RecordError:
                pass


@pytest.mark.parametrize("name", ["trace.arrow", "evals.arrow"])
def test_a_table_of_another_kind_is_said_to_be_one(
    received: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import pyarrow as pa

    other = pa.table({"step": ["one", "two"]})
    with (
        pa.OSFile(str(received / "baseline/seed=0" / name), "wb") as file,
        pa.ipc.new_stream(file, other.schema) as stream,
    ):
        stream.write_table(other)
    run = next(run for run in analyse(received).runs if (run.arm, run.seed) == ("baseline", 0))
    assert run.status == "unreadable"
    read(received, capsys)


VALUES: list[Any] = [
    None, True, -1, 0, 1e308, 10**30, "x", "../../x", SCRIPT, [], {}, [1], {"a": 1}, "nan", "inf", "\0", "é" * 300, [[[[]]]],
]  # fmt: skip


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_any_leaf_may_hold_anything(received: Path, capsys: pytest.CaptureFixture[str], seed: int) -> None:
    """Every file of a study in turn, a random leaf of it replaced."""
    rng = random.Random(seed)
    files = [received / "plan.json", *sorted((received / "baseline/seed=0").glob("*.json"))]
    for file in files:
        whole = file.read_text()
        value = read_json(file)
        file.write_text(json.dumps(_with(value, rng.choice(list(_paths(value))), rng.choice(VALUES))))
        read(received, capsys)
        file.write_text(whole)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy
