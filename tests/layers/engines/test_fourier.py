import dataclasses

import pytest
import torch

from delayplug.layers.engines import fourier, transforms
from delayplug.layers.engines.convolve import convolve
from tests.layers import oracle
from tests.layers.engines.cases import agree, tensors


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


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 12), (4, 5), (12, 3)])
@pytest.mark.parametrize(("T", "K"), [(40, 21), (100, 25), (64, 200)])
def test_more_or_fewer_outputs_than_inputs_some_samples_at_a_time(monkeypatch, T, K, inputs, outputs):
    """One window that is folded: outputs of some samples do not lie over the input of others."""
    monkeypatch.setattr(fourier, "_PRODUCT_ROWS", 1)
    x, taps = tensors(T, K, batch=4, inputs=inputs, outputs=outputs)
    agree(convolve(x, taps, engine="fft"), convolve(x, taps, engine="direct"), (x, taps))


@pytest.mark.parametrize(("T", "K"), [(1000, 250), (700, 25), (5000, 3), (40, 2000), (513, 1), (1, 600)])
def test_long_sequences_and_long_kernels(T, K):
    way, _ = fourier.blocks(fourier.Shape(T, T, K, 2, 3, 2))
    assert way.size.total <= 4200
    x, taps = tensors(T, K, batch=2, inputs=3, outputs=2)
    agree(convolve(x, taps, engine="fft"), convolve(x, taps, engine="direct"), (x, taps))


@pytest.mark.parametrize(("T", "K"), [(40, 9), (40, 300), (200, 3)])  # folded or not, one window or several
@pytest.mark.parametrize("lies", ["bool", "batch first", "expanded", "every other"])
def test_input_that_is_no_matrix_in_memory(T, K, lies):
    x, taps = tensors(T, K)
    x = {
        "bool": lambda: x.detach() > 0,
        "batch first": lambda: x.transpose(0, 1).contiguous().transpose(0, 1),
        "expanded": lambda: x[:, :1].expand(-1, 3, -1),
        "every other": lambda: x.repeat_interleave(2, 2)[..., ::2],
    }[lies]()
    found, expected = (oracle_or_engine(x, taps) for oracle_or_engine in (_fft, _direct))
    agree(found, expected, (taps,))


def _fft(x, taps):
    return convolve(x, taps, engine="fft")


def _direct(x, taps):
    return convolve(x.to(taps.dtype), taps, engine="direct")


def test_long_transforms_where_they_pay():
    """With a small batch the kernel's transform is what counts, with a large one the input's."""
    small, _ = fourier.blocks(fourier.Shape(1000, 1000, 250, 8, 256, 256))
    large, _ = fourier.blocks(fourier.Shape(1000, 1000, 250, 128, 256, 256))
    assert small.size.total < large.size.total
    short, _ = fourier.blocks(fourier.Shape(100, 100, 25, 256, 256, 256))
    assert (short.count, short.parts) == (1, 1)


def test_memory_is_that_of_input_and_output():
    """No spectrum is kept for the backward pass: only what the caller has anyway."""
    x, taps = tensors(100, 25)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        convolve(x, taps, engine="fft")
    assert {t.data_ptr() for t in kept} == {x.data_ptr(), taps.data_ptr()}


@pytest.mark.real("inference mode")
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
