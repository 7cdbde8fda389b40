"""A layer of delays in place of a DCLS convolution: batch first and time last, without padding.

Shapes: B batch, I inputs, O outputs, T steps.
"""

from torch import Tensor, nn

from ..errors import ArgumentError
from .base import DelayLayer


class TimeLastDelay(nn.Module):
    """What a `Dcls1d` computes, with a layer of delays per synapse: (B, I, T) or (I, T) to (B, O, T - D) or (O, T - D).

    D is the `max_delay` that the layer is made with. Like a convolution without padding, it gives no output for the
    first D steps: the network pads its input in front, as it did for the `Dcls1d`.

    Attributes:
        delay: the delays.
        cut: D.
    """

    def __init__(self, delay: DelayLayer) -> None:
        super().__init__()
        self.delay, self.cut = delay, delay.max_delay

    def forward(self, x: Tensor) -> Tensor:
        """Raises ArgumentError for an input that is not longer than D."""
        if x.dim() not in (2, 3) or x.shape[-1] <= self.cut:
            expected = f"(B, I, T) with T > {self.cut}, the steps padded in front included"
            raise ArgumentError("x", expected, tuple(x.shape))
        y: Tensor = self.delay(x.movedim(-1, 0))
        return y[self.cut :].movedim(0, -1)

    def extra_repr(self) -> str:
        return f"cut={self.cut}"
