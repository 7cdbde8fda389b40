"""How all pictures look: colours, a figure where none is given, spines and ticks."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito: readable in print and for the colour-blind.
BLUE, ORANGE, GREEN, VERMILLION, PINK, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, LIGHT = "#999999", "#C8C8C8"
DELAYS = "viridis"  # of even steps to the eye


def axes_or_new(ax: Axes | None, width: float = 3.6, height: float = 2.9) -> Axes:
    return Figure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def opened(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def whole_numbers(axis: Any) -> None:
    axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
