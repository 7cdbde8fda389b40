"""A trained run on a device: the accuracy that rounding, few bits and few delays cost, the size and work they save."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from rich.table import Table

from ..._tables import make_table, number, text
from ...deploy.costs import costs
from ...deploy.freeze import freeze_delays
from ...errors import RunError
from ...surgery.find import named_delays
from ..comparison.records import read_record
from ..config import RunConfig
from ..model.network import DelayNetwork, class_scores
from ..task import Task, load_task
from ..training.batches import evaluation_loader
from ..training.trainer import build_network

_EXAMPLE = 64  # test recordings of which events are counted


class Constraint(TypedDict, total=False):
    """Arguments of `freeze_delays` that a device may require."""

    max_delay: int
    distinct: int
    weight_bits: int


# None for the network as it was trained.
CONSTRAINTS: dict[str, Constraint | None] = {
    "as trained, not rounded": None,
    "whole steps": {},
    "6 bits (at most 62 steps)": {"max_delay": 62},
    "4 bits (at most 15 steps)": {"max_delay": 15},
    "16 distinct per neuron": {"distinct": 16},
    "4 distinct per neuron": {"distinct": 4},
    "16 distinct, weights in 8 bits": {"distinct": 16, "weight_bits": 8},
}


@dataclass(frozen=True)
class Deployment:
    """A run under one constraint.

    Attributes:
        accuracy: on the test set.
        state_bytes: of the state_dict.
        packed_bytes: of delays, and of weights where they were shortened, each in as many bits as it needs; 0 if
            nothing was frozen.
        operations, events: multiply-adds of one step of one recording, and those whose input is not zero.
    """

    accuracy: float
    state_bytes: int
    packed_bytes: int
    operations: float
    events: float


def deploy(folder: Path, progress: Callable[[str], None] | None = None) -> dict[str, Deployment]:
    """A finished run under each of `CONSTRAINTS`.

    Args:
        folder: of the run.
        progress: called with the constraint that is measured next.

    Raises:
        RunError: there is no finished run with delays.
        DataError: its data cannot be read.
    """
    config = _config(folder)
    task = load_task(config)
    state = torch.load(folder / "model.pt", weights_only=True)["state"]
    example, _ = task.test.batch(range(min(_EXAMPLE, len(task.test))))
    rows = {}
    for name, constraint in CONSTRAINTS.items():
        if progress is not None:
            progress(name)
        network = build_network(config, task)
        network.load_state_dict(state)
        network.eval()
        if constraint is None:
            for _, delay in named_delays(network):
                delay.round_in_eval = False
        packed = 0 if constraint is None else freeze_delays(network, **constraint).packed_bytes
        cost = costs(network, example)
        assert cost.operations is not None
        assert cost.events is not None
        rows[name] = Deployment(_accuracy(network, task), cost.state_bytes, packed, cost.operations, cost.events)
    return rows


def table(name: str, rows: dict[str, Deployment], recordings: int) -> Table:
    """One row per constraint."""
    headers = ("accuracy\n%", "state\nkB", "packed\nkB", "operations\nper step", "events\nper step")
    result = make_table(
        text("delays", wrap="never"),
        *map(number, headers),
        title=name,
        caption=f"Accuracy on {recordings} test recordings. Packed: delays, and shortened weights, to the bit. "
        "Operations: multiply-adds per step; events: those whose input is not zero.",
    )
    for constraint, row in rows.items():
        result.add_row(
            constraint,
            f"{100 * row.accuracy:.1f}",
            f"{row.state_bytes / 1000:,.0f}",
            f"{row.packed_bytes / 1000:,.0f}" if row.packed_bytes else "",
            f"{row.operations:,.0f}",
            f"{row.events:,.0f}",
        )
    return result


def _config(folder: Path) -> RunConfig:
    record = read_record(folder / "record.json")
    config = RunConfig(**record["config"])
    if config.delays == "none":
        raise RunError(f"{folder}: expected a run with delays, got one without. Take one of the other variants")
    return config


@torch.no_grad()
def _accuracy(network: DelayNetwork, task: Task) -> float:
    hits = 0
    for x, y, _ in evaluation_loader(task.test):
        hits += int((class_scores(network(x)).argmax(-1) == y).sum())
    return hits / len(task.test)
