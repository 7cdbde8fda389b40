"""A network as a user of a toolkit writes it, and how that user drives it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Sees = Literal["steps", "sequences", "batch first", "folded"]
Advance = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Network:
    """A network as a user of a toolkit writes it, and how that user drives it.

    Attributes:
        name: for the test report.
        make: builds the network, with weights large enough that all its neurons spike, and not always, on the samples:
            most laws say little about a silent network, and some say so.
        features: shape of one input step without batch, such as (5,) or (2, 8, 8).
        layers: names of the layers, and of the neurons with weights for their input, that get delays per synapse with
            an example.
        advance: `advance(net, x, state)` runs a part (T, B, *features) of a sequence from the user's state and returns
            the outputs, one per step and time first, and the next state.
        start: `start(net)` begins a sequence and returns the user's state.
        cut: `cut(net, state)` detaches what the sequence carries, as for truncated backpropagation; None if the network
            can only run whole sequences.
        ordered: whether the structure alone shows the wiring.
        density: of the spikes in the samples.
        cells: names of the neurons that weigh their input themselves, which "axonal" delays, too, and "dendritic"
            cannot.
        sees: what a call of each layer takes: single "steps" (B, ...), "sequences" (T, B, ...), sequences "batch
            first" (B, T, ...) or with the time "folded" into the batch (T B, ...); one for all, or by layer.
    """

    name: str
    make: Callable[[], nn.Module]
    features: tuple[int, ...]
    layers: tuple[str, ...]
    advance: Advance
    start: Callable[[Any], Any] = lambda net: None
    cut: Callable[[Any, Any], Any] | None = None
    ordered: bool = True
    density: float = 0.4
    cells: tuple[str, ...] = ()
    sees: Sees | Mapping[str, Sees] = "steps"

    def __str__(self) -> str:
        return self.name

    def build(self, seed: int = 0) -> nn.Module:
        """The network; the same one for the same seed."""
        torch.manual_seed(seed)
        return self.make()

    def sample(self, steps: int = 9, batch: int = 3, seed: int = 1) -> Tensor:
        """Spikes, (T, B, *features)."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(steps, batch, *self.features, generator=generator, device="cpu")
        return (drawn < self.density).float().to(torch.empty(0).device)  # where the network was made

    def run(self, net: nn.Module, x: Tensor) -> Tensor:
        """A whole sequence, as the user runs it."""
        return self.advance(net, x, self.start(net))[0]

    def example(self, net: nn.Module) -> None:
        """What the user passes as `example=`."""
        self.run(net, self.sample(steps=3, batch=2, seed=99))

    def sees_of(self, layer: str) -> Sees:
        """What a call of this layer takes."""
        return self.sees[layer] if isinstance(self.sees, Mapping) else self.sees
