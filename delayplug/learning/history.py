"""Delays over a training, epoch by epoch: what `delayplug.plot.trajectory` draws."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from ..layers.checks import check_count
from ..surgery.find import all_delays

Indices = Sequence[tuple[int, ...]]


class DelayHistory:
    """Keep how delays move: of each layer some quantiles, and some of the delays themselves.

    The first record is made at once. Call `record()` once per epoch. It costs a copy of the delays of each layer, as
    they were at first, and a few numbers per epoch, whatever the size of the model.

    Args:
        model: any module with delays.
        follow: how many delays of each layer to follow, drawn at random but always the same; or for some layers by name
            which ones, as indices into `delays` such as (3, 7, 0) for output 3, input 7, tap 0.

    Attributes:
        probabilities: of the quantiles.
        first: name of a layer to its delays as they were at first, on the CPU, in steps.
        followed: name of a layer to the indices of the delays that are followed.

    Raises:
        ArgumentError: there are no delays, or `follow` names what is not there.

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
                raise ArgumentError("follow", f"names among {', '.join(self._layers)}", ", ".join(unknown))
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
        """Keep what the delays are now."""
        for name, layer in self._layers.items():
            values = layer.delays.detach().float().cpu().flatten()
            # torch.quantile refuses more than 16 million values; so many delays say no more than every second one.
            values = values[:: max(1, -(-values.numel() // 10_000_000))]
            self._quantiles[name].append(values.quantile(torch.tensor(self.probabilities)))
            self._delays[name].append(torch.tensor([layer.delays[i].item() for i in self.followed[name]]))

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
            raise ArgumentError("layer", f"one of {', '.join(map(repr, self._layers))}", repr(layer))
        return layer

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on."""
        kept = {name: (self.quantiles(name), self.delays(name)) for name in self._layers}
        return {"first": dict(self.first), "followed": dict(self.followed), "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        shapes = {name: tuple(first.shape) for name, first in state["first"].items()}
        expected = {name: tuple(first.shape) for name, first in self.first.items()}
        if shapes != expected:
            raise ArgumentError("state", f"that of layers {expected}", shapes)
        self.first, self.followed = dict(state["first"]), dict(state["followed"])
        self._quantiles = {name: list(kept[0].unbind()) for name, kept in state["kept"].items()}
        self._delays = {name: list(kept[1].unbind()) for name, kept in state["kept"].items()}


def _sample(shape: torch.Size, number: int) -> list[tuple[int, ...]]:
    """Indices of so many entries, or of all if there are fewer: drawn at random, and always the same."""
    total = shape.numel()
    flat = sorted(random.Random(0).sample(range(total), min(number, total)))
    return [tuple(int(i) for i in torch.unravel_index(torch.tensor(n), shape)) for n in flat]
