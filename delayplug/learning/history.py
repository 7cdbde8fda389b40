"""Delays over a training, epoch by epoch, as `delayplug.plot.trajectory` draws them."""

import random
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, choice_error, did_you_mean
from ..layers.checks import check_count
from ..surgery.find import all_delays

Indices = Sequence[tuple[int, ...]]


class HistoryState(TypedDict):
    """State of a `DelayHistory`, by name of the layer: initial delays, indices, and (quantiles, followed delays)."""

    first: dict[str, Tensor]
    followed: dict[str, list[tuple[int, ...]]]
    kept: dict[str, tuple[Tensor, Tensor]]


class DelayHistory:
    """Records how delays move: of each layer some quantiles, and some of the delays themselves.

    The first record is made at once. Call `record()` once per epoch. Memory: one copy of the initial delays of each
    layer, and a few numbers per epoch.

    Args:
        model: any module with delays.
        follow: how many delays of each layer to follow, drawn at random with a fixed seed; or a mapping from names of
            layers to indices into `delays`, such as (3, 7, 0) for output 3, input 7, tap 0.

    Attributes:
        probabilities: of the quantiles.
        first: name of a layer to its delays at the first record, on the CPU, in steps.
        followed: name of a layer to the indices of the delays that are followed.

    Raises:
        ArgumentError: there are no delays, or `follow` names a layer or an index that does not exist.

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(3, 2, max_delay=9, init=4)
    >>> history = DelayHistory(layer, follow=2)
    >>> history.record()
    >>> history.quantiles("").shape, history.delays("").tolist()  # (records, quantiles), (records, followed)
    (torch.Size([2, 5]), [[4.0, 4.0], [4.0, 4.0]])
    """

    probabilities = (0.05, 0.25, 0.5, 0.75, 0.95)

    def __init__(self, model: nn.Module, follow: int | Mapping[str, Indices] = 8) -> None:
        self._layers = dict(all_delays(model))
        self.followed = self._indices(follow)
        self.first = {name: layer.delays.detach().cpu().clone() for name, layer in self._layers.items()}
        self.limits = {name: layer.max_delay for name, layer in self._layers.items()}
        self._quantiles: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        self._delays: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        self.record()

    def _indices(self, follow: int | Mapping[str, Indices]) -> dict[str, list[tuple[int, ...]]]:
        if isinstance(follow, Mapping):
            unknown = sorted(set(follow) - set(self._layers))
            if unknown:
                hint = did_you_mean(unknown[0], self._layers)
                raise ArgumentError("follow", f"names among {', '.join(self._layers)}", ", ".join(unknown), hint)
            chosen = {name: [tuple(index) for index in follow.get(name, ())] for name in self._layers}
        else:
            check_count("follow", follow, 0)
            chosen = {name: _sample(layer.delays.shape, follow) for name, layer in self._layers.items()}
        for name, indices in chosen.items():
            for index in indices:
                shape = self._layers[name].delays.shape
                if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
                    raise ArgumentError("follow", f"indices into delays {tuple(shape)} of {name or 'the model'}", index)
        return chosen

    @torch.no_grad()
    def record(self) -> None:
        """Add a record of the delays as they are now."""
        for name, layer in self._layers.items():
            delays = layer.delays.detach().float().cpu()
            values = delays.flatten()
            # torch.quantile refuses more than 16 million values; a part of so many gives nearly the same result.
            values = values[:: max(1, -(-values.numel() // 10_000_000))]
            self._quantiles[name].append(values.quantile(torch.tensor(self.probabilities, device="cpu")))
            self._delays[name].append(torch.tensor([delays[i].item() for i in self.followed[name]], device="cpu"))

    def __len__(self) -> int:
        return len(next(iter(self._quantiles.values())))

    def quantiles(self, layer: str) -> Tensor:
        """(records, 5), in steps."""
        return torch.stack(self._quantiles[self._known(layer)])

    def delays(self, layer: str) -> Tensor:
        """(records, followed), in steps."""
        return torch.stack(self._delays[self._known(layer)])

    def _known(self, layer: str) -> str:
        if layer not in self._layers:
            raise choice_error("layer", self._layers, layer)
        return layer

    def state_dict(self) -> HistoryState:
        """All records, for a checkpoint."""
        records = {name: (self.quantiles(name), self.delays(name)) for name in self._layers}
        return {"first": dict(self.first), "followed": dict(self.followed), "kept": records}

    def load_state_dict(self, state: HistoryState) -> None:
        """Replace all records by those of a `state_dict`.

        Raises:
            ArgumentError: it is that of other layers.
        """
        shapes = {name: tuple(first.shape) for name, first in state["first"].items()}
        expected = {name: tuple(first.shape) for name, first in self.first.items()}
        if shapes != expected:
            raise ArgumentError("state", f"that of layers {expected}", shapes)
        self.first, self.followed = dict(state["first"]), dict(state["followed"])
        self._quantiles = {name: list(quantiles.unbind()) for name, (quantiles, _) in state["kept"].items()}
        self._delays = {name: list(delays.unbind()) for name, (_, delays) in state["kept"].items()}


def _sample(shape: torch.Size, number: int) -> list[tuple[int, ...]]:
    """Indices of `number` entries, or of all if there are fewer: drawn at random with a fixed seed."""
    total = shape.numel()
    flat = sorted(random.Random(0).sample(range(total), min(number, total)))
    return [tuple(int(i) for i in torch.unravel_index(torch.tensor(n, device="cpu"), shape)) for n in flat]
