"""A comparison in pictures."""

from pathlib import Path

import pytest
import torch

from delayplug.bench.config import configure
from delayplug.bench.report.figures import (
    COLOURS,
    accuracy_figure,
    delays_figure,
    learning_curves_figure,
    raster_figure,
)
from delayplug.bench.variants import VARIANTS
from tests.bench.runs import Comparison, folds_and_refits, record_of


@pytest.mark.trains
def test_picture_of_accuracies(comparison: Comparison) -> None:
    _, _, records = comparison
    figure = accuracy_figure(records)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["none", "fixed", "learned"]
    marks = [100 * record["accuracy"]["last epoch"] for record in records]
    drawn = [float(marks.get_offsets()[0][0]) for marks in axes.collections]
    assert drawn == pytest.approx(marks)


@pytest.mark.trains
def test_pictures_in_files(comparison: Comparison, tmp_path: Path) -> None:
    configs, out, records = comparison
    learning_curves_figure(records).savefig(tmp_path / "curves.png")
    delays_figure(records[2], out / configs[2].name).savefig(tmp_path / "delays.png")
    for name in ("curves.png", "delays.png"):
        content = (tmp_path / name).read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(content) > 10_000


def test_pictures_of_folds_and_refits() -> None:
    """A panel for held-out speakers and one for the test set; curves are of the runs on the test set."""
    records = folds_and_refits()
    held, tested = accuracy_figure(records).axes
    assert held.get_xlabel() == "accuracy on held-out speakers (%)"
    names = ["none", "learned", "learned, tau 2, cutmix 0.5"]
    assert [label.get_text() for label in held.get_yticklabels()] == names
    assert [len(marks.get_offsets()) for marks in held.collections] == [2, 2, 2]
    assert [len(marks.get_offsets()) for marks in tested.collections] == [2, 2, 1]
    figure = learning_curves_figure(records)
    assert figure is not None
    accuracy, loss = figure.axes
    assert [line.get_label() for line in loss.lines] == [f"{name}, norse" for name in names]
    assert len({line.get_color() for line in loss.lines}) == 3
    assert accuracy.lines[1].get_xydata().tolist() == [[1, pytest.approx(83.5)], [2, pytest.approx(83.5)]]


def test_curves_need_epochs() -> None:
    """Runs that were validated after other epochs share those after which all were."""
    configs = [configure("shd", dataset="d", backend="norse", seed=seed, validate_every=1 + seed) for seed in (0, 1)]
    often, seldom = (record_of(config, 0.5) for config in configs)
    seldom["epochs"][0]["valid_accuracy"] = None
    figure = learning_curves_figure([often, seldom])
    assert figure is not None
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[2, 50]]
    assert learning_curves_figure([{**often, "epochs": []}]) is None


def test_every_variant_has_a_colour_of_its_own() -> None:
    assert len({COLOURS[kind] for kind in VARIANTS}) == len(COLOURS) == len(VARIANTS)


def test_raster_of_input_and_hidden_spikes() -> None:
    events = [torch.tensor([[0, 3], [1, 2]]), torch.tensor([[5], [0]])]
    above, below = raster_figure(events).axes
    assert [axes.get_ylabel() for axes in (above, below)] == ["input channel", "neuron, layer 1"]
    assert above.lines[0].get_xydata().tolist() == [[0, 1], [3, 2]]
