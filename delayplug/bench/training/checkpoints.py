"""The checkpoint of a run that is not finished: one file, replaced after every epoch."""

import os
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from ...errors import RunError


class CheckpointEveryEpoch(Checkpoint):
    """Writes a checkpoint, whole or not at all, when everything else of an epoch is done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        trainer.save_checkpoint(temporary)  # by the first process, after all have come so far
        if trainer.is_global_zero:
            temporary.replace(self.path)


def checkpoint_exists(path: Path) -> bool:
    """Whether there is a checkpoint to resume from.

    Raises:
        RunError: there is one, and it cannot be read.
    """
    if not path.exists():
        return False
    try:
        torch.load(path, map_location="cpu", weights_only=True)["delayplug"]
    except Exception as error:
        advice = "Delete it to start the run again"
        raise RunError(f"{path}: expected a checkpoint of a run, got a damaged file ({error}). {advice}") from error
    return True
