"""One event-driven step of rounded delays: every spike is added to the outputs at which it will arrive.

Instead of the last K inputs, the state holds the next K outputs as far as they are known: a spike of input i at time t
adds w_oi to the output o of time t + d_oi, for all o at once. The cost follows the number of spikes, and not K.

Shapes: B batch, I inputs, O outputs, N taps per synapse, K = max_delay + 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..taps import round_delays

# An entry that is scattered costs as much as so many products of a dense matrix (two CPU cores).
_SCATTERED = 64


class Launch(NamedTuple):
    """Where the spikes of each input arrive, and with which weight: a layer's rounded delays, laid out by input.

    slots: (I, O N), the place d_oi * O + o in the next K outputs of one sample.
    weights: (I, O N).
    taps: (I, K O), the same as a matrix.
    """

    slots: Tensor
    weights: Tensor
    taps: Tensor


def launch(delays: Tensor, weights: Tensor, taps: Tensor) -> Launch:
    """From delays and weights (O, I, N) and taps (K, O, I)."""
    outputs, inputs, _ = delays.shape
    place = torch.arange(outputs, device=delays.device).view(-1, 1, 1)
    slots = round_delays(delays).long() * outputs + place
    # Contiguous, so that a spike finds all that it needs in one place.
    slots, weights = (value.movedim(1, 0).reshape(inputs, -1).contiguous() for value in (slots, weights))
    return Launch(slots, weights, taps.permute(2, 0, 1).reshape(inputs, -1))


def arrivals(x_BI: Tensor, pending_KBO: Tensor, launches: Launch) -> tuple[Tensor, Tensor]:
    """One step: what arrives now (B, O), and what is pending after it.

    Pending are the outputs of this step, of the next one and so on, as far as they are known. With many spikes this is
    a dense product, with few ones a scattered sum.
    """
    size, batch, outputs = pending_KBO.shape
    # One row more, which then falls off in front: the buffer moves on by one step.
    after = torch.cat((pending_KBO, pending_KBO.new_zeros(1, batch, outputs)))
    x = x_BI.flatten()
    spikes = x.nonzero().squeeze(1)
    if spikes.numel() * _SCATTERED > x.numel() * size:
        after[:-1] += (x_BI @ launches.taps).view(batch, size, outputs).movedim(1, 0)
    else:
        inputs = x_BI.shape[1]
        source = spikes if batch == 1 else spikes.remainder(inputs)
        slots = launches.slots.index_select(0, source)  # d * O + o, as if the batch had one sample
        values = launches.weights.index_select(0, source).mul_(x.index_select(0, spikes).unsqueeze(1))
        if batch > 1:
            sample = spikes.div(inputs, rounding_mode="floor")
            slots += slots.div(outputs, rounding_mode="floor").mul_((batch - 1) * outputs)
            slots += sample.mul_(outputs).unsqueeze(1)
        after.view(-1).scatter_add_(0, slots.flatten(), values.flatten())
    return after[0].clone(), after[1:]
