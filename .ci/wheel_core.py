"""The core of an installed delayplug, without any extra. Argument: the checkout, which it must not come from."""

import sys
from pathlib import Path

import torch

import delayplug

assert not Path(delayplug.__file__).is_relative_to(sys.argv[1]), f"imported from the checkout: {delayplug.__file__}"
layer = delayplug.LearnableDelay(5, 3, max_delay=8)
x = torch.rand(20, 2, 5, requires_grad=True)
y = layer(x)
assert y.shape == (20, 2, 3), y.shape
y.square().sum().backward()
gradients = [x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)]
assert all(g is not None and g.isfinite().all() and g.any() for g in gradients), gradients
