"""The operators that launch the kernels of neurons.

Shapes: T steps, N columns, one for each neuron of each sample.
"""

import torch
from torch import Tensor

from .. import _triton

_BLOCK, _WARPS = 128, 4

# Constants come in the order of `dynamics.CONSTANTS`, and after them what the membrane starts from. `rules` are charge,
# current, before, after, fires, fires_at, divides; of `backward` then is_detached and the form of the surrogate.
_SHARED = "Tensor?[] constants, float[] numbers, int[] kinds, int[] layout, int[] rules"


@_triton.operator(
    f"neurons_forward(Tensor x, Tensor? first_current, {_SHARED}, "
    "Tensor(a!)? spikes, Tensor(b!)? in_half, Tensor(c!)? charged, Tensor(d!)? membranes, Tensor(e!)? drives, "
    "Tensor(f!)? currents, Tensor(g!) membrane, Tensor(h!)? current) -> ()"
)
def forward(
    x: Tensor,
    first_current: Tensor | None,
    constants: list[Tensor | None],
    numbers: list[float],
    kinds: list[int],
    layout: list[int],
    rules: list[int],
    spikes: Tensor | None,
    in_half: Tensor | None,
    charged: Tensor | None,
    membranes: Tensor | None,
    drives: Tensor | None,
    currents: Tensor | None,
    membrane: Tensor,
    current: Tensor | None,
) -> None:
    """See `kernels.membranes.forward`; layout is T, N, size, repeat."""
    from .kernels.membranes import forward as kernel

    with torch.cuda.device_of(x):
        kernel[_programs(layout)](
            x,
            *constants,
            *numbers,
            first_current,
            *(spikes, in_half, charged, membranes, drives, currents, membrane, current),
            *layout,
            *kinds,
            *rules,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
            enable_fp_fusion=False,  # equal spikes: each operation is rounded, as in torch
        )


@_triton.operator(
    f"neurons_backward(Tensor x, Tensor? first_current, {_SHARED}, int[] needs, float[] surrogate, "
    "Tensor? charged, Tensor? membranes, Tensor? drives, Tensor?[] gradients, "
    "Tensor(a!)? for_x, Tensor(b!)? for_start, Tensor(c!)? for_current, Tensor(d!)[] for_constants, int[] learned) "
    "-> ()"
)
def backward(
    x: Tensor,
    first_current: Tensor | None,
    constants: list[Tensor | None],
    numbers: list[float],
    kinds: list[int],
    layout: list[int],
    rules: list[int],
    needs: list[int],
    surrogate: list[float],
    charged: Tensor | None,
    membranes: Tensor | None,
    drives: Tensor | None,
    gradients: list[Tensor | None],
    for_x: Tensor | None,
    for_start: Tensor | None,
    for_current: Tensor | None,
    for_constants: list[Tensor],
    learned: list[int],
) -> None:
    """See `kernels.gradients.backward`; `learned` says whose sums `for_constants` are."""
    from .kernels.gradients import backward as kernel

    sums: list[Tensor | None] = [None] * (len(constants) - 1)
    for number, out in zip(learned, for_constants, strict=True):
        sums[number] = out
    with torch.cuda.device_of(x):
        kernel[_programs(layout)](
            x,
            *constants,
            *numbers,
            *surrogate,
            first_current,
            *(charged, membranes, drives, *gradients, for_x, for_start, for_current, *sums),
            *layout,
            *kinds,
            *needs,
            *rules,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )


_ADAPTIVE = "Tensor? first_membrane, Tensor? first_adaptation, " + _SHARED


@_triton.operator(
    f"neurons_adaptive_forward(Tensor x, {_ADAPTIVE}, Tensor(a!) spikes, Tensor(b!)? in_half, Tensor(c!)? charged, "
    "Tensor(d!)? membranes, Tensor(e!)? adaptations, Tensor(f!) membrane, Tensor(g!) adaptation) -> ()"
)
def adaptive_forward(
    x: Tensor,
    first_membrane: Tensor | None,
    first_adaptation: Tensor | None,
    constants: list[Tensor | None],
    numbers: list[float],
    kinds: list[int],
    layout: list[int],
    rules: list[int],
    spikes: Tensor,
    in_half: Tensor | None,
    charged: Tensor | None,
    membranes: Tensor | None,
    adaptations: Tensor | None,
    membrane: Tensor,
    adaptation: Tensor,
) -> None:
    """See `kernels.adlif.forward`: constants in the order of its arguments; `rules` is [fires_at]."""
    from .kernels.adlif import forward as kernel

    with torch.cuda.device_of(x):
        kernel[_programs(layout)](
            x,
            *constants,
            *numbers,
            *(first_membrane, first_adaptation),
            *(spikes, in_half, charged, membranes, adaptations, membrane, adaptation),
            *layout,
            *kinds,
            *rules,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
            enable_fp_fusion=False,  # equal spikes: each operation is rounded, as in torch
        )


@_triton.operator(
    f"neurons_adaptive_backward(Tensor x, {_ADAPTIVE}, float[] surrogate, Tensor charged, Tensor adaptations, "
    "Tensor?[] gradients, Tensor(a!)? for_x, Tensor(b!)? for_membrane, Tensor(c!)? for_adaptation, "
    "Tensor(d!)[] for_constants, int[] learned) -> ()"
)
def adaptive_backward(
    x: Tensor,
    first_membrane: Tensor | None,
    first_adaptation: Tensor | None,
    constants: list[Tensor | None],
    numbers: list[float],
    kinds: list[int],
    layout: list[int],
    rules: list[int],
    surrogate: list[float],
    charged: Tensor,
    adaptations: Tensor,
    gradients: list[Tensor | None],
    for_x: Tensor | None,
    for_membrane: Tensor | None,
    for_adaptation: Tensor | None,
    for_constants: list[Tensor],
    learned: list[int],
) -> None:
    """See `kernels.adlif.backward`; `rules` is fires_at, is_detached, form of the surrogate."""
    from .kernels.adlif import backward as kernel

    sums: list[Tensor | None] = [None] * (len(constants) - 1)  # the scale has no gradient
    for number, out in zip(learned, for_constants, strict=True):
        sums[number] = out
    with torch.cuda.device_of(x):
        kernel[_programs(layout)](
            x,
            *constants,
            *numbers,
            *surrogate,
            *(first_membrane, first_adaptation, charged, adaptations, *gradients),
            *(for_x, for_membrane, for_adaptation, *sums),
            *layout,
            *kinds,
            *rules,
            BLOCK=_BLOCK,
            num_warps=_WARPS,
        )


def _programs(layout: list[int]) -> tuple[int]:
    return (-(-layout[1] // _BLOCK),)
