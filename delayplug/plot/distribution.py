"""Pictures of the delays of a layer as they are: histograms, matrix, kernel."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from .._colours import BLUE, GREY, LIGHT
from ..errors import ArgumentError
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay
from ..layers.linear import LearnableDelay
from ..layers.taps import SIGMA_FLOOR, round_delays, taps
from ..surgery.find import all_delays, the_delay, weights
from .style import DELAYS, axes_or_new, opened, whole_numbers


def histogram(layer: nn.Module, ax: Axes | None = None, before: Tensor | None = None) -> Axes:
    """The number of delays of each length, rounded to whole steps (halves up).

    Delays that `DelayPruning` holds at zero are counted in the legend, not at zero.

    Args:
        layer: with one set of delays.
        ax: where to draw.
        before: delays of the same shape to compare with, in steps, such as `DelayHistory.first[name]`.

    Raises:
        ArgumentError: the layer has none or several sets of delays, or `before` has another shape.
    """
    name, delay = the_delay(layer)
    if before is not None and before.shape != delay.delays.shape:
        raise ArgumentError("before", f"delays of shape {tuple(delay.delays.shape)}", tuple(before.shape))
    ax = axes_or_new(ax)
    edges = [k - 0.5 for k in range(delay.max_delay + 2)]
    after = delay.delays.detach()
    held = 0.0
    if delay.active is not None:
        held = 1 - delay.active.float().mean().item()
        after = after[delay.active]
    if before is not None:
        ax.stairs(_counts(before, delay), edges, fill=True, color=LIGHT, label="before")
    label = "now" if before is None else "after"
    label += f" ({held:.0%} more held at 0)" if held else ""
    ax.stairs(_counts(after, delay), edges, color=BLUE, linewidth=1.8, fill=before is None, label=label)
    ax.set(xlim=(edges[0] - 0.2, edges[-1] + 0.2), xlabel="delay (steps)", ylabel="number of delays", title=name)
    if before is not None or held:
        ax.set_ylim(0, 1.25 * ax.dataLim.ymax)  # room for the legend
        ax.legend(frameon=False, fontsize="small", loc="upper right", ncols=2, columnspacing=1)
    whole_numbers(ax.xaxis, ax.yaxis)
    return opened(ax)


def histograms(
    model: nn.Module, axes: Sequence[Axes] | None = None, before: Mapping[str, Tensor] | None = None
) -> list[Axes]:
    """`histogram` of every layer with delays, side by side.

    Args:
        model: any module with delays.
        axes: as many as layers.
        before: delays to compare with by name of the layer, such as `DelayHistory.first`.
    """
    layers = all_delays(model)
    if axes is None:
        columns = min(len(layers), 4)
        rows = math.ceil(len(layers) / columns)
        figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for spare in axes[len(layers) :]:
            spare.remove()
        axes = axes[: len(layers)]
    if len(axes) != len(layers):
        raise ArgumentError("axes", f"{len(layers)}, one per layer with delays", len(axes))
    drawn = []
    for ax, (name, delay) in zip(axes, layers, strict=True):
        drawn.append(histogram(delay, ax, None if before is None else before.get(name)))
        ax.set(title=name, ylabel="number of delays" if ax is axes[0] else "")
        legend = ax.get_legend()
        if ax is not axes[0] and legend is not None and delay.active is None:
            legend.remove()
    return drawn


def matrix(layer: nn.Module, ax: Axes | None = None, *, opacity: bool = False, tap: int = 0) -> Axes:
    """The delays as an image, outputs downwards and inputs to the right, with a colour bar in steps.

    Delays per channel are one row; of a convolution, a row holds all elements of an output's kernel.

    Args:
        layer: with one set of delays.
        ax: where to draw; the colour bar takes a part of its place.
        opacity: show how strong a synapse is: opaque from the 95 % quantile of the absolute weights on, clear at zero.
        tap: which one, of several per synapse.

    Raises:
        ArgumentError: the layer has none or several sets of delays, or no such tap.
    """
    name, delay = the_delay(layer)
    values, strength = delay.delays.detach(), weights(layer)[name].abs()
    labels = ("output", "input")
    if isinstance(delay, LearnableDelay) and delay.out_features is None:
        labels = ("", "channel")
        values, strength = values.view(1, -1, 1), strength.view(1, -1, 1)
    elif isinstance(delay, ConvDelay):
        labels = ("input channel" if delay.geometry.transposed else "output channel", "element of the kernel")
    if not 0 <= tap < values.shape[-1]:
        raise ArgumentError("tap", f"one of 0..{values.shape[-1] - 1}", tap)
    image_OI, strength_OI = (v[..., tap].flatten(1).float().cpu() for v in (values, strength))
    alpha = None
    if opacity:
        full = strength_OI.flatten()[: 1 << 23].quantile(0.95).clamp(min=torch.finfo(torch.float32).tiny)
        alpha = (strength_OI / full).clamp(0, 1).numpy()
    ax = axes_or_new(ax, *_size(image_OI))
    image = ax.imshow(
        image_OI.numpy(), DELAYS, aspect="auto", interpolation="nearest", alpha=alpha, vmin=0, vmax=delay.max_delay or 1
    )
    ax.set(ylabel=labels[0], xlabel=labels[1], title=name)
    whole_numbers(ax.xaxis, ax.yaxis)
    if not labels[0]:
        ax.set_yticks([])
    bar = ax.figure.colorbar(image, ax=ax, label="delay (steps)")
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    whole_numbers(bar.ax.yaxis)
    return ax


def kernel(layer: nn.Module, synapse: tuple[int, ...], sigmas: Sequence[float], ax: Axes | None = None) -> Axes:
    """The kernel of one synapse at several widths: the share of its weight for an input of each age in steps.

    Args:
        layer: with one set of delays, and an interpolation that has a width.
        synapse: index into its delays, such as (output, input, tap) or (channel,); a missing last 0 is added.
        sigmas: widths in steps, such as those of a `SigmaSchedule`.
        ax: where to draw.

    Raises:
        ArgumentError: there is no such synapse, or no such width.
    """
    name, delay = the_delay(layer)
    shape = delay.delays.shape
    index = (*synapse, 0) if len(synapse) == len(shape) - 1 else tuple(synapse)
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise ArgumentError("synapse", f"an index into delays of shape {tuple(shape)}", synapse)
    if delay.interpolation == "linear":
        raise ArgumentError("layer", "an interpolation with a width", "one with 'linear'")
    floor = SIGMA_FLOOR[delay.interpolation]
    if not sigmas or not all(floor <= sigma < math.inf for sigma in sigmas):
        raise ArgumentError("sigmas", f"widths >= {floor} steps", sigmas)
    value = delay.delays[index].detach().double().cpu().view(1)
    ax = axes_or_new(ax, 4.2)
    colours = _shades(len(sigmas))
    for n, (sigma, colour) in enumerate(zip(sorted(sigmas, reverse=True), colours, strict=True)):
        curve = taps(value, None, value.new_tensor(sigma), max_delay=delay.max_delay, interpolation=delay.interpolation)
        ax.plot(
            curve.tolist(),
            color=colour,
            marker="o",
            markersize=3.2,
            linewidth=1.3,
            label=f"{sigma:.3g}",
            zorder=2 + n,
        )
    ax.axvline(value.item(), color=GREY, linestyle="--", linewidth=1, zorder=1)
    ax.set(xlabel="age of the input (steps)", ylabel="share of the weight", ylim=(0, None))
    ax.set_title(f"{name + ': ' if name else ''}a delay of {value.item():.1f} steps")
    ax.legend(title="sigma (steps)", frameon=False, fontsize="small", title_fontsize="small")
    whole_numbers(ax.xaxis)
    return opened(ax)


def _size(image: Tensor) -> tuple[float, float]:
    rows, columns = image.shape
    cell = min(0.22, 6 / columns, 5 / rows)  # inches
    return max(2.8, 1.6 + cell * columns), max(1.5, 0.9 + cell * rows)


def _counts(values: Tensor, delay: DelayLayer) -> list[int]:
    return [int(n) for n in round_delays(values).long().flatten().bincount(minlength=delay.max_delay + 1)]


def _shades(number: int) -> list[tuple[float, float, float, float]]:
    return [matplotlib.colormaps[DELAYS](0.88 * (1 - n / max(number - 1, 1))) for n in range(number)]
