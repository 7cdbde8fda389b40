"""The picture of a sweep."""

from pathlib import Path

import numpy as np

from delayplug.bench.search.trial_figures import sweep_figure
from tests.bench.search.sweeps import record, trial


def test_a_panel_for_the_order_and_one_for_each_field(tmp_path: Path) -> None:
    figure = sweep_figure(record())
    order, rate, hidden = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["setting", "lr", "hidden"]
    assert rate.get_xscale() == "log"
    assert len(rate.get_xticks()) == 3
    assert len(rate.get_xticks(minor=True)) == 0  # whose labels would overlap
    assert [label.get_text() for label in hidden.get_xticklabels()] == ["4", "8 8"]
    best = order.lines[0].get_ydata()
    assert np.allclose(best, [50, 50, 60, 60])  # the refused one has no accuracy
    assert len(order.collections) == len(rate.collections) == 4
    figure.savefig(tmp_path / "sweep.png")


def test_values_of_the_preset_outside_of_a_list_are_left_out() -> None:
    figure = sweep_figure(record(trials=[trial(0, [0.5], hidden=(64,)), trial(1, [0.6])]))
    assert [len(axes.collections) for axes in figure.axes] == [2, 2, 1]


def test_a_sweep_that_has_just_begun() -> None:
    assert len(sweep_figure(record(trials=[trial(0, [], "open")], chosen=None)).axes) == 3
