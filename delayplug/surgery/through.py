"""The place of delays that stood by themselves in a model."""

from typing import Any

import torch
from torch import Tensor, nn


class Through(nn.Module):
    """Gives its input as it is; `convert_delays` puts it where a toolkit's own module with a delay per channel was.

    Attributes:
        channels: C, of its input.
        is_open: it counts among the layers that can have delays, since it is about to get some.
    """

    like: Tensor

    def __init__(self, channels: int, resets: str = "", device: torch.device | None = None) -> None:
        """`resets` is the name of a method by which the user's code resets such a module; it begins a new sequence."""
        super().__init__()
        self.channels, self.resets, self.is_open = channels, resets, False
        self.register_buffer("like", torch.empty(0, device=device), persistent=False)  # where its delays are to be

    def forward(self, x: Tensor) -> Tensor:
        """The input itself."""
        return x

    def __getattr__(self, name: str) -> Any:
        if name and name == self.__dict__.get("resets"):
            return self._begin
        return super().__getattr__(name)

    def _begin(self) -> None:
        memory = self.__dict__.get("delay_memory")
        if memory is not None:
            memory.forget()

    def extra_repr(self) -> str:
        return str(self.channels)
