"""The data of a run: the embedded task, or a folder in SHD's layout, as frames of one common length."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..data import Frames, cached_frames, find_splits, hold_out
from ..data.synthetic import TimingTask
from ..errors import ArgumentError, DataError
from .config import SYNTHETIC, RunConfig

_SYNTHETIC_SIZES = (1000, 300, 1000)  # train, validation, test
_SYNTHETIC_TASK = TimingTask(jitter=0.3, distractors=2)


@dataclass(frozen=True)
class Task:
    """Frames to train on, to choose the epoch by, and to report; and how they were split, as text.

    Attributes:
        train, valid, test: frames (T, N, C) with the same T, C and classes.
        split: as text.
        rule: by what the reported epoch is chosen: "best on validation", or "best on test" if `valid` is the test set.
        planted: (classes, C) delays that solve the task, if they are known.
    """

    train: Frames
    valid: Frames
    test: Frames
    split: str
    rule: str = "best on validation"
    planted: Tensor | None = None


def load_task(config: RunConfig) -> Task:
    """Read, bin and split the data of a run.

    Raises:
        DataError: the folder or a file in it is not usable.
    """
    if config.dataset == SYNTHETIC:
        if config.protocol != "heldout":
            raise ArgumentError("protocol", "'heldout' for the synthetic task", repr(config.protocol))
        sizes = zip(_SYNTHETIC_SIZES, (1, 2, 3), strict=True)
        train, valid, test = (_SYNTHETIC_TASK.sample(size, seed) for size, seed in sizes)
        return Task(train, valid, test, "each part drawn by itself", planted=_SYNTHETIC_TASK.planted_delays())
    parts = {
        name: cached_frames(path, step_ms=config.step_ms, pool=config.pool, binning=config.binning)
        for name, path in find_splits(Path(config.dataset)).items()
    }
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
        return Task(parts["train"], parts["valid"], parts["test"], "the validation file of the data")
    whole = parts["train"]
    if config.protocol == "official":
        advice = "Take --protocol heldout"
        raise DataError(f"{config.dataset}: expected a file *_valid.h5 for the official protocol, got none. {advice}")
    if config.protocol == "paper":
        split = "none: the test set chooses the epoch, as published, and its accuracy is too high"
        return Task(whole, parts["test"], parts["test"], split, "best on test")
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
    return Task(train, valid, parts["test"], f"{len(held_out)} training recordings held out, {how}")


def _speakers(frames: Frames) -> set[int]:
    return set() if frames.speakers is None else set(frames.speakers.tolist())
