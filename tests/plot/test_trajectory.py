"""Delays over the epochs are shown with their quantiles."""

import pytest
import torch

from delayplug import ArgumentError, DelayHistory, LearnableDelay, plot
from tests.plot.pictures import networks, new_axes, text


def test_trajectory_shows_quantiles_and_followed_delays() -> None:
    layer = LearnableDelay(10, 10, max_delay=8)
    history = DelayHistory(layer, follow={"": [(3, 4, 0), (9, 9, 0)]})
    seen = [layer.delays.detach().clone()]
    for _ in range(3):
        with torch.no_grad():
            layer.delays.mul_(0.8)
        history.record()
        seen.append(layer.delays.detach().clone())
    (passed,) = new_axes()
    ax = plot.trajectory(history, ax=passed)
    assert ax is passed
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
    with pytest.raises(ArgumentError, match="layer: expected one of 0, 2, got 'fc9'"):
        plot.trajectory(history, "fc9")
    assert plot.trajectory(history, "2").get_title() == "2"
