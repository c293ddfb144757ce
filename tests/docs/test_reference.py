"""The pages say what the code says: every key, column, file, error and fingerprint item, or the test fails."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ablate
from ablate import errors
from ablate.cli import VERBS
from ablate.config.schema import Config
from ablate.metrics.metric import Record
from ablate.metrics.registry import METRICS, PATTERNS
from ablate.records.layout import RunDir
from ablate.records.metadata import Fingerprint, Manifest, RunStatus
from ablate.records.schema import EVALS, PREDICTIONS, TRACE, meaning
from tests.metrics.test_metrics import trace


@pytest.fixture
def made(repo: Path) -> ModuleType:
    spec = spec_from_file_location("make_reference", repo / "docs" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(repo: Path, name: str) -> str:
    return (repo / "docs" / "reference" / name).read_text(encoding="utf-8")


def test_config_page_is_what_the_schema_says(repo: Path, made: ModuleType) -> None:
    assert page(repo, "config.md") == made.config_page(), "run: python docs/make_reference.py"


def test_command_line_page_is_what_the_verbs_say(repo: Path, made: ModuleType) -> None:
    assert page(repo, "cli.md") == made.cli_page(), "run: python docs/make_reference.py"
    headings = re.findall(r"^## ablate (\w+)$", page(repo, "cli.md"), re.MULTILINE)
    assert headings == list(VERBS)
    assert page(repo, "cli.md").count("examples:\n  ablate ") == len(VERBS)


def test_python_page_is_what_the_docstrings_say(repo: Path, made: ModuleType) -> None:
    text = page(repo, "api.md")
    assert text == made.api_page(), "run: python docs/make_reference.py"
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == sorted(ablate.__all__, key=str.lower)
    assert " at 0x" not in text
    empty = [name for name in ablate.__all__ if len(text.split(f"## {name}\n")[1].split("\n## ")[0].split()) < 8]
    assert empty == [], "say what it is, in its docstring"


@pytest.mark.parametrize(
    ("docstring", "becomes"),
    [
        ("What it is.", "What it is."),
        ("a: one.\nb, c: two,\n    and more.", "- a: one.\n- b, c: two,\n    and more."),
        ("a: one.\nThen this.", "- a: one.\n\nThen this."),
        ("Of <arm>, as `<arm>/x`.", "Of &lt;arm>, as `<arm>/x`."),
        ("    code <b>: x", "    code <b>: x"),
    ],
)
def test_a_docstring_becomes_a_page(made: ModuleType, docstring: str, becomes: str) -> None:
    assert made._paragraph(docstring) == becomes


def test_every_config_key_has_a_default_and_a_meaning(repo: Path) -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `.*?` \| (.*) \|$", page(repo, "config.md"), re.MULTILINE))
    wanted = set()
    for field in dataclasses.fields(Config):
        part = getattr(Config(), field.name)
        inner = dataclasses.fields(part) if dataclasses.is_dataclass(part) else []
        wanted |= {f"{field.name}.{one.name}" for one in inner} or {field.name}
    assert set(rows) == wanted
    assert [key for key, text in rows.items() if len(text.split()) < 2] == []


def test_metrics_page_is_what_the_registry_says(repo: Path, made: ModuleType) -> None:
    assert page(repo, "metrics.md") == made.metrics_page(), "run: python docs/make_reference.py"


def test_every_metric_is_documented_with_unit_side_cadence_and_definition(repo: Path) -> None:
    text = page(repo, "metrics.md")
    for name, one in METRICS.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        side = {True: "lower", False: "higher", None: "none"}[one.info.lower_is_better]
        assert cells[1:] == [one.info.unit, side, one.info.cadence, one.info.definition]
    for form in PATTERNS[:-1]:
        assert f"| `{form.partition('<metric>')[0]}" in text


def test_the_custom_metric_on_the_page_works(repo: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page(repo, "metrics.md"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["lowest_loss"](Record(trace=trace([1.0] * 20), curves={}, common=np.empty(0, dtype=np.int64))) == 0.5


def test_record_page_has_the_columns_as_they_are_written(repo: Path, made: ModuleType) -> None:
    assert page(repo, "record.md") == made.record_page(page(repo, "record.md")), "run: python docs/make_reference.py"


@pytest.mark.parametrize("schema", [TRACE, EVALS, PREDICTIONS], ids=["trace", "evals", "predictions"])
def test_every_column_is_documented_with_its_meaning(repo: Path, schema: object) -> None:
    text = page(repo, "record.md")
    for field in schema:  # type: ignore[attr-defined]
        assert f"| `{field.name}` | {field.type} | {meaning(field)} |" in text


def test_every_file_of_a_run_folder_is_documented(repo: Path) -> None:
    text = page(repo, "record.md")
    run = RunDir(Path("x"))
    files = [getattr(run, name) for name in vars(RunDir) if not name.startswith("_") and name != "path"]
    names = [file.name for file in files if isinstance(file, Path)]
    assert len(names) >= 8
    for name in names:
        assert name in text


@pytest.mark.parametrize("value", [Manifest, RunStatus])
def test_every_key_of_the_small_files_is_documented(repo: Path, value: type) -> None:
    for field in dataclasses.fields(value):
        assert f"`{field.name}`" in page(repo, "record.md")


def test_every_fingerprint_item_is_documented(repo: Path) -> None:
    described = re.findall(r"^(\w+) {2,}\{|^(loss_at_start) ", inspect.getdoc(Fingerprint) or "", re.MULTILINE)
    items = {one or other for one, other in described}
    assert {"init", "order", "splits", "loss_at_start"} <= items
    assert [item for item in items if f"| `{item}` |" not in page(repo, "record.md")] == []


def test_every_error_is_documented_and_drawn_in_its_tree(repo: Path) -> None:
    text = page(repo, "errors.md")
    classes = [
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    ]
    assert len(classes) >= 9
    for name in classes:
        assert name == "AblateError" or f"| `{name}` |" in text
    tree = [line.strip() for line in (errors.__doc__ or "").splitlines() if "──" in line]
    assert [line for line in tree if line not in text] == []


def test_links_between_the_pages_lead_somewhere(repo: Path) -> None:
    broken = []
    for source in [repo / "README.md", *(repo / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", source.read_text(encoding="utf-8")):
            made = target.endswith("/report.html") and (source.parent / target).with_name("plan.json").exists()
            if not target.startswith("http") and not made and not (source.parent / target).exists():
                broken.append(f"{source.name}: {target}")
    assert broken == []


def test_readme_is_short_and_names_only_targets_and_axes_that_exist(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert [line for line in text.splitlines() if len(line) > 120] == []
    targets = re.findall(r"^([a-z-]+):", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE):
        assert target in targets or target == "ablate"
    axes = {
        name for names in re.findall(r"axis=([a-z_,]+)|ablate-([a-z_]+)", text) for name in ",".join(names).split(",")
    }
    axes -= {target.removeprefix("ablate-") for target in targets}
    assert [name for name in axes - {""} if not (repo / "conf" / "axis" / f"{name}.yaml").exists()] == []


def test_readme_types_only_config_keys_that_exist(repo: Path) -> None:
    text = (repo / "README.md").read_text(encoding="utf-8")
    typed = set(
        re.findall(r"\b((?:model|data|optim|loop|train|observe|eval|tracker|study|random_streams)\.\w+)=", text)
    )
    assert {"study.seeds", "data.batch_size"} <= typed
    for key in typed:
        group, _, name = key.partition(".")
        assert name in {field.name for field in dataclasses.fields(getattr(Config(), group))}, key


@pytest.mark.slow
def test_the_25_line_script_trains_and_reads_its_trace(repo: Path, tmp_path: Path) -> None:
    script = repo / "docs" / "how-to" / "custom_loop.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 25
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=repo, env=_with_path(repo))
    assert done.returncode == 0, done.stderr
    start, end = map(float, re.findall(r"loss ([\d.]+) -> ([\d.]+)", done.stdout)[0])
    assert end < start / 2
    assert (tmp_path / "trace.arrow").exists()


def _with_path(repo: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(repo), "OMP_NUM_THREADS": "1"}
