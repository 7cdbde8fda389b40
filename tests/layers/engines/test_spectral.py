"""`spectral`: the engine "fft" on GPUs; in torch's complex numbers, and by kernels, which the interpreter runs."""

import functools

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from delayplug.layers.engines import spectral, windows
from delayplug.layers.engines.convolve import convolve
from delayplug.layers.engines.fourier import Shape
from delayplug.layers.engines.spectral import convolve_spectral, cost, is_spectral, plan
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree, tensors
from tests.layers.kernels import DEVICE, matmul_precision, needs_triton, running
from tests.layers.memory import Peak
from tests.profiles import examples

SETTINGS = {"highest": 1e-5, "medium": 1e-2}  # "high" allows no less, and is computed like "highest"


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_it_equals_the_loop(T, K, steps):
    x, taps = tensors(T, K)
    agree(convolve_spectral(x, taps, steps), oracle.convolve(x, taps, steps), (x, taps))


@given(st.data())
@settings(max_examples=examples(50))
def test_it_equals_the_loop_whatever_is_cut(data):
    """Several windows, slices of inputs and samples, pieces of rows."""
    draw = lambda least, most: data.draw(st.integers(least, most))  # noqa: E731
    T, K = draw(1, 40), draw(1, 30)
    steps = draw(1, T + K - 1)
    x, taps = tensors(T, K, batch=draw(1, 4), inputs=draw(1, 5), outputs=draw(1, 4))
    shape = Shape(T, steps, K, x.shape[1], x.shape[2], taps.shape[1])
    cut = spectral._cut(shape, draw(1, 6), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "plan", lambda *_: cut)
        patch.setattr(windows, "_PIECE", draw(0, 4000))
        patch.setattr(spectral, "_WIDTH", draw(1, 3))
        for name in ("_TOTAL", "_FORWARD", "_BACKWARD"):
            patch.setattr(spectral, name, draw(0, 4000))
        agree(convolve_spectral(x, taps, steps), oracle.convolve(x, taps, steps), (x, taps))


# The interpreter is slow: few steps and channels, so few programs.


def errors(x: Tensor, taps: Tensor, steps: int) -> list[float]:
    """Of output and gradients against float64, norm over norm."""
    leaves = [a.detach().to(DEVICE) for a in (x, taps)]
    leaves = [a.requires_grad_() if a.is_floating_point() else a for a in leaves]
    exact = [a.detach().double().requires_grad_(a.is_floating_point()) for a in (x, taps)]
    expected = oracle.convolve(*exact, steps)
    upstream = torch.randn_like(expected)
    wanted = [a for a in exact if a.requires_grad]
    with running():
        y = convolve_spectral(*leaves, steps)
        found = [y, *torch.autograd.grad(y, [a for a in leaves if a.requires_grad], upstream.float().to(DEVICE))]
    expected = [expected, *torch.autograd.grad(expected, wanted, upstream)]
    assert all(a.dtype == torch.float32 for a in found)
    pairs = zip(found, expected, strict=True)
    return [float((a.detach().double().cpu() - b.detach()).norm() / b.detach().norm()) for a, b in pairs]


@needs_triton
@pytest.mark.parametrize("setting", SETTINGS)
def test_errors_are_those_of_the_precision_policy(setting):
    with matmul_precision(setting):
        found = errors(torch.randn(7, 2, 20), torch.randn(4, 18, 20), 8)
    assert max(found) <= SETTINGS[setting]
    assert (max(found) > 1e-4) == (setting == "medium")


@needs_triton
@pytest.mark.parametrize(("T", "K", "steps"), [(9, 4, 1), (3, 4, 6), (1, 1, 1)])
def test_kernels_at_any_length(T, K, steps):
    assert max(errors(torch.randn(T, 2, 5), torch.randn(K, 3, 5), steps)) <= 1e-5


@needs_triton
def test_kernels_take_spikes_as_bool():
    assert max(errors(torch.rand(5, 2, 5) < 0.4, torch.randn(3, 3, 5), 5)) <= 1e-5


@needs_triton
def test_kernels_with_windows_slices_and_pieces(monkeypatch):
    shape = Shape(7, 7, 2, 3, 19, 3)
    cut = spectral._cut(shape, 2, 2)
    monkeypatch.setattr(spectral, "plan", lambda *_: cut)
    monkeypatch.setattr(spectral, "_WIDTH", 16)
    for name, value in {"_TOTAL": 400, "_FORWARD": 0, "_BACKWARD": 0}.items():
        monkeypatch.setattr(spectral, name, value)
    monkeypatch.setattr(windows, "_PIECE", 1500)
    x = cut[0].x
    assert (x.count, x.frequencies, len(windows.pieces(2, 16, x))) == (2, 4, 2)
    assert max(errors(torch.randn(7, 3, 19), torch.randn(2, 3, 19), 7)) <= 1e-5


