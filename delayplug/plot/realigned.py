"""A picture of what delays do: an input as it comes, and as it arrives.

Shapes: T steps, I inputs.
"""

from collections.abc import Sequence

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from .._colours import BLUE, GREY
from ..errors import ArgumentError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay
from ..layers.taps import round_delays
from ..surgery.find import the_delay, weights
from .style import DELAYS, opened


def realigned(
    x: Tensor, layer: nn.Module, neuron: int | None = None, axes: Sequence[Axes] | None = None
) -> tuple[Axes, Axes]:
    """An input as it comes, and as a neuron gets it: every channel later by its delay, rounded to whole steps.

    Channels are sorted by their delay, so that a pattern that the delays align is a slope on the left and a column on
    the right. Dots are coloured by delay and as opaque as their synapse is strong; those of inhibitory synapses are
    hollow. Below is the drive of the neuron in each step: the sum of the weights of all arriving spikes, on one scale.

    Args:
        x: (T, I), one recording; anything above zero counts as spikes.
        layer: a `LearnableDelay`, or a linear layer that `add_delays` gave delays.
        neuron: which output; None for delays per channel, which are the same for all.
        axes: two, for the input as it comes and for the shifted one.

    Raises:
        ArgumentError: shapes do not fit, there is no such neuron, or the layer is a convolution.
    """
    name, delay = the_delay(layer)
    delays_I, weights_I = _of_neuron(delay, weights(layer)[name], neuron)
    if x.dim() != 2 or x.shape[1] != len(delays_I):
        raise ArgumentError("x", f"one recording (T, {len(delays_I)})", tuple(x.shape), "Take one of a batch")
    if axes is None:
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        axes = list(figure.subplots(1, 2, sharex=True, sharey=True))
    if len(axes) != 2:
        raise ArgumentError("axes", "two", len(axes))
    order = delays_I.argsort(descending=True, stable=True)
    x_TI, delays_I, weights_I = x.detach().float().cpu()[:, order], delays_I[order], weights_I[order]
    times, rows = (x_TI > 0).nonzero().unbind(1)
    length = x_TI.shape[0] + delay.max_delay
    panels = ((axes[0], times, "as it comes"), (axes[1], times + delays_I[rows].long(), "as the neuron gets it"))
    sums = []
    for _, arrival, _ in panels:
        drive = torch.zeros(length, device="cpu")
        sums.append(drive.index_add_(0, arrival, x_TI[times, rows] * weights_I[rows]))
    height, span = 0.3 * len(delays_I), max(max(float(s.abs().max()) for s in sums), 1e-9)
    floor = -1.3 * height if min(float(s.min()) for s in sums) >= 0 else -2.35 * height
    for (ax, arrival, title), drive in zip(panels, sums, strict=True):
        _raster(ax, arrival, rows, delays_I[rows], weights_I[rows], delay.max_delay)
        base = -1.25 * height
        edges = [t - 0.5 for t in range(length + 1)]
        ax.stairs((base + height * drive / span).tolist(), edges, baseline=base, fill=True, color=BLUE)
        ax.axhline(base, color=GREY, linewidth=0.6)
        ax.set(title=title, xlabel="time (steps)", xlim=(-0.5, length - 0.5), ylim=(floor, len(delays_I) - 0.2))
        ax.set_yticks([base, 0, len(delays_I) - 1], ["drive", "longest", "shortest"])
        opened(ax)
    axes[0].set_ylabel("channels, by delay", loc="top")
    axes[1].tick_params(labelleft=False)
    return axes[0], axes[1]


def _of_neuron(delay: DelayLayer, weight: Tensor, neuron: int | None) -> tuple[Tensor, Tensor]:
    """Rounded delays and weights of what arrives at a neuron, (I,) each, on the CPU; the strongest of several taps."""
    if isinstance(delay, ConvDelay):
        raise ArgumentError("layer", "delays of a linear layer or per channel", "those of a convolution")
    values, weight = round_delays(delay.delays).float().cpu(), weight.float().cpu()
    if values.dim() == 1:
        if neuron is not None:
            raise ArgumentError("neuron", "None for delays per channel, which are the same for all", neuron)
        return values, weight
    if not isinstance(neuron, int) or not 0 <= neuron < values.shape[0]:
        raise ArgumentError("neuron", f"an output, 0..{values.shape[0] - 1}", neuron)
    tap = weight[neuron].abs().argmax(-1, keepdim=True)
    return values[neuron].gather(-1, tap).squeeze(-1), weight[neuron].gather(-1, tap).squeeze(-1)


def _raster(ax: Axes, times: Tensor, rows: Tensor, delays: Tensor, weights: Tensor, most: int) -> None:
    colours = matplotlib.colormaps[DELAYS](delays.numpy() / max(most, 1))
    if len(weights):
        colours[:, 3] = (weights.abs() / weights.abs().max().clamp(min=1e-9)).clamp(0.15, 1).numpy()
    size = max(6.0, 26 - 0.12 * (int(rows.max()) if len(rows) else 0))
    for excites in (True, False):
        at = (weights >= 0).numpy() == excites
        ax.scatter(
            times.numpy()[at],
            rows.numpy()[at],
            size,
            facecolors=colours[at] if excites else "none",
            edgecolors="none" if excites else colours[at],
        )
