"""The common look of all pictures: size of a new figure, spines, ticks, the colour map of delays."""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DELAYS = "viridis"  # the colour map of delays; equal steps look equal


def axes_or_new(ax: Axes | None, width: float = 3.6, height: float = 2.9) -> Axes:
    """`ax`, or axes of a new figure of this size in inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots() if ax is None else ax


def opened(ax: Axes) -> Axes:
    """Remove the upper and the right border."""
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def whole_numbers(*axes: Axis) -> None:
    """Put at most seven ticks on each axis, at integers."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
