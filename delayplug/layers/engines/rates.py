"""What the engines of delays per synapse cost on each kind of device, by which `engine="auto"` chooses.

A pass is the output, the gradient for the taps or that for the input. Each is T K B I O multiply-adds, a little less
where taps reach beyond the sequence, by which engines that compute all of them are measured.

The table was fitted on measurements: the CPU's on two cores; "h100" on an H100 and an H200 with torch 2.11 (600 TFLOP/s
in a product of bf16, 0.27 ms for the output of 256 -> 256, 25 taps, 100 steps, batch 256), except for transforms, which
on GPUs are estimated by bytes and products (see `spectral`). The other devices were not measured: theirs are scaled by
their data sheets.
"""

import functools
from typing import Literal, NamedTuple

import torch

from ..._triton import constant
from .fourier import Shape, blocks
from .spectral import cost as spectral_cost
from .transforms import least

Kind = Literal["cpu", "h100", "a100", "consumer"]


class Rates(NamedTuple):
    """Multiply-adds in a microsecond, and what each launch takes, in microseconds.

    direct, direct_tf32: of torch's own products or convolutions, in float32 and in TF32.
    fft: of the products and transforms that `fourier.blocks` counts; on GPUs the speed of `spectral`, that of an H100
        being 1.
    products: of one product of parts of bf16.
    """

    direct: float
    direct_tf32: float
    fft: float
    products: float
    launch: float


_RATES: dict[Kind, Rates] = {
    "cpu": Rates(direct=1.5, direct_tf32=1.5, fft=1, products=1e-9, launch=0),  # a ratio is enough
    "h100": Rates(direct=22e6, direct_tf32=150e6, fft=1, products=300e6, launch=6),
    "a100": Rates(direct=8e6, direct_tf32=60e6, fft=0.5, products=100e6, launch=6),
    "consumer": Rates(direct=15e6, direct_tf32=15e6, fft=0.25, products=25e6, launch=6),
}
_PRODUCTS_LAUNCHES = 8


def kind_of(device: torch.device) -> Kind:
    """The row of the table for a device; an unknown GPU counts as an H100."""
    return _kind_of_gpu(device.index) if device.type == "cuda" else "cpu"


@constant
def _kind_of_gpu(index: int | None) -> Kind:
    major, minor = torch.cuda.get_device_capability(index)
    if (major, minor) in ((8, 6), (8, 9)) or major == 12:
        return "consumer"
    return "a100" if major <= 8 else "h100"


@functools.lru_cache(maxsize=256)
def cheapest(engines: tuple[str, ...], shape: Shape, kind: Kind, exact: bool, setting: str) -> str:
    """The engine that costs least; arguments as for `cost`."""
    return least(engines, lambda engine: cost(engine, shape, kind, exact=exact, setting=setting))


def cost(engine: str, shape: Shape, kind: Kind, *, exact: bool = False, setting: str = "highest") -> float:
    """Microseconds (on a CPU: of no unit) of a forward and a backward pass.

    Args:
        engine: "direct", "fft" or "products".
        shape: of the convolution.
        kind: of device.
        exact: whether the input is known to be exact in bf16.
        setting: of `precision`.
    """
    rates = _RATES[kind]
    if engine == "fft" and kind == "cpu":
        return blocks(shape)[1] / rates.fft
    if engine == "fft":
        return 1e6 * spectral_cost(shape, 1 if setting == "medium" else 2) / rates.fft
    # On a GPU no engine computes what silence before and behind the input would give.
    steps = shape.steps_in * shape.taps if kind == "cpu" else _meetings(shape)
    one_pass = steps * shape.batch * shape.inputs * shape.outputs
    if engine == "products":
        medium = setting == "medium"
        inexact = 1 if medium else 3
        with_input = 2 if exact and not medium else inexact
        return (2 * with_input + inexact) * one_pass / rates.products + _PRODUCTS_LAUNCHES * rates.launch
    rate = rates.direct if setting == "highest" else rates.direct_tf32
    return 3 * one_pass / rate + 3 * shape.taps * rates.launch


def _meetings(shape: Shape) -> int:
    """How often a step of the input and a tap meet within the output."""
    return sum(min(shape.steps_in, shape.steps_out - k) for k in range(min(shape.taps, shape.steps_out)))
