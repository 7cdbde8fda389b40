"""The operators of neurons: to torch they are one operation each, on any device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug import _triton
from delayplug.neurons.launches import backward, forward

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


@pytest.mark.real("devices of fake tensors")
def test_nothing_is_launched_for_fake_tensors() -> None:
    with FakeTensorMode(), Operators() as operators:
        run(torch.empty(5, 2, 3, device="cuda"))
    assert [name for name in operators.names if "neurons" in name] == [
        "delayplug.neurons_forward.default",
        "delayplug.neurons_backward.default",
    ]


@pytest.mark.skipif(not _triton.is_installed() or torch.cuda.is_available(), reason="needs Triton's interpreter")
def test_launched_on_a_cpu_by_the_interpreter() -> None:
    x = torch.tensor([1.0, 1.0, 0.0]).view(3, 1, 1)
    spikes, gradient = run(x)
    assert spikes.flatten().tolist() == [0, 1, 0]
    assert gradient.flatten().tolist() == [1.5, 1, 1]  # a constant surrogate, and a detached reset after the spike
