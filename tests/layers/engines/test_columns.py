"""`columns`: delays per channel on GPUs, short and long kernels."""

import functools

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from delayplug.layers.engines import columns, windows
from delayplug.layers.engines.channels import convolve_channels
from delayplug.layers.engines.columns import convolve_columns, is_long, runs_on_columns
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.layers.memory import Peak
from tests.profiles import examples

BOTH = pytest.mark.parametrize("long", [False, True], ids=["short", "long"])


@pytest.fixture
def choose(monkeypatch):
    """Say which of both ways is taken."""
    return lambda long: monkeypatch.setattr(columns, "is_long", lambda *_: long)


def of_double(T, K, batch=3, channels=4):
    x = torch.randn(T, batch, channels, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(K, channels, dtype=torch.float64, requires_grad=True)


def errors(x: Tensor, taps: Tensor, steps: int) -> list[float]:
    """Of output and gradients by kernels against float64, norm over norm."""
    leaves = [a.detach().to(DEVICE) for a in (x, taps)]
    leaves = [a.requires_grad_() if a.dtype == torch.float32 else a for a in leaves]
    exact = [a.detach().double().requires_grad_(b.requires_grad) for a, b in zip((x, taps), leaves, strict=True)]
    expected = oracle.convolve_channels(*exact, steps)
    upstream = torch.randn_like(expected)
    with running():
        y = convolve_channels(*leaves, steps=steps)
        found = [y, *torch.autograd.grad(y, [a for a in leaves if a.requires_grad], upstream.float().to(DEVICE))]
    wanted = [expected, *torch.autograd.grad(expected, [a for a in exact if a.requires_grad], upstream)]
    assert all(a.dtype == torch.float32 and a.shape == b.shape for a, b in zip(found, wanted, strict=True))
    pairs = ((a.detach().double().cpu(), b.detach()) for a, b in zip(found, wanted, strict=True))
    return [float((a - b).norm() / b.norm().clamp_min(1e-9)) for a, b in pairs]


@needs_triton
@BOTH
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_kernels_equal_the_loop(T, K, steps, long, choose):
    choose(long)
    assert max(errors(torch.randn(T, 2, 3), torch.randn(K, 3), steps)) <= 1e-6


@needs_triton
@BOTH
@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 2, 4), (2, 2, 2, 3)], ids=str)
def test_kernels_take_any_trailing_shape(shape, long, choose):
    choose(long)
    assert max(errors(torch.randn(5, *shape), torch.randn(3, 2), 6)) <= 1e-6


@needs_triton
@BOTH
@pytest.mark.parametrize(("T", "B", "C", "K"), [(40, 1, 70, 5), (7, 2, 64, 4), (3, 24, 3, 2), (40, 1, 1, 37)])
def test_kernels_with_several_tiles(T, B, C, K, long, choose):
    choose(long)
    assert max(errors(torch.randn(T, B, C), torch.randn(K, C), T)) <= 1e-6


@needs_triton
@BOTH
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16])
def test_kernels_take_spikes_of_any_type(dtype, long, choose):
    choose(long)
    assert max(errors((torch.rand(9, 2, 5) < 0.4).to(dtype), torch.randn(4, 5), 9)) <= 1e-6


@needs_triton
@BOTH
def test_kernels_take_what_does_not_lie_side_by_side(long, choose):
    choose(long)
    assert max(errors(torch.randn(5, 3, 7).permute(2, 1, 0), torch.randn(5, 4).t(), 7)) <= 1e-6


@needs_triton
@BOTH
def test_repeated_runs_are_equal_bit_by_bit(long, choose, monkeypatch):
    choose(long)
    monkeypatch.setattr(windows, "_PIECE", 600)
    x, taps = torch.randn(9, 5, 3, device=DEVICE).requires_grad_(), torch.randn(4, 3, device=DEVICE).requires_grad_()

    def run() -> list[Tensor]:
        y = convolve_columns(x, taps, 10)
        return [y, *torch.autograd.grad(y.square().sum(), (x, taps))]

    with running():
        assert all(map(torch.equal, run(), run()))


