"""A layer of delays in the place of a `Dcls1d`: the same numbers, batch first and time last."""

import pytest
import torch

from delayplug import ArgumentError, LearnableDelay, TimeLastDelay, freeze_delays
from tests.layers.test_dcls import make_dcls


@pytest.mark.parametrize("version", ["gauss", "max", "v1"])
@pytest.mark.parametrize("count", [1, 2])
def test_it_is_the_convolution(count: int, version: str) -> None:
    theirs = make_dcls(7, count, version)
    ours = TimeLastDelay(LearnableDelay.from_dcls(theirs))
    x = torch.randn(2, 4, 19, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x[0]), theirs(x[0]))
    assert ours(x).shape == (2, 3, 13)


def test_its_length_stays_when_the_delays_become_shorter() -> None:
    layer = TimeLastDelay(LearnableDelay(4, 3, max_delay=6, init=2.0))
    before = layer.eval()(torch.ones(2, 4, 19))
    freeze_delays(layer, max_delay=3)
    assert torch.equal(layer(torch.ones(2, 4, 19)), before)


@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (4,), (1, 2, 4, 19)])
def test_what_is_refused(shape: tuple[int, ...]) -> None:
    layer = TimeLastDelay(LearnableDelay(4, 3, max_delay=6))
    with pytest.raises(ArgumentError, match=r"x: expected \(B, I, T\) with T > 6"):
        layer(torch.zeros(shape))
