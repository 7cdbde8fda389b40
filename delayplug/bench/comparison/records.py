"""Runs on disk: a folder each, with one JSON record, written only when the run is complete.

OUT/sfsd-shd-norse-learned-seed0/
    config.toml     the configuration, as `--config` reads it
    record.json     configuration, versions, data with checksums, every epoch, accuracies, seconds, memory, parameters
    model.pt        state dict after the last epoch, delays before and after training, spikes of one test recording
    checkpoint.pt   only while the run is not finished: everything up to one of the last whole epochs
    refit.pt        the same for the second training of --refit, on all training recordings
"""

import hashlib
import io
import json
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NotRequired, cast

import torch
from pydantic import Field
from typing_extensions import TypedDict

from ...errors import ArgumentError, RunError, shortened
from ...toolkits import plugins
from ..config import RunConfig
from ..schema import Amount, Count, Number, Share, Split, UnreadableError, mismatch, read_json
from ..serialise import to_toml
from ..stopping import uninterrupted
from ..task import FILES, LAST, Task
from ..training.outcome import Epoch, Inference, Outcome
from ..variants import PER_SYNAPSE
from ..whole_files import write_whole
from .planted import planted_correlation

FORMAT = 3
RECORD, MODEL, CONFIG = "record.json", "model.pt", "config.toml"
CHECKPOINT, REFIT_CHECKPOINT = "checkpoint.pt", "refit.pt"
_MOVE = "Move it away to make the run again"
# Settings that the records of all versions have.
_IN_ALL = frozenset({
    *("dataset", "preset", "backend", "delays", "seed", "hidden", "max_delay", "fan_in", "epochs"),
    *("step_ms", "pool", "binning", "protocol"),
})  # fmt: skip
_PACKAGES = ("delayplug", "torch", "lightning", "dcls", "numpy")  # and that of the backend


class Data(Split):
    """The data of a run: numbers of recordings, shape of the frames, names of the classes, and the split in words.

    Its checksums are those of `Task`; records of early versions have none. `test` is the number of recordings
    that the run was tested on, and `tested_on` says which these are: mostly "the test set". Records of early versions
    lack `tested_on` and `held_speakers`, the speakers that were held out as a whole. `name`, such as "SHD-R", is
    present if the data set is known by its files.
    """

    checksums: NotRequired[dict[str, str]]
    tested_on: NotRequired[str]
    held_speakers: NotRequired[list[int]]
    name: NotRequired[str]


class HeldOut(TypedDict):
    """The training before a refit.

    Keys:
        accuracy: on the held-out recordings after the last epoch, in 0..1.
        epochs: all its epochs.
    """

    accuracy: Share
    epochs: Annotated[list[Epoch], Field(min_length=1)]


class Record(TypedDict):
    """The record of a run, as it is in record.json.

    Its accuracies are named by the rule that chose the epoch; if no epoch was chosen, there
    is only that after the last epoch. With a refit, `held_out` describes the training before it, and everything else
    the refit network. The machine is its
    devices, the name of the first, what computed the neurons on it, processor and threads, and whether steps ran as
    CUDA graphs; the records of early versions lack some of these. `model` is the
    SHA-256 of model.pt.
    """

    format: int
    config: dict[str, Any]
    finished: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    data: Data
    parameters: Count
    epochs: Annotated[list[Epoch], Field(min_length=1)]
    accuracy: dict[str, Share]
    best_epoch: Count
    seconds_per_epoch: Amount
    waiting: Amount
    peak_memory_mb: Amount
    spikes_per_neuron: list[Amount]
    model: NotRequired[str]
    planted_correlation: NotRequired[dict[str, Number | None]]
    held_out: NotRequired[HeldOut]
    inference: NotRequired[Inference]


