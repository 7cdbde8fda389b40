"""The contents of a folder of recordings, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._colours import BLUE, GREEN, VERMILLION
from .._extras import extra
from .._files import picture_of, replace_file
from .._tables import counted, lines, make_table, number, text
from ..errors import ArgumentError, DataError, did_you_mean, shortened
from .recordings import Recordings

with extra("bench", "the picture of a folder of recordings"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.figure import Figure

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_EXAMPLES = 4
_NAMED = 20  # speakers; more are drawn and told as a number
_COLOURS = {"train": BLUE, "valid": GREEN, "test": VERMILLION}


def check_parts(parts: Mapping[str, Recordings]) -> None:
    """Raise DataError unless each file of a data set has spikes, and all have the same classes."""
    for recordings in parts.values():
        if not len(recordings.times):
            got = f"none in its {len(recordings):,} recordings"
            raise DataError(f"{recordings.source}: expected spikes, got {got}. Make or download the file again.")
    first = next(iter(parts.values()))
    for other in parts.values():
        if other.classes != first.classes:
            here, there = (shortened(list(each.classes)) for each in (other, first))
            got = f"{here}, and {there} in {first.source.name}"
            raise DataError(f"{other.source}: expected the same classes in all files, got {got}. Name them alike.")


def table(name: str, parts: Mapping[str, Recordings]) -> Table:
    """One row per part: recordings, classes, speakers, spikes, lengths; medians, and the range below them."""
    headers = ("recordings", "of each class", "speakers", "spikes", "seconds")
    result = make_table(text("part", wrap="never"), *map(number, headers), title=name, caption=_caption(parts))
    for part, recordings in parts.items():
        per_class = np.bincount(recordings.labels, minlength=len(recordings.classes))
        speakers = "unknown" if recordings.speakers is None else str(len(np.unique(recordings.speakers)))
        result.add_row(
            part,
            f"{len(recordings):,}",
            lines(f"{np.median(per_class):,.0f}", f"{per_class.min():,} - {per_class.max():,}"),
            speakers,
            _range(spikes(recordings), "{:,.0f}"),
            _range(seconds(recordings), "{:.2f}"),
        )
    return result


def spikes(recordings: Recordings) -> NDArray[np.int64]:
    """(N,) spikes of each recording."""
    return np.diff(recordings.offsets)


def seconds(recordings: Recordings) -> NDArray[np.float32]:
    """(N,) seconds from the first to the last spike of each recording, 0 where there is none."""
    start, stop = recordings.offsets[:-1], recordings.offsets[1:]
    lengths = np.zeros(len(recordings), np.float32)
    some = stop > start
    lengths[some] = recordings.times[stop[some] - 1] - recordings.times[start[some]]
    return lengths


def check_picture(path: Path) -> None:
    """Raise ArgumentError unless a picture can have this name."""
    formats = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        expected = f"a file that ends in .{', .'.join(sorted(formats))}"
        raise ArgumentError("plot", expected, path, did_you_mean(path.suffix[1:], formats))
    if path.is_dir() or (path.parent.exists() and not path.parent.is_dir()):
        raise ArgumentError("plot", "a file", f"{path}, which is a folder" if path.is_dir() else path)


@matplotlib.rc_context({"text.parse_math": False})  # names may have a dollar sign
def draw(parts: Mapping[str, Recordings], path: Path) -> None:
    """Rasters of some recordings; lengths, spikes per recording, rate of each channel, recordings per speaker.

    Raises:
        ArgumentError: the end of the file's name says no format of pictures.
        DataError: it cannot be written.
    """
    first = next(iter(parts.values()))
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    grid = figure.add_gridspec(2, 1)
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    for axes, n in zip(above.subplots(1, _EXAMPLES, sharey=True), _examples(first), strict=True):
        events = slice(first.offsets[n], first.offsets[n + 1])
        axes.plot(first.times[events], first.units[events], ",", color="black", alpha=0.5)
        speaker = "" if first.speakers is None else f", speaker {first.speakers[n]}"
        axes.set_title(f"{first.classes[first.labels[n]]}{speaker}", fontsize=10)
        axes.set_xlabel("time (s)")
        axes.set_ylim(0, first.channels)
    above.axes[0].set_ylabel("channel")
    lengths, spikes_each, rate, who = below.subplots(1, 4)
    for name, recordings in parts.items():
        _step_histogram(lengths, seconds(recordings), name)
        _step_histogram(spikes_each, spikes(recordings), name)
        per_channel = np.bincount(recordings.units, minlength=recordings.channels) / len(recordings)
        rate.plot(per_channel, color=_COLOURS.get(name), linewidth=0.8)
    lengths.set_xlabel("length (s)")
    spikes_each.set_xlabel("spikes per recording")
    rate.set_xlabel("channel")
    rate.set_title("spikes per recording", fontsize=10)
    for axes in (lengths, spikes_each):
        axes.set_yticks([])
    lengths.set_ylabel("share of recordings")
    lengths.legend(frameon=False, fontsize=9)
    draw_speakers(who, parts)
    for axes in (*above.axes, *below.axes):
        axes.spines[["top", "right"]].set_visible(False)
    try:
        picture = picture_of(figure, path)
    except ValueError as error:
        raise ArgumentError("plot", "the name of a picture, such as data.png", path, str(error)) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, picture)
    except OSError as error:
        advice = "Choose another place with --plot"
        raise DataError(f"{path}: expected a picture that can be written, got {error}. {advice}") from error


def _step_histogram(axes: Axes, values: NDArray[Any], part: str) -> None:
    axes.hist(values, bins=40, histtype="step", density=True, label=part, color=_COLOURS.get(part))


def draw_speakers(axes: Axes, parts: Mapping[str, Recordings]) -> None:
    """Recordings of each speaker; many are sorted by part and number, without their names."""
    known = {name: r.speakers for name, r in parts.items() if r.speakers is not None}
    axes.set_xlabel("speaker")
    axes.set_title("recordings", fontsize=10)
    if not known:
        axes.text(0.5, 0.5, "unknown", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    everyone = np.unique(np.concatenate(list(known.values())))
    counts = np.array([(speakers == everyone[:, None]).sum(1) for speakers in known.values()])  # of each part
    named = len(everyone) <= _NAMED
    if not named:
        counts = counts[:, np.lexsort((-counts.sum(0), (counts > 0).argmax(0)))]
        axes.set_xlabel(f"{len(everyone)} speakers, sorted")
        axes.set_xticks([])
    for name, count, bottom in zip(known, counts, counts.cumsum(0) - counts, strict=True):
        axes.bar(range(len(everyone)), count, bottom=bottom, color=_COLOURS.get(name), width=0.7 if named else 1.0)
    if named:
        axes.set_xticks(range(len(everyone)), everyone.astype(str), fontsize=8)


def _examples(recordings: Recordings) -> list[int]:
    """The first recording with spikes of some classes, repeated if there are fewer classes than examples."""
    chosen: list[int] = []
    for label in np.unique(recordings.labels):
        members = np.flatnonzero(recordings.labels == label)
        busy = members[spikes(recordings)[members] > 0]
        chosen.append(int((busy if len(busy) else members)[0]))
    return [chosen[i % len(chosen)] for i in range(_EXAMPLES)]


def _caption(parts: Mapping[str, Recordings]) -> str:
    first = next(iter(parts.values()))
    used = len(np.unique(np.concatenate([r.units for r in parts.values()])))
    sizes = f"{counted(len(first.classes), 'class')}, {counted(first.channels, 'channel')} ({used} used)"
    summary = f"{sizes}. Medians, and the range below."
    speakers = {part: set(r.speakers.tolist()) for part, r in parts.items() if r.speakers is not None}
    if len(speakers) < len(parts) or "train" not in parts or "test" not in parts:
        return summary
    only_test = sorted(speakers["test"] - speakers["train"])
    if len(only_test) > _NAMED:
        return f"{summary} {len(only_test)} speakers are in test only."
    return f"{summary} Speakers in test only: {', '.join(map(str, only_test)) or 'none'}."


def _range(values: NDArray[Any], form: str) -> Text:
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return lines(form.format(middle), f"{form.format(low)} - {form.format(high)}")
