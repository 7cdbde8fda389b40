"""What `delayplug data info` says and draws."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from delayplug.data import read_recordings
from delayplug.data.info import draw, draw_speakers, seconds, spikes, table


def said(name, parts):
    console = Console(width=80)
    with console.capture() as text:
        console.print(table(name, parts))
    return " ".join(text.get().split())


def test_numbers(write):
    recordings = read_recordings(write())
    assert spikes(recordings).tolist() == [4, 0, 1]
    np.testing.assert_allclose(seconds(recordings), [1.1, 0, 0], atol=1e-3)


def test_a_table_that_fits_a_terminal(write):
    train, test = read_recordings(write()), read_recordings(write("a_test.h5", speaker=np.array([4, 7, 9], np.uint16)))
    text = said("digits", {"train": train, "test": test})
    assert "digits" in text
    assert "train 3 2" in text
    assert "2 classes, 700 channels (5 used)" in text
    assert "Speakers in test only: 7, 9." in text
    unknown = said("digits", {"train": train, "test": read_recordings(write("b_test.h5", speaker=None))})
    assert "unknown" in unknown
    assert "Speakers" not in unknown


@pytest.mark.parametrize("speaker", [np.array([4, 2, 4], np.uint16), None], ids=["speakers", "none"])
def test_a_picture(write, tmp_path: Path, speaker):
    parts = {"train": read_recordings(write(speaker=speaker)), "test": read_recordings(write("a_test.h5"))}
    draw(parts, tmp_path / "new" / "picture.png")
    assert (tmp_path / "new" / "picture.png").stat().st_size > 10_000


def test_many_speakers(write, tmp_path: Path):
    """They are sorted, and told as a number."""
    train = read_recordings(write())
    speakers = np.arange(30, 60)
    many = replace(train, labels=np.arange(30) % 2, speakers=speakers, offsets=np.arange(31) % 5)
    assert "30 speakers are in test only." in said("digits", {"train": train, "test": many})
    axes = Figure().subplots()
    draw_speakers(axes, {"train": train, "test": many})
    assert axes.get_xlabel() == "32 speakers, sorted"
    assert not len(axes.get_xticks())
    parts = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert parts == [[2, 1] + [0] * 30, [0, 0] + [1] * 30]
    few = Figure().subplots()
    draw_speakers(few, {"train": train})
    assert [label.get_text() for label in few.get_xticklabels()] == ["2", "4"]


def test_a_silent_file_can_be_drawn(write, tmp_path: Path):
    draw({"train": read_recordings(write(times=[[], [], []], units=[[], [], []]))}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
