import pytest
import torch

from delayplug.layers.engines.direct import direct
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree, tensors


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_it_equals_the_loop(T, K, steps):
    x, taps = tensors(T, K)
    agree(direct(x, taps, steps), oracle.convolve(x, taps, steps), (x, taps))


def test_spikes_become_numbers_of_the_taps():
    x, taps = tensors(9, 4)
    spikes = x.detach() > 0
    assert torch.equal(direct(spikes, taps, 9), direct(spikes.double(), taps, 9))
