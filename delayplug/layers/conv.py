"""Delays of a convolution's synapses: one for each element of its kernel.

    y[t] = sum_k convolution(x[t - k], taps[k]),        x[t] = 0 for t < 0

where the taps (K, *weight) are those of `delayplug.layers.taps`, and the convolution over space is any of torch's six.

Shapes: T steps, B batch, C channels in, O channels out, K = max_delay + 1, g groups; * the dimensions of space.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ..errors import ArgumentError
from .base import DelayLayer, DelayState, LearnSigma
from .checks import check_finite
from .taps import Interpolation

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class Geometry(NamedTuple):
    """A convolution over space without its weights, in the order in which torch takes it."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


class ConvDelay(DelayLayer):
    """Learnable delays of a convolution, one for each element of its kernel (as DCLS has for a linear layer).

    The weights stay with the convolution: every call brings them, `y = delay(x, weight=conv.weight)`. The bias is not
    delayed and not added.

    Shapes: a sequence is (T, B, C, *) -> (T, B, O, *); a step is without T.

    Args:
        conv: what the delays are for; its geometry is read, and the module is not kept.
        max_delay, interpolation, sigma, learn_sigma, init, round_in_eval: as for `LearnableDelay`.

    Attributes:
        delays: Parameter of the shape of the convolution's weight and one dimension for the tap, in steps.

    >>> conv = nn.Conv2d(2, 4, 3, padding=1)
    >>> delay = ConvDelay(conv, max_delay=5)
    >>> delay(torch.zeros(10, 8, 2, 16, 16), weight=conv.weight).shape
    torch.Size([10, 8, 4, 16, 16])
    """

    def __init__(
        self,
        conv: Convolution,
        *,
        max_delay: int,
        interpolation: Interpolation = "gauss",
        sigma: float | None = None,
        learn_sigma: LearnSigma = False,
        init: str | float = "uniform",
        round_in_eval: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(conv, Convolution):
            raise ArgumentError("conv", "a convolution of torch.nn", type(conv).__name__)
        super().__init__(
            (*conv.weight.shape, 1),
            max_delay=max_delay,
            weight=False,
            bias=0,
            fan_in=conv.weight[0].numel(),
            interpolation=interpolation,
            sigma=sigma,
            learn_sigma=learn_sigma,
            init=init,
            round_in_eval=round_in_eval,
            device=device,
            dtype=dtype,
        )
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.dims = len(conv.kernel_size)
        self.geometry, self._pad = _geometry(conv)
        self._pad_mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode

    def initial_state(self, batch: int, *space: int) -> DelayState:
        """The state before a sequence, for inputs (batch, C, *space): nothing is under way."""
        return DelayState(self._silence(batch, self.in_channels, *space))

    def _check_input(self, x: Tensor, leading: int) -> None:
        if not isinstance(x, Tensor) or x.dim() != leading + 2 + self.dims or x.shape[leading + 1] != self.in_channels:
            time = "T, " if leading else ""
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentError("x", f"shape ({time}B, {self.in_channels}, {self.dims} dimensions of space)", got)
        check_finite(x, leading)

    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        result: Tensor = _Spatial.apply(self._padded(x.to(kernel.dtype)), kernel, self.geometry, steps)
        return result

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self._pad):
            return x
        flat = functional.pad(x.flatten(0, -2 - self.dims), self._pad, self._pad_mode)
        return flat.view(*x.shape[: -1 - self.dims], *flat.shape[1:])

    def _step_kernel(self, kernel: Tensor) -> Tensor:
        """Taps of all ages side by side, oldest first, as input channels of one convolution."""
        taps = kernel.flip(0)
        if not self.geometry.transposed:
            return taps.movedim(0, 1).flatten(1, 2)  # (O, K C / g, *)
        groups = self.geometry.groups
        side_by_side: Tensor = taps.unflatten(1, (groups, -1)).movedim(0, 1).flatten(0, 2)
        return side_by_side  # (g K C / g, O / g, *)

    def _weigh(self, window: Tensor, kernel: Tensor) -> Tensor:
        x: Tensor = self._padded(window).unflatten(2, (self.geometry.groups, -1))  # (K, B, g, C / g, *)
        result: Tensor = torch.ops.aten.convolution(
            x.permute(1, 2, 0, *range(3, x.dim())).flatten(1, 3), kernel, None, *self.geometry
        )
        return result

    def extra_repr(self) -> str:
        return self._describe(f"{self.in_channels}, {self.out_channels}, kernel_size={tuple(self.delays.shape[2:-1])}")


def _geometry(conv: Any) -> tuple[Geometry, tuple[int, ...]]:
    """The geometry, and what has to be padded beforehand (in the order of `functional.pad`)."""
    beforehand: tuple[int, ...] = ()
    padding = conv.padding
    if not conv.transposed and (isinstance(padding, str) or conv.padding_mode != "zeros"):
        beforehand = tuple(conv._reversed_padding_repeated_twice)
        padding = (0,) * len(conv.kernel_size)
    mode = (conv.transposed, tuple(conv.output_padding), conv.groups)
    return Geometry(tuple(conv.stride), tuple(padding), tuple(conv.dilation), *mode), beforehand


class _Spatial(torch.autograd.Function):
    """One convolution over space per age, each over all steps at once, added up where they arrive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, geometry: Geometry, steps: int) -> Tensor:
        ctx.save_for_backward(x, taps)
        ctx.geometry = geometry
        y: Tensor | None = None
        for k, tap in enumerate(taps):
            length = min(x.shape[0], steps - k)
            if length <= 0:
                break
            part = torch.ops.aten.convolution(x[:length].flatten(0, 1), tap, None, *geometry)
            if y is None:
                y = part.new_zeros((steps, x.shape[1], *part.shape[1:]))
            y[k : k + length] += part.view(length, *y.shape[1:])
        assert y is not None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], False]
        grad_x = torch.zeros_like(x) if wanted[0] else None
        grad_taps = torch.zeros_like(taps) if wanted[1] else None
        for k, tap in enumerate(taps):
            length = min(x.shape[0], grad.shape[0] - k)
            if length <= 0:
                break
            g, part = grad[k : k + length].flatten(0, 1), x[:length].flatten(0, 1)
            gx, gw, _ = torch.ops.aten.convolution_backward(g, part, tap, None, *ctx.geometry, wanted)
            if grad_x is not None:
                grad_x[:length] += gx.view(length, *x.shape[1:])
            if grad_taps is not None:
                grad_taps[k] = gw
        return grad_x, grad_taps, None, None
