"""What an import loads, measured in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ablate


def modules(statement: str, repo: Path) -> set[str]:
    """Every module that is there after the statement."""
    code = f"import sys; sys.path.insert(0, {str(repo)!r}); {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def loaded(statement: str, repo: Path) -> set[str]:
    """Their top-level names."""
    return {name.partition(".")[0] for name in modules(statement, repo)}


def test_import_ablate_is_the_standard_library_only(repo: Path) -> None:
    assert loaded("import ablate", repo) - loaded("pass", repo) - set(sys.stdlib_module_names) == {"ablate"}


def test_the_loop_loads_no_part_of_the_stack_that_it_does_not_use(repo: Path) -> None:
    found = loaded("from ablate import train", repo)
    assert "torch" in found
    assert found & {"hydra", "omegaconf", "wandb", "transformers", "datasets", "plotly", "scipy", "rich"} == set()


@pytest.mark.slow
def test_a_process_that_trains_alone_does_not_pay_for_several(repo: Path) -> None:
    """FSDP and DTensor bring sympy along: half a second for every run of a study."""
    alone = modules("import torch", repo)
    found = modules("from ablate import train", repo) - alone
    assert [name for name in found if name.startswith(("torch.distributed.fsdp", "torch.distributed.tensor"))] == []


@pytest.mark.parametrize("name", sorted(ablate.__all__))
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(ablate, name).__doc__


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="trian"):
        ablate.trian  # noqa: B018
