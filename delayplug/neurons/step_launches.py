"""The operators that launch the kernels of recurrent connections.

Shapes: K taps, B batch, H neurons, S states of a neuron. Tensors are contiguous and float32, except for the weights: w1
and w2 are bf16, (H, DEPTH), as `layers.engines.products.in_parts` returns them.
"""

import torch
from torch import Tensor

from .. import _triton

_BLOCK, _WARPS = 128, 4
_SAMPLES, _NEURONS, _DEPTH = 16, 32, 64  # of a tile; senders that are multiplied at a time


@_triton.operator("recurrent_arrive(Tensor x, Tensor sent, Tensor w1, Tensor? w2, bool exact, Tensor(a!) out) -> ()")
def arrive(x: Tensor, sent: Tensor, w1: Tensor, w2: Tensor | None, exact: bool, out: Tensor) -> None:
    """See `kernels.steps.arrive`: x, sent and out (B, H); exact: whether bf16 represents `sent` exactly."""
    from .kernels.steps import arrive as kernel

    with torch.cuda.device_of(out):
        kernel[_tiles(out)](x, sent, w1, w2, out, *out.shape, EXACT=exact, **_sizes(w1))


@_triton.operator("recurrent_send(Tensor spikes, Tensor(a!) window, Tensor taps, Tensor(b!) out) -> ()")
def send(spikes: Tensor, window: Tensor, taps: Tensor, out: Tensor) -> None:
    """See `kernels.steps.send`: spikes and out (B, H), window (K, B, H), taps (K, H)."""
    from .kernels.steps import send as kernel

    with torch.cuda.device_of(out):
        kernel[-(-out.numel() // _BLOCK),](
            spikes, window, taps, out, out.numel(), out.shape[-1], window.shape[0], BLOCK=_BLOCK, num_warps=_WARPS
        )


@_triton.operator(
    "recurrent_back(Tensor grad, Tensor drives, Tensor(d!) window, Tensor? taps, Tensor w1, Tensor? w2, Tensor slopes, "
    "Tensor states, Tensor(a!) for_spikes, Tensor(b!) for_drives, Tensor(c!) before) -> ()"
)
def back(
    grad: Tensor,
    drives: Tensor,
    window: Tensor,
    taps: Tensor | None,
    w1: Tensor,
    w2: Tensor | None,
    slopes: Tensor,
    states: Tensor,
    for_spikes: Tensor,
    for_drives: Tensor,
    before: Tensor,
) -> None:
    """See `kernels.steps.back`: slopes ((S + 1) (S + 1), B, H), whose first stride is arbitrary."""
    from .kernels.steps import back as kernel

    with torch.cuda.device_of(grad):
        kernel[_tiles(grad)](
            *(grad, drives, window, taps, w1, w2, slopes, states, for_spikes, for_drives, before),
            *(grad.shape[0], window.shape[0], slopes.stride(0)),
            H=grad.shape[1],
            STATES=states.shape[0],
            **_sizes(w1),
        )


def _tiles(like: Tensor) -> tuple[int, int]:
    return -(-like.shape[0] // _SAMPLES), -(-like.shape[1] // _NEURONS)


def _sizes(w1: Tensor) -> dict[str, int]:
    return {"DEPTH": w1.shape[1], "BM": _SAMPLES, "BN": _NEURONS, "BK": _DEPTH, "num_warps": _WARPS}