@needs_triton
@BOTH
@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(wanted, long, choose):
    choose(long)
    x, taps = (a.detach().float() for a in of_double(5, 3))
    x.requires_grad_(wanted == 0)
    taps.requires_grad_(wanted == 1)
    (expected,) = torch.autograd.grad(oracle.convolve_channels(x, taps, 5).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().to(DEVICE).requires_grad_(a.requires_grad) for a in (x, taps)]
    with running():
        convolve_columns(*inputs, 5).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad.cpu(), expected, atol=1e-5)
    assert inputs[1 - wanted].grad is None


@given(st.data())
@settings(max_examples=examples(50))
def test_transforms_equal_the_loop_in_plain_torch(data):
    draw = lambda least, most: data.draw(st.integers(least, most))  # noqa: E731
    T, K = draw(1, 40), draw(1, 50)
    steps = draw(1, T + K - 1)
    x, taps = of_double(T, K, draw(1, 5), draw(1, 4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_PIECE", draw(0, 4000))
        agree(columns._Long.apply(x, taps, steps), oracle.convolve_channels(x, taps, steps), (x, taps))


@needs_triton
def test_pieces_change_nothing(monkeypatch, choose):
    choose(True)
    monkeypatch.setattr(windows, "_PIECE", 500)
    assert max(errors(torch.randn(9, 5, 3), torch.randn(4, 3), 9)) <= 1e-6


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives_and_transforms(T, K, steps):
    x, taps = of_double(T, K, 2, 2)
    assert torch.autograd.gradgradcheck(lambda *a: columns._Long.apply(*a, steps), (x, taps), fast_mode=True)
    run = functools.partial(convolve_columns, steps=steps)
    expected = oracle.convolve_channels(x, taps, steps)
    agree(torch.func.vmap(lambda x: run(x, taps))(x.unsqueeze(0))[0], expected, (x, taps))


@needs_triton
@BOTH
def test_second_derivatives_by_kernels(long, choose):
    choose(long)
    x, taps = (a.detach().float() for a in of_double(5, 3, 2, 2))

    def curvature(function, x, taps):
        inputs = x.to(DEVICE).requires_grad_(), taps.to(DEVICE).requires_grad_()
        first = torch.autograd.grad(function(*inputs, 5).pow(3).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    with running():
        found = curvature(convolve_columns, x, taps)
    for a, b in zip(found, curvature(oracle.convolve_channels, x.double(), taps.double()), strict=True):
        assert (a.double() - b).norm() <= 1e-5 * b.norm()


@needs_triton
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)], ids=str)
def test_nothing_comes_of_nothing(shape):
    x, taps = torch.rand(5, *shape, device=DEVICE), torch.rand(4, shape[1], device=DEVICE, requires_grad=True)
    with running():
        y = convolve_columns(x, taps, 6)
        y.sum().backward()
    assert y.shape == (6, *shape)
    assert not taps.grad.any()


@needs_triton
def test_where_kernels_run_they_are_taken():
    single, double = torch.rand(4, 3, device=DEVICE), torch.rand(4, 3, dtype=torch.float64, device=DEVICE)
    assert runs_on_columns(single) == (DEVICE.type == "cuda")
    with running():
        assert runs_on_columns(single)
        assert not runs_on_columns(double)
        x = torch.rand(6, 2, 3, device=DEVICE)
        assert torch.equal(convolve_channels(x, single), convolve_columns(x, single, 6))


def test_memory_of_long_kernels_is_bounded(monkeypatch):
    monkeypatch.setattr(windows, "runs_on", lambda _: True)  # operators do nothing to fake tensors
    with FakeTensorMode():
        x, taps = torch.empty(1127, 256, 700, requires_grad=True), torch.empty(513, 700, requires_grad=True)
        with Peak() as peak:
            y = convolve_columns(x, taps, 1127)
            y.backward(torch.empty_like(y))
    large = x.untyped_storage().nbytes()  # input, output and the gradients of both
    assert 4 * large < peak.bytes < 4 * large + 4e8


def test_only_long_kernels_are_transformed():
    assert not is_long(100, 25, 100)
    assert not is_long(1000, 25, 1000)
    assert is_long(1127, 513, 1127)
    assert not is_long(1127, 513, 20)  # which 20 taps reach


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=examples(200))
def test_shares_hold_every_sample_and_step(steps, batch, channels, taps):
    samples, length, shares = columns._shares(torch.Size((steps, batch, channels)), taps)
    of_steps = -(-steps // length)
    assert shares % of_steps == 0
    assert samples * (shares // of_steps) >= batch
    assert shares <= 2 * columns._PROGRAMS
