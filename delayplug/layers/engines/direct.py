"""The engine "direct": causal convolution over time by torch's own convolution.

Shapes: T steps, B batch, I inputs, O outputs, K taps.
"""

from torch import Tensor
from torch.nn import functional


def direct(x_TBI: Tensor, taps_KOI: Tensor, steps: int) -> Tensor:
    """The convolution, (steps, B, O), in the dtype of the taps."""
    x_TBI = x_TBI.to(taps_KOI.dtype)
    K, T = taps_KOI.shape[0], x_TBI.shape[0]
    if K == 1:
        return functional.linear(x_TBI[:steps], taps_KOI[0])
    x_BIT = functional.pad(x_TBI.permute(1, 2, 0), (K - 1, steps - T))
    return functional.conv1d(x_BIT, taps_KOI.flip(0).permute(1, 2, 0)).permute(2, 0, 1)
