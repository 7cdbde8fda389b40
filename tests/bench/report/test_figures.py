"""A comparison in pictures."""

from pathlib import Path

import pytest
import torch

from delayplug.bench.report.figures import (
    COLOURS,
    accuracy_figure,
    delays_figure,
    learning_curves_figure,
    raster_figure,
)
from delayplug.bench.variants import VARIANTS
from tests.bench.runs import Comparison


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


def test_every_variant_has_a_colour_of_its_own() -> None:
    assert len({COLOURS[kind] for kind in VARIANTS}) == len(COLOURS) == len(VARIANTS)


def test_raster_of_input_and_hidden_spikes() -> None:
    events = [torch.tensor([[0, 3], [1, 2]]), torch.tensor([[5], [0]])]
    above, below = raster_figure(events).axes
    assert [axes.get_ylabel() for axes in (above, below)] == ["input channel", "neuron, layer 1"]
    assert above.lines[0].get_xydata().tolist() == [[0, 1], [3, 2]]
