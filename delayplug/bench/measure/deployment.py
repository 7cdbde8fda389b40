"""A trained run on a device: the accuracy that rounding, few bits and few delays cost, the size and work they save."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from ..._tables import make_table, number, text
from ...deploy.costs import Costs, costs
from ...deploy.devices import Device, device_of
from ...deploy.freeze import freeze_delays
from ...deploy.summary import Freezing
from ...errors import RunError
from ...surgery.find import named_delays
from ..comparison.existing import check_same_data
from ..comparison.records import MODEL, RECORD, read_record
from ..comparison.trained import load_trained, read_model
from ..config import Readout, RunConfig
from ..hardware import matmul_precision, within_memory
from ..model.network import DelayNetwork, class_scores
from ..model.synapses import without_masks
from ..task import TEST_SET, Task, load_task
from ..training.batches import evaluation_loader
from ..training.trainer import build_network
from ..variants import WITH_RECURRENT_DELAYS

_EXAMPLE = 64  # test recordings of which events are counted


def _not_rounded(network: nn.Module) -> None:
    for _, delay in named_delays(network):
        delay.round_in_eval = False


# What a device requires of a network in eval(). Nothing is packed where no summary of frozen delays is returned.
CONSTRAINTS: dict[str, Callable[[nn.Module], Freezing | None]] = {
    "as trained, not rounded": _not_rounded,
    "whole steps": freeze_delays,
    "6 bits (at most 62 steps)": partial(freeze_delays, max_delay=62),
    "4 bits (at most 15 steps)": partial(freeze_delays, max_delay=15),
    "16 distinct per neuron": partial(freeze_delays, distinct=16),
    "4 distinct per neuron": partial(freeze_delays, distinct=4),
    "16 distinct, weights in 8 bits": partial(freeze_delays, distinct=16, weight_bits=8),
}


@dataclass(frozen=True)
class Deployment:
    """A run under one constraint.

    Attributes:
        accuracy: on the recordings that the run was tested on, in 0..1.
        packed_bytes: of delays, and of weights where they were shortened, each in as many bits as it needs; 0 if
            nothing was frozen.
        costs: of the network, and of one step of one recording.
    """

    accuracy: float
    packed_bytes: int
    costs: Costs


def deploy(
    folder: Path, progress: Callable[[str], object] = lambda name: None, *, target: str | None = None
) -> dict[str, Deployment]:
    """A finished run under each of `CONSTRAINTS`, and within the limits of a device.

    Args:
        folder: of the run.
        progress: called with the constraint that is measured next.
        target: a name of `devices()`; delays that are too long for it are shortened, and weights have its bits.

    Raises:
        ArgumentError: no device has this name, or the device has no such delays at all.
        RunError: there is no finished run with delays, or its data is not what it was.
        DataError: its data cannot be read.
    """
    constraints = CONSTRAINTS | ({} if target is None else _on(device_of(target)))
    record = read_record(folder / RECORD)
    config = RunConfig(**record["config"])
    if config.delays == "none" and config.recurrent not in WITH_RECURRENT_DELAYS:
        raise RunError(f"{folder}: expected a run with delays, got one without. Take one of the other variants")
    task = load_task(config)
    check_same_data(config, record["data"].get("checksums"), task.checksums, str(folder))
    state = read_model(folder)["state"]
    example, _ = task.test.batch(range(min(_EXAMPLE, len(task.test))))
    rows: dict[str, Deployment] = {}
    with matmul_precision(config.precision), within_memory(str(folder)):
        for name, constrain in constraints.items():
            progress(name)
            network = build_network(config, task)
            load_trained(network, state, folder / MODEL)
            freezing = constrain(without_masks(network.eval()))
            packed = 0 if freezing is None else freezing.packed_bytes
            rows[name] = Deployment(_accuracy(network, task, config.readout), packed, _costs(network, example))
    return rows


def _on(device: Device) -> dict[str, Callable[[nn.Module], Freezing | None]]:
    frozen = partial(freeze_delays, target=device, clamp=True, weight_bits=device.weight_bits)
    return {f"on {device.name}": frozen}


def _kilobytes(size: float) -> str:
    """A number of bytes in kilobytes, with two digits at least.

    >>> _kilobytes(449), _kilobytes(1_200_000)
    ('0.45', '1,200')
    """
    return f"{size / 1000:,.{2 if size < 1000 else 1 if size < 10_000 else 0}f}"


def table(name: str, rows: dict[str, Deployment], recordings: int, tested_on: str = TEST_SET) -> Table:
    """One row per constraint, with the accuracy on so many recordings; `tested_on` says in words which these are."""
    which = "test recordings" if tested_on == TEST_SET else f"recordings of {tested_on}"
    headers = ("accuracy\n%", "state\nkB", "packed\nkB", "operations\nper step", "events\nper step")
    result = make_table(
        text("delays", wrap="never"),
        *map(number, headers),
        title=name,
        caption=f"Accuracy on {recordings:,} {which}. Packed: delays, and shortened weights, to the bit. "
        "Operations: multiply-adds per step; events: those whose input is not zero.",
    )
    for constraint, row in rows.items():
        result.add_row(
            constraint,
            f"{100 * row.accuracy:.1f}",
            _kilobytes(row.costs.state_bytes),
            _kilobytes(row.packed_bytes) if row.packed_bytes else "",
            f"{row.costs.operations:,.0f}",
            f"{row.costs.events:,.0f}",
        )
    return result


def _costs(network: nn.Module, example: Tensor) -> Costs:
    # With gradients enabled, recurrent connections run as layers, whose operations are counted.
    return costs(network, lambda model: model(example))


@torch.no_grad()
def _accuracy(network: DelayNetwork, task: Task, readout: Readout) -> float:
    hits = (class_scores(network(x), readout).argmax(-1) == y for x, y, _ in evaluation_loader(task.test))
    return sum(int(hit.sum()) for hit in hits) / len(task.test)
