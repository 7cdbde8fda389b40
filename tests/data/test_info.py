"""What `delayplug data info` says and draws."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from delayplug import ArgumentError, DataError
from delayplug.data import read_recordings
from delayplug.data.info import check_parts, draw, draw_speakers, seconds, spikes, table


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


def test_names_with_dollar_signs(write, tmp_path: Path):
    """They are no mathematics; control characters and other scripts are drawn somehow."""
    names = np.array(["$x$", "$\\frac{$"], h5py.string_dtype())
    parts = {"train": read_recordings(write(keys=names))}
    draw(parts, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_pictures_that_cannot_be_written(write, tmp_path: Path):
    parts = {"train": read_recordings(write())}
    with pytest.raises(ArgumentError, match=r"plot: expected the name of a picture, such as data.png, got .*p\.xyz"):
        draw(parts, tmp_path / "p.xyz")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"expected a picture that can be written, got .* Choose another place"):
        draw(parts, tmp_path / "file" / "p.png")


def test_parts_of_one_data_set(write):
    train = read_recordings(write())
    check_parts({"train": train, "test": train})
    silent = read_recordings(write("a_test.h5", times=[[], [], []], units=[[], [], []]))
    with pytest.raises(DataError, match=r"a_test.h5: expected spikes, got none in its 3 recordings. Make or download"):
        check_parts({"train": train, "test": silent})
    other = read_recordings(write("a_test.h5", keys=np.array([b"zero", b"two"])))
    with pytest.raises(DataError, match=r"a_test.h5: expected the same classes .* \['zero', 'two'\], and .*'one'\]"):
        check_parts({"train": train, "test": other})
