"""`delayplug data`: getting recordings, and looking at them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, TaskID, TimeRemainingColumn, TransferSpeedColumn

from ..bench.stopping import advise
from ..data.choices import DataSet, Packing, TimeUnit
from .console import progress_bars, say, show, warn, working
from .usage import Command, Group

_TIME_UNIT = "Of the times in the files: s, ms or us; check: seconds, refused where they look like ms or us."

data = typer.Typer(cls=Group, help="Get recordings of spikes, and look at them.", no_args_is_help=True)


@data.command(cls=Command)
def download(
    name: Annotated[DataSet, typer.Argument(help="Heidelberg digits, or speech commands.")],
    root: Annotated[Path, typer.Option(help="Folder of all data sets.")] = Path("data"),
    url: Annotated[str | None, typer.Option(help="Folder of a mirror (DELAYPLUG_DATA_URL, else the site).")] = None,
    packing: Annotated[Packing, typer.Option(help="Archives to take; gz for shd only.")] = "zip",
) -> None:
    """Download a data set, check it and unpack it.

    A download that was interrupted resumes when called again; files that exist already are checked and left alone.

    \b
    Examples:
        delayplug data download shd
        delayplug data download ssc --root /data --url https://mirror.example/datasets
    """
    from ..data.download import download as fetch

    advise(lambda: "run again to go on with the download")
    with progress_bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        folder = fetch(name, root, url=url, packing=packing, progress=progress)
    say(f"{name}: {folder}    Next: delayplug data info {folder}")


@data.command(cls=Command)
def info(
    folder: Annotated[Path, typer.Argument(help="With *_train, *_test (and *_valid) in SHD's layout.")],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, into a picture such as shd.png.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the recordings.")] = 700,
    time_unit: Annotated[TimeUnit, typer.Option(help=_TIME_UNIT)] = "check",
) -> None:
    """Describe a folder of recordings; with --plot draw it, too: examples, lengths, rates, speakers.

    Known data sets are recognised by the checksums of their files and shown with their licence. A warning follows if
    the name of a file and its checksum do not agree.

    \b
    Examples:
        delayplug data info data/shd
        delayplug data info data/ssc --plot ssc.png
    """
    from ..data import find_splits, read_recordings
    from ..data.info import check_parts, check_picture, draw, table
    from ..data.known_data import md5, recognise

    files = find_splits(folder)
    if plot is not None:
        check_picture(plot)
    with working("reading") as update:
        parts, checksums = {}, {}
        for name, path in files.items():
            update(f"reading {path.name}")
            parts[name] = read_recordings(path, channels=channels, time_unit=time_unit)
            checksums[name] = md5(path)
        check_parts(parts)
        known = recognise(files, checksums)
    name = folder.resolve().name
    show(table(name if known.data is None else f"{known.data.name} ({name})", parts))
    if known.data is not None:
        say(known.data.describe())
    for warning in known.warnings:
        warn(warning)
    if plot is not None:
        with working("drawing"):
            draw(parts, plot)
        say(f"Picture: {plot}")


@data.command(cls=Command)
def speed(
    folder: Annotated[Path, typer.Argument(help="With *_train, *_test (and *_valid) in SHD's layout.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Recordings per batch.")] = 256,
    step_ms: Annotated[float, typer.Option(help="Length of a step.")] = 10.0,
    pool: Annotated[int, typer.Option(min=1, help="Neighbouring channels that are summed.")] = 5,
    time_unit: Annotated[TimeUnit, typer.Option(help=_TIME_UNIT)] = "check",
) -> None:
    """Time how recordings become batches: binning, opening what was binned, batches per second.

    The time that a training waits for its data is in the record and the report of each run.

    \b
    Example:
        delayplug data speed data/shd
    """
    from ..bench.measure.loading import measure_loading, table

    with working("reading") as update:
        parts = measure_loading(
            folder,
            batch_size=batch_size,
            step_ms=step_ms,
            pool=pool,
            time_unit=time_unit,
            progress=update,
        )
    show(table(folder.resolve().name, parts, batch_size))
