"""A task of the user's: found, called, checked, trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, TensorDataset

from ablate.config.schema import Config, TaskConfig
from ablate.errors import ConfigError, DataError
from ablate.tasks.custom import content_digest
from ablate.tasks.registry import build_task, data_facts
from ablate.tasks.task import Task
from ablate.training.random_streams import RandomStreams

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
import ablate

def my_task(config, streams):
    x = torch.arange(24.0).reshape(12, 2)
    data = TensorDataset(x, x.sum(dim=1))
    return ablate.Task(
        model=nn.Linear(2, config.task.options.get("width", 1)),
        dataset=data,
        loss_fn=lambda model, batch: (model(batch[0]).square().sum(), len(batch[0])),
        evaluation=ablate.make_evaluation(config, data, lambda model, batch: {"loss": model(batch[0]).square().mean(1)}),
    )
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with my_task.py in it; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "my_task.py").write_text(TASK)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def own(target: str = "my_task:my_task", **options: Any) -> Config:
    return Config(task=TaskConfig(name="custom", entry_point=target, options=options))


def build(config: Config, seed: int = 0) -> Task:
    return build_task(config, RandomStreams(seed=seed))


def refused(config: Config, *, plan: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        data_facts(config) if plan else build(config)
    return str(caught.value)


def test_a_module_of_the_working_folder_is_found_and_given_the_options(here: Path) -> None:
    task = build(own(width=5))
    assert isinstance(task.model, nn.Linear)
    assert task.model.out_features == 5
    assert task.evaluation is not None
    assert (len(task.dataset), len(task.evaluation.dataset)) == (12, 12)


def test_weights_come_from_the_init_stream_although_the_function_knows_nothing_of_it(here: Path) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # whatever was drawn before
        weight = build(own(), seed).model.weight
        assert isinstance(weight, torch.Tensor)
        return weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_plan_gets_the_sizes_from_the_task_and_says_that_it_is_built(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = data_facts(own())
    assert (facts.num_train, facts.num_eval, facts.num_classes) == (12, 12, 0)
    assert facts.data == build(own()).facts["data"]["source"] != ""
    assert "my_task:my_task is built once for its sizes; facts(config) in my_task would save" in capsys.readouterr().err


def test_facts_spare_the_building(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'def f(config, streams):\n    raise SystemExit("built")\n'
    told = 'def facts(config):\n    return {"num_train": 7, "num_eval": 3, "data": config.task.options["file"]}\n'
    (here / "quick_task.py").write_text(text + told)
    facts = data_facts(own("quick_task:f", file="v2"))
    assert (facts.num_train, facts.num_eval, facts.num_held_out, facts.data) == (7, 3, 3, "v2")
    assert capsys.readouterr().err == ""


def test_facts_imports_no_torch(here: Path) -> None:
    import subprocess

    (here / "quick_task.py").write_text(
        'def facts(config):\n    return {"num_train": 7, "num_eval": 3}\ndef f(*_): ...\n'
    )
    code = (
        "import sys; from ablate.config.schema import Config, TaskConfig; from ablate.tasks.registry import data_facts\n"
        "data_facts(Config(task=TaskConfig(name='custom', entry_point='quick_task:f'))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_what_facts_say_of_the_data_holds_in_the_run_as_well(here: Path) -> None:
    (here / "my_task.py").write_text(
        TASK + '\ndef facts(config):\n    return {"num_train": 12, "num_eval": 12, "data": "v2"}\n'
    )
    assert build(own()).facts["data"] == {"source": "v2"}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("my_tsk:my_task", "there is no module 'my_tsk' in {here}, and none is installed\n  fix: did you mean 'my_task'?"),
        ("quite_other:f", "fix: write quite_other.py there, or start ablate where it is"),
        ("my_task:my_tsk", "my_task.py has no function 'my_tsk'\n  fix: did you mean 'my_task'?"),
        ("my_task:TASK", "my_task.py has a str and no function called 'TASK'"),
        ("my_task.inner:f", "there is no module 'my_task.inner'"),
        ("broken:f", "importing broken raises SyntaxError"),
        ("raising:f", "importing raising raises ModuleNotFoundError: No module named 'not_there' ({here}/raising.py, line 1)"),
        ("my_task:unlucky", "it raises RuntimeError: no luck ({here}/my_task.py, line"),
        ("my_task:no_arguments", "it raises TypeError: no_arguments() takes 0 positional arguments but 2 were given"),
        ("my_task:wrong", "returned a dict, expected an ablate.Task"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_nearest_right_thing(here: Path, target: str, said: str) -> None:
    more = "TASK = 'x'\ndef unlucky(*_):\n    raise RuntimeError('no luck')\ndef no_arguments(): ...\n"
    more += "def wrong(*_):\n    return {}\n"
    (here / "my_task.py").write_text(TASK + more)
    (here / "broken.py").write_text("def f(:\n")
    (here / "raising.py").write_text("import not_there\n")
    text = refused(own(target))
    assert text.startswith(f"task.entry_point={target}: ") or text.startswith(f"task.entry_point={target} ")
    assert said.format(here=here) in text


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("7", "facts returned an int, expected a mapping"),
        ('{"num_trai": 7, "num_eval": 3}', "facts has no 'num_trai'\n  fix: did you mean 'num_train'"),
        ('{"num_train": 7}', "facts gives num_eval=None, expected a number of samples"),
        ('{"num_train": 0, "num_eval": 3}', "facts gives num_train=0"),
        ("1 / 0", "facts raises ZeroDivisionError: division by zero"),
    ],
)
def test_facts_that_are_none(here: Path, told: str, said: str) -> None:
    (here / "quick_task.py").write_text(f"def f(*_): ...\ndef facts(config):\n    return {told}\n")
    assert said in refused(own("quick_task:f"), plan=True)


def test_an_error_of_ablate_is_passed_on_as_it_is(here: Path) -> None:
    (here / "quick_task.py").write_text(
        'from ablate.errors import DataError\ndef f(*_):\n    raise DataError("no rows", "add some")\n'
    )
    with pytest.raises(DataError, match="no rows"):
        build(own("quick_task:f"))


def test_the_digest_of_data_in_memory_is_that_of_its_content() -> None:
    x = torch.arange(12.0).reshape(6, 2)
    data = TensorDataset(x, x[:, 0])
    assert content_digest([data]) == content_digest([TensorDataset(x.clone(), x[:, 0].clone())])
    other = [[TensorDataset(x + 1, x[:, 0])], [TensorDataset(x, x[:, 1])], [Subset(data, range(5))],
             [Subset(data, range(1, 6))], [TensorDataset(x.double(), x[:, 0])], [data, data],
             [["a", 1]], [["a", 1.0]], [[("a", 1)]]]  # fmt: skip
    assert len({content_digest(sets) for sets in ([data], *other)}) == 1 + len(other)


def test_a_data_set_that_makes_its_examples_is_not_asked_for_them() -> None:
    class Made(Dataset[int]):
        def __getitem__(self, k: int) -> int:
            raise AssertionError("asked")

    assert content_digest([Made()]) == ""
