"""Windows of sequences and their spectra: what engines by transforms share, on GPUs and, in plain torch, anywhere.

A convolution of L steps with K taps is a product of spectra if transforms have at least L + K - 1 steps. Longer input
is cut into J windows of L steps; those of the output are longer, overlap, and are added up. Transforms along time want
the steps side by side, so windows are laid out as (R, J, C, n), whatever the sequence (T, R, C) looks like; bool and
integers become numbers on the way.

Shapes: T steps, R rows (samples, or outputs), C columns, J windows, n steps of a transform, F = n // 2 + 1 frequencies.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..._triton import operator, runs_on

_PIECE = 1 << 26  # bytes of windows that are transformed at a time
_TILE = 64


@dataclass(frozen=True)
class Windows:
    """How a sequence is cut.

    count: J. stride: steps from one window to the next. length: of each, with zeros behind. size: n.
    """

    count: int
    stride: int
    length: int
    size: int

    @property
    def frequencies(self) -> int:
        return self.size // 2 + 1


def smooth(least: int) -> int:
    """The length of a transform: an even number from `least` on with no prime factor beyond 7.

    The smallest one, or a multiple of 16 that is hardly larger: of such rows kernels read and write 16 bytes at once.
    """
    even, wide = (_next_smooth(least, step) for step in (2, 16))
    return wide if wide <= 1.04 * even else even


def _next_smooth(least: int, step: int) -> int:
    size = max(1, -(-least // step)) * step
    while not _is_smooth(size):
        size += step
    return size


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


def has_kernels(like: Tensor) -> bool:
    """Whether windows are made by Triton's kernels: for float32, where these run."""
    return like.dtype == torch.float32 and runs_on(like.device)


def slices(count: int, most: int) -> list[slice]:
    """Of at most so many, at least one each."""
    bounds = [*range(0, count, max(1, most)), count]
    return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def pieces(rows: int, columns: int, windows: Windows) -> list[slice]:
    """Slices of rows of which the windows are not too large to be in memory twice."""
    return slices(rows, _PIECE // (4 * windows.count * windows.size * columns))


def spectra(x_TRC: Tensor, windows: Windows, dtype: torch.dtype) -> Tensor:
    """The transforms of all windows, (R, J, C, F), complex; of `dtype` before that."""
    steps, rows, columns = x_TRC.shape
    cut = torch.empty((rows, windows.count, columns, windows.size), dtype=dtype, device=x_TRC.device)
    if has_kernels(cut):
        _cut_windows(bytes_for_bool(x_TRC), cut, windows.stride, windows.length)
    else:
        cut.zero_()
        for j, start in _starts(windows, steps):
            part = x_TRC[start : start + windows.length]
            cut[:, j, :, : part.shape[0]].copy_(part.permute(1, 2, 0))
    result: Tensor = torch.fft.rfft(cut).contiguous()
    return result


def add_up(spectra_RJCF: Tensor, windows: Windows, out_TRC: Tensor) -> None:
    """The sequence of which the windows have these spectra, written to `out`: overlapping windows are added."""
    back_RJCn = torch.fft.irfft(spectra_RJCF, n=windows.size)[..., : windows.length]
    out_TRC.zero_()
    for j, start in _starts(windows, out_TRC.shape[0]):
        place = out_TRC[start : start + windows.length]
        place += back_RJCn[:, j, :, : place.shape[0]].permute(2, 0, 1)


def add_up_pairs(spectra_RJPn: Tensor, windows: Windows, out_TRC: Tensor) -> None:
    """The same with kernels, for spectra in which the columns 2 p and 2 p + 1 are one of a complex sequence."""
    # Without a factor, which torch would multiply with in a pass of its own.
    back = torch.fft.ifft(spectra_RJPn, norm="forward").contiguous()
    _overlap(as_integers(back), out_TRC, windows.stride, windows.length)


def _starts(windows: Windows, steps: int) -> Iterator[tuple[int, int]]:
    """(j, its first step) of the windows that begin within the sequence."""
    return ((j, j * windows.stride) for j in range(windows.count) if j * windows.stride < steps)


def as_integers(z: Tensor) -> Tensor:
    """Complex numbers as kernels take them: int64, of which the low half is the real part."""
    return z.view(torch.int64)


def bytes_for_bool(x: Tensor) -> Tensor:
    """Bools as kernels take them."""
    return x.view(torch.uint8) if x.dtype == torch.bool else x


@operator("cut_windows(Tensor x, Tensor(a!) out, int stride, int length) -> ()")
def _cut_windows(x: Tensor, out: Tensor, stride: int, length: int) -> None:
    """x (T, R, C) to windows (R, J, C, n)."""
    from .kernels import spectra as kernels

    (rows, count, columns, size), block = out.shape, min(_TILE, max(16, power(out.shape[2])))
    grid = (rows * count * -(-columns // block) * -(-size // _TILE),)
    with torch.cuda.device_of(out):
        kernels.windows[grid](
            x, out, x.shape[0], count, stride, length, columns, size, *x.stride(), BT=_TILE, BC=block, num_warps=4
        )


@operator("overlap(Tensor z, Tensor(a!) out, int stride, int length) -> ()")
def _overlap(z: Tensor, out: Tensor, stride: int, length: int) -> None:
    """z (R, J, P, n), complex numbers as int64, to out (T, R, C), its columns side by side."""
    from .kernels import spectra as kernels

    (rows, count, pairs, size), (steps, _, columns) = z.shape, out.shape
    block = min(_TILE // 2, max(16, power(pairs)))
    grid = (rows * -(-pairs // block) * -(-steps // _TILE),)
    with torch.cuda.device_of(out):
        kernels.overlap[grid](
            z, out, steps, count, stride, length, columns, pairs, size, *out.stride()[:2], 1 / size,
            BT=_TILE, BP=block, num_warps=4,
        )  # fmt: skip


def power(number: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (number - 1).bit_length()
