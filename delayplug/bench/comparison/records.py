"""Runs on disk: a folder each, with one JSON record, written only when the run is complete.

OUT/sfsd-shd-norse-learned-seed0/
    config.toml     the configuration, as `--config` reads it
    record.json     configuration, versions, data, every epoch, accuracies, seconds, memory, parameters
    model.pt        state dict after the last epoch, delays before and after training, spikes of one test recording
    checkpoint.pt   only while the run is not finished: everything up to the last whole epoch
"""

import json
import os
import platform
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from ...errors import RunError
from ...toolkits import plugins
from ..config import RunConfig
from ..serialise import to_toml
from ..task import Task
from ..training.outcome import Epoch, Outcome
from .planted import planted_correlation

FORMAT = 3
CHECKPOINT = "checkpoint.pt"
_PACKAGES = ("delayplug", "torch", "lightning", "dcls", "numpy")  # and that of the backend


class Data(TypedDict):
    """The data of a run: numbers of recordings, shape of the frames, names of the classes, and the split in words."""

    train: int
    valid: int
    test: int
    steps: int
    channels: int
    classes: list[str]
    split: str


class Record(TypedDict):
    """The record of a run, as it is in record.json.

    Its accuracies are named by the rule that chose the epoch; the machine is its devices, processor and threads.
    """

    format: int
    config: dict[str, Any]
    finished: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    data: Data
    parameters: int
    epochs: list[Epoch]
    accuracy: dict[str, float]
    best_epoch: int
    seconds_per_epoch: float
    waiting: float
    peak_memory_mb: float
    spikes_per_neuron: list[float]
    planted_correlation: NotRequired[dict[str, float | None]]


def finished(folder: Path, config: RunConfig) -> Record | None:
    """The record of a run that is finished; None if it is still to be made.

    Raises:
        RunError: the folder holds a run of another configuration, or something that is not a record.
    """
    path = folder / "record.json"
    if not path.exists() or not (folder / "model.pt").exists():
        return None
    record = read_record(path)
    config.check_same(record["config"], str(folder))
    return record


def read_record(path: Path) -> Record:
    """A record, or RunError if the file is not one."""
    try:
        record: Record = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: expected the record of a run, got something unreadable: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT or not isinstance(record.get("config"), dict):
        raise RunError(f"{path}: expected the record of a run (format {FORMAT}), got other content")
    return record


def make_record(config: RunConfig, task: Task, outcome: Outcome, device: str) -> Record:
    """Everything about a run that a table or a plot needs, or that tells one run from another."""
    packages = (*_PACKAGES, plugins.backend_package(config.backend))
    record: Record = {
        "format": FORMAT,
        "config": config.to_json(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{package: version for package in packages if (version := plugins.version(package))},
        },
        "machine": {"device": device, "processor": platform.machine(), "threads": torch.get_num_threads()},
        "data": {
            "train": len(task.train),
            "valid": len(task.valid),
            "test": len(task.test),
            "steps": task.train.steps,
            "channels": task.train.channels,
            "classes": list(task.train.classes),
            "split": task.split,
        },
        "parameters": outcome.parameters,
        "epochs": outcome.epochs,
        "accuracy": outcome.accuracy,
        "best_epoch": outcome.best_epoch,
        "seconds_per_epoch": median(entry["seconds"] for entry in outcome.epochs),
        "waiting": sum(entry["waited"] for entry in outcome.epochs) / sum(e["seconds"] for e in outcome.epochs),
        "peak_memory_mb": outcome.peak_memory_mb,
        "spikes_per_neuron": outcome.spikes,
    }
    if task.planted is not None and outcome.delays.get("after"):
        record["planted_correlation"] = {
            f"{when} training": planted_correlation(delays, outcome.weights, task.planted)
            for when, delays in outcome.delays.items()
        }
    return record


def write_run(folder: Path, record: Record, outcome: Outcome) -> None:
    """Save a run, after `write_config`. The record is written last: a folder that has one has everything."""
    model = {"state": outcome.state, "delays": outcome.delays, "example": outcome.example}
    replace_file(folder / "model.pt", lambda path: torch.save(model, path))
    replace_file(folder / "record.json", lambda path: path.write_text(json.dumps(record, indent=1) + "\n"))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def write_config(folder: Path, config: RunConfig) -> None:
    """Save the configuration, which makes the run again: `delayplug bench run --config FOLDER/config.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "config.toml", lambda path: path.write_text(to_toml(config)))


def make_folder(out: Path) -> None:
    """Make the folder of a comparison, and check that it can be written to before anything is trained.

    Raises:
        RunError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise RunError(f"out: expected a folder that can be written to, got {out}: {error}") from error


def read_delays(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """(before, after) training of each delay layer, in steps."""
    delays = torch.load(folder / "model.pt", weights_only=True)["delays"]
    return list(zip(delays["before"], delays["after"], strict=True))


def read_example(folder: Path) -> list[Tensor]:
    """(time, channel) of the events and of the hidden spikes of one test recording, (2, E) for each layer."""
    example: list[Tensor] = torch.load(folder / "model.pt", weights_only=True)["example"]
    return example


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file as a whole or not at all: `write` writes another one in the same folder, which then replaces it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    write(temporary)
    temporary.replace(path)
