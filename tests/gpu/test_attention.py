"""Packed attention on a GPU: which kernel, that it computes what the padded model computes, and that it is tried first."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from ablate.data.batching import with_spans
from ablate.models import packed_attention
from ablate.models.packed_attention import Attending, is_correct, pick_kernel
from ablate.models.unpadding import unpad
from tests.gpu import attention
from tests.gpu.pretend import DEVICE, Gpu
from tests.models.test_unpad import LENGTHS, batch_of, build, close, gradients, pad_of

HALF, FULL = torch.bfloat16, torch.float32
DROPS = Attending(0.25, None, causal=False, window=None)


@pytest.fixture(autouse=True)
def _tried_anew() -> None:
    is_correct.cache_clear()


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were called."""
    seen: list[str] = []
    for name, kernel in packed_attention.KERNELS.items():

        def spy(*given: Any, name: str = name, kernel: Any = kernel) -> torch.Tensor:
            seen.append(name)
            return kernel(*given)

        monkeypatch.setitem(packed_attention.KERNELS, name, spy)
    return seen


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "head_dim", "window", "kernel"),
    [
        ("cpu", HALF, (0, 0), 64, None, "each"),
        ("cuda", HALF, (8, 0), 64, None, "flash"),
        ("cuda", torch.float16, (9, 0), 32, 128, "flash"),
        ("cuda", FULL, (8, 0), 64, None, "efficient"),
        ("cuda", torch.float16, (7, 5), 64, None, "efficient"),
        ("cuda", HALF, (8, 0), 256, None, "efficient"),
        ("cuda", FULL, (8, 0), 36, None, "efficient"),
        ("cuda", HALF, (8, 0), 36, None, "dense"),
        ("cuda", FULL, (8, 0), 64, 128, "dense"),
        ("cuda", torch.float64, (8, 0), 64, None, "dense"),
        ("mps", HALF, (0, 0), 64, None, "dense"),
    ],
)
def test_the_kernel_that_is_picked(
    device: str, dtype: torch.dtype, capability: tuple[int, int], head_dim: int, window: int | None, kernel: str
) -> None:
    assert pick_kernel(device, dtype, capability, head_dim, window) == kernel


@pytest.mark.parametrize("kernel", ["dense", "flash", "efficient"])
@pytest.mark.parametrize("name", ["Bert", "ModernBert", "Llama", "Mistral", "GPT2"])
def test_the_kernels_compute_the_same(gpu: Gpu, name: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "efficient" and name in ("ModernBert", "Mistral"):
        pytest.skip("it has no window")
    padded = build(name).train()
    packed = copy.deepcopy(padded).to("cuda")
    monkeypatch.setattr(attention, "FLASH_DTYPES", [FULL])
    monkeypatch.setattr(packed_attention, "pick_kernel", lambda *_: kernel)
    assert unpad(packed) is None
    for side in ("right", "left"):
        batch = batch_of(LENGTHS, side=side, pad=pad_of(padded))
        want, want_gradients = gradients(padded, batch)
        got, got_gradients = gradients(packed, {key: value.to(DEVICE) for key, value in batch.items()})
        close(got.loss.cpu(), want.loss)
        for key, gradient in want_gradients.items():
            if not key.endswith(("key.bias", "k_proj.bias")):
                close(got_gradients[key].cpu(), gradient, rel=1e-4)
    assert not gpu.meetings


@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_training_with_dropout_is_packed_under_autocast(gpu: Gpu, name: str, used: list[str]) -> None:
    """Llama's rotary tables leave queries and keys in fp32 beside values in bf16."""
    model = build(name).to("cuda").train()
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.1
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    assert unpad(model) is None
    batch = {key: value.to(DEVICE) for key, value in batch_of(LENGTHS, pad=pad_of(model)).items()}
    with_spans(batch["attention_mask"], [(0, length) for length in LENGTHS])
    used.clear()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    assert set(used) - {"dense"} == {"flash"}
    assert used.count("dense") == used.count("flash") - 2 - model.config.num_hidden_layers  # of the trial
    used.clear()
    gpu.waits.clear()
    with torch.autocast("cuda", torch.bfloat16):
        model(**batch).loss.backward()
    assert used == ["flash"] * model.config.num_hidden_layers
    assert not gpu.waits


def test_a_card_before_sm80_and_fp32_are_packed_by_the_other_kernel(gpu: Gpu, used: list[str]) -> None:
    model = build("Bert").to("cuda")
    assert unpad(model) is None
    used.clear()
    model(**{key: value.to(DEVICE) for key, value in batch_of(LENGTHS).items()})
    assert used == ["efficient"] * model.config.num_hidden_layers


def _drops_nothing(*args: Any, **kwargs: Any) -> Any:
    return attention.flash(*args[:7], 0.0, *args[8:], **kwargs)


def _drops_others_backward(grad: Any, *args: Any, **kwargs: Any) -> Any:
    return attention.flash_backward(grad, *args[:11], args[11] + 1, *args[12:], **kwargs)


def _forgets_a_sequence(*args: Any, **kwargs: Any) -> Any:
    out, *rest = attention.flash(*args, **kwargs)
    return out.clone().index_fill_(0, torch.tensor([217]), 0), *rest


def _not_there(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("FlashAttention is not built")


@pytest.mark.parametrize(
    ("direction", "broken"),
    [
        ("forward", _drops_nothing),
        ("backward", _drops_others_backward),
        ("forward", _forgets_a_sequence),
        ("forward", _not_there),
        ("backward", _not_there),
    ],
)
def test_a_kernel_that_does_something_else_is_not_used(gpu: Gpu, direction: str, broken: Any) -> None:
    assert is_correct("flash", DEVICE, HALF, 32, DROPS)
    is_correct.cache_clear()
    gpu.substitutes = attention.SUBSTITUTES | {getattr(torch.ops.aten, f"_flash_attention_{direction}").default: broken}
    state = torch.get_rng_state()
    assert not is_correct("flash", DEVICE, HALF, 32, DROPS)
    assert torch.equal(torch.get_rng_state(), state)


def test_eager_attention_takes_no_fused_kernel(gpu: Gpu, used: list[str]) -> None:
    from ablate.training.precision import attention_kernels

    model = build("Bert").to("cuda")
    assert unpad(model) is None
    used.clear()
    with attention_kernels("eager"):
        model(**{key: value.to(DEVICE) for key, value in batch_of(LENGTHS).items()})
    assert used == ["dense"] * model.config.num_hidden_layers


def test_a_padded_call_has_one_of_few_shapes(gpu: Gpu) -> None:
    """cuDNN plans anew for each shape: 64 lengths are one."""
    shapes = {packed_attention.Layout([(0, n), (0, 3)], (2, n), DEVICE).columns for n in range(65, 129)}
    assert shapes == {128}
