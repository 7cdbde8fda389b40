"""Bytes, operations and events of a model."""

import pytest
import snntorch
import torch
from torch import nn

import delayplug
from delayplug import ConvDelay, LearnableDelay, costs


def test_a_layer_of_delays():
    layer, x = LearnableDelay(6, 4, max_delay=9, taps=2), torch.zeros(10, 3, 6)
    x[:, :, 0] = 1
    trained = costs(layer, x)
    assert trained.state_bytes == 2 * 48 * 4 + 4
    assert trained.delay_bytes == 48 * 4 + 4
    assert trained.operations == 6 * 4 * 2 * 10  # every tap reaches over all ages
    assert costs(layer.eval(), x).operations == 6 * 4 * 2
    assert costs(layer, x).events == pytest.approx(4 * 2)  # one input of six
    assert costs(layer).operations is None
    delayplug.freeze_delays(layer)
    assert costs(layer, x).delay_bytes == 48


@pytest.mark.parametrize(
    ("conv", "operations"),
    [
        (nn.Conv2d(2, 4, 3, padding=1), 4 * 64 * 2 * 9),
        (nn.Conv2d(2, 4, 3, groups=2), 4 * 36 * 1 * 9),
        (nn.ConvTranspose2d(2, 4, 2, stride=2), 2 * 64 * 4 * 4),
    ],
)
def test_convolutions_plain_and_delayed(conv, operations):
    net = nn.Sequential(conv, snntorch.Leaky(beta=0.5, init_hidden=True)).eval()
    x = torch.ones(3, 2, 8, 8)
    assert costs(net, x).operations == operations
    delayplug.add_delays(net, 5, example=x).eval()
    assert costs(net, x).operations == operations
    assert costs(net.train(), x).operations == operations * 6
    assert costs(net, x).events == costs(net, x).operations
    alone, steps = ConvDelay(conv, max_delay=5).eval(), torch.ones(7, 3, 2, 8, 8)
    assert costs(alone, lambda model: model(steps, weight=conv.weight)).operations == operations


def test_the_model_is_left_as_it_is():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), snntorch.Leaky(beta=0.5, init_hidden=True))
    hooks, mean = len(net[0]._forward_hooks), net[1].running_mean.clone()
    assert costs(net, torch.ones(5, 4)).operations == 12
    assert len(net[0]._forward_hooks) == hooks
    assert torch.equal(net[1].running_mean, mean)
