"""What is recorded of the gradient beside its norm: update ratios, the noise scale's terms, flags."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from ablate import GradNorms, Streams
from ablate.metrics.step_metrics import noise_scale
from ablate.records.gradient_health import gradient_flags, spikes
from ablate.training.grad_norms import UpdateRatios
from ablate.training.random_streams import SampleOrder
from tests.training.toy import network, objective, points, run


def test_update_ratios_are_the_change_of_the_weights_over_their_size() -> None:
    model = network(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    _, result = run(model, budget="1 steps", update_ratio=True, lr=0.01)
    for place, group in enumerate(("0", "3")):
        moved = [p.detach() - before[name] for name, p in model.named_parameters() if name.startswith(group)]
        size = [p for name, p in before.items() if name.startswith(group)]
        expected = torch.cat([m.flatten() for m in moved]).norm() / torch.cat([s.flatten() for s in size]).norm()
        assert result.trace.update_ratios()[0, place] == pytest.approx(float(expected), rel=1e-5)


def test_recording_more_never_touches_the_trajectory() -> None:
    plain = run(grad_accum_steps=2, batch_size=4)[1].outcome.weights_sha256
    assert run(grad_accum_steps=2, batch_size=4, update_ratio=True, noise_scale=True)[1].outcome.weights_sha256 == plain
    assert run(grad_accum_steps=2, batch_size=4, grouping=None)[1].outcome.weights_sha256 == plain


def test_without_groups_there_is_one_update_ratio_of_the_whole_model() -> None:
    _, result = run(budget="4 steps", grouping=None, update_ratio=True)
    assert result.trace.update_ratios().shape == (4, 1)
    assert result.trace.groups == []


def test_a_weight_without_gradient_has_no_part_in_the_ratio() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "idle": nn.Linear(3, 1)})
    norms = GradNorms(model)
    ratios = UpdateRatios(norms)
    model["used"](torch.ones(2, 3)).sum().backward()
    norms.measure()
    ratios.before()
    with torch.no_grad():
        model["used"].weight.mul_(1.5)
    assert ratios.after()[1] == 0.0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_first_passs_norm_is_that_of_its_samples_alone(precision: str) -> None:
    model = network(0, dropout=0.0)
    first = SampleOrder(Streams(seed=0), np.arange(256)).take(0, 4)
    x, y = points().tensors[0][first], points().tensors[1][first]
    loss, count = objective(model, (x, y))
    (loss / count).backward()
    expected = float(nn.utils.clip_grad_norm_(model.parameters(), float("inf")))
    model.zero_grad()
    _, result = run(model, batch_size=4, grad_accum_steps=4, noise_scale=True, budget="2 steps", precision=precision)
    assert result.trace["micro_grad_norm"][0] == pytest.approx(expected, rel=1e-5 if precision == "fp32" else 2e-2)
    assert result.trace["micro_samples"].tolist() == [4, 4]


def test_a_last_step_of_one_pass_has_no_second_batch_size() -> None:
    _, result = run(batch_size=4, grad_accum_steps=4, noise_scale=True, budget="18 samples")
    assert result.trace["micro_samples"].tolist() == [4, 0]
    assert np.isnan(result.trace["micro_grad_norm"][1])


def test_the_noise_scale_of_a_known_gradient_is_found() -> None:
    """Each sample's gradient is mu + noise of variance s^2 per coordinate: the noise scale is d s^2 / |mu|^2."""
    dim, sigma, mu, num_steps = 50, 2.0, 0.5, 4000
    rng = np.random.Generator(np.random.Philox(key=1))

    def norms(batch: int) -> np.ndarray:
        return np.linalg.norm(mu + rng.normal(size=(num_steps, dim)) * sigma / np.sqrt(batch), axis=1)

    found = noise_scale(norms(4), norms(32), small=np.full(num_steps, 4), big=np.full(num_steps, 32))
    assert found == pytest.approx(dim * sigma**2 / (dim * mu**2), rel=0.1)


def test_a_noise_scale_without_a_signal_is_none() -> None:
    zeros, ones = np.zeros(10), np.ones(10)
    assert noise_scale(ones, zeros, small=ones, big=2 * ones) is None
    assert noise_scale(np.empty(0), np.empty(0), small=np.empty(0), big=np.empty(0)) is None


def calm(num: int = 400) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=2)).normal(1.0, 0.1, num)


def test_spikes_are_found_where_they_were_put_and_nowhere_else() -> None:
    norms = calm()
    norms[[30, 200, 399]] = 12.0
    assert np.flatnonzero(spikes(norms)).tolist() == [30, 200, 399]
    assert not spikes(calm()).any()
    assert not spikes(np.asarray([1.0, 100.0])).any()


def test_a_long_trace_is_flagged_in_pieces_as_it_would_be_in_one() -> None:
    norms = calm(20_000)
    norms[[8191, 8192, 8242, 16_500]] = 50.0
    assert np.flatnonzero(spikes(norms)).tolist() == [8191, 8192, 8242, 16_500]


def test_vanishing_is_told_group_by_group_and_exploding_at_all() -> None:
    norms = calm()
    groups = np.stack([norms, norms * np.geomspace(1, 1e-7, len(norms))], axis=1)
    flags = gradient_flags([(norms, groups)], ["head", "layer.0"])
    assert flags == {"spikes": 0, "vanished": ["layer.0"], "exploded": False}
    pieces = [(norms[k : k + 7], groups[k : k + 7]) for k in range(0, len(norms), 7)]
    assert gradient_flags(pieces, ["head", "layer.0"]) == flags
    assert gradient_flags([(norms * np.geomspace(1, 1e6, len(norms)), groups[:, :0])], [])["exploded"]
    nothing = {"spikes": 0, "vanished": [], "exploded": False}
    assert gradient_flags([(norms[:5], groups[:5])], ["a", "b"]) == gradient_flags([], ["a"]) == nothing


def test_the_outcome_has_the_flags() -> None:
    _, result = run()
    assert set(result.outcome.gradient) == {"spikes", "vanished", "exploded"}


def test_gradients_are_not_held_on_to() -> None:
    """Kept until the next step, they would be one more copy of the model in memory while it runs forward and backward."""
    model = network(0)
    norms = GradNorms(model)
    model(torch.ones(4, 10)).sum().backward()
    kept = [weakref.ref(p.grad) for p in model.parameters()]
    total, _ = norms.measure()
    norms.clip(total, 1e-3)
    model.zero_grad(set_to_none=True)
    assert [ref() for ref in kept] == [None] * 4
