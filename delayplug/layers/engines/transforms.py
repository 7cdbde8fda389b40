"""Real transforms in which a circular convolution is a set of products.

For sequences x, w and y = x * w of length n (circular), a discrete Fourier transform gives one complex product per
frequency. Three real products make one complex one,

    re(XW) = P1 - P2,   im(XW) = P3 - P1 - P2,      P1 = re X re W,  P2 = im X im W,  P3 = (re X + im X) (re W + im W),

so that with rows re, im and re + im of each frequency in a matrix A, and with the way back in a matrix S,

    y = S' (A x . A w).

Everything is real, and each backward pass is a transpose: no complex numbers, no signs, no passes over the spectrum.

A and S are large. With n = a m they fall into two steps, as in Cooley and Tukey's transform (Math. Comp. 19, 1965):
time t = m t1 + t2 is folded over t1 into the frequencies k = q modulo a, then each q is transformed by a matrix of its
own that holds all the rest. Both are products of matrices, and the second is one of a / 2 groups of frequencies, which
need not be in memory at the same time. Group 0 has the two real ones, q = 0 and q = a / 2.

Shapes: N columns, whatever they are; a / 2 groups of 3 m rows.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .caches import ByteCache
from .scratch import clear_spare

_T = TypeVar("_T")

# Costs in products: copying an element, and starting on a row of a product.
COPY = 20
_START = 16
_SHORTEST = 8  # what is left of a folded sequence: shorter ones make products that are not worth their calls


@dataclass(frozen=True)
class Size:
    """The length n = folds * length of a transform, even both."""

    folds: int
    length: int

    @property
    def total(self) -> int:
        return self.folds * self.length

    @property
    def groups(self) -> int:
        return self.folds // 2

    @property
    def rows(self) -> int:
        """Of one group."""
        return 3 * self.length

    def is_folded(self, steps: int) -> bool:
        """Whether a sequence of so many steps, with zeros behind, is better folded than transformed at once."""
        return self.folds > 2 and self._folded(steps) < self._at_once(steps)

    def cost(self, steps: int) -> float:
        """Products for a column of so many steps."""
        return min(self._folded(steps), self._at_once(steps))

    def _folded(self, steps: int) -> float:
        used = -(-steps // self.length) * self.length
        return (COPY + self.folds) * used + self.groups * self.rows * (2 * self.length + 2 * _START)

    def _at_once(self, steps: int) -> float:
        return 1.25 * self.groups * self.rows * (steps + _START)


def least(items: Iterable[_T], cost: Callable[[_T], float]) -> _T:
    """The first of those that cost least: min(items, key=cost), which torch.export of PyTorch 2.6 does not take."""
    first, *others = items
    best, lowest = first, cost(first)
    for item in others:
        if (costs := cost(item)) < lowest:
            best, lowest = item, costs
    return best


def cheapest(steps: int, cost: Callable[[Size], float]) -> Size:
    """The size with room for so many steps that costs least."""
    first, *others = (Size(folds, 2 * -(-steps // (2 * folds))) for folds in (2, 4, 8, 16, 32))
    return least([first, *(size for size in others if size.length >= _SHORTEST)], cost)


@dataclass(frozen=True)
class Transform:
    """A, or S, for sequences of up to so many steps, in one step or in two.

    steps: rows that it takes: those of the longest sequence, zeros included.
    mix: (groups, 3 m, 2 m), or (groups, 3 m, steps) if nothing is folded before.
    fold: (groups, 2, a') with a' = steps / m, or None.
    """

    steps: int
    mix: Tensor
    fold: Tensor | None

    def fold_in(self, parts: Iterable[Tensor], groups: slice, out: Tensor) -> None:
        """A sequence, folded for some groups: `out` (groups, 2, m, N).

        `parts` are its steps t2, t2 + m, ... as matrices (n, N), for t2 = 0, 1, ... as far as it reaches.
        """
        assert self.fold is not None
        fold, by_step = self.fold[groups].flatten(0, 1), out.flatten(0, 1)
        count = 0
        for part in parts:
            by_step[:, count].addmm_(fold[:, : part.shape[0]], part, beta=0)
            count += 1
        by_step[:, count:].zero_()

    def fold_back(self, folded: Tensor, groups: slice, parts: Iterable[Tensor], beta: int) -> None:
        """The transpose of `fold_in`, added to `beta` times what the parts hold."""
        assert self.fold is not None
        fold, by_step = self.fold[groups].flatten(0, 1).mT, folded.flatten(0, 1)
        for t2, part in enumerate(parts):
            part.addmm_(fold[: part.shape[0]], by_step[:, t2], beta=beta)

    def mix_in(self, folded: Tensor, groups: slice, out: Tensor) -> None:
        """The second step: `folded` (groups, 2 m, N) to `out` (groups 3 m, N).

        If nothing is folded, it takes the sequence itself, (steps, N) or shorter.
        """
        mix = self.mix[groups]
        if self.fold is None:
            out.addmm_(mix.flatten(0, 1)[:, : folded.shape[0]], folded, beta=0)
        else:
            out.unflatten(0, mix.shape[:2]).baddbmm_(mix, folded, beta=0)

    def mix_back(self, rows: Tensor, groups: slice, out: Tensor, beta: int) -> None:
        """The transpose of `mix_in`, added to `beta` times what `out` holds."""
        mix = self.mix[groups]
        if self.fold is None:
            out.addmm_(mix.flatten(0, 1).mT[: out.shape[0]], rows, beta=beta)
        else:
            out.baddbmm_(mix.mT, rows.unflatten(0, mix.shape[:2]), beta=beta)

    @property
    def length(self) -> int:
        """m, if it folds."""
        return self.mix.shape[2] // 2

    @property
    def nbytes(self) -> int:
        return self.mix.nbytes + (0 if self.fold is None else self.fold.nbytes)


# From the cosine and sine of each frequency over time, and its weight, to the three rows that it has.
Rows = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Key = tuple[Rows, Size, int, torch.dtype, torch.device]

# A network needs a few of them for each length of its sequences, most of them below one MB.
_cache: ByteCache[Key, Transform] = ByteCache(256 * 2**20, lambda transform: transform.nbytes)


def clear_caches() -> None:
    """Free what delayplug caches between calls for all layers: the matrices of its transforms, and scratch memory.

    The matrices depend on the lengths of sequences and delays alone, take at most 256 MiB in a process (the least
    recently used are dropped), and are computed again when they are needed: results stay the same. Scratch memory on
    the CPU is at most 128 MiB.
    """
    _cache.clear()
    clear_spare()


def analysis(size: Size, steps: int, dtype: torch.dtype, device: torch.device) -> Transform:
    """A, for sequences of so many steps."""
    return _cached(_analysis_rows, size, steps, dtype, device)


def synthesis(size: Size, steps: int, dtype: torch.dtype, device: torch.device) -> Transform:
    """S, whose transpose gives so many steps."""
    return _cached(_synthesis_rows, size, steps, dtype, device)


def _analysis_rows(cos: Tensor, sin: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return cos, -sin, cos - sin


def _synthesis_rows(cos: Tensor, sin: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # y = 1/n sum over k of weight (cos re Y - sin im Y), with re Y = P1 - P2 and im Y = P3 - P1 - P2.
    return weight * (cos + sin), weight * (sin - cos), -weight * sin


def _cached(*key: *Key) -> Transform:
    """From the cache, unless torch.compile or torch.export traces: transforms made then hold no values."""
    return _transform(*key) if torch.compiler.is_compiling() else _cache.get(key, lambda: _transform(*key))


def _transform(rows: Rows, size: Size, steps: int, dtype: torch.dtype, device: torch.device) -> Transform:
    folded = size.is_folded(steps)
    length = size.length if folded else steps
    mixes = []
    for q in range(size.groups):
        if q == 0:
            mixes.append(_real_group(size, length, rows, folded))
            continue
        cos, sin = _waves(size, range(q, size.total, size.folds), length)
        weight = cos.new_full((1, 1), 2 / size.total)
        mix = torch.cat(rows(cos, sin, weight))
        if folded:
            # The rest of the wave, over t1, is a complex number z by which it is multiplied:
            # cos becomes cos re z - sin im z, and sin becomes cos im z + sin re z. Fold holds re z and -im z.
            mix = torch.cat((mix, torch.cat(rows(sin, -cos, weight))), 1)
        mixes.append(mix)
    used = -(-steps // size.length)
    return Transform(
        used * size.length if folded else steps,
        torch.stack(mixes).to(device, dtype),
        _fold(size)[:, :, :used].to(device, dtype) if folded else None,
    )


def _real_group(size: Size, length: int, rows: Rows, folded: bool) -> Tensor:
    """Frequencies 0 and a / 2 modulo a, each of which comes with its conjugate."""
    parts = []
    for q in (0, size.groups):
        frequencies = range(q, size.total // 2 + 1, size.folds)
        cos, sin = _waves(size, frequencies, length)
        # The first and the middle frequency are real, and count once: their only product is the first.
        first_is_real, last_is_real = frequencies[0] == 0, 2 * frequencies[-1] == size.total
        weight = cos.new_full((len(frequencies), 1), 2 / size.total)
        weight[: int(first_is_real)] /= 2
        weight[len(frequencies) - int(last_is_real) :] /= 2
        first, second, third = rows(cos, sin, weight)
        complex_ones = slice(int(first_is_real), len(frequencies) - int(last_is_real))
        parts.append(torch.cat((first, second[complex_ones], third[complex_ones])))
    mix = torch.block_diag(*parts) if folded else torch.cat(parts)
    return torch.nn.functional.pad(mix, (0, 0, 0, size.rows - mix.shape[0]))


def _waves(size: Size, frequencies: range, length: int) -> tuple[Tensor, Tensor]:
    """(F, length) cosine and sine, exact for large products of frequency and time."""
    frequency, time = torch.tensor(frequencies, device="cpu").view(-1, 1), torch.arange(length, device="cpu")
    angle = (2 * math.pi / size.total) * ((frequency * time) % size.total).double()
    return angle.cos(), angle.sin()


def _fold(size: Size) -> Tensor:
    """(groups, 2, a): cosine and minus sine of frequency q over t1; for group 0 the cosines of 0 and a / 2."""
    cos, sin = _waves(Size(size.folds, 1), range(size.groups + 1), size.folds)
    first = torch.stack((cos[0], cos[-1]))
    return torch.cat((first.unsqueeze(0), torch.stack((cos[1:-1], -sin[1:-1]), 1)))
