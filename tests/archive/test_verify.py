"""`ablate verify`: what was made is verified, here and elsewhere, and what was tampered with is named."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ablate import cli
from ablate.analysis.analyse import analyse_interim
from ablate.archive.bundle import write_bundle
from ablate.archive.manifest import hash_of
from ablate.archive.verify import Verification, plan_problems, verify
from ablate.design.axis import Axis
from ablate.design.designs import ExternalApp, OneAtATime
from ablate.design.plan import Arm, Plan, Run, counted_of, digest_by
from ablate.errors import RecordError, StudyError
from ablate.hashing import digest_of
from ablate.records.interim import write_interim
from ablate.records.layout import StudyDir
from ablate.records.schema import TRACE
from ablate.records.source_code import code_digest
from ablate.runner.external_app import record_run
from ablate.serialization import write_json
from tests.archive.conftest import as_yaml
from tests.archive.tampering import Files, edited, files_of, flipped, pack, relisted
from tests.example_records import keep_examples
from tests.synthetic import TWO_LEVELS, crossed_cells, write_crossed, write_study


def wrong(found: Verification) -> dict[str, tuple[str, ...]]:
    return {check.name: check.findings for check in found.checks if check.status != "passed"}


def test_what_was_bundled_is_verified(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(archive), "--sha256", hash_of(archive).upper()]) == 0
    said = capsys.readouterr().out
    assert hash_of(archive) in said
    assert said.count("failed") == said.count("not checked") == 0
    assert "whether the runs were trained as recorded" in " ".join(said.split())
    assert "not signed" not in said
    assert said.rstrip().endswith("can be derived from the records matches")


def test_another_archive_than_the_published_one_is_said_to_be_one(archive: Path) -> None:
    assert list(wrong(verify(archive, sha256="0" * 64))) == ["published"]


def test_a_hash_that_is_none_is_refused(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(archive), "--sha256", hash_of(archive)[:12]]) == 2
    assert "got 12 characters" in capsys.readouterr().err


def test_for_a_program_to_read(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(archive), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verified"] is True
    assert found["sha256"] == hash_of(archive)
    names = ["manifest", "files", "archive", "plan", "runs", "report"]
    assert [check["name"] for check in found["checks"]] == names
    assert found["limitations"]


def test_text_that_was_sent_moves_no_cursor(sent: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent["bundle.json"] = edited(sent["bundle.json"], study="\x1b[2Jall is well\r\n")
    sent["batch_size=64/seed=0/manifest.json"] = edited(
        sent["batch_size=64/seed=0/manifest.json"], overrides={"\x1b[1A": 1}
    )
    assert cli.main(["verify", str(pack(relisted(sent), tmp_path / "a.tar"))]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "?[2Jall is well??" in said


def test_nothing_is_left_on_disk(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert verify(archive).verified
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["plan.json", "baseline/seed=0/log.txt"])
def test_one_bit_of_any_file_is_noticed_and_the_file_named(sent: Files, tmp_path: Path, kept: str) -> None:
    for name in sent.keys() - {"bundle.json", kept}:
        sent[name] = flipped(sent[name])
    found = wrong(verify(pack(sent, tmp_path / "a.tar")))["files"]
    assert {finding.partition(": expected SHA-256 ")[0] for finding in found} == sent.keys() - {"bundle.json", kept}


@pytest.mark.slow
def test_one_bit_of_the_list_of_files_is_noticed(sent: Files, tmp_path: Path) -> None:
    for number, place in enumerate((0, len(sent["bundle.json"]) // 2, len(sent["bundle.json"]) - 1)):
        path = pack({**sent, "bundle.json": flipped(sent["bundle.json"], place)}, tmp_path / f"{number}.tar")
        assert "manifest" in wrong(verify(path))


def test_one_bit_beside_the_files_is_noticed(archive: Path, tmp_path: Path) -> None:
    """Headers have a checksum that says nothing of who wrote them; what pads a file has none at all."""
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        second = tar.getmembers()[1]
    padding = second.offset_data + second.size
    assert padding % 512
    for number, place in enumerate((padding, len(whole) - 1)):
        path = tmp_path / f"{number}.tar"
        path.write_bytes(flipped(whole, place))
        assert list(wrong(verify(path))) == ["archive"]
    (tmp_path / "longer.tar").write_bytes(whole + b"\0" * 10240)
    assert list(wrong(verify(tmp_path / "longer.tar"))) == ["archive"]


def test_a_bit_of_a_header_is_noticed(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(flipped(archive.read_bytes(), 140))
    with pytest.raises(RecordError, match="as a tar archive"):
        verify(path)


def test_a_file_too_many_and_one_too_few_are_named(sent: Files, tmp_path: Path) -> None:
    lost = sent.pop("batch_size=64/seed=1/log.txt")
    sent["notes.txt"] = lost
    found = wrong(verify(pack(sent, tmp_path / "a.tar")))
    assert "batch_size=64/seed=1/log.txt is missing from the archive, but bundle.json lists it" in found["files"]
    assert "notes.txt is in the archive, but bundle.json does not list it" in found["files"]
    assert "notes.txt is in the archive, but does not follow from the records" in found["report"]


def imported(folder: Path) -> None:
    for name, more in (("baseline", 0.0), ("large", 0.1)):
        rows = [f"{step},{1 / step + more:.3f},{1.1 / step + more:.3f}" for step in (10, 20, 30)]
        (folder.parent / f"{name}.csv").write_text("\n".join(["step,loss,eval_loss", *rows]) + "\n")
    sources = [f"{name}={folder.parent / name}.csv" for name in ("baseline", "large")]
    assert cli.main(["import", *sources, "--output", str(folder)]) in (0, 1)


def with_examples(folder: Path) -> None:
    write_study(folder, arms=("batch_size=64",), seeds=2)
    keep_examples(folder)


def of_an_app(folder: Path) -> None:
    """Runs without fingerprint, weights or tables: numbers that main returned."""
    config = {"lr": 0.1}
    arms = [Arm(name="baseline", config=config)]
    arms += [Arm(name="lr=0.5", axis="lr", value=0.5, kind="training", changes={"lr": 0.5}, config={"lr": 0.5})]
    code = {"myapp.py": "0" * 64}
    runs = []
    for arm in arms:
        for seed in (0, 1):
            request = digest_of({"app": digest_of(arm.config), "seed_key": "seed", "seed": seed})
            runs.append(Run(arm=arm.name, seed=seed, request=request, digest=digest_by(request, code_digest(code))))
    plan = Plan(
        study="study", question="?", metric="", smallest_effect=0.01, seeds=(0, 1), arms=tuple(arms), runs=tuple(runs),
        axes=(Axis(name="lr", question="?", kind="training", keys=("lr",), values=(0.5,)),), code=code,
        code_digest=code_digest(code), design=ExternalApp(seed_key="seed", lower_is_better=True),
    )  # fmt: skip
    write_json(folder / "plan.json", plan.to_json() | {"digest": plan.digest})
    for number, run in enumerate(runs):
        record_run(StudyDir(folder).run(run.arm, run.seed).path, lambda number=number: 0.5 + 0.1 * number)


KINDS: dict[str, Callable[[Path], object]] = {
    "imported": imported,
    "examples": with_examples,
    "app": of_an_app,
    "crossed": lambda folder: write_crossed(folder, crossed_cells("factorial", TWO_LEVELS[:2]), {}, seeds=2),
}


@pytest.mark.parametrize("kind", [*("imported", "examples", "app"), pytest.param("crossed", marks=pytest.mark.slow)])
def test_every_kind_of_study_can_be_bundled_and_is_verified(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "study"
    KINDS[kind](folder)
    for run in StudyDir(folder).runs():
        if kind in ("examples", "crossed"):
            as_yaml(run)
    made = write_bundle(folder, tmp_path / "a.tar")
    assert wrong(verify(made.path)) == {}


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a study that adds seeds: two looks, the first of which decided one variant."""
    folder = tmp_path_factory.mktemp("looks") / "study"
    plan = write_study(
        folder, arms=("batch_size=64", "learning_rate=0.0001"), seeds=4, smallest_effect=1e-4,
        effects={"batch_size=64": 0.5, "learning_rate=0.0001": 0.0},
    )  # fmt: skip
    plan = replace(plan, design=OneAtATime(interim_seeds=(3, 4), alpha_spending="pocock"))
    write_json(folder / "plan.json", plan.to_json() | {"digest": plan.digest})
    for run in StudyDir(folder).runs():
        as_yaml(run)
    write_interim(folder, analyse_interim(folder))
    with pytest.raises(StudyError, match="an interim analysis still to come"):
        write_bundle(folder, folder.parent / "early.tar")
    write_interim(folder, analyse_interim(folder))
    return write_bundle(folder, folder.parent / "study.tar").path


