"""Delays of a convolution's synapses: one for each element of its kernel.

    y[t] = sum_k convolution(x[t - k], taps[k]),        x[t] = 0 for t < 0

where the taps (K, *weight) are those of `delayplug.layers.taps`, and the convolution over space is any of torch's six;
`engines.spatial` has the arithmetic.

Shapes: T steps, B batch, C channels in, O channels out; * the dimensions of space.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArgumentError
from .base import DelayLayer
from .checks import check_finite
from .engines.convolve import Engine
from .engines.spatial import Geometry, convolve_space, join_ages, weigh_ages
from .options import KernelOptions, LearnSigma, check_engine
from .state import DelayState
from .taps import Interpolation

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


class ConvDelay(DelayLayer):
    """Learnable delays of a convolution, one for each element of its kernel (as DCLS has for a linear layer).

    The weights stay with the convolution: every call brings them, `y = delay(x, weight=conv.weight)`. The bias is not
    delayed and not added.

    Shapes: a sequence is (T, B, C, *) -> (T, B, O, *); a step is without T.

    Args:
        conv: what the delays are for; its geometry is read, and the layer does not hold the module.
        max_delay, interpolation, sigma, learn_sigma, init, round_in_eval: as for `LearnableDelay`.
        engine: "auto" or "direct", which are the same.

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
        engine: Engine = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(conv, Convolution):
            raise ArgumentError("conv", "a convolution of torch.nn", type(conv).__name__)
        check_engine(engine, "convolution")
        super().__init__(
            (*conv.weight.shape, 1),
            max_delay=max_delay,
            options=KernelOptions(interpolation, sigma, learn_sigma, init, round_in_eval, engine),
            weight=False,
            bias=0,
            device=device,
            dtype=dtype,
        )
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.dims = len(conv.kernel_size)
        # By itself the convolution over space pads with zeros, the same on both sides; else inputs are padded before.
        before = not conv.transposed and (isinstance(conv.padding, str) or conv.padding_mode != "zeros")
        padding = (0,) * self.dims if before else tuple(int(size) for size in conv.padding)
        shape = (conv.transposed, tuple(conv.output_padding), conv.groups)
        self.geometry = Geometry(tuple(conv.stride), padding, tuple(conv.dilation), *shape)
        # In the order of `functional.pad`, last dimension first.
        self._pad = tuple(conv._reversed_padding_repeated_twice) if before else ()
        self._pad_mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode

    def initial_state(self, batch: int, *space: int) -> DelayState:
        """The state before a sequence, for inputs (batch, C, *space): nothing is under way."""
        return self._state(None, (batch, self.in_channels, *space))

    def _check_input(self, x: Tensor, leading: int) -> None:
        if not isinstance(x, Tensor) or x.dim() != leading + 2 + self.dims or x.shape[leading + 1] != self.in_channels:
            time = "T, " if leading else ""
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ArgumentError("x", f"shape ({time}B, {self.in_channels}, {self.dims} dimensions of space)", got)
        check_finite(x, leading)

    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        return convolve_space(self._padded(x.to(kernel.dtype)), kernel, self.geometry, steps)

    def _padded(self, x: Tensor) -> Tensor:
        if not any(self._pad):
            return x
        flat = functional.pad(x.flatten(0, -2 - self.dims), self._pad, self._pad_mode)
        return flat.view(*x.shape[: -1 - self.dims], *flat.shape[1:])

    def _step_kernel(self, kernel: Tensor) -> Tensor:
        return join_ages(kernel, self.geometry)

    def _convolve_step(self, window: Tensor, kernel: Tensor) -> Tensor:
        return weigh_ages(self._padded(window), kernel, self.geometry)

    def _weigh(self, x: Tensor, tap: Tensor) -> Tensor:
        return weigh_ages(self._padded(x.unsqueeze(0)), join_ages(tap.unsqueeze(0), self.geometry), self.geometry)

    def extra_repr(self) -> str:
        return self._describe(f"{self.in_channels}, {self.out_channels}, kernel_size={tuple(self.delays.shape[2:-1])}")


class KernelDelay(ConvDelay):
    """The `ConvDelay` inside of a layer that `add_delays` or `from_nir` made.

    Weight initialisation often goes by the names of classes, and takes whatever has "Conv" in its name for a
    convolution with a weight. The weight is the layer's, and so is that name.
    """
