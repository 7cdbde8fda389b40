"""Comparing two results: what counts as equal, and with what input they are made."""

import pytest
import torch
from torch import nn

from delayplug import LearnableDelay
from delayplug.running.selfcheck import agree, differing, longest_delay, noise_like


def test_rounding_and_shapes() -> None:
    a = torch.tensor([0.0, 1.0, 2.0])
    assert differing(a, a + 1e-6) == 0
    assert differing(a, torch.tensor([0.0, 1.1, 3.0])) == 2
    assert differing(a, a.view(1, 3)) == 3
    assert differing(a[:0], a) == 1
    assert differing(a, a * float("nan")) == 3
    assert differing(a.bool(), torch.tensor([False, True, False])) == 1


@pytest.mark.parametrize(
    ("got", "equal"),
    [
        ([torch.ones(4), 3], True),
        ((torch.ones(4), "what is no tensor is not compared"), True),
        ([torch.zeros(4), 3], False),
        ([torch.ones(4)], False),
        ([torch.ones(4), 3, 4], False),
        ([1.0, 3], False),
    ],
)
def test_results_agree(got: object, equal: bool) -> None:
    assert agree([torch.ones(4), 3], got) is equal


def test_a_share_of_what_is_not_zero_may_differ() -> None:
    expected = torch.zeros(1000)
    expected[:100] = 1.0
    got = expected.clone()
    got[0] = 0.0
    assert agree(expected, got, share=0.01)
    got[1] = 0.0
    assert not agree(expected, got, share=0.01)
    assert not agree(expected, got)


def test_noise() -> None:
    step = torch.zeros(2, 3, dtype=torch.float64)
    noise = noise_like(step, 50)
    assert noise.shape == (50, 2, 3)
    assert noise.dtype == step.dtype
    assert torch.equal(noise, noise_like(step, 50))
    assert 0.3 < float((noise == 0).float().mean()) < 0.7
    assert noise.amax((1, 2)).unique().numel() > 20  # steps of different size
    tokens = torch.tensor([[3, 4]])
    assert torch.equal(noise_like(tokens, 2), torch.tensor([[[3, 4]], [[3, 4]]]))


def test_the_longest_delay() -> None:
    assert longest_delay(nn.Linear(2, 2)) == 0
    assert longest_delay(nn.Sequential(LearnableDelay(2, max_delay=3), LearnableDelay(2, 2, max_delay=5))) == 5
