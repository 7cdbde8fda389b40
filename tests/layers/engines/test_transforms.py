import pytest
import torch

from delayplug.layers.engines.transforms import Size, analysis, cheapest, synthesis
from tests.devices import DEVICE

SIZES = [Size(2, 2), Size(2, 6), Size(4, 2), Size(4, 8), Size(8, 6), Size(16, 4), Size(32, 8)]


def every(x, transform):
    """Every m-th step, from each of the first m."""
    return [x[start :: transform.length] for start in range(min(transform.length, x.shape[0]))]


def folds(transform, groups, columns):
    return torch.full((groups.stop - groups.start, 2, transform.length, columns), torch.nan, dtype=torch.float64)


def transformed(transform, x, size):
    out = x.new_empty((size.groups * size.rows, x.shape[1]))
    everything = slice(0, size.groups)
    if transform.fold is not None:
        folded = folds(transform, everything, x.shape[1])
        transform.fold_in(every(x, transform), everything, folded)
        x = folded.flatten(1, 2)
    transform.mix_in(x, everything, out)
    return out


def back(transform, y, size, groups=None):
    groups = slice(0, size.groups) if groups is None else groups
    out = y.new_empty((transform.steps, y.shape[1]))
    if transform.fold is None:
        transform.mix_back(y, groups, out, beta=0)
        return out
    folded = folds(transform, groups, y.shape[1])
    transform.mix_back(y, groups, folded.flatten(1, 2), beta=0)
    transform.fold_back(folded, groups, every(out, transform), beta=0)
    return out


def kind(size, steps):
    return size, steps, torch.float64, DEVICE


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_are_a_convolution(size, part):
    """Sequences of all lengths that fit, folded or not."""
    n = size.total
    taps = max(1, int(part * n))
    steps = n - taps + 1
    x, w = torch.randn(steps, 3, dtype=torch.float64), torch.randn(taps, 3, dtype=torch.float64)
    products = transformed(analysis(*kind(size, steps)), x, size) * transformed(analysis(*kind(size, taps)), w, size)
    y = back(synthesis(*kind(size, n)), products, size)[:n]
    expected = torch.zeros(n, 3, dtype=torch.float64)
    for k in range(taps):
        expected[k : k + steps] += w[k] * x
    assert (y - expected).abs().max() < 1e-12


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_groups_add_up(size):
    y = torch.randn(size.groups * size.rows, 2, dtype=torch.float64)
    transform = synthesis(*kind(size, size.total))
    parts = [back(transform, y[q * size.rows : (q + 1) * size.rows], size, slice(q, q + 1)) for q in range(size.groups)]
    assert (sum(parts) - back(transform, y, size)).abs().max() < 1e-13


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_adjoint(size):
    transform = analysis(*kind(size, size.total - 1))
    x = torch.randn(transform.steps, 2, dtype=torch.float64)
    y = torch.randn(size.groups * size.rows, 2, dtype=torch.float64)
    assert torch.allclose((transformed(transform, x, size) * y).sum(), (x * back(transform, y, size)).sum())


def test_long_sequences_are_folded():
    assert not Size(2, 64).is_folded(128)
    assert Size(16, 32).is_folded(512)
    assert not Size(16, 32).is_folded(10)
    assert cheapest(1000, lambda size: size.cost(1000)).folds > 8


@pytest.mark.parametrize("steps", [1, 7, 124, 1000])
def test_cheapest_has_room(steps):
    size = cheapest(steps, lambda size: size.cost(steps))
    assert size.total >= steps
    assert size.folds % 2 == size.length % 2 == 0
