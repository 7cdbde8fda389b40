import copy
import math

import pytest
import torch
from torch import nn

from delayplug import ArgumentError, LearnableDelay, delay_penalty, named_delays
from tests.learning.models import MODELS


def all_values(model: nn.Module) -> torch.Tensor:
    return torch.cat([delay.delays.detach().flatten() for _, delay in named_delays(model)])


def descend(model: nn.Module, steps: int, lr: float = 0.1, **options) -> None:
    optimizer = torch.optim.Adam([delay.delays for _, delay in named_delays(model)], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        delay_penalty(model, **options).backward()
        optimizer.step()


def test_short_is_the_mean_share_of_the_largest_delay() -> None:
    model = nn.Sequential(LearnableDelay(3, 2, max_delay=10, init=5), LearnableDelay(2, max_delay=4, init=1))
    assert delay_penalty(model).item() == pytest.approx((0.5 + 0.25) / 2)


def test_the_gradient_shortens_every_delay(model: nn.Module) -> None:
    before = all_values(model)
    descend(model, 2)
    after = all_values(model)
    assert (after[before > 0] < before[before > 0]).all()
    descend(model, 15, lr=0.5)
    assert all_values(model).max() == 0


def test_the_entropy_penalty_leaves_few_different_delays() -> None:
    layer = LearnableDelay(30, 8, max_delay=20)
    before = layer.delays.detach().round().unique().numel()
    rows = [row.round().unique().numel() for row in layer.delays.detach()]
    descend(layer, 100, kind="entropy", per="neuron")
    after = [row.round().unique().numel() for row in layer.delays.detach()]
    assert before == 21
    assert min(rows) > 12
    assert max(after) <= 8


def test_the_entropy_falls_on_every_model(model: nn.Module) -> None:
    first = delay_penalty(model, "entropy")
    descend(model, 10, kind="entropy")
    assert 0 <= delay_penalty(model, "entropy") < first


def test_entropy_of_whole_delays_is_that_of_their_histogram() -> None:
    layer = LearnableDelay(4, 2, max_delay=7)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[0.0, 0, 7, 7], [3, 3, 3, 3]]).unsqueeze(-1))
    p = torch.tensor([2, 4, 2]) / 8
    expected = -(p * p.log()).sum().item() / math.log(8)
    assert delay_penalty(layer, "entropy", reach=1).item() == pytest.approx(expected, abs=1e-6)
    of_neurons = (math.log(2) + 0) / 2 / math.log(8)
    assert delay_penalty(layer, "entropy", per="neuron", reach=1).item() == pytest.approx(of_neurons, abs=1e-6)


@pytest.mark.parametrize("reach", [1.0, 2.0, 3.5])
def test_the_entropy_does_not_draw_delays_to_the_borders(reach: float) -> None:
    values = [
        delay_penalty(LearnableDelay(3, 2, max_delay=9, init=d), "entropy", reach=reach).item() for d in (0, 4, 9)
    ]
    assert values == pytest.approx([values[0]] * 3, abs=1e-6)


def test_the_entropy_gradient_is_that_of_finite_differences() -> None:
    layer = LearnableDelay(3, 2, max_delay=9, dtype=torch.float64)
    delay_penalty(layer, "entropy").backward()
    for index in ((0, 0, 0), (1, 2, 0)):
        values = []
        for shift in (1e-6, -1e-6):
            moved = copy.deepcopy(layer)
            with torch.no_grad():
                moved.delays[index] += shift
            values.append(delay_penalty(moved, "entropy").item())
        assert layer.delays.grad[index].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("kind", ["short", "entropy"])
def test_weighted_counts_strong_synapses_and_moves_no_weight(kind: str) -> None:
    layer = LearnableDelay(2, 1, max_delay=10)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[[2.5], [7.5]]]))
        layer.weight.copy_(torch.tensor([[[-3.0], [1.0]]]))
    penalty = delay_penalty(layer, kind, weighted=True)
    penalty.backward()
    assert layer.weight.grad is None
    assert layer.delays.grad.isfinite().all()
    if kind == "short":
        assert penalty.item() == pytest.approx((3 * 0.25 + 1 * 0.75) / 4)
        assert layer.delays.grad.flatten().tolist() == pytest.approx([0.075, 0.025])


@pytest.mark.parametrize("name", ["synapse", "taps", "convolutions", "snntorch", "norse", "spikingjelly"])
def test_weighted_finds_the_weights_per_synapse(name: str) -> None:
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and not hasattr(parameter, "delayplug_range"):
                parameter.zero_().view(-1)[0] = 1
    delay_penalty(model, weighted=True).backward()
    for _, delay in named_delays(model):
        assert delay.delays.grad.nonzero().tolist() == [[0] * delay.delays.dim()]


def test_weights_that_are_not_known_count_alike(model: nn.Module) -> None:
    alone = nn.ModuleList(delay for _, delay in named_delays(model) if delay.weight is None)
    if alone:
        assert delay_penalty(alone, weighted=True).item() == pytest.approx(delay_penalty(alone).item())


def test_pruned_delays_get_no_gradient() -> None:
    layer = LearnableDelay(3, 2, max_delay=5)
    active = torch.tensor([[True, False, True], [False, True, True]]).unsqueeze(-1)
    layer.prune(active)
    for kind in ("short", "entropy"):
        layer.delays.grad = None
        delay_penalty(layer, kind).backward()
        assert (layer.delays.grad[~active] == 0).all()
        assert (layer.delays.grad[active] != 0).any()


def test_no_delay_at_all_costs_nothing() -> None:
    layer = LearnableDelay(3, 2, max_delay=0)
    assert delay_penalty(layer).item() == delay_penalty(layer, "entropy").item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "long"}, "kind: expected one of short, entropy, got 'long'"),
        ({"per": "synapse"}, "per: expected one of layer, neuron"),
        ({"reach": 0.5}, "reach: expected a number of steps >= 1, got 0.5"),
        ({"reach": math.nan}, "reach: .* got nan"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        delay_penalty(LearnableDelay(3, 2, max_delay=4), **options)


def test_a_model_without_delays() -> None:
    with pytest.raises(ArgumentError, match="model: expected a model with delays, got Linear"):
        delay_penalty(nn.Linear(3, 2))
