"""Small runs, and small data, for the tests of the benchmark."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig, configure

CHECKSUMS = {"train": "1" * 64, "test": "2" * 64}
CONFIG = configure("shd", dataset="d", backend="spikingjelly", hidden=(4,), epochs=3)
TINY = {"epochs": 2, "hidden": (8,), "max_delay": 6}


class Comparison(NamedTuple):
    """Finished runs: their configurations, the folder that they are in, and their records."""

    configs: list[RunConfig]
    out: Path
    records: list[Record]


def write_recordings(path: Path, number: int, *, speakers: int = 0, seconds: float = 0.3) -> None:
    """A file of random recordings in the layout of SHD: two classes, which take turns.

    Args:
        path: of the file.
        number: of recordings.
        speakers: how many; 0: the file names none.
        seconds: that the longest may last.
    """
    rng = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (number,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (number,), h5py.vlen_dtype(np.uint16))
        for n in range(number):
            times[n] = np.sort(rng.uniform(0, seconds, 40)).astype(np.float16)
            units[n] = rng.integers(0, 700, 40).astype(np.uint16)
        file["labels"] = np.arange(number, dtype=np.uint16) % 2
        file["extra/keys"] = np.array([b"zero", b"one"])
        if speakers:
            file["extra/speaker"] = np.arange(number, dtype=np.uint16) // 2 % speakers


def put_record(folder: Path, config: RunConfig = CONFIG, checksums: dict[str, str] | None = CHECKSUMS) -> None:
    """A record with all that is needed to read it."""
    data: dict[str, Any] = {"train": 1, "valid": 1, "test": 1, "steps": 1, "channels": 1, "classes": [], "split": ""}
    epoch = dict.fromkeys(("epoch", "sigma", "train_loss", "train_accuracy", "valid_accuracy", "seconds", "waited"), 1)
    record: dict[str, Any] = {name: {} for name in Record.__required_keys__}
    record |= {"format": 3, "config": config.to_json(), "finished": "", "epochs": [epoch], "spikes_per_neuron": []}
    record |= dict.fromkeys(("parameters", "best_epoch", "seconds_per_epoch", "waiting", "peak_memory_mb"), 1)
    record |= {"accuracy": {"last epoch": 0.5}, "data": data | ({} if checksums is None else {"checksums": checksums})}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record))


def put_checkpoint(folder: Path, config: RunConfig = CONFIG, checksums: dict[str, str] | None = CHECKSUMS) -> None:
    """A checkpoint after one epoch, with all that is needed to tell what it is of."""
    progress = {"config": config.to_json(), "epochs": [{}]} | ({} if checksums is None else {"checksums": checksums})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"delayplug": progress}, folder / "checkpoint.pt")
