"""A picture of how delays move during training."""

from matplotlib.axes import Axes

from .._colours import BLUE, GREEN, GREY, LIGHT, ORANGE, PINK, SKY, VERMILLION
from ..errors import ArgumentError
from ..learning.history import DelayHistory
from .style import axes_or_new, opened, whole_numbers


def trajectory(history: DelayHistory, layer: str | None = None, ax: Axes | None = None) -> Axes:
    """Delays of a layer over the epochs: bands of 50 % and 90 % of them, their median, and the followed delays.

    Args:
        history: with at least one record.
        layer: its name; optional where there is only one.
        ax: where to draw.

    Raises:
        ArgumentError: there is no such layer.
    """
    if layer is None:
        if len(history.first) != 1:
            raise ArgumentError("layer", f"one of {', '.join(map(repr, history.first))}", None)
        layer = next(iter(history.first))
    low, lower, median, upper, high = history.quantiles(layer).T.tolist()
    ax = axes_or_new(ax, 4.6)
    epochs = list(range(len(history)))
    ax.fill_between(epochs, low, high, color=LIGHT, alpha=0.4, linewidth=0, label="90 % of delays")
    ax.fill_between(epochs, lower, upper, color=GREY, alpha=0.55, linewidth=0, label="50 %")
    ax.plot(epochs, median, color="black", linewidth=1.6, label="median")
    colours = (BLUE, ORANGE, GREEN, VERMILLION, PINK, SKY)
    followed = history.delays(layer).T.tolist()
    for n, line in enumerate(followed):
        label = "single delays" if n == 0 else None
        ax.plot(epochs, line, color=colours[n % len(colours)], linewidth=1.1, label=label)
    most = history.limits[layer]
    ax.set(xlabel="epoch", ylabel="delay (steps)", title=layer)
    ax.set(xlim=(0, max(len(history) - 1, 1)), ylim=(-0.02 * most, 1.02 * most if most else 1))
    whole_numbers(ax.xaxis)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)
    return opened(ax)