@needs_triton
def test_repeated_runs_are_equal_bit_by_bit():
    x, taps = (torch.randn(4, 2, 3, device=DEVICE).requires_grad_() for _ in range(2))

    def run() -> list[Tensor]:
        y = convolve_spectral(x, taps, 4)
        return [y, *torch.autograd.grad(y.square().sum(), (x, taps))]

    with running():
        assert all(map(torch.equal, run(), run()))


@needs_triton
def test_the_engine_fft_is_this_one_where_kernels_run():
    x, taps = (a.detach().float().to(DEVICE) for a in tensors(4, 2))
    assert is_spectral(taps) == (DEVICE.type == "cuda")
    with running():
        assert is_spectral(taps)
        assert torch.equal(convolve(x, taps, engine="fft"), convolve_spectral(x, taps, 4))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_spikes_of_any_type(dtype):
    x, taps = tensors(20, 5)
    spikes = x.detach() > 1
    agree(convolve_spectral(spikes.to(dtype), taps, 20), convolve_spectral(spikes.double(), taps, 20), (taps,))


def test_non_contiguous_input():
    x, taps = tensors(9, 4)
    x_TBI, taps_KOI = x.permute(0, 2, 1)[:, ::2], taps.permute(0, 2, 1)[:, :, :3]
    agree(convolve_spectral(x_TBI, taps_KOI, 9), oracle.convolve(x_TBI, taps_KOI, 9), (x, taps))


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(wanted):
    x, taps = tensors(9, 4)
    (expected,) = torch.autograd.grad(oracle.convolve(x, taps, 9).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    convolve_spectral(*inputs, 9).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives_and_transforms(T, K, steps):
    x, taps = tensors(T, K, 2, 2, 2)
    run = functools.partial(convolve_spectral, steps=steps)
    assert torch.autograd.gradgradcheck(run, (x, taps), fast_mode=True)
    found = torch.func.vmap(lambda x: run(x, taps))(x.unsqueeze(0))[0]
    agree(found, run(x, taps), (x, taps))
    tangents = torch.randn_like(x), torch.randn_like(taps)
    _, found = torch.func.jvp(run, (x, taps), tangents)
    assert torch.allclose(found, run(tangents[0], taps) + run(x, tangents[1]))


def test_nothing_is_kept_for_the_backward_pass_but_the_arguments():
    x, taps = tensors(100, 25)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        convolve_spectral(x, taps, 100)
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), taps.data_ptr()}


def test_memory_at_the_longest_shape(monkeypatch):
    """1127 steps of 700 channels, 512 steps of delay, batch 256: about 3 GB with arguments and results."""
    monkeypatch.setattr(windows, "runs_on", lambda _: True)  # operators do nothing to fake tensors
    monkeypatch.setattr(spectral, "half", lambda _: torch.bfloat16)
    with FakeTensorMode():
        x, taps = torch.empty(1127, 256, 700), torch.empty(513, 256, 700, requires_grad=True)
        with Peak() as forward:
            y = convolve_spectral(x, taps, 1127)
        grad = torch.empty_like(y)
        results = y.untyped_storage().nbytes() + taps.untyped_storage().nbytes()
        del y, x
        with Peak() as backward:
            convolve_spectral(torch.empty(1127, 256, 700), taps, 1127).backward(grad)
    assert results < forward.bytes < 2.9e9
    assert results < backward.bytes < 3.1e9


def test_more_windows_where_they_cost_less():
    long, seconds = plan(Shape(5000, 5000, 100, 4, 256, 256))
    assert long.x.count > 1
    assert seconds < spectral._cut(Shape(5000, 5000, 100, 4, 256, 256), 1, 2)[1]
    assert plan(Shape(1127, 1127, 513, 256, 700, 256))[0].x.count == 1
    short, _ = plan(Shape(10, 4, 7, 2, 3, 3))  # shorter than the input and the kernel
    assert (short.x.length, short.taps.length) == (4, 4)


def test_windows_hold_what_they_must():
    for shape in (Shape(100, 100, 25, 8, 16, 16), Shape(3, 9, 7, 1, 1, 1), Shape(1000, 1100, 250, 32, 64, 64)):
        cut, _ = plan(shape)
        assert cut.x.count * cut.x.stride >= shape.steps_in
        assert cut.x.size >= cut.x.length + cut.taps.length - 1 == cut.y.length


def test_costs_are_seconds_that_grow_with_the_work():
    shape = Shape(100, 100, 25, 256, 256, 256)
    usual = cost(shape)
    assert 1e-4 < usual < 1e-2
    assert all(cost(shape._replace(**{name: 8 * getattr(shape, name)})) > 2 * usual for name in ("batch", "inputs"))
    assert cost(shape._replace(taps=50)) < 1.5 * usual
    assert cost(shape, parts=1) < usual
