import copy
import importlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from norse.torch import LIFCell, SequentialState
from snntorch import Leaky
from spikingjelly.activation_based import layer, neuron
from torch import nn

import delayplug
from delayplug import ArgumentError, ConvDelay, DelayHistory, LearnableDelay, plot
from delayplug.kernels import taps


def new_axes(number: int = 1) -> list[Axes]:
    return list(Figure().subplots(1, number, squeeze=False)[0])


def networks() -> dict[str, nn.Module]:
    made = {
        "snntorch": nn.Sequential(nn.Linear(5, 6), Leaky(beta=0.9), nn.Linear(6, 4), Leaky(beta=0.9)),
        "norse": SequentialState(nn.Linear(5, 6), LIFCell(), nn.Linear(6, 4), LIFCell()),
        "spikingjelly": nn.Sequential(layer.Conv1d(5, 6, 3), neuron.LIFNode(), layer.Conv1d(6, 4, 3), neuron.LIFNode()),
    }
    return {name: delayplug.add_delays(net, 7) for name, net in made.items()}


def text(ax: Axes) -> tuple[str, str]:
    return ax.get_xlabel(), ax.get_ylabel()


# --------------------------------------------------------------------------------------------------- histogram


def test_histogram_counts_delays_rounded_as_in_eval() -> None:
    layer = LearnableDelay(4, 2, max_delay=3)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[0.0, 0.4, 0.5, 1.5], [2.49, 2.5, 3.0, 2.0]]).unsqueeze(-1))
    before = torch.full_like(layer.delays, 3.0)
    (given,) = new_axes()
    ax = plot.histogram(layer, given, before)
    assert ax is given
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
    given = new_axes(2)
    panels = plot.histograms(net, given, before=history.first)
    assert panels == given
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


# ------------------------------------------------------------------------------------------------------ matrix


def test_matrix_shows_the_delays_with_a_bar_in_steps() -> None:
    layer = LearnableDelay(7, 5, max_delay=9, taps=2)
    (given,) = new_axes()
    ax = plot.matrix(layer, given, tap=1)
    assert ax is given
    (image,) = ax.images
    assert np.array_equal(image.get_array(), layer.delays[..., 1].detach().numpy())
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
    assert np.array_equal(alpha == 1, strong.numpy())
    assert (alpha[~strong.numpy()] == 0).all()
    assert plot.matrix(net[0]).images[0].get_alpha() is None


def test_matrix_of_channels_and_convolutions() -> None:
    channels = plot.matrix(LearnableDelay(6, max_delay=4))
    assert channels.images[0].get_array().shape == (1, 6)
    assert text(channels) == ("channel", "")
    conv = ConvDelay(nn.Conv2d(2, 3, (2, 4)), max_delay=4)
    ax = plot.matrix(conv)
    assert np.array_equal(ax.images[0].get_array(), conv.delays.detach().view(3, 16).numpy())
    assert text(ax) == ("element of the kernel", "output channel")
    turned = plot.matrix(ConvDelay(nn.ConvTranspose1d(2, 3, 2), max_delay=4))
    assert text(turned) == ("element of the kernel", "input channel")
    assert text(plot.matrix(LearnableDelay(6, 1, max_delay=4))) == ("input", "output")


# -------------------------------------------------------------------------------------------------- trajectory


def test_trajectory_shows_quantiles_and_followed_delays() -> None:
    layer = LearnableDelay(10, 10, max_delay=8)
    history = DelayHistory(layer, follow={"": [(3, 4, 0), (9, 9, 0)]})
    seen = [layer.delays.detach().clone()]
    for _ in range(3):
        with torch.no_grad():
            layer.delays.mul_(0.8)
        history.record()
        seen.append(layer.delays.detach().clone())
    (given,) = new_axes()
    ax = plot.trajectory(history, ax=given)
    assert ax is given
    median, one, other = ax.lines
    assert median.get_ydata() == pytest.approx([values.quantile(0.5).item() for values in seen])
    assert one.get_ydata() == pytest.approx([values[3, 4, 0].item() for values in seen])
    assert other.get_ydata() == pytest.approx([values[9, 9, 0].item() for values in seen])
    assert list(median.get_xdata()) == [0, 1, 2, 3]
    widest = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert widest.max() == pytest.approx(seen[0].quantile(0.95).item())
    assert text(ax) == ("epoch", "delay (steps)")


def test_trajectory_of_several_layers_wants_a_name() -> None:
    history = DelayHistory(networks()["snntorch"])
    with pytest.raises(ArgumentError, match="layer: expected one of '0', '2', got None"):
        plot.trajectory(history)
    with pytest.raises(ArgumentError, match="layer: expected one of '0', '2', got 'fc9'"):
        plot.trajectory(history, "fc9")
    assert plot.trajectory(history, "2").get_title() == "2"


# --------------------------------------------------------------------------------------------------- realigned


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
    given = new_axes(2)
    left, right = plot.realigned(x, layer, 1, given)
    assert [left, right] == given
    # Longest delay in row 0: channel 1, then 2, then 0.
    assert offsets(left) == [(0, 0), (3, 1), (5, 2)]
    assert offsets(right) == [(5, 0), (5, 1), (5, 2)]
    assert [ax.get_title() for ax in given] == ["as it comes", "as the neuron gets it"]
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


# ------------------------------------------------------------------------------------------------------ kernel


@pytest.mark.parametrize("interpolation", ["gauss", "triangle"])
def test_kernel_at_several_widths(interpolation: str) -> None:
    layer = LearnableDelay(4, 3, max_delay=10, interpolation=interpolation)
    (given,) = new_axes()
    ax = plot.kernel(layer, (2, 1), [1.0, 4.0], given)
    assert ax is given
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


# ------------------------------------------------------------------------------------------------- all of them


def test_a_model_of_several_layers_is_refused_by_name() -> None:
    net = networks()["snntorch"]
    for draw in (plot.histogram, plot.matrix):
        with pytest.raises(ArgumentError, match=r"layer: expected a layer with one set of delays, .* of 0, 2"):
            draw(net)
    with pytest.raises(ArgumentError, match="before: expected delays of shape"):
        plot.histogram(net[0], before=torch.zeros(3))


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly"])
def test_pictures_leave_the_model_as_it_was(name: str) -> None:
    net = networks()[name]
    before = copy.deepcopy(net.state_dict())
    versions = [p._version for p in net.parameters()]
    history = DelayHistory(net)
    history.record()
    made = [*plot.histograms(net), plot.matrix(net[0]), plot.trajectory(history, "0")]
    made.append(plot.kernel(net[2], (0,) * (net[2].delay.delays.dim() - 1), [3, 1]))
    for ax in made:
        ax.figure.draw_without_rendering()
    assert [p._version for p in net.parameters()] == versions
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("delayplug.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        delayplug.ExtraMissingError, match=r"needs matplotlib. Run: pip install 'delayplug\[bench\]'"
    ) as info:
        importlib.import_module("delayplug.plot")
    assert isinstance(info.value, ImportError)


def test_the_gallery(tmp_path: Path) -> None:
    program = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "gallery.py"))
    accuracies = program["main"](tmp_path, samples=50)  # the committed pictures are of 400
    assert min(accuracies) > 2 / 6  # twice chance
    committed = Path(__file__).parents[2] / "docs" / "images"
    names = {"histograms.png", "kernel.png", "matrix.png", "realigned.png", "trajectory.png"}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in committed.iterdir()} == names
    assert all(1000 < path.stat().st_size < 80_000 for folder in (tmp_path, committed) for path in folder.iterdir())