@pytest.mark.slow
def test_looks_are_made_anew(looked_at: Path, tmp_path: Path) -> None:
    found = verify(looked_at)
    assert found.verified
    assert "interim" in [check.name for check in found.checks]
    files = files_of(looked_at)
    look = json.loads(files["interim-3.json"])
    look["contrasts"][0]["effect"] += 0.01
    files["interim-3.json"] = edited(files["interim-3.json"], **look)
    assert wrong(verify(pack(relisted(files), tmp_path / "a.tar"))).keys() == {"interim"}
    del files["interim-3.json"]
    assert "report" in wrong(verify(pack(relisted(files), tmp_path / "b.tar")))


def test_examples_of_another_run_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with_examples(folder)
    files = files_of(write_bundle(folder, tmp_path / "a.tar").path)
    swapped("baseline/seed=0", "baseline/seed=1", "predictions.arrow")(files)
    assert "report" in wrong(verify(pack(relisted(files), tmp_path / "b.tar")))


def test_a_plan_that_an_earlier_version_froze_is_worked_out_as_it_stands(finished: Path) -> None:
    value = json.loads((finished / "plan.json").read_text())
    earlier = {key: item for key, item in value.items() if key not in ("compare_at", "digest")}
    earlier["digest"] = digest_of(counted_of(earlier))
    plan = Plan.from_json(earlier)
    assert plan.digest != earlier["digest"]
    assert list(plan_problems(earlier, plan)) == []
    assert list(plan_problems({**earlier, "question": "another"}, plan)) != []


