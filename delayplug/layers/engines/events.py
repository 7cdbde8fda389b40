"""One event-driven step of rounded delays: every spike is added to the outputs at which it will arrive.

Instead of the last K inputs, the state holds the next K outputs as far as they are known: a spike of input i at time t
adds w_oi to the output o of time t + d_oi, for all o at once. The cost follows the number of spikes, and not K.

Shapes: B batch, I inputs, O outputs, N taps per synapse, K = max_delay + 1.
"""

import functools

import torch
from torch import Tensor

from ..taps import round_delays

# An entry that is scattered costs as much as so many products of a dense matrix (two CPU cores), and as so many of a
# matrix product with several samples, each of which makes use of the same taps.
_SCATTERED, _SCATTERED_OF_MANY = 64, 256
_MANY = 8


class Launch:
    """Where the spikes of each input arrive, and with which weight: a layer's rounded delays, laid out by input.

    No tuple, so that whoever looks for the tensors of a state does not find these.

    Attributes:
        slots: (I, O N), the place d_oi * O + o in the next K outputs of one sample.
        weights: (I, O N).
        silence: (1, 1, O), zeros.
    """

    def __init__(self, delays: Tensor, weights: Tensor, max_delay: int) -> None:
        """From delays, finite and in their range, and weights, both (O, I, N)."""
        outputs, inputs, _ = delays.shape
        # Copies that are contiguous, so that a spike finds all that it needs in one place.
        rounded, self.weights = (
            value.movedim(1, 0).clone(memory_format=torch.contiguous_format).flatten(1)
            for value in (round_delays(delays), weights)
        )
        place = torch.arange(outputs, device=delays.device).repeat_interleave(weights.shape[2])
        self.slots = rounded.long().mul_(outputs).add_(place)
        self._shape = inputs, (max_delay + 1) * outputs
        self.silence = weights.new_zeros(1, 1, outputs)
        self._in_batch: tuple[int, Tensor] | None = None

    def slots_in(self, batch: int) -> Tensor:
        """(I, O N), the place d_oi * B O + o in the next K outputs of B samples; kept for the last such B."""
        if batch == 1:
            return self.slots
        if self._in_batch is None or self._in_batch[0] != batch:
            outputs = self.silence.shape[-1]
            delays = self.slots.div(outputs, rounding_mode="floor")
            self._in_batch = batch, delays.mul_((batch - 1) * outputs).add_(self.slots)
        return self._in_batch[1]

    @functools.cached_property
    def taps(self) -> Tensor:
        """The same as a matrix (I, K O)."""
        return self.weights.new_zeros(self._shape).scatter_add_(1, self.slots, self.weights)


def arrivals(x_BI: Tensor, pending_KBO: Tensor, launches: Launch) -> tuple[Tensor, Tensor]:
    """One step: what arrives now (B, O), and what is pending after it.

    Pending are the outputs of this step, of the next one and so on, as far as they are known. With many spikes this is
    a dense product, with few ones a scattered sum.
    """
    size, batch, outputs = pending_KBO.shape
    # One row more, which then falls off in front: the buffer moves on by one step.
    after = torch.cat((pending_KBO, launches.silence if batch == 1 else launches.silence.expand(1, batch, outputs)))
    x = x_BI.flatten()
    spikes = x.nonzero().squeeze(1)
    if spikes.numel() * (_SCATTERED if batch < _MANY else _SCATTERED_OF_MANY) > x.numel() * size:
        after[:-1] += (x_BI @ launches.taps).view(batch, size, outputs).movedim(1, 0)
    else:
        inputs = x_BI.shape[1]
        source = spikes if batch == 1 else spikes.remainder(inputs)
        slots = launches.slots_in(batch).index_select(0, source)
        values = launches.weights.index_select(0, source).mul_(x.index_select(0, spikes).unsqueeze(1))
        if batch > 1:
            sample = spikes.div(inputs, rounding_mode="floor")
            slots += sample.mul_(outputs).unsqueeze(1)
        after.view(-1).scatter_add_(0, slots.flatten(), values.flatten())
    return after[0].clone(), after[1:]
