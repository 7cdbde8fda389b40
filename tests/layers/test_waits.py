"""On a device, layers with delays look at no value: the host does not wait for it, forward or backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from delayplug import ConvDelay, LearnableDelay
from tests.devices import DEVICE, waits

T, B = 12, 3
pytestmark = pytest.mark.skipif(DEVICE.type == "cpu", reason="a CPU is not waited for")


def conv() -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
    plain = nn.Conv1d(4, 6, 3)
    return ConvDelay(plain, max_delay=5), torch.rand(T, B, 4, 7), {"weight": plain.weight}


def linear(*sizes: int, **options: object) -> Callable[[], tuple[nn.Module, Tensor, dict[str, Tensor]]]:
    return lambda: (LearnableDelay(*sizes, max_delay=5, **options), torch.rand(T, B, sizes[0]), {})


LAYERS = {
    "per channel": linear(4),
    "convolution": conv,
    **{engine: linear(4, 6, engine=engine, taps=2) for engine in ("auto", "fft", "direct")},
    **{kind: linear(4, 6, interpolation=kind) for kind in ("triangle", "linear")},
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_no_value_is_looked_at(name: str, training: bool) -> None:
    layer, x, options = LAYERS[name]()
    layer.train(training)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def sequence() -> None:
        optimizer.zero_grad()
        layer(x.requires_grad_(), **options).sum().backward()
        optimizer.step()

    def steps() -> None:
        state = None
        for x_t in x:
            y, state = layer.step(x_t, state, **options)
        y.sum().backward()

    for run in (sequence, steps):
        run()  # caches what does not depend on values
        assert waits(run) == 0, run.__name__