def alike(printed: str) -> str:
    """Less its figures and its lines."""
    return re.sub(r"[0-9a-f]{64}|[\d.]+", "#", " ".join(printed.split()))


def test_the_how_to_shows_what_the_commands_print(
    repo: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (repo / "docs/how-to/archive_a_study.md").read_text(encoding="utf-8")
    bundle, shown, again = re.findall(r"```\n(.*?)```", text, re.DOTALL)[:3]
    shutil.copytree(finished, tmp_path / "runs" / "reference")
    monkeypatch.chdir(tmp_path)
    assert cli.main(bundle.split()[1:]) == 0
    said = capsys.readouterr().out
    assert alike(shown) == alike(said)
    (old,), (new,) = (re.findall(r"[0-9a-f]{64}", printed) for printed in (shown, said))
    assert cli.main(again.replace(old, new).split()[1:]) == 0
    for check in ("published", "manifest", "files", "archive", "plan", "runs", "interim", "report"):
        assert re.search(rf"^\| .*\b{check}\b.* \|", text, re.MULTILINE)


# ---- by somebody who makes the hashes agree ------------------------------------------------------------------------


def swapped(one: str, other: str, name: str = "") -> Callable[[Files], None]:
    """The files of two runs change places; with a name, that file alone."""

    def swap(files: Files) -> None:
        for path in [path for path in files if path.startswith(f"{one}/") and path.endswith(name or path)]:
            twin = other + path.removeprefix(one)
            files[path], files[twin] = files[twin], files[path]

    return swap


def set_in(name: str, **changes: Any) -> Callable[[Files], None]:
    return lambda files: files.update({name: edited(files[name], **changes)})


def in_plan(change: Callable[[Any], None]) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        plan = json.loads(files["plan.json"])
        change(plan)
        files["plan.json"] = edited(files["plan.json"], **plan)

    return edit


def in_table(name: str, column: str, row: int, value: float) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        table = pa.ipc.open_stream(files[name]).read_all()
        place = table.schema.get_field_index(column)
        values = table[column].to_pylist()
        values[row] = value
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        files[name] = sink.getvalue()

    return edit


def in_fingerprint(run: str, item: str, value: Any) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        name = f"{run}/fingerprint.json"
        items = json.loads(files[name])["items"]
        files[name] = edited(files[name], items={**items, item: value})

    return edit


def replaced(name: str, old: str, new: str) -> Callable[[Files], None]:
    def edit(files: Files) -> None:
        assert old.encode() in files[name], name
        files[name] = files[name].replace(old.encode(), new.encode(), 1)

    return edit


def listed(**changes: Any) -> Callable[[Files], None]:
    return lambda files: files.update({"bundle.json": edited(files["bundle.json"], **changes)})


def dropped(prefix: str) -> Callable[[Files], None]:
    return lambda files: [files.pop(name) for name in [*files] if name.startswith(prefix)] and None


TAMPERING: dict[str, tuple[Callable[[Files], None], str, str]] = {
    "two runs swapped": (
        swapped("baseline/seed=0", "baseline/seed=1"), "runs", "its manifest is that of arm 'baseline', seed 1"),
    "two traces swapped": (swapped("baseline/seed=0", "baseline/seed=1", "trace.arrow"), "report", "analysis.json differs at"),
    "two evaluations swapped": (
        swapped("baseline/seed=0", "baseline/seed=1", "evals.arrow"), "report", "analysis.json differs at"),
    "two outcomes swapped": (
        swapped("baseline/seed=0", "batch_size=64/seed=0", "status.json"), "report", "analysis.json differs at"),
    "a loss in a trace": (in_table("baseline/seed=0/trace.arrow", "loss", 64, 9.0), "report", "report.html differs in line"),
    "the first norm": (in_table("baseline/seed=0/trace.arrow", "grad_norm", 0, 9.0), "report", "analysis.json differs at"),
    "an evaluation": (in_table("baseline/seed=1/evals.arrow", "sum", -2, 1.0), "report", "analysis.json differs at"),
    "an outcome": (set_in("baseline/seed=0/status.json", status="failed", reason="x"), "report", "analysis.json differs at"),
    "a verdict": (
        replaced("analysis.json", '"verdict": "hurts"', '"verdict": "helps"'), "report", "expected 'hurts', got 'helps'"),
    "a figure of the page": (replaced("report.html", "LOW POWER", "HIGH POWER"), "report", "report.html differs in line"),
    "a figure of a table": (replaced("table.tex", "LOW POWER", "SURE"), "report", "table.tex differs in line"),
    "the plan's effect": (in_plan(lambda plan: plan.update(smallest_effect=0.5)), "plan", "plan.json: expected digest"),
    "the plan's question": (in_plan(lambda plan: plan.update(question="?")), "plan", "plan.json: expected digest"),
    "the plan's batch": (
        in_plan(lambda plan: plan["arms"][0]["config"]["data"].update(batch_size=16)), "plan", "plan.json: expected digest"),
    "a run's digest": (in_plan(lambda plan: plan["runs"][0].update(digest="0" * 64)), "plan", "plan.json: expected digest"),
    "a config": (
        replaced("baseline/seed=0/config.yaml", "lr: 5.0e-05", "lr: 9.0e-05"), "runs", "does not match its config.yaml"),
    "a config's seed": (
        replaced("baseline/seed=0/config.yaml", "seed: 0", "seed: 7"), "runs", "does not match its config.yaml"),
    "a manifest's digest": (set_in("baseline/seed=0/manifest.json", digest="1" * 64), "runs", "expected the plan's digest"),
    "initial weights": (
        in_fingerprint("batch_size=64/seed=1", "init", {"head": "another"}), "report", "analysis.json differs at conclusions"),
    "weights at the end": (
        lambda files: [set_in(f"batch_size=64/seed={seed}/status.json", weights_sha256=json.loads(
            files[f"baseline/seed={seed}/status.json"])["weights_sha256"])(files) for seed in (0, 1)] and None,
        "report", "analysis.json differs at conclusions"),
    "a run left away": (dropped("baseline/seed=1/"), "report", "analysis.json differs at"),
    "the list's end": (
        listed(complete=False), "report", "bundle.json: expected 'study', complete=True, got 'study', complete=False"),
    "the list's study": (
        listed(study="another"), "report", "bundle.json: expected 'study', complete=True, got 'another', complete=True"),
    "the list's plan": (listed(plan="0" * 64), "plan", "bundle.json lists the plan 000000000000"),
    "the list's folder": (listed(folder="other"), "manifest", "bundle.json: expected the directory 'study', got 'other'"),
    "what was asked": (
        listed(options={"metric": "eval_accuracy", "smallest_effect": None, "accepts": []}),
        "report", "cannot rebuild the report"),
    "no plan": (dropped("plan.json"), "plan", "bundle.json lists a plan, but there is no plan.json"),
    "no analysis": (dropped("analysis.json"), "report", "analysis.json follows from the records, but is not in the archive"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", TAMPERING)
def test_hashes_that_agree_do_not_hide_what_follows_from_something_else(sent: Files, tmp_path: Path, what: str) -> None:
    change, name, says = TAMPERING[what]
    change(sent)
    found = wrong(verify(pack(relisted(sent), tmp_path / "a.tar")))
    assert "files" not in found
    assert any(says in finding for finding in found[name]), found


def test_what_nothing_follows_from_needs_the_published_hash(sent: Files, archive: Path, tmp_path: Path) -> None:
    """The page says so: an archive that somebody rewrote consistently is consistent."""
    sent["baseline/seed=0/log.txt"] = b"all went well\n"
    path = pack(relisted(sent), tmp_path / "a.tar")
    assert verify(path).verified
    assert list(wrong(verify(path, sha256=hash_of(archive)))) == ["published"]


def test_a_wrong_archive_names_all_of_it_and_exits_with_one(
    sent: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent["baseline/seed=0/log.txt"] += b"!"
    sent["baseline/seed=0/manifest.json"] = edited(sent["baseline/seed=0/manifest.json"], seed=1)
    assert cli.main(["verify", str(pack(sent, tmp_path / "a.tar"))]) == 1
    said = capsys.readouterr().out
    assert "failed" in said
    assert "log.txt: expected SHA-256" in said
    assert said.rstrip().endswith("NOT verified: files, runs, report")


# ---- elsewhere -----------------------------------------------------------------------------------------------------


def elsewhere(repo: Path, place: Path) -> Path:
    """Another checkout."""
    shutil.copytree(repo / "ablate", place / "ablate", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def verified_by(checkout: Path, archive: Path) -> tuple[int, Any]:
    command = [sys.executable, "-m", "ablate.cli", "verify", str(archive), "--json"]
    env = {**os.environ, "PYTHONPATH": str(checkout), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=checkout, env=env)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_another_checkout_verifies_it_and_one_with_other_code_says_where_it_differs(
    repo: Path, archive: Path, tmp_path: Path
) -> None:
    checkout = elsewhere(repo, tmp_path)
    code, found = verified_by(checkout, archive)
    assert (code, found["machine_differences"]) == (0, [])
    (shown,) = (path for path in (checkout / "ablate").rglob("*.py") if r"\usepackage{booktabs}" in path.read_text())
    shown.write_text(shown.read_text().replace(r"\usepackage{booktabs}", r"\usepackage{tabularx}"))
    code, found = verified_by(checkout, archive)
    assert code == 1
    differences = found["machine_differences"]
    assert (
        differences
        == [line for line in differences if f"ablate/{shown.parent.name}/{shown.name} changed" in line]
        != []
    )
    (report,) = (check for check in found["checks"] if check["status"] != "passed")
    assert report["findings"] == [line for line in report["findings"] if line.startswith("table.tex differs in line 1")]


def test_other_versions_of_a_library_are_named(sent: Files, tmp_path: Path) -> None:
    lock = re.sub(r"numpy==.*", "numpy==1.0.0", sent["lock.txt"].decode())
    sent["lock.txt"] = lock.encode()
    found = verify(pack(relisted(sent), tmp_path / "a.tar"))
    assert found.verified
    assert found.machine_differences == (f"other versions: numpy 1.0.0 there, {np.__version__} here",)


def test_digits_that_differ_are_shown_with_how_far(sent: Files, tmp_path: Path) -> None:
    analysis = json.loads(sent["analysis.json"])
    analysis["contrasts"][0]["effect"] *= 1 + 1e-12
    sent["analysis.json"] = edited(sent["analysis.json"], **analysis)
    (finding,) = wrong(verify(pack(relisted(sent), tmp_path / "a.tar")))["report"]
    assert finding.startswith("analysis.json differs at contrasts[0].effect: ")
    assert finding.endswith("relative error at most 1e-12")


def test_an_outcome_of_ones_own_is_run_only_when_asked(
    sent: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cleanup.py").write_text("open('ran', 'w').close()\ndef everything(record):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    in_plan(lambda plan: plan.update(metric="cleanup:everything"))(sent)
    path = pack(relisted(sent), tmp_path / "a.tar")
    found = verify(path)
    assert {check.status for check in found.checks if check.name == "report"} == {"not checked"}
    assert not found.verified
    assert not (tmp_path / "ran").exists()
    assert cli.main(["verify", str(path), "--run-custom-metric"]) == 1
    assert (tmp_path / "ran").exists()
    sys.modules.pop("cleanup")


# ---- from somebody who means harm ----------------------------------------------------------------------------------


def raw(path: Path, *members: tarfile.TarInfo, body: bytes = b"", format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for member in members:
            member.size = len(body) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(body))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type = kind
    for key, value in more.items():
        setattr(found, key, value)
    return found


HARM: dict[str, tarfile.TarInfo] = {
    "goes up": member("../outside.json"),
    "goes up within": member("study/../../outside.json"),
    "absolute": member("/tmp/outside.json"),
    "another top": member("other/plan.json"),
    "at the top": member("plan.json"),
    "hidden": member("study/.bashrc"),
    "deep": member("study/a/b/c/d.json"),
    "of Windows": member("study/a\\..\\b.json"),
    "a drive": member("study/C:x.json"),
    "a line break": member("study/a\nb.json"),
    "a link": member("study/plan.json", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("study/plan.json", tarfile.LNKTYPE, linkname="study/bundle.json"),
    "a device": member("study/plan.json", tarfile.CHRTYPE),
    "a pipe": member("study/plan.json", tarfile.FIFOTYPE),
    "a folder": member("study/a", tarfile.DIRTYPE),
    "sparse": member("study/plan.json", tarfile.GNUTYPE_SPARSE),
    "twice": member("study/bundle.json"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HARM)
def test_an_archive_that_means_harm_is_refused_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = raw(tmp_path / "a.tar", member("study/bundle.json"), HARM[what])
    monkeypatch.setattr("tarfile.TarFile.extractall", lambda *_, **__: pytest.fail("something was extracted"))
    assert cli.main(["verify", str(path)]) == 2
    said = capsys.readouterr().err
    assert "was rejected before anything was extracted: " in said
    assert "  fix: " in said


def test_a_header_that_changes_the_next_one_is_refused(tmp_path: Path) -> None:
    path = raw(tmp_path / "a.tar", member("study/bundle.json", pax_headers={"path": "../x"}), format=tarfile.PAX_FORMAT)
    with pytest.raises(RecordError, match="rejected"):
        verify(path)


@pytest.mark.parametrize(("name", "limit"), [("MAX_FILES", 0), ("MAX_BYTES", 10)], ids=["files", "bytes"])
def test_an_archive_beyond_the_limits_is_refused_with_the_limits(
    archive: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
) -> None:
    monkeypatch.setattr(f"ablate.archive.extract.{name}", limit)
    with pytest.raises(RecordError, match="exceeds the limit"):
        verify(archive)


def test_a_size_that_is_only_claimed_takes_no_room(tmp_path: Path) -> None:
    huge = member("study/bundle.json")
    huge.size = 8 * 2**30 - 1
    (tmp_path / "a.tar").write_bytes(huge.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    with pytest.raises(RecordError, match="exceeds the limits"):
        verify(tmp_path / "a.tar")
    huge.size = 200 * 2**20
    (tmp_path / "b.tar").write_bytes(huge.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 1024)
    with pytest.raises(RecordError, match="as a tar archive"):
        verify(tmp_path / "b.tar")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b" + b"0" * 600, "expected an uncompressed archive, got a compressed one"),
        (b"PK" + b"0" * 600, "expected a tar archive, got another file"),
        (b"", "expected a tar archive, got another file"),
        (None, "does not exist"),
    ],
    ids=["gzip", "zip", "empty", "nothing"],
)
def test_what_is_no_archive_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, says: str
) -> None:
    path = tmp_path / "a.tar"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["verify", str(path)]) == 2
    assert says in capsys.readouterr().err


def test_a_study_folder_is_no_archive_and_the_fix_makes_one(finished: Path) -> None:
    with pytest.raises(RecordError, match="expected an archive, got the directory") as refused:
        verify(finished)
    assert refused.value.fix == f"ablate bundle {finished}"


def test_a_tar_of_something_else_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"expected an archive with bundle\.json"):
        verify(raw(tmp_path / "a.tar", member("study/plan.json")))


@pytest.mark.parametrize("cut", [100, 700, 20_000, 100_000])
def test_half_an_archive_is_not_verified(archive: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive.read_bytes()[:cut])
    assert cli.main(["verify", str(path)]) in (1, 2)


def test_a_table_that_would_grow_is_not_opened(sent: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({field.name: pa.nulls(500_000, field.type) for field in TRACE}, schema=TRACE)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TRACE, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    assert len(sink.getvalue()) < table.nbytes / 100
    sent["baseline/seed=0/trace.arrow"] = sink.getvalue()
    monkeypatch.setattr("ablate.archive.verify.rebuild_report", lambda *_: pytest.fail("it was read"))
    found = wrong(verify(pack(relisted(sent), tmp_path / "a.tar")))
    assert found["runs"] == (
        "baseline/seed=0/trace.arrow: expected uncompressed blocks, got compressed ones, which can expand without limit",
    )
    assert "report" in found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", b"[" * 100_000),
        ("plan.json", b'{"arms": 7}'),
        ("analysis.json", b"null"),
        ("analysis.json", b'{"controls": 7}'),
        ("baseline/seed=0/manifest.json", b"{}"),
        ("baseline/seed=0/status.json", b"\xff\xfe"),
        ("baseline/seed=0/fingerprint.json", b'{"items": {"first_step": {"loss": "x", "none": 1}}}'),
        ("baseline/seed=0/config.yaml", b"seed: *a"),
    ],
)
def test_a_file_of_anything_is_a_finding(sent: Files, tmp_path: Path, name: str, content: bytes) -> None:
    sent[name] = content
    assert not verify(pack(relisted(sent), tmp_path / "a.tar")).verified


def test_a_list_of_anything_is_a_finding(sent: Files, tmp_path: Path) -> None:
    whole = json.loads(sent["bundle.json"])
    for key, value in (("format", 2), ("files", {"plan.json": {}}), ("options", {"metric": 1})):
        files = {**sent, "bundle.json": json.dumps({**whole, key: value}).encode()}
        files = files if key == "files" else relisted(files)
        found = wrong(verify(pack(files, tmp_path / f"{key}.tar")))
        assert "manifest" in found, key
