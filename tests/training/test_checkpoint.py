"""What a checkpoint holds comes back with every type and bit as it was, and nothing of it is a pickle."""

from __future__ import annotations

import json
import math
import pickletools
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ablate import Checkpoints
from ablate.errors import LoopError
from ablate.training.checkpoint import flatten_state, restore_state
from tests.training.test_resume import after
from tests.training.toy import network, run


def there_and_back(value: Any, folder: Path) -> Any:
    """Through the files, as a checkpoint does it."""
    plain, tensors = flatten_state(value)
    save_file(tensors, folder / "tensors.safetensors")
    text = json.dumps(plain, allow_nan=False)
    return restore_state(json.loads(text), load_file(folder / "tensors.safetensors"))


@pytest.mark.parametrize(
    "value",
    [
        0.1 + 0.2, 1, 1.0, True, None, "", "nan", -0.0, 5e-324, 2**70, math.inf, -math.inf, (), [], {}, [()], ((), [1]),
        (0.9, 0.999), [1, (2, [3.0, None])], {0: {"step": 3.0}, "lr": 1e-3}, {"tensor": "name", "dict": {"float": "inf"}},
    ],
)  # fmt: skip
def test_plain_values_come_back_with_their_types(tmp_path: Path, value: Any) -> None:
    again = there_and_back({"value": value}, tmp_path)["value"]
    assert repr(again) == repr(value)  # 1, 1.0 and True are equal; their texts are not


def test_nan_comes_back_as_nan(tmp_path: Path) -> None:
    assert math.isnan(there_and_back((math.nan,), tmp_path)[0])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    again = there_and_back({"state": {0: {"step": tensor}}}, tmp_path)["state"][0]["step"]
    assert (again.dtype, again.shape, again.stride()) == (tensor.dtype, tensor.shape, tensor.stride())
    assert torch.equal(again, tensor)


def test_tensors_lie_in_memory_as_they_did(tmp_path: Path) -> None:
    """Fused kernels walk through weights and moments side by side."""
    lying = torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    assert not lying.is_contiguous()
    again = there_and_back([lying], tmp_path)[0]
    assert again.stride() == lying.stride()
    assert torch.equal(again, lying)


def test_tensors_that_share_memory_or_are_a_part_of_one_come_back_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    again = there_and_back([whole, whole, whole[2:4], whole[::2], whole[:1].expand(3)], tmp_path)
    assert [one.tolist() for one in again] == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [2, 3], [0, 2, 4], [0, 0, 0]]
    again[0][0] = 9
    assert again[1][0] == 0


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (np.float64(1e-3), "numpy.float64"), (OrderedDict(a=1), "collections.OrderedDict"), (deque([1]), "collections.deque"),
        ({1.5: 1}, None), ({(0, 1): 1}, None), (torch.float32, "torch.dtype"), (len, "builtin_function_or_method"),
    ],
)  # fmt: skip
def test_anything_else_is_named(odd: Any, kind: str | None) -> None:
    with pytest.raises(LoopError) as caught:
        flatten_state({"state": {0: {"memory": [1.0, odd]}}}, "optimizer")
    assert str(caught.value).startswith("optimizer.state.0.memory.1 is ")
    what = "with keys that are not text" if kind is None else f"of type {kind}"
    assert f"{what}, which a checkpoint cannot hold" in str(caught.value)
    assert "fix:" in str(caught.value)


def test_a_tensor_that_no_file_of_tensors_holds_is_named() -> None:
    with pytest.raises(LoopError, match=r"optimizer\.0 is a tensor of torch\.complex128"):
        flatten_state([torch.zeros(2, dtype=torch.complex128)], "optimizer")


class Tags(torch.optim.SGD):
    """Keeps something of its own in a group."""

    def __init__(self, params: Any, tag: Any) -> None:
        super().__init__(params, lr=0.1)
        self.param_groups[0]["tag"] = tag


def test_a_setting_that_cannot_be_held_is_refused_before_the_first_step(tmp_path: Path) -> None:
    from ablate import train
    from tests.training.toy import loss_fn, points

    model = network()
    settings: dict[str, Any] = {"budget": "4 steps", "device": "cpu"}
    with pytest.raises(LoopError, match=r"optimizer\.param_groups\.0\.tag is .*object"):
        train(model, points(), loss_fn, optimizer=Tags(model.parameters(), object()), run_dir=tmp_path,
              checkpoint=Checkpoints(), **settings)  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    train(model, points(), loss_fn, optimizer=Tags(model.parameters(), object()), **settings)  # none was asked for


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path, precision: str) -> None:
    run(run_dir=tmp_path, precision=precision, checkpoint=Checkpoints(), should_stop=after(9))
    (saved,) = (tmp_path / "checkpoint").iterdir()
    for path in saved.iterdir():
        assert path.suffix in (".json", ".safetensors")
        with pytest.raises(ValueError, match=r"."):
            list(pickletools.genops(path.read_bytes()))
    groups = json.loads((saved / "optimizer.json").read_text())
    assert ["betas", {"tuple": [0.9, 0.999]}] in groups["dict"][0][1]["dict"][1][1][0]["dict"]


def test_a_checkpoint_with_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    run(run_dir=tmp_path, checkpoint=Checkpoints(), should_stop=after(9))
    (saved,) = (tmp_path / "checkpoint").iterdir()
    (saved / "optimizer.pt").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(LoopError, match=r"optimizer\.pt is a pickle, which is never read") as caught:
        run(run_dir=tmp_path, checkpoint=Checkpoints())
    assert f"remove {saved}" in str(caught.value)
