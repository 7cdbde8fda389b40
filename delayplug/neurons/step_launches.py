"""The operators that launch the kernels of recurrent connections. Shapes: K taps, B batch, H neurons, S states."""

import torch
from torch import Tensor

from .. import _triton

_BLOCK, _WARPS = 128, 4


@_triton.operator("recurrent_delayed(Tensor window, Tensor? taps, Tensor(a!) out) -> ()")
def delayed(window: Tensor, taps: Tensor | None, out: Tensor) -> None:
    """See `kernels.steps.delayed`: window (K, B, H), taps (K, H), out (B, H), all contiguous."""
    from .kernels.steps import delayed as kernel

    with torch.cuda.device_of(out):
        kernel[-(-out.numel() // _BLOCK),](
            window, taps, out, out.numel(), out.shape[-1], window.shape[0], BLOCK=_BLOCK, num_warps=_WARPS
        )


@_triton.operator(
    "recurrent_back(Tensor grad, Tensor window, Tensor? taps, Tensor slopes, Tensor states, "
    "Tensor(a!) for_spikes, Tensor(b!) for_drives, Tensor(c!) before) -> ()"
)
def back(
    grad: Tensor,
    window: Tensor,
    taps: Tensor | None,
    slopes: Tensor,
    states: Tensor,
    for_spikes: Tensor,
    for_drives: Tensor,
    before: Tensor,
) -> None:
    """See `kernels.steps.back`: slopes ((S + 1) (S + 1), B, H), of any first stride, states and before (S, B, H)."""
    from .kernels.steps import back as kernel

    with torch.cuda.device_of(grad):
        kernel[-(-grad.numel() // _BLOCK),](
            *(grad, window, taps, slopes, states, for_spikes, for_drives, before),
            *(grad.numel(), grad.shape[-1], window.shape[0], slopes.stride(0)),
            STATES=states.shape[0],
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )
