"""The data of a run: the embedded task, or a folder in SHD's layout, as frames of one common length."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data import Frames, cached_frames, find_splits, hold_out
from ..data.cache import cached_md5
from ..data.known_data import recognise
from ..data.splits import hold_out_speakers, speaker_folds
from ..data.synthetic import TimingTask
from ..errors import ArgumentError, DataError, did_you_mean, shortened
from .config import PRESET_OF_DATA, SYNTHETIC, Protocol, RunConfig, configure

_SYNTHETIC_SIZES = (1000, 300, 1000)  # train, validation, test
_SYNTHETIC_TASK = TimingTask(jitter=0.3, distractors=2)
_CHANNELS = 700  # of the recordings in a folder, before pooling
_CHUNK = 1 << 26  # bytes that are hashed at a time
# The files that a protocol reads; other protocols read all.
_READ = {"speakers": ("train",), "validation": ("train", "valid")}
# The fields that decide which recordings a run reads, and how they are binned.
FILES = ("dataset", "step_ms", "pool", "binning")
LAST = "last epoch"
TEST_SET = "the test set"
NOTHING_CHOSEN = "none: nothing is chosen, and "  # how the split begins where held-out recordings are tested on


@dataclass(frozen=True)
class Task:
    """The data of a run: frames to train on, to validate on, and to test on.

    Attributes:
        train, valid, test: frames (T, N, C) with the same T, C and classes. `valid` is None if there is no validation.
        split: how recordings were split, in words.
        rule: how the reported epoch is chosen: "best on validation", "best on test" if `valid` is the test set, or
            "last epoch" if no epoch is chosen.
        planted: (classes, C) delays that solve the task, if they are known.
        checksums: SHA-256 of the recordings of each file that is read, before they are cut or split.
        whole: all training recordings, for the second training of a refit; None without a refit.
        tested_on: what the recordings of `test` are, in words.
        held_speakers: the speakers of the training file that are not in `train`, ascending.
        name: of the data set, as `data_name` returns it.
    """

    train: Frames
    valid: Frames | None
    test: Frames
    split: str
    rule: str = "best on validation"
    planted: Tensor | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    whole: Frames | None = None
    tested_on: str = TEST_SET
    held_speakers: tuple[int, ...] = ()
    name: str = ""

    def first_part(self) -> "Task":
        """The training before a refit, which is tested on the held-out recordings and not on the test set."""
        assert self.valid is not None
        return replace(self, test=self.valid, rule=LAST, tested_on="held-out recordings")

    def refit(self) -> "Task":
        """The second training of a refit, on all training recordings, without validation."""
        assert self.whole is not None
        return replace(self, train=self.whole, valid=None, rule=LAST)


def load_task(config: RunConfig) -> Task:
    """Read, bin and split the data of a run.

    Raises:
        ArgumentError: the protocol does not fit this data, or a fold or a speaker is not in it.
        DataError: the folder or a file in it is not usable.
    """
    task = replace(_split(config), name=data_name(config.dataset, config.protocol))
    check_fits(config, task.train.channels, task.train.steps)
    return task


def check_before_reading(config: RunConfig) -> None:
    """`check_fits`, as far as the sizes of the data are known before any of it is read."""
    if config.dataset == SYNTHETIC:
        check_fits(config, _SYNTHETIC_TASK.channels, _SYNTHETIC_TASK.steps)
    else:
        check_fits(config, _CHANNELS // config.pool, None)


def check_fits(config: RunConfig, channels: int, steps: int | None) -> None:
    """Raise ArgumentError where delays as long as the recordings, or more synapses than inputs, are asked for.

    Args:
        config: of a run.
        channels: of its data, after pooling.
        steps: of its longest recording; None if that is not known.
    """
    asked = config.max_delay != configure(config.preset).max_delay  # not merely the preset's, for other data
    if steps is not None and asked and config.delays != "none" and config.max_delay >= steps:
        expected = f"less than the {steps} steps of the recordings in {config.dataset}"
        raise ArgumentError("max_delay", expected, config.max_delay, "What is delayed by more than that never arrives")
    most = max((channels, *config.hidden))
    if config.fan_in > most:
        raise ArgumentError("fan_in", f"at most {most}, the most inputs that a neuron has", config.fan_in, "0 is all")


def data_name(dataset: str, protocol: Protocol = "heldout") -> str:
    """The name of the data set in a folder, such as "SHD-R", by the MD5 of its files; "" if they are not known.

    Args:
        dataset: the folder, or "synthetic".
        protocol: only files that it reads are opened.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    if dataset == SYNTHETIC:
        return ""
    files = {part: path for part, path in _files(dataset).items() if _reads(protocol, part)}
    known = recognise(files, {part: cached_md5(path) for part, path in files.items()}).data
    return "" if known is None else known.name


def usual_preset(dataset: str) -> str:
    """The default preset of a data set: "quick" for the synthetic task, "shd" for a folder of unknown data.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    if dataset == SYNTHETIC:
        return "quick"
    return PRESET_OF_DATA.get(data_name(dataset, "speakers"), "shd")


def _split(config: RunConfig) -> Task:
    """As `load_task`, but without the name of the data set."""
    if config.dataset == SYNTHETIC and config.protocol not in ("heldout", "validation"):
        raise ArgumentError("protocol", "'heldout' or 'validation' for the synthetic task", repr(config.protocol))
    if config.dataset == SYNTHETIC and config.refit:
        raise ArgumentError("refit", "no refit for the synthetic task, of which nothing is held out", config.refit)
    parts = _read(config)
    checksums = {name: _checksum(frames) for name, frames in parts.items()}
    if config.dataset == SYNTHETIC:
        planted = _SYNTHETIC_TASK.planted_delays()
        split = "each part drawn by itself"
        test = parts.get("test", parts["valid"])
        task = Task(parts["train"], parts["valid"], test, split, planted=planted, checksums=checksums)
        return _without_test_set(task) if config.protocol == "validation" else task
    _check_parts(config, parts)
    # One length for all: padding enters batch norm and the summed softmax, so it must not depend on the batch.
    steps = max(part.steps for part in parts.values())
    if config.window_ms:
        steps = min(steps, max(1, round(config.window_ms / config.step_ms)))
        parts = {name: part.first(steps) for name, part in parts.items()}
    parts = {name: part.padded(steps) for name, part in parts.items()}
    if config.protocol == "speakers":
        return _by_speakers(config, parts["train"], checksums)
    if config.protocol in ("official", "validation") and "valid" not in parts:
        advice = "Take --protocol heldout"
        raise DataError(
            f"{config.dataset}: expected a file *_valid.h5 for the {config.protocol} protocol, got none. {advice}"
        )
    if "valid" in parts:
        if config.refit:
            expected = "no refit for data with a validation file: nothing is held out of its training recordings"
            raise ArgumentError("refit", expected, config.refit)
        split = "the validation file of the data"
        task = Task(parts["train"], parts["valid"], parts.get("test", parts["valid"]), split, checksums=checksums)
        return _without_test_set(task) if config.protocol == "validation" else task
    whole = parts["train"]
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
    speakers = sorted(_speakers(valid)) if _speakers(valid).isdisjoint(_speakers(train)) else []
    how = f"all of speakers {speakers}" if speakers else "drawn by class"
    return Task(
        train,
        valid,
        parts["test"],
        f"{len(held_out)} training recordings held out, {how}",
        checksums=checksums,
        whole=whole if config.refit else None,
        held_speakers=tuple(speakers),
    )


def _check_parts(config: RunConfig, parts: Mapping[str, Frames]) -> None:
    """Raise DataError unless all files have spikes, and the same classes, two at least."""
    classes = {name: part.classes for name, part in parts.items()}
    if len(set(classes.values())) > 1:
        raise DataError(f"{config.dataset}: expected the same classes in all files, got {shortened(classes)}")
    if len(parts["train"].classes) < 2:
        raise DataError(f"{config.dataset}: expected two classes or more, got {shortened(classes['train'])}")
    if silent := [name for name, part in parts.items() if not part.lengths.any()]:
        got = f"none in the recordings of {', '.join(silent)}"
        raise DataError(f"{config.dataset}: expected spikes in each file, got {got}. Make or download the files again")


def _without_test_set(task: Task) -> Task:
    """The same data, tested on the validation recordings; no epoch is chosen."""
    split = f"{NOTHING_CHOSEN}the validation recordings are tested on ({task.split})"
    return replace(task, split=split, rule=LAST, tested_on="the validation recordings")


def _by_speakers(config: RunConfig, whole: Frames, checksums: Mapping[str, str]) -> Task:
    """Split the training file by speakers, for training and testing; no other file is read."""
    labels, speakers = whole.labels.numpy(), _known_speakers(config, whole)
    folds = speaker_folds(speakers)
    if config.fold >= len(folds):
        raise ArgumentError("fold", f"0 to {len(folds) - 1}: {config.dataset} has {len(folds)} folds", config.fold)
    held = config.held_speakers or folds[config.fold]
    try:
        trained_on, held_out = hold_out_speakers(labels, speakers, held)
    except ArgumentError as error:
        raise ArgumentError(
            "held_speakers", f"other speakers of {config.dataset} to hold out", held, str(error)
        ) from error
    test = whole.select(held_out)
    who = tuple(sorted(set(held)))
    tested_on = f"speakers {' and '.join(map(str, who))} of the training file, held out of training"
    split = f"{NOTHING_CHOSEN}{len(test)} training recordings of speakers {list(who)} are tested on"
    return Task(
        whole.select(trained_on), test, test, split, LAST, checksums=checksums, tested_on=tested_on, held_speakers=who
    )


def number_of_folds(config: RunConfig) -> int:
    """The number of folds of the protocol "speakers" for a run's training file.

    Raises:
        DataError: the file is not usable, or does not name its speakers.
    """
    return len(speaker_folds(_known_speakers(config, _read(config)["train"])))


def _known_speakers(config: RunConfig, whole: Frames) -> NDArray[np.int64]:
    speakers: NDArray[np.int64] | None = None if whole.speakers is None else whole.speakers.numpy()
    if speakers is None or len(np.unique(speakers)) < 3:
        got = "none that are named" if speakers is None else f"{len(np.unique(speakers))}"
        raise DataError(
            f"{config.dataset}: expected three speakers or more in the training file for the protocol 'speakers', got "
            f"{got}. Take --protocol heldout"
        )
    return speakers


def data_checksums(config: RunConfig) -> dict[str, str]:
    """The `checksums` of the data of a run; they differ from those of other data in a folder of the same name.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    return {name: _checksum(frames) for name, frames in _read(config).items()}


