"""The operators of recurrent connections, as sums and products; to torch they are one operation each."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from delayplug.layers.engines.products import in_parts
from delayplug.neurons.step_launches import arrive, back, send
from tests.layers.kernels import DEVICE, needs_triton, running


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, device=DEVICE)


def assert_near(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).norm() < 2e-5 * expected.norm()


def parts_of(weight: Tensor, count: int = 2) -> tuple[Tensor, Tensor | None]:
    return in_parts(weight, count)


@needs_triton
@pytest.mark.parametrize("size", [1, 8, 11])
def test_what_comes_out_of_delays(size: int) -> None:
    torch.manual_seed(0)
    spikes, window, taps, out = random(5, 37), random(size, 5, 37), random(size, 37), torch.empty(5, 37, device=DEVICE)
    expected = window.clone()
    expected[-1] = spikes
    with running():
        send(spikes, window, taps, out)
    assert torch.equal(window, expected)
    torch.testing.assert_close(out, (expected * taps.unsqueeze(1)).sum(0))


@needs_triton
@pytest.mark.parametrize(("batch", "size"), [(3, 6), (17, 37), (16, 64), (33, 70)])
def test_what_arrives(batch: int, size: int) -> None:
    torch.manual_seed(0)
    x, sent, weight, out = random(batch, size), random(batch, size), random(size, size), random(batch, size)
    with running():
        arrive(x, sent, *parts_of(weight), False, out)
        precise = torch.addmm(x.double(), sent.double(), weight.double().t())
        assert (out - precise).norm() < 1e-5 * precise.norm()
        spikes = (sent > 0).float()
        arrive(x, spikes, *parts_of(weight), True, out)
        precise = torch.addmm(x.double(), spikes.double(), weight.double().t())
        assert (out - precise).norm() < 1e-5 * precise.norm()
        arrive(x, spikes, *parts_of(weight, 1), True, out)
        assert 1e-5 < (out - precise).norm() / precise.norm() < 1e-2


@needs_triton
@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("per_neuron", [True, False])
@pytest.mark.parametrize(("batch", "size"), [(3, 6), (17, 37)])
def test_a_step_back(batch: int, size: int, per_neuron: bool, states: int) -> None:
    torch.manual_seed(0)
    width, reach = states + 1, 11 if per_neuron else 1
    grad, drives, weight = random(batch, size), random(batch, size), random(size, size)
    window, taps, after = random(reach, batch, size), random(reach, size), random(states, batch, size)
    slopes = random(width**2, 4, batch, size)
    for_spikes, for_drives, before = torch.empty_like(grad), torch.empty_like(grad), torch.empty_like(after)
    expected = window.clone()
    expected[0] = drives @ weight
    with running():
        given = (taps if per_neuron else None, *parts_of(weight), slopes[:, 2], after)
        back(grad, drives, window, *given, for_spikes, for_drives, before)
    assert_near(window, expected)
    spikes = grad + ((expected * taps.unsqueeze(1)).sum(0) if per_neuron else expected[0])
    assert_near(for_spikes, spikes)
    gradients = torch.stack((spikes, *after))
    expected = (slopes[:, 2].unflatten(0, (width, width)) * gradients.unsqueeze(1)).sum(0)
    assert_near(for_drives, expected[0])
    assert_near(before, expected[1:])


def test_fake_tensors_have_their_shapes() -> None:
    with FakeTensorMode():
        window, out, w = torch.empty(3, 5, 6), torch.empty(5, 6), torch.empty(6, 16)
        send(out, window, torch.empty(3, 6), out)
        arrive(out, out, w, None, True, out)
        states = torch.empty(1, 5, 6)
        back(out, out, window, None, w, w, torch.empty(4, 5, 6), states, out, out, states)
    assert out.shape == (5, 6)
