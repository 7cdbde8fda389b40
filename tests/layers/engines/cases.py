"""What the tests of several engines share: lengths, tensors, and a comparison of values and gradients."""

import torch

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
