"""Layers of torch and delayplug as nodes: the numbers that the layer computes with."""

from typing import Any

import pytest
import torch
from torch import nn

from delayplug import ConvDelay, ExchangeError, LearnableDelay
from delayplug.exchange.graph import Delay, Geometry, Pool, Synapses
from delayplug.exchange.nodes import geometry_of, normed, of_delay, of_norm, of_pool, of_weights, pair, whole_delays


def test_delays_are_rounded_as_in_eval() -> None:
    delay = LearnableDelay(5, max_delay=4)
    delay.delays.data = torch.tensor([0.0, 0.5, 1.49, 9.0, -3.0])
    assert whole_delays(delay).tolist() == [0, 1, 1, 4, 0]
    node = of_delay(delay)
    assert isinstance(node, Delay)
    assert (node.delays.tolist(), node.max_delay) == ([0, 1, 1, 4, 0], 4)
    delay.round_in_eval = False
    with pytest.raises(ExchangeError, match="round_in_eval=True"):
        whole_delays(delay)
    delay.delays.data.round_().clamp_(0, 4)
    assert whole_delays(delay).tolist() == [0, 0, 1, 4, 0]  # whole already: nothing is rounded


def test_a_layer_of_delays() -> None:
    layer = LearnableDelay(3, 2, max_delay=4, bias=True, taps=2)
    node = of_delay(layer)
    assert isinstance(node, Synapses)
    assert node.weight.shape == node.delays.shape == (2, 3, 2)  # type: ignore[union-attr]
    assert torch.equal(node.weight, layer.weight.detach().cpu())
    layer.weight.data.zero_()
    assert node.weight.any(), "a node has numbers of its own"
    with pytest.raises(ExchangeError, match="ConvDelay whose weights come with each call"):
        of_delay(ConvDelay(nn.Conv1d(2, 3, 3), max_delay=4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_are_finite(value: float) -> None:
    layer = nn.Linear(2, 2)
    layer.bias.data[0] = value
    with pytest.raises(ExchangeError, match="NaN or infinite"):
        of_weights(layer)


@pytest.mark.parametrize(
    ("conv", "padding"),
    [
        (nn.Conv2d(2, 4, 3, stride=2, padding=(1, 0), dilation=2, groups=2), (1, 0)),
        (nn.Conv2d(2, 4, (3, 5), padding="same", groups=2), (1, 2)),
        (nn.Conv1d(2, 4, 3, padding="same", dilation=2, groups=2), (2,)),
        (nn.Conv1d(2, 4, 3, padding="valid", groups=2), (0,)),
    ],
)
def test_geometry(conv: Any, padding: tuple[int, ...]) -> None:
    assert geometry_of(conv) == Geometry(conv.stride, padding, conv.dilation, 2)


def test_a_kernel_of_even_size_pads_one_side_more() -> None:
    with pytest.raises(ExchangeError, match="even size"):
        geometry_of(nn.Conv1d(2, 4, 4, padding="same"))


@pytest.mark.parametrize("affine", [True, False])
def test_a_batch_norm_becomes_part_of_weights(affine: bool) -> None:
    torch.manual_seed(0)
    layer, norm = nn.Linear(4, 3), nn.BatchNorm1d(3, affine=affine)
    norm(layer(torch.randn(50, 4)) * 3 + 1)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias)
    norm.eval()
    node = normed(of_weights(layer), *of_norm(norm))
    x = torch.randn(6, 4)
    with torch.no_grad():
        got = nn.functional.linear(x.cpu(), node.weight, node.bias)
        torch.testing.assert_close(got, norm(layer(x)).cpu())
    with pytest.raises(ExchangeError, match="running statistics"):
        of_norm(nn.BatchNorm1d(3, track_running_stats=False))


def test_pools() -> None:
    assert of_pool(nn.AvgPool2d(3, (2, 1), 1), (1, 9, 9)) == Pool("average", (3, 3), (2, 1), (1, 1))
    with pytest.raises(ExchangeError, match="divisor_override"):
        of_pool(nn.AvgPool2d(2, divisor_override=3), (1, 9, 9))
    assert (pair(2), pair([1, 2])) == ((2, 2), (1, 2))
