"""Small runs, and small data, for the tests of the benchmark."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig

TINY = {"epochs": 2, "hidden": (8,), "max_delay": 6}


class Comparison(NamedTuple):
    """Finished runs: their configurations, the folder that they are in, and their records."""

    configs: list[RunConfig]
    out: Path
    records: list[Record]


def write_recordings(path: Path, number: int, *, speakers: int = 0) -> None:
    """A file of random recordings in the layout of SHD: two classes, which take turns.

    Args:
        path: of the file.
        number: of recordings.
        speakers: how many; 0: the file names none.
    """
    rng = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (number,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (number,), h5py.vlen_dtype(np.uint16))
        for n in range(number):
            times[n] = np.sort(rng.uniform(0, 0.3, 40)).astype(np.float16)
            units[n] = rng.integers(0, 700, 40).astype(np.uint16)
        file["labels"] = np.arange(number, dtype=np.uint16) % 2
        file["extra/keys"] = np.array([b"zero", b"one"])
        if speakers:
            file["extra/speaker"] = np.arange(number, dtype=np.uint16) // 2 % speakers
