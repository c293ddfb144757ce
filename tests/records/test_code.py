"""Which files a run's code is: found without running any of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ablate.records.source_code import changed_files, code_digest, code_files, hashed_again, imported_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def users(target: str) -> list[str]:
    return [name for name in code_files([target]) if not name.startswith("ablate/")]


def test_our_own_files_are_those_that_can_change_a_result() -> None:
    files = code_files()
    assert {"ablate/training/train.py", "ablate/data/datasets.py", "ablate/records/writer.py"} <= files.keys()
    assert {
        "ablate/units.py",
        "ablate/config/schema.py",
        "ablate/runner/worker.py",
    } <= files.keys()  # the last builds the optimizer
    assert not any(name.startswith(("ablate/report", "ablate/analysis", "ablate/cli")) for name in files)


def test_local_imports_are_followed_at_any_depth_and_nothing_is_run(here: Path) -> None:
    boom = "raise SystemExit('this code was run')\n"
    write(
        here,
        my_task=f"{boom}import json, torch\nimport helper\nfrom pack import part as p, value\n"
        "def f():\n    from late import x\n",
        helper=f"{boom}import my_task\nimport pack.deep.er\n",
        late=boom,
        unused=boom,
        **{"pack__in____init__": boom, "pack__in__part": f"{boom}from . import other\nfrom .deep import er\n",
           "pack__in__other": boom, "pack__in__deep__in____init__": boom, "pack__in__deep__in__er": boom},
    )  # fmt: skip
    assert sorted(users("my_task:f")) == [
        "helper.py", "late.py", "my_task.py", "pack/__init__.py", "pack/deep/__init__.py", "pack/deep/er.py",
        "pack/other.py", "pack/part.py",
    ]  # fmt: skip


def test_names_do_not_depend_on_where_the_folder_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in ("one", "some/where/else"):
        write(tmp_path / place, my_task="import helper", helper="x = 1")
        monkeypatch.chdir(tmp_path / place)
        found.append(code_files(["my_task:f"]))
    assert found[0] == found[1]
    assert code_digest(found[0]) == code_digest(found[1])


def test_moving_a_file_of_ablate_is_not_another_code_and_editing_it_is() -> None:
    files = {"ablate/a.py": "1", "ablate/b.py": "2", "my_task.py": "3"}
    assert code_digest({"ablate/c/a.py": "1", "ablate/b.py": "2", "my_task.py": "3"}) == code_digest(files)
    assert code_digest({**files, "ablate/a.py": "4"}) != code_digest(files)
    assert code_digest({"ablate/a.py": "1", "ablate/b.py": "2", "other.py": "3"}) != code_digest(files)


def test_a_module_that_is_found_by_the_path_counts_as_the_users_and_an_installed_one_does_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "elsewhere", shared="x = 1")
    write(here / "lib" / "site-packages", installed="x = 1")
    write(here, my_task="import shared, installed, numpy, ablate.training.train")
    monkeypatch.syspath_prepend(here / "elsewhere")
    monkeypatch.syspath_prepend(here / "lib" / "site-packages")
    assert users("my_task:f") == ["my_task.py", "shared.py"]
    assert users("installed:f") == ["installed.py"]  # the package that the target itself lies in


def test_a_file_that_does_not_parse_still_counts(here: Path) -> None:
    write(here, my_task="def f(:\n")
    assert users("my_task:f") == ["my_task.py"]


def test_a_module_that_is_not_there_is_no_file(here: Path) -> None:
    assert users("nothing_of_the_kind:f") == []


def test_what_changed_is_named(here: Path) -> None:
    write(here, my_task="import helper, other", helper="x = 1", other="y = 1")
    before = code_files(["my_task:f"])
    write(here, helper="x = 2")
    (here / "other.py").unlink()
    assert changed_files(before, hashed_again(before)) == ["helper.py changed", "other.py is gone"]
    assert changed_files({}, {"new.py": "1"}) == ["new.py is new"]


def test_what_was_imported_is_listed_whatever_way_it_was_imported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, plugin_of_mine="x = 1")
    monkeypatch.syspath_prepend(here)
    __import__("plugin" + "_of_mine")
    try:
        found = imported_files()
        assert found["plugin_of_mine.py"] == hashed_again(found)["plugin_of_mine.py"]
        assert not any(name.startswith(("ablate/", "numpy/", "json/")) for name in found)
    finally:
        del sys.modules["plugin_of_mine"]


def test_an_installed_package_that_a_config_names_is_not_walked(here: Path) -> None:
    """`_target_: torch.optim.SGD` leads through half of torch, and to modules that only exist once imported."""
    write(here, app="import helper\n", helper="", **{"net__in____init__": "import layers\n", "layers": ""})
    named = ["torch.optim", "setuptools._distutils.command", "net"]
    found = [name for name in code_files(named, installed=False) if not name.startswith("ablate/")]
    assert found == ["net/__init__.py", "layers.py"]


@pytest.mark.parametrize("module", ["plain.inner.deep", "pack.plain.deep", "plain.inner"])
def test_a_folder_without_an_init_file_is_a_package_too(here: Path, module: str) -> None:
    write(
        here,
        app=f"import {module}\n",
        **{"plain__in__inner__in__deep": "", "pack__in____init__": "", "pack__in__plain__in__deep": ""},
    )
    expected = {"plain.inner.deep": ["deep.py"], "pack.plain.deep": ["__init__.py", "deep.py"], "plain.inner": []}[
        module
    ]
    assert sorted(Path(name).name for name in users("app")) == sorted(["app.py", *expected])


@pytest.mark.parametrize("target", ["setuptools._distutils.core", "six.moves.urllib", "no.such.module"])
def test_modules_that_exist_only_once_imported_are_no_files(here: Path, target: str) -> None:
    write(here, app=f"import {target}\n")
    assert users("app") == ["app.py"]
