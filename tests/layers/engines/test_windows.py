"""`windows`: sequences cut into windows, their spectra, and back."""

import contextlib

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from delayplug.layers.engines import windows
from delayplug.layers.engines.windows import Windows, add_up, add_up_pairs, pieces, power, slices, smooth, spectra
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.profiles import examples

WAYS = ["torch", pytest.param("kernels", marks=needs_triton)]


def by(way: str) -> contextlib.AbstractContextManager[None]:
    return running() if way == "kernels" else contextlib.nullcontext()


def cut(x: Tensor, way: Windows) -> Tensor:
    """The windows (R, J, C, n), slowly."""
    out = torch.zeros(x.shape[1], way.count, x.shape[2], way.size, dtype=torch.float64)
    for j in range(way.count):
        for t in range(way.length):
            if j * way.stride + t < x.shape[0]:
                out[:, j, :, t] = x[j * way.stride + t]
    return out


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, Windows]:
    """T, R, C and windows, which may overlap, and may not reach the end or reach beyond it."""
    stride = draw(st.integers(1, 9))
    length = draw(st.integers(stride, 20))
    way = Windows(draw(st.integers(1, 4)), stride, length, smooth(length + draw(st.integers(0, 3))))
    return draw(st.integers(1, 30)), draw(st.integers(1, 4)), draw(st.integers(1, 5)), way


@given(cases())
@settings(max_examples=examples(60))
def test_spectra_are_those_of_the_windows(case: tuple[int, int, int, Windows]) -> None:
    T, R, C, way = case
    x = torch.randn(T, R, C, dtype=torch.float64)
    assert torch.allclose(spectra(x, way, torch.float64), torch.fft.rfft(cut(x, way)), atol=1e-12)


@given(cases())
@settings(max_examples=examples(60))
def test_adding_up_is_the_adjoint_of_cutting(case: tuple[int, int, int, Windows]) -> None:
    T, R, C, way = case
    x = torch.randn(T, R, C, dtype=torch.float64)
    z = torch.randn(R, way.count, C, way.size, dtype=torch.float64)
    out = torch.full_like(x, torch.nan)
    add_up(torch.fft.rfft(z), way, out)
    assert torch.allclose((cut(x, way) * z).sum(), (x * out).sum(), atol=1e-10)


@needs_triton
@pytest.mark.parametrize(
    ("T", "R", "C", "way"),
    [
        (9, 3, 5, Windows(1, 9, 9, 16)),
        (20, 2, 1, Windows(3, 7, 12, 14)),
        (70, 2, 66, Windows(2, 40, 45, 70)),
        (5, 1, 4, Windows(4, 2, 9, 10)),
    ],
)
def test_kernels_do_the_same(T: int, R: int, C: int, way: Windows) -> None:
    x = torch.randn(T, R, C, device=DEVICE)
    expected = torch.fft.rfft(cut(x.cpu(), way))
    with running():
        assert torch.allclose(spectra(x, way, torch.float32).cpu(), expected.to(torch.complex64), atol=1e-4)
        z = torch.randn(R, way.count, C, way.size, device=DEVICE)
        z_pairs = torch.nn.functional.pad(z, (0, 0, 0, C % 2)).unflatten(2, (-1, 2)).movedim(3, -1).contiguous()
        out = torch.full_like(x, torch.nan)
        add_up_pairs(torch.fft.fft(torch.view_as_complex(z_pairs)), way, out)
    wanted = torch.empty(T, R, C, dtype=torch.float64)
    add_up(torch.fft.rfft(z.double().cpu()), way, wanted)
    assert torch.allclose(out.double().cpu(), wanted, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", WAYS)
def test_other_dtypes_become_numbers(way: str, dtype: torch.dtype) -> None:
    spikes = (torch.rand(9, 2, 6, device=DEVICE) < 0.5).to(dtype)[:, :, ::2]  # not side by side
    one = Windows(2, 5, 5, 12)
    with by(way):
        assert torch.equal(spectra(spikes, one, torch.float32), spectra(spikes.float(), one, torch.float32))


@pytest.mark.parametrize(
    ("least", "size"), [(1, 2), (2, 2), (11, 12), (13, 14), (125, 128), (161, 162), (1639, 1680), (2047, 2048)]
)
def test_sizes_of_transforms(least: int, size: int) -> None:
    assert smooth(least) == size


def test_slices_cover_everything_once() -> None:
    assert slices(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert slices(6, 3) == [slice(0, 3), slice(3, 6)]
    assert slices(2, 0) == [slice(0, 1), slice(1, 2)]
    assert slices(3, 100) == [slice(0, 3)]
    assert slices(0, 5) == []


def test_pieces_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_PIECE", 1 << 20)
    way = Windows(3, 100, 100, 200)
    for some in pieces(100, 17, way):
        assert (some.stop - some.start) * 17 * way.count * way.size * 4 <= 1 << 20
    assert len(pieces(100, 1 << 20, way)) == 100


def test_powers() -> None:
    assert [power(n) for n in (1, 2, 3, 16, 17)] == [1, 2, 4, 16, 32]
