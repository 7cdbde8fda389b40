import pytest
import torch

from delayplug.layers.engines.direct import by_rows, direct
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree, tensors


@pytest.mark.parametrize("apply", [direct, by_rows])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_it_equals_the_loop(T, K, steps, apply):
    x, taps = tensors(T, K)
    agree(apply(x, taps, steps), oracle.convolve(x, taps, steps), (x, taps))


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument_by_rows(wanted):
    x, taps = tensors(9, 4)
    (expected,) = torch.autograd.grad(oracle.convolve(x, taps, 9).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    by_rows(*inputs, 9).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives_and_transforms_by_rows(T, K, steps):
    x, taps = tensors(T, K, 2, 2, 2)
    assert torch.autograd.gradgradcheck(lambda *a: by_rows(*a, steps), (x, taps), fast_mode=True)
    found = torch.func.vmap(lambda x: by_rows(x, taps, steps))(x.unsqueeze(0))[0]
    agree(found, direct(x, taps, steps), (x, taps))


def test_inputs_that_do_not_lie_time_first_by_rows():
    x = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    x_TBI, taps_KOI = x.permute(2, 1, 0), taps.permute(2, 1, 0)[:, :, :4]
    agree(by_rows(x_TBI, taps_KOI, 9), oracle.convolve(x_TBI, taps_KOI, 9), (x, taps))


def test_spikes_become_numbers_of_the_taps():
    x, taps = tensors(9, 4)
    spikes = x.detach() > 0
    assert torch.equal(direct(spikes, taps, 9), direct(spikes.double(), taps, 9))
