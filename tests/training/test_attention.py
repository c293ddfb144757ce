"""Kernels of attention: what the fingerprint says is what runs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from ablate.config.schema import ModelConfig
from ablate.errors import ConfigError
from ablate.training.precision import attention_item, attention_kernels


def kernels_of(name: str) -> set[str]:
    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(0))
    with attention_kernels(name), profile(activities=[ProfilerActivity.CPU]) as found:
        scaled_dot_product_attention(q, k, v)
    return {event.key for event in found.key_averages()}


def test_a_cpu_takes_its_flash_kernel_unless_it_is_written_out() -> None:
    flash = "aten::_scaled_dot_product_flash_attention_for_cpu"
    assert flash in kernels_of("sdpa")
    assert flash not in kernels_of("eager")
    assert "aten::_scaled_dot_product_attention_math" in kernels_of("eager")


def test_it_is_the_same_attention_but_for_rounding() -> None:
    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(0))
    made = []
    for name in ("sdpa", "eager"):
        with attention_kernels(name):
            made.append(scaled_dot_product_attention(q, k, v))
    assert not torch.equal(*made)
    torch.testing.assert_close(*made)


def test_the_fingerprint_has_an_item_only_where_torch_may_not_choose() -> None:
    with attention_kernels("sdpa"):
        assert attention_item() == {}
    with attention_kernels("eager"):
        assert attention_item() == {"attention": "eager"}
    assert attention_item() == {}, "outside all is as it was"


def test_a_kernel_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.attention='flash3' is not one of sdpa, eager"):
        ModelConfig(attention="flash3")
