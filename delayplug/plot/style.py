"""How all pictures look: colours, a figure where none is given, spines and ticks."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DELAYS = "viridis"  # the colour map of delays; equal steps look equal


def axes_or_new(ax: Axes | None, width: float = 3.6, height: float = 2.9) -> Axes:
    return Figure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def opened(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def whole_numbers(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
