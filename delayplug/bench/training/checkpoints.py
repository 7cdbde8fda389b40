"""The checkpoint of a run that is not finished: one file, replaced after epochs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from ..._extras import extra
from ...errors import RunError
from ..config import RunConfig
from ..schema import mismatch
from ..sealed import UnreadableTensorsError, load_sealed, save_sealed
from .outcome import Epoch

with extra("bench", "the benchmark"):
    import lightning
    from lightning.pytorch.callbacks import Checkpoint
    from lightning.pytorch.plugins.io import TorchCheckpointIO

# Of the time, at most this share is spent on checkpoints: epochs on a GPU can be shorter than ten of them.
_SHARE = 0.02
_DELETE = "Delete it to start the run again"


class CheckpointAfterEpochs(Checkpoint):
    """Writes a checkpoint when everything else of an epoch is done: of each epoch, if that takes a small share of time.

    Where epochs are short, some are left out, but never the last; an interrupted run goes on from a few epochs before.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._started, self._took = path, 0.0, 0.0

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        now = time.monotonic()
        due = now - self._started >= self._took / _SHARE or trainer.current_epoch + 1 == trainer.max_epochs
        if trainer.strategy.broadcast(due):  # the first process decides, for clocks differ
            trainer.save_checkpoint(self.path)  # by the first process, after all have come so far
            self._started, self._took = now, time.monotonic() - now


class SealedFileIO(TorchCheckpointIO):
    """Lightning's way to write and read checkpoints: whole or not at all, and with a checksum of their content."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | PathLike[str], storage_options: object = None
    ) -> None:
        save_sealed(Path(path), checkpoint)


@dataclass(frozen=True)
class Kept:
    """The part of a run that its checkpoint holds.

    Attributes:
        config: of the run, as JSON.
        checksums: of the data that it was trained on; None if a version wrote it that took none.
        epochs: number of epochs trained so far; with a refit, in both trainings together.
        written: when.
    """

    config: dict[str, Any]
    checksums: Mapping[str, str] | None
    epochs: int
    written: datetime

    def next_step(self, config: RunConfig) -> str:
        """What is left to do, in words."""
        if self.epochs >= config.all_epochs:
            return f"the test: all {config.all_epochs} epochs are trained"
        return f"epoch {self.epochs + 1} of {config.all_epochs}"


class _Progress(TypedDict):
    """The part of a checkpoint that tells what it is of."""

    config: dict[str, Any]
    checksums: NotRequired[dict[str, str]]
    epochs: list[Epoch]


class _Checkpoint(TypedDict):
    delayplug: _Progress


def read_checkpoint(path: Path) -> Kept | None:
    """What there is to resume from; None if there is no checkpoint.

    Raises:
        RunError: there is one, and it cannot be read, or holds something else than what was written to it.
    """
    try:
        written = datetime.fromtimestamp(path.stat().st_mtime)
        checkpoint: _Checkpoint = load_sealed(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnreadableTensorsError) as error:
        raise RunError(f"{path}: expected a checkpoint of a run, got a damaged file ({error}). {_DELETE}") from error
    if wrong := mismatch(checkpoint, _Checkpoint):
        raise RunError(f"{path}: expected a checkpoint of a run, got another file: {wrong}. {_DELETE}")
    progress = checkpoint["delayplug"]
    return Kept(progress["config"], progress.get("checksums"), len(progress["epochs"]), written)
