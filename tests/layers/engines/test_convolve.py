import dataclasses
import itertools
from typing import get_args

import pytest
import torch

from delayplug import ArgumentError
from delayplug.layers.engines import convolve as convolution, fourier, transforms
from delayplug.layers.engines.channels import convolve_channels
from delayplug.layers.engines.convolve import Engine, convolve
from delayplug.layers.options import check_engine
from tests.layers import oracle

# T, K, steps: shorter and longer results, T < K, K = 1, T = 1
LENGTHS = [
    (9, 4, 9),
    (9, 4, 5),
    (9, 4, 1),
    (9, 4, 12),
    (8, 5, 12),
    (3, 7, 3),
    (3, 7, 9),
    (3, 7, 2),
    (6, 1, 6),
    (6, 1, 2),
    (1, 5, 1),
    (1, 5, 5),
    (1, 1, 1),
]


def tensors(T, K, batch=3, inputs=4, outputs=5):
    x = torch.randn(T, batch, inputs, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(K, outputs, inputs, dtype=torch.float64, requires_grad=True)
    return x, taps


def agree(found, expected, inputs, tolerance=1e-10):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance
    upstream = torch.randn(expected.shape, dtype=expected.dtype)
    ours, theirs = torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance


@pytest.mark.parametrize("engine", ["fft", "direct", "auto", "dcls"])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_engines_equal_the_loop(T, K, steps, engine):
    x, taps = tensors(T, K)
    agree(convolve(x, taps, steps=steps, engine=engine), oracle.convolve(x, taps, steps), (x, taps))


@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 2, 4), (3, 2, 4, 2)], ids=str)
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_channels_equal_the_loop(T, K, steps, shape):
    x = torch.randn(T, *shape, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(K, 2, dtype=torch.float64, requires_grad=True)
    agree(convolve_channels(x, taps, steps=steps), oracle.convolve_channels(x, taps, steps), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_length_is_that_of_the_input_by_default(engine):
    x, taps = tensors(9, 4)
    agree(convolve(x, taps, engine=engine), oracle.convolve(x, taps, 9), (x, taps))
    channels = torch.randn(4, 4, dtype=torch.float64)
    assert torch.equal(convolve_channels(x, channels), convolve_channels(x, channels, steps=9))


@pytest.mark.parametrize("steps", [0, -5, 7])  # as long as the input, shorter, longer
@pytest.mark.parametrize("K", [1, 7, 16, 21])
@pytest.mark.parametrize("length", [4, 8, 16])
@pytest.mark.parametrize("T", [16, 33, 40])
def test_blocks_of_any_length(monkeypatch, T, K, length, steps):
    """Input in blocks, kernel in parts, groups of frequencies and samples one at a time."""
    steps = min(T + steps, T + K - 1)
    way, _ = fourier.cut(fourier.Shape(T, steps, K, 3, 4, 5), length, min(K, length))
    way = dataclasses.replace(way, size=transforms.Size(8, way.size.total // 8 + 2 + way.size.total // 8 % 2))
    monkeypatch.setattr(fourier, "blocks", lambda *_: (way, 0.0))
    monkeypatch.setattr(fourier, "_CPU_PART", 0.0)
    monkeypatch.setattr(fourier, "_PRODUCT_ROWS", 1)
    x, taps = tensors(T, K)
    agree(convolve(x, taps, steps=steps, engine="fft"), oracle.convolve(x, taps, steps), (x, taps))


@pytest.mark.parametrize(("T", "K"), [(1000, 250), (700, 25), (5000, 3), (40, 2000), (513, 1), (1, 600)])
def test_long_sequences_and_long_kernels(T, K):
    way, _ = fourier.blocks(fourier.Shape(T, T, K, 2, 3, 2))
    assert way.size.total <= 4200
    x, taps = tensors(T, K, batch=2, inputs=3, outputs=2)
    agree(convolve(x, taps, engine="fft"), convolve(x, taps, engine="direct"), (x, taps))


def test_long_transforms_where_they_pay():
    """With a small batch the kernel's transform is what counts, with a large one the input's."""
    small, _ = fourier.blocks(fourier.Shape(1000, 1000, 250, 8, 256, 256))
    large, _ = fourier.blocks(fourier.Shape(1000, 1000, 250, 128, 256, 256))
    assert small.size.total < large.size.total
    short, _ = fourier.blocks(fourier.Shape(100, 100, 25, 256, 256, 256))
    assert (short.count, short.parts) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_spikes_of_any_type(engine, dtype):
    x, taps = tensors(20, 5)
    spikes = x.detach() > 1
    agree(convolve(spikes.to(dtype), taps, engine=engine), convolve(spikes.double(), taps, engine=engine), (taps,))


def test_memory_is_that_of_input_and_output():
    """No spectrum is kept for the backward pass: only what the caller has anyway."""
    x, taps = tensors(100, 25)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        convolve(x, taps, engine="fft")
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), taps.data_ptr()}


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_batch_of_one_and_single_features(engine):
    for batch, inputs, outputs in itertools.product((1, 2), repeat=3):
        x, taps = tensors(7, 3, batch, inputs, outputs)
        agree(convolve(x, taps, engine=engine), oracle.convolve(x, taps, 7), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct", "auto"])
def test_empty_batch(engine):
    x, taps = tensors(7, 3, batch=0)
    y = convolve(x, taps, engine=engine)
    y.sum().backward()
    assert y.shape == (7, 0, 5)
    assert not taps.grad.any()


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_non_contiguous_input(engine):
    x = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    x_TBI, taps_KOI = x.permute(2, 1, 0), taps.permute(2, 1, 0)[:, ::2, :]
    taps_KOI = torch.cat((taps_KOI, taps_KOI[:3]))[:, :, :4]
    found = convolve(x_TBI, taps_KOI, engine=engine)
    agree(found, oracle.convolve(x_TBI, taps_KOI, 9), (x, taps))
    assert found.shape == (9, 3, 3)


def test_non_contiguous_channels():
    x = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    x_TBC, taps_KC = x.permute(2, 1, 0), taps.T
    agree(convolve_channels(x_TBC, taps_KC), oracle.convolve_channels(x_TBC, taps_KC, 9), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(engine, wanted):
    x, taps = tensors(9, 4)
    (expected,) = torch.autograd.grad(oracle.convolve(x, taps, 9).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    convolve(*inputs, engine=engine).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None


def test_gradcheck():
    x, taps = tensors(5, 3, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda *a: convolve(*a, steps=6, engine="fft"), (x, taps))
    channels = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: convolve_channels(*a, steps=6), (x, channels))


def test_auto_takes_fft_at_the_papers_shape_and_direct_for_short_kernels():
    assert convolution._cheaper(fourier.Shape(100, 100, 25, 256, 256, 256)) == "fft"
    assert convolution._cheaper(fourier.Shape(100, 100, 2, 256, 256, 256)) == "direct"
    assert convolution._cheaper(fourier.Shape(1, 1, 25, 256, 256, 256)) == "direct"


def test_auto_is_what_it_chose(monkeypatch):
    x, taps = tensors(9, 4)
    for choice in ("fft", "direct"):
        monkeypatch.setattr(convolution, "_cheaper", lambda *_, choice=choice: choice)
        assert torch.equal(convolve(x, taps, engine="auto"), convolve(x, taps, engine=choice))


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_float32_error_at_the_papers_shape(engine):
    x = (torch.rand(100, 16, 64) < 0.2).double().requires_grad_()
    taps = torch.randn(25, 64, 64, dtype=torch.float64, requires_grad=True)
    single = x.detach().float().requires_grad_(), taps.detach().float().requires_grad_()
    exact, found = convolve(x, taps, engine="direct"), convolve(*single, engine=engine)
    upstream = torch.randn(exact.shape, dtype=torch.float64)
    expected = [exact, *torch.autograd.grad(exact, (x, taps), upstream)]
    for a, b in zip([found, *torch.autograd.grad(found, single, upstream.float())], expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_matrices_made_in_inference_mode_serve_training():
    x, taps = tensors(23, 6)  # lengths that no other test has cached
    with torch.inference_mode():
        convolve(x, taps, engine="fft")
    agree(convolve(x, taps, engine="fft"), oracle.convolve(x, taps, 23), (x, taps))


def test_a_default_device_is_not_in_the_way():
    x, taps = tensors(22, 6)
    with torch.device("meta"):
        found = convolve(x, taps, engine="fft")
    agree(found, oracle.convolve(x, taps, 22), (x, taps))


def test_engine_names():
    for engine in get_args(Engine):
        kinds = {"auto": ("synapse", "channel", "convolution"), "channel": ("channel",)}
        kinds |= {"fft": ("synapse",), "direct": ("synapse", "convolution"), "dcls": ("synapse",)}
        for kind in ("synapse", "channel", "convolution"):
            if kind in kinds[engine]:
                check_engine(engine, kind)
            else:
                with pytest.raises(ArgumentError, match=rf"engine: expected one of auto, .*, got '{engine}'. advice"):
                    check_engine(engine, kind, "advice")
