import pytest
import torch

from delayplug import ArgumentError
from delayplug.layers.engines import channels as channel_engine
from delayplug.layers.engines.channels import convolve_channels
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree


@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 2, 4), (3, 2, 4, 2)], ids=str)
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_channels_equal_the_loop(T, K, steps, shape):
    x = torch.randn(T, *shape, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(K, 2, dtype=torch.float64, requires_grad=True)
    agree(convolve_channels(x, taps, steps=steps), oracle.convolve_channels(x, taps, steps), (x, taps))


def test_non_contiguous_channels():
    x = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    x_TBC, taps_KC = x.permute(2, 1, 0), taps.T
    agree(convolve_channels(x_TBC, taps_KC), oracle.convolve_channels(x_TBC, taps_KC, 9), (x, taps))


def channels(T, K, batch=3, features=4):
    x = torch.randn(T, batch, features, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(K, features, dtype=torch.float64, requires_grad=True)


def test_length_is_that_of_the_input_by_default():
    x, taps = channels(9, 4)
    assert torch.equal(convolve_channels(x, taps), convolve_channels(x, taps, steps=9))


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda *a: convolve_channels(*a, steps=6), channels(5, 3, 2, 2))


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives(T, K, steps):
    assert torch.autograd.gradgradcheck(lambda *a: convolve_channels(*a, steps=steps), channels(T, K, 2, 2))


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_within_a_transform_it_is_the_same(T, K, steps):
    x, taps = channels(T, K)
    found = torch.func.vmap(lambda x: convolve_channels(x, taps, steps=steps))(x.unsqueeze(0))[0]
    agree(found, convolve_channels(x, taps, steps=steps), (x, taps))


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 2), (2, 3, 0), (0, 3, 0, 2)], ids=str)
def test_nothing_comes_of_an_empty_batch(shape):
    x = torch.rand(5, *shape, dtype=torch.float64, requires_grad=True)
    taps = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    y = convolve_channels(x, taps, steps=6)
    y.sum().backward()
    assert y.shape == (6, *shape)
    assert not taps.grad.any()


@pytest.mark.parametrize("elements", [0, 60, 1 << 20], ids=["one sample", "some samples", "all samples"])
@pytest.mark.parametrize("steps", [1, 64, 70])
def test_pieces_change_nothing(monkeypatch, elements, steps):
    """Samples piece by piece, and the products of the taps' gradient, which are made for 64 steps at a time."""
    monkeypatch.setattr(channel_engine, "_CPU_ELEMENTS", elements)
    x, taps = channels(steps, 5, batch=5, features=2)
    agree(convolve_channels(x, taps), oracle.convolve_channels(x, taps, steps), (x, taps))


@pytest.mark.parametrize("elements", [0, 1 << 20], ids=["one sample", "all samples"])
def test_single_precision(monkeypatch, elements):
    """On a CPU the gradient of the taps is oneDNN's."""
    monkeypatch.setattr(channel_engine, "_CPU_ELEMENTS", elements)
    precise = channels(50, 9, batch=4, features=20)
    x, taps = (a.detach().float().requires_grad_() for a in precise)
    oracle.convolve_channels(*precise, 50).square().sum().backward()
    convolve_channels(x, taps).square().sum().backward()
    for found, expected in zip((x, taps), precise, strict=True):
        assert (found.grad - expected.grad).abs().max() < 3e-6 * expected.grad.abs().max()


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(wanted):
    x, taps = channels(9, 4)
    (expected,) = torch.autograd.grad(oracle.convolve_channels(x, taps, 9).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    convolve_channels(*inputs).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_spikes_of_any_type(dtype):
    x, taps = channels(20, 5)
    spikes = x.detach() > 1
    agree(convolve_channels(spikes.to(dtype), taps), convolve_channels(spikes.double(), taps), (taps,))


@pytest.mark.parametrize("steps", [0, 13])
def test_a_length_out_of_reach(steps):
    with pytest.raises(ArgumentError, match=rf"steps: expected a length between 1 and T \+ K - 1 = 12, got {steps}"):
        convolve_channels(*channels(9, 4), steps=steps)
