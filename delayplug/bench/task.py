"""The data of a run: the embedded task, or a folder in SHD's layout, as frames of one common length."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ..data import Frames, cached_frames, find_splits, hold_out
from ..data.cache import cached_md5
from ..data.known_data import recognise
from ..data.synthetic import TimingTask
from ..errors import ArgumentError, DataError
from .config import PRESET_OF_DATA, SYNTHETIC, RunConfig

_SYNTHETIC_SIZES = (1000, 300, 1000)  # train, validation, test
_SYNTHETIC_TASK = TimingTask(jitter=0.3, distractors=2)
_PIECE = 1 << 26  # bytes
# The fields that decide which recordings a run reads, and how they are binned.
FILES = ("dataset", "step_ms", "pool", "binning")


@dataclass(frozen=True)
class Task:
    """Frames to train on, to choose the epoch by, and to report; and how they were split, as text.

    Attributes:
        train, valid, test: frames (T, N, C) with the same T, C and classes.
        split: as text.
        rule: by what the reported epoch is chosen: "best on validation", or "best on test" if `valid` is the test set.
        planted: (classes, C) delays that solve the task, if they are known.
        checksums: of the recordings of each file, before they are cut or split.
        name: of the data set, as `data_name` gives it.
    """

    train: Frames
    valid: Frames
    test: Frames
    split: str
    rule: str = "best on validation"
    planted: Tensor | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    name: str = ""


def load_task(config: RunConfig) -> Task:
    """Read, bin and split the data of a run.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    return replace(_split(config), name=data_name(config.dataset))


def data_name(dataset: str) -> str:
    """The name of the data set in a folder, such as "SHD-R", by the MD5 of its files; "" if they are not known.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    if dataset == SYNTHETIC:
        return ""
    files = find_splits(dataset)
    known = recognise(files, {part: cached_md5(path) for part, path in files.items()}).data
    return "" if known is None else known.name


def usual_preset(dataset: str) -> str:
    """The preset that belongs to a data set: "quick" for the synthetic task, "shd" for a folder that is not known.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    return "quick" if dataset == SYNTHETIC else PRESET_OF_DATA.get(data_name(dataset), "shd")


def _split(config: RunConfig) -> Task:
    """`load_task`, without a name."""
    if config.dataset == SYNTHETIC and config.protocol != "heldout":
        raise ArgumentError("protocol", "'heldout' for the synthetic task", repr(config.protocol))
    parts = _read(config)
    checksums = {name: _checksum(frames) for name, frames in parts.items()}
    if config.dataset == SYNTHETIC:
        planted = _SYNTHETIC_TASK.planted_delays()
        split = "each part drawn by itself"
        return Task(parts["train"], parts["valid"], parts["test"], split, planted=planted, checksums=checksums)
    classes = {name: part.classes for name, part in parts.items()}
    if len(set(classes.values())) > 1:
        raise DataError(f"{config.dataset}: expected the same classes in all files, got {classes}")
    # One length for all: padding enters batch norm and the summed softmax, so it must not depend on the batch.
    steps = max(part.steps for part in parts.values())
    if config.window_ms:
        steps = min(steps, max(1, round(config.window_ms / config.step_ms)))
        parts = {name: part.first(steps) for name, part in parts.items()}
    parts = {name: part.padded(steps) for name, part in parts.items()}
    if "valid" in parts:
        split = "the validation file of the data"
        return Task(parts["train"], parts["valid"], parts["test"], split, checksums=checksums)
    whole = parts["train"]
    if config.protocol == "official":
        advice = "Take --protocol heldout"
        raise DataError(f"{config.dataset}: expected a file *_valid.h5 for the official protocol, got none. {advice}")
    if config.protocol == "paper":
        split = "none: the test set chooses the epoch, as published, and its accuracy is too high"
        return Task(whole, parts["test"], parts["test"], split, "best on test", checksums=checksums)
    try:
        trained_on, held_out = hold_out(
            whole.labels.numpy(),
            None if whole.speakers is None else whole.speakers.numpy(),
            fraction=config.validation_fraction,
            by=config.validation,
            seed=config.seed,
        )
    except ArgumentError as error:
        advice = "Take another seed, or --validation stratified"
        raise DataError(f"{config.dataset}: nothing can be held out for validation: {error} ({advice})") from error
    train, valid = whole.select(trained_on), whole.select(held_out)
    speakers = _speakers(valid)
    how = "drawn by class" if not speakers or speakers & _speakers(train) else f"all of speakers {sorted(speakers)}"
    split = f"{len(held_out)} training recordings held out, {how}"
    return Task(train, valid, parts["test"], split, checksums=checksums)


def data_checksums(config: RunConfig) -> dict[str, str]:
    """The `checksums` of the task of a run: they tell its data from other data under the same name.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    return {name: _checksum(frames) for name, frames in _read(config).items()}


def _read(config: RunConfig) -> dict[str, Frames]:
    """The recordings of each part: "train", "test" and perhaps "valid"."""
    if config.dataset == SYNTHETIC:
        sizes = zip(("train", "valid", "test"), _SYNTHETIC_SIZES, (1, 2, 3), strict=True)
        return {name: _SYNTHETIC_TASK.sample(size, seed) for name, size, seed in sizes}
    return {
        name: cached_frames(
            path, step_ms=config.step_ms, pool=config.pool, binning=config.binning, time_unit=config.time_unit
        )
        for name, path in find_splits(Path(config.dataset)).items()
    }


def _checksum(frames: Frames) -> str:
    """SHA-256 of all that a network sees of these recordings: counts, lengths, labels, classes, speakers."""
    about = {
        "classes": frames.classes,
        "steps": frames.steps,
        "rows": (tuple(frames.rows.shape), str(frames.rows.dtype)),
    }
    digest = hashlib.sha256(repr(about).encode())
    for values in (frames.rows, frames.starts, frames.lengths, frames.labels, frames.speakers):
        if values is not None:
            content = np.ascontiguousarray(values.numpy()).reshape(-1).view(np.uint8)
            for start in range(0, len(content), _PIECE):  # in pieces, so that a signal is heard in between
                digest.update(content[start : start + _PIECE].tobytes())
    return digest.hexdigest()


def _speakers(frames: Frames) -> set[int]:
    return set() if frames.speakers is None else set(frames.speakers.tolist())
