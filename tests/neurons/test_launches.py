"""The operators of neurons: to torch they are one operation each, on any device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug import _triton
from delayplug.neurons.launches import adaptive_backward, adaptive_forward, backward, forward

NUMBERS = [0.5, *[0.0] * 3, 1.0, *[0.0] * 3, 1.0]  # a leak, a threshold, and a divisor
RULES = [1, 0, 0, 1, 1, 0, 0]
NONE = [None] * 8


class Operators(TorchDispatchMode):
    """Notes what is called within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def run(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    spikes, charged, gradient = (torch.empty_like(x) for _ in range(3))
    layout = [x.shape[0], x[0].numel(), 1, 1]
    last = torch.empty_like(x[0])
    forward(x, None, NONE, NUMBERS, [0] * 8, layout, RULES, spikes, None, charged, None, None, None, last, None)
    grads = [torch.ones_like(x), None, None, None, None]
    backward(
        *(x, None, NONE, NUMBERS, [0] * 8, layout, [*RULES, 1, 0], [0] * 4, [1.0, 1.0, 0.0]),
        *(charged, None, None, grads, gradient, None, None, [], []),
    )
    return spikes, gradient


def run_adaptive(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A leak of 1, a threshold of 1, and an adaptation that jumps by 0.5 and halves."""
    spikes, charged, adaptations, gradient = (torch.empty_like(x) for _ in range(4))
    shared = ([None] * 6, [1.0, 1.0, 0.5, 0.0, 0.5, 1.0], [0] * 6, [x.shape[0], x[0].numel(), 1, 1])
    last = torch.empty_like(x[0]), torch.empty_like(x[0])
    adaptive_forward(x, None, None, *shared, [0], spikes, None, charged, None, adaptations, *last)
    grads = [torch.ones_like(x), None, None, None, None]
    adaptive_backward(
        *(x, None, None, *shared, [0, 1, 0], [1.0, 1.0, 0.0]),
        *(charged, adaptations, grads, gradient, None, None, [], []),
    )
    return spikes, gradient


@pytest.mark.real("devices of fake tensors")
def test_nothing_is_launched_for_fake_tensors() -> None:
    with FakeTensorMode(), Operators() as operators:
        run(torch.empty(5, 2, 3, device="cuda"))
        run_adaptive(torch.empty(5, 2, 3, device="cuda"))
    assert [name for name in operators.names if "neurons" in name] == [
        "delayplug.neurons_forward.default",
        "delayplug.neurons_backward.default",
        "delayplug.neurons_adaptive_forward.default",
        "delayplug.neurons_adaptive_backward.default",
    ]


@pytest.mark.skipif(not _triton.is_installed() or torch.cuda.is_available(), reason="needs Triton's interpreter")
def test_launched_on_a_cpu_by_the_interpreter() -> None:
    x = torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1)
    spikes, gradient = run(x)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert gradient.flatten().tolist() == [1.5, 1, 1]  # a constant surrogate, and a detached reset after the spike
    spikes, gradient = run_adaptive(torch.tensor([2.0, 1.25, 1.25]).view(3, 1, 1))
    assert spikes.flatten().tolist() == [1, 0, 0]  # 2, 1.25 - 0.5 and 1.25 - 0.25
    # A spike of the last step lowers nothing; of the one before it, the next drive by 0.5, and so on.
    assert gradient.flatten().tolist() == [0.5, 0.5, 1]
