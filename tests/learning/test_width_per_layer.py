"""`learn_sigma="layer"`: one learned width for all delays of a layer."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, ConvDelay, LearnableDelay, SigmaSchedule, named_delays, parameter_groups
from delayplug.layers.taps import SIGMA_FLOOR
from tests.learning.models import JellyConvNet, JellyNet, NorseNet, SnnTorchNet

MAKERS = {
    "synapse": lambda **o: LearnableDelay(3, 2, max_delay=6, **o),
    "taps": lambda **o: LearnableDelay(3, 2, max_delay=6, taps=2, **o),
    "channel": lambda **o: LearnableDelay(3, max_delay=6, **o),
    "dcls": lambda **o: LearnableDelay(3, 2, max_delay=6, engine="dcls", **o),
}


def run(layer: LearnableDelay) -> Tensor:
    return layer(torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(1), dtype=layer.delays.dtype))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("interpolation", ["gauss", "triangle"])
def test_one_width_is_what_equal_widths_are(name: str, interpolation: str) -> None:
    options = {"interpolation": interpolation, "sigma": 2.0, "dtype": torch.float64}
    one = MAKERS[name](learn_sigma="layer", **options)
    each = MAKERS[name](learn_sigma=True, **options)
    assert (one.sigma.shape, each.sigma.shape) == ((), each.delays.shape)
    with torch.no_grad():
        each.delays.copy_(one.delays)
        if each.weight is not None:
            each.weight.copy_(one.weight)
    outputs = [run(layer) for layer in (one, each)]
    for y in outputs:
        y.square().sum().backward()
    assert torch.allclose(*outputs)
    assert one.sigma.grad.item() == pytest.approx(each.sigma.grad.sum().item(), rel=1e-6)
    assert torch.allclose(one.delays.grad, each.delays.grad)


def test_the_gradient_is_that_of_finite_differences() -> None:
    layer = LearnableDelay(3, 2, max_delay=6, sigma=1.5, learn_sigma="layer", dtype=torch.float64)
    run(layer).square().sum().backward()
    values = []
    for width in (1.5 + 1e-6, 1.5 - 1e-6):
        layer.sigma.data.fill_(width)
        values.append(run(layer).square().sum().item())
    assert layer.sigma.grad.item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_steps_are_the_sequence(name: str) -> None:
    layer = MAKERS[name](learn_sigma="layer", sigma=1.2)
    x = torch.rand(9, 2, 3)
    state, steps = layer.initial_state(2), []
    for x_t in x:
        y, state = layer.step(x_t, state)
        steps.append(y)
    assert torch.allclose(torch.stack(steps), layer(x), atol=1e-6)


@pytest.mark.parametrize("interpolation", ["gauss", "triangle"])
@pytest.mark.parametrize("copied", [lambda layer: layer, copy.deepcopy, lambda layer: layer.double().float()])
def test_the_width_stays_above_its_floor(interpolation: str, copied) -> None:
    layer = copied(LearnableDelay(4, 3, max_delay=5, interpolation=interpolation, learn_sigma="layer"))
    layer.sigma.grad = torch.tensor(1e6)
    torch.optim.SGD([layer.sigma], lr=1.0).step()
    assert layer.sigma.item() == pytest.approx(SIGMA_FLOOR[interpolation])


def test_half_precision_keeps_the_width_precise() -> None:
    layer = LearnableDelay(4, 3, max_delay=5, learn_sigma="layer").bfloat16()
    assert layer.sigma.dtype == torch.float32


def test_schedule_and_groups_treat_it_as_learned() -> None:
    model = nn.Sequential(LearnableDelay(4, 4, max_delay=6, learn_sigma="layer"), LearnableDelay(4, max_delay=6))
    SigmaSchedule(model, epochs=4, end=0.5, until=0.25).step()
    assert model[0].sigma.item() == pytest.approx(3.27)
    assert model[1].sigma.item() == pytest.approx(0.5)
    (delays,) = (group for group in parameter_groups(model, lr=1e-3) if group["name"] == "delays")
    assert any(p is model[0].sigma for p in delays["params"])
    with pytest.raises(ArgumentError, match="a model with delays whose sigma is a buffer"):
        SigmaSchedule(model[0], epochs=4)


def test_repr_description_and_checkpoints() -> None:
    layer = LearnableDelay(3, 2, max_delay=6, learn_sigma="layer", sigma=2.0)
    assert "learn_sigma='layer'" in repr(layer)
    assert "learn_sigma=True" in repr(LearnableDelay(3, 2, max_delay=6, learn_sigma=True))
    assert "sigma=3.27" in repr(LearnableDelay(3, 2, max_delay=6))
    row = delayplug.describe_delays(layer).rows[0]
    assert (row.parameters, row.sigma) == (7, 2.0)
    fixed = LearnableDelay(3, 2, max_delay=6, sigma=1.25)
    layer.load_state_dict(fixed.state_dict())  # a trained buffer becomes the first value of the Parameter
    assert layer.sigma.item() == 1.25
    assert isinstance(layer.sigma, nn.Parameter)
    with pytest.raises(ArgumentError, match="sigma: expected finite widths"):
        layer.load_state_dict({**fixed.state_dict(), "sigma": torch.tensor(0.1)})


@pytest.mark.parametrize("channels", [None, 2])
def test_dcls_computes_the_same(channels: int | None) -> None:
    layer = LearnableDelay(3, channels, max_delay=6, sigma=1.4, learn_sigma="layer", dtype=torch.float64)
    x = torch.rand(9, 2, 3, dtype=torch.float64)
    module = layer.to_dcls()
    y = module(nn.functional.pad(x.permute(1, 2, 0), (6, 0))).permute(2, 0, 1)
    assert torch.allclose(layer(x), y, atol=1e-6)
    assert module.SIG.requires_grad


@pytest.mark.parametrize("make", [SnnTorchNet, NorseNet, JellyNet, JellyConvNet])
def test_it_is_learned_in_networks_of_each_toolkit(make, x: Tensor) -> None:
    net = delayplug.add_delays(make(), 6, learn_sigma="layer", sigma=3.0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                module.weight.mul_(4)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x) - 1).square().sum().backward()
        optimizer.step()
    widths = [delay.sigma.item() for _, delay in named_delays(net)]
    assert len(widths) == 2
    assert widths[0] != 3.0
    assert all(width > 0 and math.isfinite(width) for width in widths)


def test_convolutions() -> None:
    conv = nn.Conv1d(2, 3, 2)
    delay = ConvDelay(conv, max_delay=4, learn_sigma="layer")
    delay(torch.rand(6, 1, 2, 4), weight=conv.weight).square().sum().backward()
    assert delay.sigma.shape == delay.sigma.grad.shape == ()
    assert delay.sigma.grad != 0


def test_wrong_choices() -> None:
    with pytest.raises(
        ArgumentError, match=r"learn_sigma: expected False, True \(one per delay\) or 'layer' \(one\), got 'net'"
    ):
        LearnableDelay(3, 2, max_delay=4, learn_sigma="net")
    for learn in (True, "layer"):
        with pytest.raises(ArgumentError, match="learn_sigma: expected False with interpolation='linear'"):
            LearnableDelay(3, 2, max_delay=4, learn_sigma=learn, interpolation="linear")
