"""The operators of recurrent connections, in kernels and as sums; to torch they are one operation each."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from delayplug.neurons.step_launches import back, delayed
from tests.layers.kernels import DEVICE, needs_triton, running

B, H = 5, 37  # more columns than a program takes


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


@needs_triton
@pytest.mark.parametrize("size", [1, 8, 11])
@pytest.mark.parametrize("per_neuron", [True, False])
def test_what_comes_out_of_delays(size: int, per_neuron: bool) -> None:
    torch.manual_seed(0)
    window, taps, out = random(size, B, H), random(size, H), torch.empty(B, H, device=DEVICE)
    with running():
        delayed(window, taps if per_neuron else None, out)
    torch.testing.assert_close(out, (window * taps.unsqueeze(1)).sum(0) if per_neuron else window[0])


@needs_triton
@pytest.mark.parametrize("states", [1, 2])
def test_a_step_back(states: int) -> None:
    torch.manual_seed(0)
    width = states + 1
    grad, window, taps, after = random(B, H), random(11, B, H), random(11, H), random(states, B, H)
    slopes = random(width**2, 4, B, H)
    for_spikes, for_drives, before = torch.empty_like(grad), torch.empty_like(grad), torch.empty_like(after)
    with running():
        back(grad, window, taps, slopes[:, 2], after, for_spikes, for_drives, before)
    spikes = grad + (window * taps.unsqueeze(1)).sum(0)
    torch.testing.assert_close(for_spikes, spikes)
    gradients = torch.stack((spikes, *after))
    expected = (slopes[:, 2].unflatten(0, (width, width)) * gradients.unsqueeze(1)).sum(0)
    torch.testing.assert_close(for_drives, expected[0])
    torch.testing.assert_close(before, expected[1:])


def test_fake_tensors_have_their_shapes() -> None:
    with FakeTensorMode():
        window, out = torch.empty(3, B, H), torch.empty(B, H)
        delayed(window, None, out)
        back(out, window, None, torch.empty(4, B, H), torch.empty(1, B, H), out, out, torch.empty(1, B, H))
    assert out.shape == (B, H)
