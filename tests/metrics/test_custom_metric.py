"""An outcome of the user's own is one function in the working folder, and every way to get it wrong is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.analysis.analyse import analyse
from ablate.errors import ConfigError
from ablate.metrics.custom import EVERY, custom_metrics
from ablate.metrics.registry import check_metric, get_metric
from tests.metrics.test_metrics import record
from tests.synthetic import write_study

SAID = """
from ablate.metrics.metric import Record
from ablate.metrics.registry import register

@register(unit="nats", lower_is_better=True, definition="Lowest training loss of any step")
def lowest_loss(record: Record) -> float:
    return float(record.trace["loss"].min())
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of the user's into the working folder; returns its name, which no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def file(text: str, name: str = "mine_of_a_test") -> str:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return name

    with custom_metrics(EVERY):
        yield file
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_registered_function_has_its_unit_side_and_definition(write: Write) -> None:
    found = get_metric(f"{write(SAID)}:lowest_loss")
    assert found.info.unit == "nats"
    assert found.info.lower_is_better is True
    assert found.info.definition == "Lowest training loss of any step."
    assert found(record([0, 64], loss=[0.7, 0.6])) == 0.5


def test_a_bare_function_is_an_outcome_without_a_side_defined_by_its_docstring(write: Write) -> None:
    name = write(
        'def steps(record):\n    """How many steps.\n\n    More of it."""\n    return len(record.trace)\n', "a.b_c"
    )
    found = get_metric(f"{name}:steps")
    assert (found.info.unit, found.info.lower_is_better, found.info.definition) == ("", None, "How many steps.")
    assert found(record([0], loss=[0.7])) == 20.0


def test_a_study_is_judged_by_it(write: Write, tmp_path: Path) -> None:
    metric = f"{write(SAID)}:lowest_loss"
    write_study(tmp_path / "runs" / "s", arms=["batch_size=64"], seeds=3, metric=metric)
    analysis = analyse(tmp_path / "runs" / "s")
    (primary,) = (one for one in analysis.contrasts if one.primary)
    assert primary.metric == metric
    assert primary.unit == "nats"
    assert primary.verdict == "hurts"
    assert {one.metric for one in analysis.adequacy} == {metric}


@pytest.mark.parametrize(
    ("text", "typed", "problem", "fix"),
    [
        ("", "mine_of_a_test:f", "mine_of_a_test.py has no function 'f'", "def f(record): return ..."),
        ("def lost(r): ...", "mine_of_a_test:lots", "has no function 'lots'", "did you mean 'lost'?"),
        ("", "mine_of_a_tset:f", "there is no mine_of_a_tset.py in", "did you mean 'mine_of_a_test:f'"),
        ("1/0", "mine_of_a_test:f", "raises ZeroDivisionError: division by zero at mine_of_a_test.py:1", ""),
        ("def f(:", "mine_of_a_test:f", "importing mine_of_a_test raises SyntaxError: ", ""),
        ("", "my file:f", "study.metric='my file:f': expected <module>:<function>", "study.metric=my_metrics:my_metric"),
        ("", "mine_of_a_test:", "expected <module>:<function>", "study.metric=my_metrics:my_metric"),
        ("", "../x:f", "expected <module>:<function>", "study.metric=my_metrics:my_metric"),
        ("def f(r): ...\nf.unit = 3", "mine_of_a_test:f", "unit=3, lower_is_better=None; expected", "@register(unit='nats'"),
        ("def f(r): ...\nf.lower_is_better = 'yes'", "mine_of_a_test:f", "lower_is_better='yes'", "@register(unit='nats'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_quoted_with_what_to_type(
    write: Write, text: str, typed: str, problem: str, fix: str
) -> None:
    write(text)
    with pytest.raises(ConfigError) as caught:
        check_metric(typed)
    assert problem in caught.value.problem
    assert fix in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return record.trace['lost']", "raises KeyError: "),
        ("return 'low'", "returned 'low', expected a number or None"),
        ("return record", "expected a number or None"),
    ],
)
def test_a_function_that_fails_is_named_with_its_line(write: Write, body: str, problem: str) -> None:
    found = get_metric(f"{write(f'def f(record):{chr(10)}    {body}')}:f")
    with pytest.raises(ConfigError) as caught:
        found(record([0], loss=[0.7]))
    assert problem in caught.value.problem
    assert "raises" not in problem or "at " in caught.value.problem


@pytest.mark.parametrize("value", ["None", "float('nan')", "float('inf')"])
def test_no_value_is_no_value(write: Write, value: str) -> None:
    assert get_metric(f"{write(f'def f(record): return {value}')}:f")(record([0], loss=[0.7])) is None


def test_a_module_of_the_library_is_not_imported_because_a_plan_names_it(write: Write) -> None:
    write("")
    with pytest.raises(ConfigError, match=r"there is no antigravity\.py in"):
        check_metric("antigravity:fly")
    assert "antigravity" not in sys.modules


def test_a_name_that_another_module_has_is_refused(write: Write) -> None:
    write("def dumps(record): return 1", "json")
    with pytest.raises(ConfigError, match="the name 'json' is taken by") as caught:
        check_metric("json:dumps")
    assert caught.value.fix == "rename the file"


@pytest.mark.parametrize("where", ["inside", "beside"])
def test_nothing_in_a_study_folder_is_run(
    write: Write, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that somebody sent names a file of its own as metric: reading it must not import that."""
    folder = tmp_path / "sent"
    write_study(folder, arms=["batch_size=64"], seeds=2)
    write("import pathlib\npathlib.Path('ran').touch()\ndef f(record): return 1", "sent.evil")
    plan = json.loads((folder / "plan.json").read_text())
    plan["metric"] = "evil:f" if where == "inside" else "sent.evil:f"
    (folder / "plan.json").write_text(json.dumps(plan))
    monkeypatch.chdir(folder if where == "inside" else tmp_path)
    with pytest.raises(ConfigError, match="nothing in a study folder is executed"):
        analyse(folder)
    assert not list(tmp_path.rglob("ran"))
