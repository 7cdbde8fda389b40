"""Histograms, matrices and kernels show the delays of a layer."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn

import delayplug
from delayplug import ArgumentError, ConvDelay, DelayHistory, LearnableDelay, plot
from delayplug.layers.taps import taps
from tests.plot.pictures import networks, new_axes, text

# ------------------------------------------------------------------------------------------------------- histogram


def test_histogram_counts_delays_rounded_as_in_eval() -> None:
    layer = LearnableDelay(4, 2, max_delay=3)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[0.0, 0.4, 0.5, 1.5], [2.49, 2.5, 3.0, 2.0]]).unsqueeze(-1))
    before = torch.full_like(layer.delays, 3.0)
    (passed,) = new_axes()
    ax = plot.histogram(layer, passed, before)
    assert ax is passed
    first, after = (patch.get_data() for patch in ax.patches)
    assert first.values.tolist() == [0, 0, 0, 8]
    assert after.values.tolist() == [2, 1, 3, 2]
    assert after.values.tolist() == layer.eval().kernel(torch.ones(2, 4)).sum((1, 2)).tolist()
    assert after.edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert text(ax) == ("delay (steps)", "number of delays")
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["before", "after"]


def test_histogram_tells_pruned_delays_apart() -> None:
    layer = LearnableDelay(10, 10, max_delay=4, init=0)
    delayplug.DelayPruning(layer, 0.25, epochs=1, begin=0, end=1).step()
    ax = plot.histogram(layer)
    assert ax.patches[0].get_data().values.tolist() == [25, 0, 0, 0, 0]
    assert ax.get_legend().get_texts()[0].get_text() == "now (75% more held at 0)"


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly"])
def test_histograms_have_one_panel_per_layer(name: str) -> None:
    net = networks()[name]
    history = DelayHistory(net)
    with torch.no_grad():
        net[2].delay.delays.fill_(3)
    passed = new_axes(2)
    panels = plot.histograms(net, passed, before=history.first)
    assert panels == passed
    assert [ax.get_title() for ax in panels] == ["0", "2"]
    before, after = (patch.get_data().values for patch in panels[1].patches)
    assert after[3] == after.sum() == before.sum() == net[2].delay.delays.numel()
    made = plot.histograms(net)
    assert len(made) == len(made[0].figure.axes) == 2
    with pytest.raises(ArgumentError, match="axes: expected 2, one per layer with delays, got 1"):
        plot.histograms(net, new_axes(1))


def test_many_layers_are_laid_out_in_rows() -> None:
    made = plot.histograms(nn.ModuleList(LearnableDelay(3, max_delay=4) for _ in range(6)))
    assert len(made[0].figure.axes) == 6
    assert len({ax.get_subplotspec().rowspan.start for ax in made}) == 2


# ---------------------------------------------------------------------------------------------------------- matrix


def test_matrix_shows_the_delays_with_a_bar_in_steps() -> None:
    layer = LearnableDelay(7, 5, max_delay=9, taps=2)
    (passed,) = new_axes()
    ax = plot.matrix(layer, passed, tap=1)
    assert ax is passed
    (image,) = ax.images
    assert np.array_equal(image.get_array(), layer.delays[..., 1].detach().cpu().numpy())
    assert image.get_clim() == (0, 9)
    assert text(ax) == ("input", "output")
    assert [axes.get_ylabel() for axes in ax.figure.axes] == ["output", "delay (steps)"]
    with pytest.raises(ArgumentError, match=r"tap: expected one of 0\.\.1, got 2"):
        plot.matrix(layer, tap=2)


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly"])
def test_opacity_is_the_weight_of_the_users_layer(name: str) -> None:
    net = networks()[name]
    with torch.no_grad():
        net[0].weight.zero_()[1, 2] = -5
    image = plot.matrix(net[0], opacity=True).images[0]
    assert image.get_array().shape == (6, net[0].weight[0].numel())
    alpha = image.get_alpha()
    strong = net[0].weight.detach().flatten(1) != 0
    assert np.array_equal(alpha == 1, strong.cpu().numpy())
    assert (alpha[~strong.cpu().numpy()] == 0).all()
    assert plot.matrix(net[0]).images[0].get_alpha() is None


def test_matrix_of_channels_and_convolutions() -> None:
    channels = plot.matrix(LearnableDelay(6, max_delay=4))
    assert channels.images[0].get_array().shape == (1, 6)
    assert text(channels) == ("channel", "")
    conv = ConvDelay(nn.Conv2d(2, 3, (2, 4)), max_delay=4)
    ax = plot.matrix(conv)
    assert np.array_equal(ax.images[0].get_array(), conv.delays.detach().view(3, 16).cpu().numpy())
    assert text(ax) == ("element of the kernel", "output channel")
    turned = plot.matrix(ConvDelay(nn.ConvTranspose1d(2, 3, 2), max_delay=4))
    assert text(turned) == ("element of the kernel", "input channel")
    assert text(plot.matrix(LearnableDelay(6, 1, max_delay=4))) == ("input", "output")


# ---------------------------------------------------------------------------------------------------------- kernel


@pytest.mark.parametrize("interpolation", ["gauss", "triangle"])
def test_kernel_at_several_widths(interpolation: str) -> None:
    layer = LearnableDelay(4, 3, max_delay=10, interpolation=interpolation)
    (passed,) = new_axes()
    ax = plot.kernel(layer, (2, 1), [1.0, 4.0], passed)
    assert ax is passed
    delay = layer.delays[2, 1].detach().double()
    for sigma, line in zip((4.0, 1.0), ax.lines, strict=False):
        expected = taps(delay, None, torch.tensor(sigma).double(), max_delay=10, interpolation=interpolation)
        assert line.get_ydata() == pytest.approx(expected.tolist())
        assert sum(line.get_ydata()) == pytest.approx(1)
    assert ax.lines[2].get_xdata() == [delay.item()] * 2
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["4", "1"]
    assert text(ax) == ("age of the input (steps)", "share of the weight")
    assert to_rgba(ax.lines[0].get_color()) != to_rgba(ax.lines[1].get_color())


@pytest.mark.parametrize(
    ("options", "synapse", "sigmas", "message"),
    [
        ({}, (3, 0), [1], "synapse: expected an index into delays of shape"),
        ({}, (0, 0, 0, 0), [1], "synapse: "),
        ({}, (0, 0), [0.1], "sigmas: expected widths >= 0.27 steps"),
        ({}, (0, 0), [], "sigmas: "),
        ({"interpolation": "linear"}, (0, 0), [1], "layer: expected an interpolation with a width"),
    ],
)
def test_kernel_refuses(options: dict, synapse: tuple[int, ...], sigmas: list[float], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        plot.kernel(LearnableDelay(3, 2, max_delay=4, **options), synapse, sigmas)


# ---------------------------------------------------------------------------------------------------- all


def test_a_model_of_several_layers_is_refused_by_name() -> None:
    net = networks()["snntorch"]
    for draw in (plot.histogram, plot.matrix):
        with pytest.raises(ArgumentError, match=r"layer: expected a layer with one set of delays, .* of 0, 2"):
            draw(net)
    with pytest.raises(ArgumentError, match="before: expected delays of shape"):
        plot.histogram(net[0], before=torch.zeros(3))
