"""Small runs, and small data, for the tests of the benchmark."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.sealed import save_sealed
from delayplug.bench.training.outcome import Epoch

CHECKSUMS = {"train": "1" * 64, "test": "2" * 64}
CONFIG = configure("shd", dataset="d", backend="spikingjelly", hidden=(4,), epochs=3)
EPOCH = dict.fromkeys(("epoch", "sigma", "train_loss", "train_accuracy", "valid_accuracy", "seconds", "waited"), 1)
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
    data: dict[str, Any] = {"train": 1, "valid": 1, "test": 1, "steps": 1, "channels": 1, "classes": ["0"], "split": ""}
    record: dict[str, Any] = {name: {} for name in Record.__required_keys__}
    record |= {"format": 3, "config": config.to_json(), "finished": "", "epochs": [EPOCH], "spikes_per_neuron": []}
    record |= dict.fromkeys(("parameters", "best_epoch", "seconds_per_epoch", "waiting", "peak_memory_mb"), 1)
    record |= {"accuracy": {"last epoch": 0.5}, "data": data | ({} if checksums is None else {"checksums": checksums})}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(record))


def put_checkpoint(folder: Path, config: RunConfig = CONFIG, checksums: dict[str, str] | None = CHECKSUMS) -> None:
    """A checkpoint after one epoch, with all that is needed to tell what it is of."""
    progress = {"config": config.to_json(), "epochs": [EPOCH]} | ({} if checksums is None else {"checksums": checksums})
    folder.mkdir(parents=True, exist_ok=True)
    save_sealed(folder / "checkpoint.pt", {"delayplug": progress})


def record_of(config: RunConfig, accuracy: float, held: tuple[int, ...] = (), **changes: Any) -> Record:
    """A record in memory: of speakers held out in place of the test set, or of the test set, by its protocol.

    Args:
        config: of the run.
        accuracy: after the last epoch.
        held: speakers that were held out.
        changes: other values of the record.
    """
    by_speakers = config.protocol == "speakers"
    epochs: list[Epoch] = [
        {
            "epoch": epoch,
            "sigma": None,
            "train_loss": 1 / epoch,
            "train_accuracy": accuracy,
            "valid_accuracy": None if config.refit else accuracy,
            "seconds": 0.5,
            "waited": 0.0,
        }
        for epoch in (1, 2)
    ]
    record: Record = {
        "format": 3,
        "config": config.to_json(),
        "finished": "2026-11-26T16:00:00+00:00",
        "versions": {"torch": "2.11"},
        "machine": {"device": "cuda", "name": "H100", "threads": 1},
        "data": {
            "train": 6000,
            "valid": 1600,
            "test": 1600 if by_speakers else 2264,
            "steps": 100,
            "channels": 140,
            "classes": ["zero", "one"],
            "split": "1600 held out",
            "checksums": {"train": "1" * 64} if by_speakers else CHECKSUMS,
            "tested_on": f"speakers {held}" if by_speakers else "the test set",
            "held_speakers": list(held),
        },
        "parameters": 1000,
        "epochs": epochs,
        "accuracy": {"last epoch": accuracy},
        "best_epoch": 2,
        "seconds_per_epoch": 0.5,
        "waiting": 0.0,
        "peak_memory_mb": 100.0,
        "spikes_per_neuron": [1.0] * len(config.hidden),
    }
    if config.refit:
        validated: list[Epoch] = [{**entry, "valid_accuracy": accuracy - 0.1} for entry in epochs]
        record["held_out"] = {"accuracy": accuracy - 0.1, "epochs": validated}
    changed: Record = {**record, **changes}
    return changed


FOLDS = ((0, 1), (2, 3))


def folds_and_refits() -> list[Record]:
    """Three methods on two folds, of a seed each, and under a refit of these seeds; the last one has fewer runs."""
    records = []
    for changes, on_folds, on_test in (
        ({"delays": "none"}, (0.50, 0.52), (0.60, 0.62)),
        ({}, (0.80, 0.70), (0.93, 0.94)),
        ({"tau": 2.0, "cutmix": 0.5}, (0.84, 0.72), (0.95,)),
    ):
        base = {"dataset": "data/d", "backend": "norse", **changes}
        for fold, accuracy in enumerate(on_folds):
            config = configure("shd", protocol="speakers", fold=fold, seed=fold, **base)
            records.append(record_of(config, accuracy, FOLDS[fold]))
        for seed, accuracy in enumerate(on_test):
            records.append(record_of(configure("shd", refit=True, seed=seed, **base), accuracy, FOLDS[seed]))
    return records
