"""An input is shown as it comes, and shifted by the delays."""

import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

from delayplug import ArgumentError, ConvDelay, LearnableDelay, plot
from tests.plot.pictures import networks, new_axes


def offsets(ax: Axes) -> list[tuple[float, float]]:
    return sorted(tuple(point) for dots in ax.collections for point in _points(dots))


def _points(dots) -> list[list[float]]:
    return dots.get_offsets().tolist() if hasattr(dots, "get_sizes") and len(dots.get_sizes()) else []


def test_realigned_moves_each_channel_by_its_delay() -> None:
    layer = LearnableDelay(3, 2, max_delay=5)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[1.0, 1, 1], [0.4, 4.6, 2]]).unsqueeze(-1))
        layer.weight.fill_(0.5)
    x = torch.zeros(8, 3)
    x[5, 0] = x[0, 1] = x[3, 2] = 1  # all arrive at step 5
    passed = new_axes(2)
    left, right = plot.realigned(x, layer, 1, passed)
    assert [left, right] == passed
    # Longest delay in row 0: channel 1, then 2, then 0.
    assert offsets(left) == [(0, 0), (3, 1), (5, 2)]
    assert offsets(right) == [(5, 0), (5, 1), (5, 2)]
    assert [ax.get_title() for ax in passed] == ["as it comes", "as the neuron gets it"]
    assert left.get_xlabel() == right.get_xlabel() == "time (steps)"


def test_the_drive_is_what_the_layer_computes() -> None:
    layer = LearnableDelay(6, 3, max_delay=5).eval()
    x = (torch.rand(12, 6) < 0.3).float()
    _, right = plot.realigned(x, layer, 2)
    expected = layer(x.unsqueeze(1), tail=5)[:, 0, 2].detach()
    shown = right.patches[0].get_data()
    height = torch.tensor(shown.values - shown.baseline)
    scale = height.abs().max() / expected.abs().max()
    assert torch.allclose(height.float(), scale.float() * expected, atol=1e-4)
    assert height.count_nonzero() > 5
    assert shown.edges.tolist() == [t - 0.5 for t in range(18)]


def test_inhibiting_synapses_are_hollow() -> None:
    layer = LearnableDelay(2, 1, max_delay=5, init=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0], [-1.0]]]))
    left, _ = plot.realigned(torch.ones(3, 2), layer, 0)
    solid, hollow = left.collections[:2]
    assert len(solid.get_offsets()) == len(hollow.get_offsets()) == 3
    assert len(solid.get_facecolors()) == 3
    assert len(hollow.get_facecolors()) == 0


def test_realigned_per_channel_and_in_networks_of_each_toolkit() -> None:
    channels = LearnableDelay(4, max_delay=6, init=3)
    x = torch.eye(4)
    left, right = plot.realigned(x, channels)
    assert [(t + 3, row) for t, row in offsets(left)] == offsets(right)
    for name in ("snntorch", "norse"):
        left, right = plot.realigned(torch.ones(4, 5), networks()[name][0], 5)
        assert len(offsets(left)) == len(offsets(right)) == 20


def test_realigned_without_any_spike() -> None:
    left, right = plot.realigned(torch.zeros(4, 3), LearnableDelay(3, 2, max_delay=2), 0)
    assert offsets(left) == offsets(right) == []
    left.figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("layer", "neuron", "shape", "message"),
    [
        (LearnableDelay(3, 2, max_delay=2), 2, (4, 3), r"neuron: expected an output, 0\.\.1, got 2"),
        (LearnableDelay(3, 2, max_delay=2), None, (4, 3), "neuron: expected an output"),
        (LearnableDelay(3, max_delay=2), 1, (4, 3), "neuron: expected None for delays per channel"),
        (LearnableDelay(3, 2, max_delay=2), 0, (4, 1, 3), "x: expected one recording"),
        (LearnableDelay(3, 2, max_delay=2), 0, (4, 2), "x: expected one recording"),
        (ConvDelay(nn.Conv1d(2, 2, 1), max_delay=2), 0, (4, 2), "layer: .* those of a convolution"),
    ],
)
def test_realigned_refuses(layer: nn.Module, neuron: int | None, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        plot.realigned(torch.ones(shape), layer, neuron)