def read_record(path: Path) -> Record:
    """A record, or RunError if the file is not one, or a part of it is missing or something else."""
    try:
        record = read_json(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: expected the record of a run, got no file of that name") from error
    except UnreadableError as error:
        raise RunError(f"{path}: expected the record of a run, got something unreadable: {error}. {_MOVE}") from error
    return check_record(record, path)


def check_record(value: object, path: Path | str) -> Record:
    """Check that a value is a record and return it, or raise RunError; `path` names its source in the message."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise RunError(f"{path}: expected the record of a run (format {FORMAT}), got other content. {_MOVE}")
    record = cast(Record, value)
    if wrong := mismatch(record, Record) or _contradiction(record):
        raise RunError(f"{path}: expected the record of a run, got a damaged one: {wrong}. {_MOVE}")
    try:
        RunConfig(**record["config"])
    except (TypeError, ArgumentError) as error:
        raise RunError(f"{path}: expected the configuration of a run, got another one: {error}. {_MOVE}") from error
    return record


def _contradiction(record: Record) -> str:
    """What a record of the right types lacks, or where it contradicts itself, in words; "" if all is well."""
    if missing := sorted(_IN_ALL - record["config"].keys()):
        return f"config lacks {', '.join(missing)}"
    if LAST not in record["accuracy"]:
        return f"accuracy lacks {LAST}"
    for epochs in (record["epochs"], record["held_out"]["epochs"] if "held_out" in record else []):
        numbers = [entry["epoch"] for entry in epochs]
        if numbers != sorted(set(numbers)):
            return f"its epochs are numbered {shortened(numbers)}"
    return ""


def check_comparable(records: Sequence[Record], where: Path | str, fields: Sequence[str] = FILES) -> None:
    """Raise RunError unless records of runs that read the same files have the same checksums of what was in them.

    For runs that read different files, the checksums of the files that both read are compared.

    Args:
        records: of the runs.
        where: the source of the records, for the message.
        fields: the fields of the configuration that decide which files a run reads, and how.
    """
    first: dict[tuple[object, ...], tuple[str, Record]] = {}
    for record in records:
        files = tuple(record["config"][name] for name in fields)
        checksums = record["data"].get("checksums")
        for name, checksum in ({"": "none"} if checksums is None else {"": "some", **checksums}).items():
            there, other = first.setdefault((*files, name), (checksum, record))
            if there != checksum:
                names = " and ".join(RunConfig(**each["config"]).name for each in (other, record))
                advice = "Move one of them away"
                raise RunError(f"{where}: expected runs of the same data, got other checksums in {names}. {advice}")


def make_record(config: RunConfig, task: Task, outcome: Outcome, device: str, first: Outcome | None = None) -> Record:
    """The record of a run, with everything that tables and plots need and that distinguishes it from other runs.

    With a refit, `outcome` is that of the refit, and `first` that of the training before it.
    """
    packages = (*_PACKAGES, plugins.backend_package(config.backend))
    record: Record = {
        "format": FORMAT,
        "config": config.to_json(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{package: version for package in packages if (version := plugins.version(package))},
        },
        "machine": {
            "device": device,
            "name": outcome.device,
            "neurons": outcome.neurons,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "graph": outcome.graph,
        },
        "data": {
            "train": len(task.train if task.whole is None else task.whole),
            "valid": 0 if task.valid is None else len(task.valid),
            "test": len(task.test),
            "steps": task.train.steps,
            "channels": task.train.channels,
            "classes": list(task.train.classes),
            "split": task.split,
            "checksums": dict(task.checksums),
            "tested_on": task.tested_on,
            "held_speakers": list(task.held_speakers),
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
    if first is not None:
        record["held_out"] = {"accuracy": first.accuracy[LAST], "epochs": first.epochs}
    if outcome.inference is not None:
        record["inference"] = outcome.inference
    if task.name:
        record["data"]["name"] = task.name
    if task.planted is not None and outcome.delays.get("after") and config.delays in PER_SYNAPSE:
        record["planted_correlation"] = {
            f"{when} training": planted_correlation(delays, outcome.weights, task.planted)
            for when, delays in outcome.delays.items()
        }
    return record


def write_run(folder: Path, config: RunConfig, record: Record, outcome: Outcome) -> None:
    """Save a run. The record is written last: a folder that has one has everything that belongs to it."""
    buffer = io.BytesIO()
    torch.save({"state": outcome.state, "delays": outcome.delays, "example": outcome.example}, buffer)
    model = buffer.getvalue()
    complete: Record = {**record, "model": hashlib.sha256(model).hexdigest()}
    with uninterrupted():
        write_config(folder, config)
        write_whole(folder / MODEL, model)
        write_whole(folder / RECORD, json.dumps(complete, indent=1) + "\n")
        for name in (CHECKPOINT, REFIT_CHECKPOINT):
            (folder / name).unlink(missing_ok=True)


def write_config(folder: Path, config: RunConfig) -> None:
    """Save the configuration, which makes the run again: `delayplug bench run --config FOLDER/config.toml`."""
    write_whole(folder / CONFIG, to_toml(config))
