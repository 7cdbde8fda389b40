"""The time that data takes before and while a network is trained: binning once, then batches."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.table import Table

from ..._tables import make_table, number, text
from ...data import TimeUnit, cached_frames, find_splits
from ..training.batches import training_loader


@dataclass(frozen=True)
class Loading:
    """One file of recordings.

    Attributes:
        recordings: N.
        megabytes: of the binned frames on disk.
        binning: seconds to read and bin the file, once.
        opening: seconds to open frames that were binned before.
        batches: per second, shuffled, from the opened frames to float32 tensors.
    """

    recordings: int
    megabytes: float
    binning: float
    opening: float
    batches: float


def measure_loading(
    folder: Path,
    *,
    batch_size: int,
    step_ms: float = 10.0,
    pool: int = 5,
    time_unit: TimeUnit = "check",
    seconds: float = 5.0,
    progress: Callable[[str], object],
) -> dict[str, Loading]:
    """Time the data of a folder as runs use it, in a cache of its own that is deleted again.

    Args:
        folder: with files in SHD's layout.
        batch_size: recordings per batch.
        step_ms, pool: as for `bin_recordings`.
        time_unit: as for `read_recordings`.
        seconds: how long batches are drawn from each file, at least one epoch.
        progress: called with the part that is measured next.
    """
    parts = {}
    for name, path in find_splits(folder).items():
        progress(name)
        with tempfile.TemporaryDirectory() as cache:
            read = partial(cached_frames, path, step_ms=step_ms, pool=pool, time_unit=time_unit, cache=Path(cache))
            start = time.perf_counter()
            read()
            binned = time.perf_counter()
            frames = read()
            opened = time.perf_counter()
            loader = training_loader(frames, batch_size, seed=0)
            drawn = 0
            while drawn == 0 or time.perf_counter() - opened < seconds:
                drawn += sum(1 for _ in loader)
            rate = drawn / (time.perf_counter() - opened)
            parts[name] = Loading(len(frames), frames.rows.nbytes / 2**20, binned - start, opened - binned, rate)
            del frames, loader  # before the file that they map goes
    return parts


def table(name: str, parts: dict[str, Loading], batch_size: int) -> Table:
    """One row per part."""
    headers = ("recordings", "binned\nMB", "binning\ns", "recordings\nper s", "opening\nms", "batches\nper s")
    result = make_table(
        text("part", wrap="never"),
        *map(number, headers),
        title=name,
        caption=f"Binned once; opened by every later run. Batches of {batch_size}, shuffled, one process.",
    )
    for part, loading in parts.items():
        result.add_row(
            part,
            f"{loading.recordings:,}",
            f"{loading.megabytes:.1f}",
            f"{loading.binning:.2f}",
            f"{loading.recordings / loading.binning:,.0f}",
            f"{1000 * loading.opening:.0f}",
            f"{loading.batches:.1f}",
        )
    return result