def _read(config: RunConfig) -> dict[str, Frames]:
    """The recordings of each file that the protocol reads, by "train", "valid" and "test"."""
    if config.dataset == SYNTHETIC:
        sizes = zip(("train", "valid", "test"), _SYNTHETIC_SIZES, (1, 2, 3), strict=True)
        return {name: _SYNTHETIC_TASK.sample(size, seed) for name, size, seed in sizes if _reads(config.protocol, name)}
    return {
        name: cached_frames(
            path, step_ms=config.step_ms, pool=config.pool, binning=config.binning, time_unit=config.time_unit
        )
        for name, path in _files(config.dataset).items()
        if _reads(config.protocol, name)
    }


def _files(dataset: str) -> dict[str, Path]:
    if not Path(dataset).exists() and (hint := did_you_mean(dataset, [SYNTHETIC])):
        raise ArgumentError("dataset", "'synthetic' or a folder", repr(dataset), hint)
    return find_splits(Path(dataset))


def _reads(protocol: Protocol, part: str) -> bool:
    return part in _READ.get(protocol, (part,))


def _checksum(frames: Frames) -> str:
    """SHA-256 of everything that a run uses of these recordings: counts, lengths, labels, classes, speakers."""
    about = {
        "classes": frames.classes,
        "steps": frames.steps,
        "rows": (tuple(frames.rows.shape), str(frames.rows.dtype)),
    }
    digest = hashlib.sha256(repr(about).encode())
    for values in (frames.rows, frames.starts, frames.lengths, frames.labels, frames.speakers):
        if values is not None:
            content = np.ascontiguousarray(values.numpy()).reshape(-1).view(np.uint8)
            for start in range(0, len(content), _CHUNK):  # in chunks, so that signals are handled in between
                digest.update(content[start : start + _CHUNK].tobytes())
    return digest.hexdigest()


def _speakers(frames: Frames) -> set[int]:
    return set() if frames.speakers is None else set(frames.speakers.tolist())
