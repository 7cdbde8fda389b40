"""What delays a model has, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from .._tables import counted, make_table, number, plain, text, to_text
from ..layers.base import DelayLayer
from ..layers.frozen import Frozen
from ..toolkits.vocabulary import Mode, TimeAxis
from .called import watch_of
from .delayed import Delayed, StatefulDelayed
from .find import named_delays
from .plan import Plan
from .verdict import Skipped

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Row:
    """One layer with delays.

    Attributes:
        layer, neuron: dotted names; the neuron is "" for a delay that stands alone.
        granularity: "synaptic", "axonal" or "dendritic"; for a delay that stands alone "per synapse" or "per channel".
        runs: how a call of the layer lies in time, as text.
        reset: what marks a new sequence, as text.
        least, mean, most: of the delays as they are now, in steps.
        max_delay: what they can be at most.
        sigma: mean width in steps; None for "linear".
        parameters: number of learnable delays and widths.
        note: what is worth knowing, as text.
    """

    layer: str
    neuron: str
    granularity: str
    runs: str
    reset: str
    least: float
    mean: float
    most: float
    max_delay: int
    sigma: float | None
    parameters: int
    note: str = ""


@dataclass(frozen=True)
class Description:
    """What `describe_delays` returns: print it, or give it to rich."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...]

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        table = make_table(
            *(text(name, wrap="anywhere") for name in ("layer", "feeds")),
            text("delays", wrap="never"),
            *(number(name) for name in ("range", "mean", "limit", "sigma", "number", "note")),
            title=f"{counted(len(self.rows), 'layer')} with delays, "
            f"{counted(sum(row.parameters for row in self.rows), 'parameter')}",
            title_justify="left",
        )
        runs = list(dict.fromkeys((row.runs, row.reset) for row in self.rows))
        for row in self.rows:
            table.add_row(
                row.layer or "(model)",
                row.neuron or "-",
                row.granularity,
                f"{row.least:.1f} - {row.most:.1f}",
                f"{row.mean:.1f}",
                str(row.max_delay),
                "-" if row.sigma is None else f"{row.sigma:.2f}",
                f"{row.parameters:,}",
                f"({runs.index((row.runs, row.reset)) + 1})",
            )
        parts: list[RenderableType] = [table] if self.rows else ["No layer has delays."]
        parts += [plain(f"({i}) {how}; a new sequence starts with {signal}") for i, (how, signal) in enumerate(runs, 1)]
        notes = [f"{row.layer}: {row.note}" for row in self.rows if row.note]
        if self.skipped:
            columns = text("layer", wrap="anywhere"), text("why")
            left_out = make_table(*columns, title="\nleft out", title_justify="left")
            for skipped in self.skipped:
                left_out.add_row(skipped.layer or "(model)", skipped.reason)
            parts.append(left_out)
        if notes:
            parts.append(plain("\n".join(notes)))
        return Group(*parts)

    def __str__(self) -> str:
        return to_text(self)


def describe_delays(model: nn.Module) -> Description:
    """Say what delays a model has: `print(describe_delays(model))`.

    One row per layer with the neuron that it feeds, what marks a new sequence, and the delays as they are now, in
    steps; then the layers that `add_delays` left out, with its reasons.

    Raises:
        ArgumentError: `model` is not a module.
    """
    rows = tuple(_row(model, name, delay) for name, delay in named_delays(model))
    delayed = {row.layer for row in rows}
    skipped = {s.layer: s for plan in _plans(model) for s in plan.skipped if s.layer not in delayed}
    return Description(rows, tuple(skipped.values()))


@torch.no_grad()
def _row(model: nn.Module, name: str, delay: DelayLayer) -> Row:
    values = delay.delays.double()
    layer = model.get_submodule(name)
    if isinstance(layer, Delayed):
        memory = layer.delay_memory
        names = {id(module): path for path, module in model.named_modules()}
        neuron, granularity, runs = names.get(id(memory.neuron), "?"), str(layer.delay_place.granularity), _runs(layer)
        reset = layer.RESET if isinstance(layer, StatefulDelayed) else memory.toolkit.reset_signal(memory.neuron)
    else:
        neuron, granularity, runs = "", "per channel" if values.dim() == 1 else "per synapse", "as it is called"
        reset = "whatever its caller does: the state is passed on"
    notes = ["frozen: whole steps, which do not learn"] if isinstance(delay, Frozen) else []
    notes += [c.note for plan in _plans(model) for c in plan.connections if c.layer == name and c.note][:1]
    return Row(
        layer=name,
        neuron=neuron,
        granularity=granularity,
        runs=runs,
        reset=reset,
        least=values.min().item(),
        mean=values.mean().item(),
        most=values.max().item(),
        max_delay=delay.max_delay,
        sigma=None if delay.sigma is None else delay.sigma.mean().item(),
        parameters=sum(p.numel() for p in (delay.delays, delay.sigma) if isinstance(p, nn.Parameter)),
        note="; ".join(notes),
    )


def _runs(layer: Delayed) -> str:
    """How a call of a delayed layer lies in time, as text."""
    if layer.delay_memory.mode() is Mode.STEP:
        return "step by step"
    axes = {TimeAxis.SECOND: ", batch first", TimeAxis.FOLDED: ", time folded into the batch"}
    return "whole sequences" + axes.get(layer.delay_place.time, "")


def _plans(model: nn.Module) -> Iterator[Plan]:
    """The plans by which delays were added to the whole model, the latest one last."""
    watch = watch_of(model)
    return (plan for plan in (watch.plans if watch else ()) if isinstance(plan, Plan))
