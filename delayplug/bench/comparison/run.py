"""One run, from its configuration to its record: the same wherever it runs."""

from pathlib import Path

import torch

from ..._extras import extra
from ..config import RunConfig
from ..hardware import within_memory
from ..resources import Resources
from ..task import Task, load_task
from ..training.outcome import Epoch, OnEpoch, Outcome
from ..training.trainer import train
from ..whole_files import locked, make_folder, remove_leftovers
from .existing import existing
from .records import CHECKPOINT, REFIT_CHECKPOINT, make_record, write_config, write_run

with extra("bench", "the benchmark"):
    from lightning.pytorch.utilities import rank_zero_only


def make_run(
    config: RunConfig, out: Path, resources: Resources, *, task: Task | None = None, on_epoch: OnEpoch | None = None
) -> None:
    """Make a run, or resume one that was interrupted, and write its record into a folder of its own in `out`.

    With several processes all of them call this; the first one writes. A run that is finished is not made again.

    Raises:
        RunError: the folder has another run, or another process is making it; nothing in it was changed.
    """
    if resources.threads is not None:
        torch.set_num_threads(resources.threads)
    folder = out / config.name
    task = task or load_task(config)
    if not is_first():
        if existing(folder, config, lambda _: task.checksums).record is None:
            with within_memory(config.name):
                _train(config, task, resources, folder)
        return
    make_folder(folder)
    with locked(folder):
        if existing(folder, config, lambda _: task.checksums).record is not None:
            return
        write_config(folder, config)
        remove_leftovers(folder)
        with within_memory(config.name):
            outcome, first = _train(config, task, resources, folder, on_epoch)
        write_run(folder, config, make_record(config, task, outcome, resources.label, first), outcome)


def _train(
    config: RunConfig, task: Task, resources: Resources, folder: Path, on_epoch: OnEpoch | None = None
) -> tuple[Outcome, Outcome | None]:
    """Train a network, or with a refit two, from checkpoints if there are any.

    The checkpoint of the first training is kept until the record is written, so that it is not repeated if the refit is
    interrupted.

    Returns:
        The outcome to report, and with a refit that of the first training, else None.
    """
    options: dict[str, OnEpoch] = {} if on_epoch is None else {"on_epoch": on_epoch}
    if not config.refit:
        return train(config, task, resources, checkpoint=folder / CHECKPOINT, **options), None
    first = train(config, task.first_part(), resources, checkpoint=folder / CHECKPOINT, **options)
    if on_epoch is not None:

        def count_on(entry: Epoch) -> None:
            on_epoch({**entry, "epoch": config.epochs + entry["epoch"]})

        options = {"on_epoch": count_on}
    return train(config, task.refit(), resources, checkpoint=folder / REFIT_CHECKPOINT, **options), first


def is_first() -> bool:
    """Whether this process is the one that prints and writes files for all processes of a run."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0
