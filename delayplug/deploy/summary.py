"""What `freeze_delays` changed, and what that cost and saved: `Freezing`, printed as two tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .._tables import counted, make_table, number, text, to_text
from .costs import Costs
from .devices import DeviceReport

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


@dataclass(frozen=True)
class Change:
    """What one constraint did to the delays, or the weights, of one layer.

    Attributes:
        layer: dotted name.
        what: the constraint, as text.
        moved, number: how many values it changed, and how many there are.
        mean, largest: absolute size of the change, the mean over all values; in steps, or in units of the weight.
    """

    layer: str
    what: str
    moved: int
    number: int
    mean: float
    largest: float


@dataclass(frozen=True)
class Freezing:
    """What `freeze_delays` returns: print it, or pass it to rich.

    Attributes:
        model: the model itself, frozen.
        changes: one for each layer and constraint, in the order in which they were applied.
        before, after: size of the model's state and operations per step, see `costs`.
        score: (before, after) of `evaluate`; None without it.
        scales: per layer with quantised weights, the scale of each output (O,): weight / scale are whole numbers.
        packed_bytes: of the delays and weights of the frozen layers, if each took no more bits than it needs.
        target: what of the model, as it was, the device did not hold; None without one.
    """

    model: nn.Module
    changes: tuple[Change, ...]
    before: Costs
    after: Costs
    score: tuple[float, float] | None = None
    scales: dict[str, Tensor] = field(default_factory=dict)
    packed_bytes: int = 0
    target: DeviceReport | None = None

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        changes = self._changes_table() if self.changes else "No layer was frozen."
        tables = [] if self.target is None else [self.target]
        return Group(*tables, changes, self._totals_table())

    def __str__(self) -> str:
        return to_text(self)

    def _changes_table(self) -> Table:
        table = make_table(
            text("layer", wrap="anywhere"),
            text("change"),
            *(number(name) for name in ("moved", "of", "mean", "largest")),
            title=f"{counted(len({change.layer for change in self.changes}), 'layer')} with frozen delays",
            title_justify="left",
            gap=3,
        )
        for c in self.changes:
            row = (c.layer or "(model)", c.what, f"{c.moved:,}", f"{c.number:,}", f"{c.mean:.3g}", f"{c.largest:.3g}")
            table.add_row(*row)
        return table

    def _totals_table(self) -> Table:
        table = make_table(text(""), number("before", wrap=True), number("after", wrap=True), gap=3)

        def add(label: str, before: float | None, after: float | None, form: str = "{:,.0f}") -> None:
            if after is not None:
                table.add_row(label, "" if before is None else form.format(before), form.format(after))

        add("state, bytes", self.before.state_bytes, self.after.state_bytes)
        add("delays in it, bytes", self.before.delay_bytes, self.after.delay_bytes)
        add("packed to the bit, bytes", None, self.packed_bytes or None)
        add("operations per step", self.before.operations, self.after.operations)
        add("events per step", self.before.events, self.after.events)
        before, after = self.score or (None, None)
        add("score", before, after, "{:.4g}")
        return table
