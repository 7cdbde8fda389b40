"""What all pictures have in common."""

import matplotlib
import pytest

from delayplug.plot.style import DELAYS, axes_or_new, opened, whole_numbers
from tests.plot.pictures import new_axes


def test_axes_are_taken_or_made() -> None:
    (ax,) = new_axes()
    assert axes_or_new(ax, 5, 4) is ax
    new = axes_or_new(None, 5, 4)
    assert new.figure.get_size_inches().tolist() == [5, 4]
    assert axes_or_new(None).figure is not axes_or_new(None).figure


def test_only_lower_and_left_border_stay() -> None:
    (ax,) = new_axes()
    assert opened(ax) is ax
    assert {side for side, spine in ax.spines.items() if spine.get_visible()} == {"left", "bottom"}


@pytest.mark.parametrize("longest", [1, 3, 10, 62, 300])
def test_ticks_are_at_integers(longest) -> None:
    (ax,) = new_axes()
    ax.plot([0, longest], [0, longest])
    whole_numbers(ax.xaxis)
    ticks = ax.xaxis.get_ticklocs()
    assert all(tick == round(tick) for tick in ticks)
    assert 2 <= sum(0 <= tick <= longest for tick in ticks) <= 7


def test_longer_delays_are_brighter() -> None:
    shades = [sum(matplotlib.colormaps[DELAYS](n / 10)[:3]) for n in range(11)]
    assert shades == sorted(shades)
