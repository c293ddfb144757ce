"""Which number format `precision=auto` takes on a CPU: that of its hardware, never an emulation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ablate.training import hardware, precision
from ablate.training.hardware import bf16_flag, bf16_instructions
from ablate.training.precision import Precision
from tests.training.toy import run

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "instructions"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_fp16", "AVX512-BF16"),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile amx_int8", "AMX-BF16"),
        ("Features\t: fp asimd sve i8mm bf16 dgh", "Arm BF16"),
        ("flags\t\t: fpu avx2 avx512f avx512vl avx512_fp16", ""),  # torch would convert
        ("Features\t: fp asimd sve svebf16", ""),
        ("model name\t: a CPU whose name says bf16", ""),
        ("", ""),
    ],
)
def test_the_flags_of_a_cpu_name_its_bf16_instructions(flags: str, instructions: str) -> None:
    assert bf16_flag(f"processor\t: 0\n{flags}\nbugs\t\t: bf16\n") == instructions


def test_the_system_is_asked_and_may_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    assert bf16_instructions() == ""
    (tmp_path / "cpuinfo").write_text("flags : fpu amx_bf16\n")
    assert bf16_instructions() == "AMX-BF16"


@pytest.mark.parametrize(("instructions", "name"), [("AMX-BF16", "bf16"), ("", "fp32")])
def test_auto_is_bf16_where_a_cpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, instructions: str, name: str) -> None:
    monkeypatch.setattr(precision, "bf16_instructions", lambda: instructions)
    assert Precision("auto", CPU).name == name
    _, result = run(precision="auto", budget="2 steps")
    assert result.fingerprint.items["precision"]["autocast"] == ("bf16" if name == "bf16" else "off")
