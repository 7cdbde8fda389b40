"""One cell of a comparison, from its configuration to its record: the same wherever it runs."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_only

from ..config import RunConfig
from ..task import Task, load_task
from ..training.trainer import OnEpoch, train
from .records import CHECKPOINT, make_record, write_config, write_run


@dataclass(frozen=True)
class Means:
    """What a run is made with. Does not change what it gives, but for rounding.

    Attributes:
        accelerator: as Lightning takes it: "auto", "cpu", "gpu", ...
        devices: processes on each node, one for each device.
        nodes: computers.
        threads: of torch on a CPU; its own choice if None.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    threads: int | None = None


def run_cell(
    config: RunConfig, out: Path, means: Means, *, task: Task | None = None, on_epoch: OnEpoch | None = None
) -> None:
    """Make a run, or go on with it, and leave its record in `out`.

    With several processes all of them call this; the first one writes.
    """
    if means.threads is not None:
        torch.set_num_threads(means.threads)
    folder = out / config.cell
    task = task or load_task(config)
    if is_first():
        write_config(folder, config)
    outcome = train(
        config,
        task,
        accelerator=means.accelerator,
        devices=means.devices,
        nodes=means.nodes,
        on_epoch=on_epoch if is_first() else None,
        checkpoint=folder / CHECKPOINT,
    )
    if is_first():
        write_run(folder, make_record(config, task, outcome, _device(means)), outcome)


def is_first() -> bool:
    """Whether this process is the one that speaks and writes for all processes of a run."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _device(means: Means) -> str:
    number = means.devices * means.nodes
    return means.accelerator if number == 1 else f"{number} x {means.accelerator}"
