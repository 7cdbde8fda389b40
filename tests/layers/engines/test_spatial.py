"""The arithmetic of convolutions with delays, against one convolution per step and age."""

import functools

import pytest
import torch
from torch.nn import functional

from delayplug.layers.engines.spatial import Geometry, convolve_space, join_ages, weigh_ages
from tests.layers.engines.cases import LENGTHS, agree

F64 = {"dtype": torch.float64, "requires_grad": True}
PLAIN = Geometry((2,), (1,), (1,), False, (0,), 2)
TRANSPOSED = Geometry((2,), (1,), (1,), True, (1,), 2)


def tensors(T, K, geometry, batch=2):
    """Four channels in and six out, in two groups; kernels of three places."""
    shape = (4, 3, 3) if geometry.transposed else (6, 2, 3)
    return torch.randn(T, batch, 4, 5, **F64), torch.randn(K, *shape, **F64)


def once(x, tap, geometry):
    if geometry.transposed:
        return functional.conv_transpose1d(
            x, tap, None, geometry.stride, geometry.padding, geometry.output_padding, geometry.groups, geometry.dilation
        )
    return functional.conv1d(x, tap, None, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def slow(x, taps, geometry, steps):
    silence = torch.zeros_like(once(x[0], taps[0], geometry))
    rows = []
    for t in range(steps):
        arriving = [once(x[t - k], tap, geometry) for k, tap in enumerate(taps) if 0 <= t - k < len(x)]
        rows.append(sum(arriving, silence))
    return torch.stack(rows)


@pytest.mark.parametrize("geometry", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_a_sequence_equals_the_loop(T, K, steps, geometry):
    x, taps = tensors(T, K, geometry)
    agree(convolve_space(x, taps, geometry, steps), slow(x, taps, geometry, steps), (x, taps))


@pytest.mark.parametrize("geometry", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives_and_transforms(T, K, steps, geometry):
    x, taps = tensors(T, K, geometry, batch=1)
    run = functools.partial(convolve_space, geometry=geometry, steps=steps)
    assert torch.autograd.gradgradcheck(run, (x, taps), fast_mode=True)
    agree(torch.func.vmap(lambda x: run(x, taps))(x.unsqueeze(0))[0], run(x, taps), (x, taps))


@pytest.mark.parametrize("geometry", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
def test_a_step_is_one_convolution_over_all_ages(geometry):
    x, taps = tensors(5, 5, geometry)
    step = weigh_ages(x, join_ages(taps, geometry), geometry)
    agree(step, slow(x, taps, geometry, 5)[-1], (x, taps))


@pytest.mark.parametrize("geometry", [PLAIN, TRANSPOSED], ids=["plain", "transposed"])
def test_gradcheck(geometry):
    x, taps = tensors(3, 2, geometry, batch=1)
    assert torch.autograd.gradcheck(lambda *a: convolve_space(*a, geometry, 4), (x, taps))


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(wanted):
    x, taps = tensors(4, 3, PLAIN)
    (expected,) = torch.autograd.grad(slow(x, taps, PLAIN, 4).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    convolve_space(*inputs, PLAIN, 4).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None
